"""An order of ten items on a track cabinet, at real speed: wall time against physics.

The baseline is the sum of what the machine itself takes for ten cycles: motor, fall
and the board's own wait for a second drop, from the emulators' ledgers. On XY the wall
time is told less the settle pauses and the waits for the board's polls.
"""

from __future__ import annotations

import time
from dataclasses import replace

from benchmarks.figures import Figure, Goal
from benchmarks.overhead import XY_FRAME_GAP_S, poll_waits
from benchmarks.rig import VBP_TRACK, BenchSite, motions, running, workplace
from tests.system.site import CabinetPlan, Lane

ITEMS = 10
RUN_MS = 2500
FALL_MS = 350
"""A track's motor and fall as in the field."""
SETTLE_MS = 500
"""The default where only the board sees the eye."""
GOAL = 1.02

VBP = replace(VBP_TRACK, run_ms=RUN_MS, fall_ms=FALL_MS)
XY = CabinetPlan(
    name="B",
    kind="track",
    board="side",
    protocol="xy",
    drop_sensor=True,
    lanes=(Lane("B1", 1, 221, ITEMS),),
    settings={"settle_ms": SETTLE_MS},
    run_ms=RUN_MS,
    fall_ms=FALL_MS,
)


def measure() -> list[Figure]:
    return [_ten(VBP), _ten(XY)]


def _ten(plan: CabinetPlan) -> Figure:
    with workplace() as directory, running(BenchSite(directory, (plan,))) as site:
        order_id = 1
        sent = site.platform.ask(
            "dispense",
            {
                "order_id": order_id,
                "trade_id": f"{order_id:020d}",
                "issued_at": int(time.time()),
                "products": [{"product_id": plan.lanes[0].product_id, "quantity": ITEMS}],
            },
        )
        arrivals = [
            site.platform.arrival("result", order_id, timeout=90, unit=number)
            for number in range(1, ITEMS + 1)
        ]
        site.platform.arrival("order", order_id, status="finished")
        wall = arrivals[-1] - sent
        physics = sum(motion.physical_s for motion in motions(site, plan.board, 1, last=ITEMS))
        detail = {"wall_s": wall}
        if plan.protocol == "xy":
            settled = (ITEMS - 1) * SETTLE_MS / 1000
            waited = sum(poll_waits(site, [order_id])) + ITEMS * XY_FRAME_GAP_S
            detail |= {"settle_s": settled, "poll_wait_s": waited}
            wall -= settled + waited
    less = "" if plan.protocol == "vbp" else ", less settle and poll waits"
    return Figure(
        name=f"{ITEMS} items on a track, {plan.protocol.upper()}",
        unit="s",
        samples=[wall],
        baseline=[physics],
        goal=GOAL,
        against=Goal.RATIO,
        note=f"publish to last result{less}; baseline: the sum of the physical times",
        detail=detail,
    )
