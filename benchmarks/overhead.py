"""Overhead per unit: from the publish of an order to its result, less the time of physics.

Ours and the bare loop take turns on the same broker, so that whatever else the
machine does strikes both. Motors run ten times faster than real: less waiting, and
the ledger's milliseconds of machine time become tenths of real ones.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.bare.host import OPENING_BYTES, PRAGMAS, SCHEMA
from benchmarks.figures import Figure, Goal
from benchmarks.rig import (
    BARE_MACHINE,
    VBP_TRACK,
    XY_SPIRAL,
    BenchSite,
    StopwatchPlatform,
    bare_program,
    motions,
    running,
    wait_link,
    workplace,
)
from tests.system.site import CabinetPlan

SPEED = 10.0
UNITS = 60
WARM_UP = 8
"""Orders that are not counted: the first ones fill caches on both sides."""
MOTION_MS = 70.0
"""What the bare board waits: about what the emulated one moves."""
XY_FRAME_GAP_S = 0.005
"""The emulated XY board's pause before it says by itself that the motor stopped."""
GOAL = 1.5


Board = Callable[[Path], AbstractContextManager[object]]
"""Starts the bare board of the bare host, at this link."""


def measure() -> list[Figure]:
    return [_on_a_bare_board(), _on_the_emulator(VBP_TRACK), _on_the_emulator(XY_SPIRAL)]


def _on_a_bare_board() -> Figure:
    """VBP, both sides on the same trivial board: what is measured is the daemon alone."""

    def board(link: Path) -> AbstractContextManager[object]:
        return bare_program(link.parent, "vbp_board", link, MOTION_MS)

    with workplace() as directory:
        site = BenchSite(directory, (VBP_TRACK,))
        link = site.emulator.port(VBP_TRACK.board)
        with board(link):
            wait_link(link)
            with running(site, emulator=False), _bare_host(site, VBP_TRACK, board) as bare:
                whole, without = _take_turns(site, bare, VBP_TRACK)
    ours = [total - MOTION_MS for total in whole]
    return _figure("overhead per unit, VBP", ours, without, "both on the same bare board")


def _on_the_emulator(plan: CabinetPlan) -> Figure:
    """The physical time from the ledger; what the emulator itself takes to answer is in ours."""

    def board(link: Path) -> AbstractContextManager[object]:
        return bare_program(link.parent, "board", plan.protocol, link, MOTION_MS)

    with workplace() as directory, running(BenchSite(directory, (plan,), speed=SPEED)) as site:
        with _bare_host(site, plan, board) as bare:
            whole, without = _take_turns(site, bare, plan)
        moved = motions(site, plan.board, SPEED, last=UNITS)
        ours = [
            total - 1000 * motion.physical_s for total, motion in zip(whole, moved, strict=True)
        ]
        less = "ours on the emulator"
        if plan.protocol == "xy":
            waits = poll_waits(site, range(WARM_UP + 1, WARM_UP + UNITS + 1))
            ours = [
                total - 1000 * (wait + XY_FRAME_GAP_S)
                for total, wait in zip(ours, waits, strict=True)
            ]
            less += ", less the wait for a poll"
    return _figure(f"overhead per unit, {plan.protocol.upper()} emulated", ours, without, less)


def _figure(name: str, ours: list[float], bare: list[float], note: str) -> Figure:
    return Figure(
        name=name,
        unit="ms",
        samples=ours,
        baseline=bare,
        goal=GOAL,
        against=Goal.RATIO,
        note=f"publish to result less motion; {note}; baseline: a hop, two commits, the same bytes",
    )


@contextmanager
def _bare_host(site: BenchSite, plan: CabinetPlan, board: Board) -> Iterator[StopwatchPlatform]:
    """The bare host at work on the site's broker, and a platform that speaks with it."""
    port, directory = site.broker.port, site.directory
    platform = StopwatchPlatform(port, BARE_MACHINE)
    link = directory / "bare.tty"
    words = (plan.protocol, link, port, platform.root, directory / "bare.db")
    with board(link):
        wait_link(link)
        with bare_program(directory, "host", *words):
            platform.up()
            platform.wait_for(lambda: platform.of("state"), "the bare host is at work")
            try:
                yield platform
            finally:
                platform.close()


def _take_turns(
    site: BenchSite, bare: StopwatchPlatform, plan: CabinetPlan
) -> tuple[list[float], list[float]]:
    """Milliseconds from publish to result of ours; of the bare loop, less its motion."""
    phases = random.Random(1)
    whole, without = [], []
    product = plan.lanes[0].product_id
    for order_id in range(1, WARM_UP + UNITS + 1):
        whole.append(1000 * _one(site.platform, order_id, product))
        site.platform.arrival("order", order_id, status="finished")
        _rest(phases)
        without.append(1000 * _one(bare, order_id, product) - MOTION_MS)
        _rest(phases)
    return whole[WARM_UP:], without[WARM_UP:]


def _one(platform: StopwatchPlatform, order_id: int, product: int) -> float:
    """Seconds from the publish of an order of one unit to its result."""
    order = {
        "order_id": order_id,
        "trade_id": f"{order_id:020d}",
        "issued_at": int(time.time()),
        "products": [{"product_id": product, "quantity": 1}],
    }
    sent = platform.ask("dispense", order)
    return platform.arrival("result", order_id) - sent


def _rest(phases: random.Random) -> None:
    """Until the afterwork is done, and into another phase of the board's polls."""
    time.sleep(phases.uniform(0.05, 0.25))


def poll_waits(site: BenchSite, order_ids: Sequence[int]) -> list[float]:
    """Per cycle, seconds from its opening commit to its drive frame, less a commit's usual time.

    The journal dates a cycle when its transaction begins; what is left is the wait for
    the board's next poll.
    """
    commit_s = commit_seconds(site.directory)
    waits = []
    for order_id in order_ids:
        for order in site.daemon.ctl("order", str(order_id))["orders"]:
            for unit in order["unit_list"]:
                for cycle in unit["cycles"]:
                    written = next(
                        step["at"] for step in cycle["trace"] if step["event"] == "frame_written"
                    )
                    waits.append(max(0.0, written - cycle["opened_at"] - commit_s))
    return waits


def commit_seconds(directory: Path) -> float:
    """A durable commit of the opening's size on this disk, without our code."""
    database = sqlite3.connect(directory / "commits.db", isolation_level=None)
    for statement in (*PRAGMAS, SCHEMA):
        database.execute(statement).fetchall()
    times = []
    for name in range(100):
        begun = time.perf_counter()
        database.execute("BEGIN IMMEDIATE")
        for size in OPENING_BYTES:
            database.execute("INSERT INTO rows (name, body) VALUES (?, ?)", (name, bytes(size)))
        database.execute("COMMIT")
        times.append(time.perf_counter() - begun)
    database.close()
    return statistics.median(times)
