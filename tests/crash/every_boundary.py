"""P1, P2, P5, P8, P9, P10, P11: the daemon killed at each boundary of an order of three units.

A first run writes down every boundary that the order passes; then the order is
played once for each of them, with a SIGKILL there, a restart, and the judge.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.system.site import SPIRAL_ON_XY, TRACK_ON_VBP, CabinetPlan, Site
from tests.system.waiting import wait_for

AT_ONCE = 6
"""Sites side by side: they mostly wait for motors."""

# Short, within the rule cycle_timeout_s > max_run_ms + drop_wait_ms + 3 s: a board that
# can't be asked is listened to for the cycle's timeout and quarantined for two of them.
VBP = replace(
    TRACK_ON_VBP,
    settings={
        "cycle_timeout_s": 3.8,
        "max_run_ms": 400,
        "drop_wait_ms": 300,
        "eye_clear_timeout_s": 2,
    },
    run_ms=120,
    fall_ms=40,
)
XY = replace(
    SPIRAL_ON_XY,
    settings={"cycle_timeout_s": 3.5, "max_run_ms": 400, "drop_wait_ms": 0, "settle_ms": 0},
    run_ms=120,
    fall_ms=40,
)
PRODUCT = {"vbp": 122, "xy": 221}
ORDER = 4711


@contextmanager
def site_of(plan: CabinetPlan) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="vck-"))
    site = Site(directory, [plan], machine={"late_drop_window_s": 1})
    site.daemon.command = [
        sys.executable,
        "-m",
        "tests.crash.killed",
        "--config",
        str(site.daemon.settings),
    ]
    try:
        yield site
    finally:
        site.close()
        shutil.rmtree(directory, ignore_errors=True)


def boundaries(plan: CabinetPlan) -> list[str]:
    """Every boundary that an undisturbed order of three units passes."""
    with site_of(plan) as site:
        log = site.directory / "boundaries"
        site.up({"KILL_LOG": str(log)})
        site.platform.dispense(ORDER, [{"product_id": PRODUCT[plan.protocol], "quantity": 3}])
        site.platform.wait_order(ORDER, "finished")
        site.wait_rest()
        site.judge()
        return log.read_text(encoding="utf-8").split()


def survive(plan: CabinetPlan, boundary: str) -> str:
    """ "" when the promises held, else what broke."""
    with site_of(plan) as site:
        try:
            site.up({"KILL_AT": boundary})
            site.platform.dispense(ORDER, [{"product_id": PRODUCT[plan.protocol], "quantity": 3}])
            died = wait_for(lambda: site.daemon.exit_code, "the daemon dies", 20)
            assert died == -signal.SIGKILL, f"it ended with {died}"
            site.daemon.up()
            site.platform.wait_order(ORDER, "finished", timeout=60)
            site.wait_rest(60)
            site.judge()
        except AssertionError as broken:
            return f"--- killed at {boundary}: {broken}\n{site.daemon.output(3000)}"
        return ""


def hold_at_every_boundary(plan: CabinetPlan) -> None:
    """AssertionError with what broke at which of them."""
    places = boundaries(plan)
    kinds = {place.rsplit(":", 1)[0] for place in places}
    assert kinds == {
        f"{kind}:{when}"
        for kind in ("commit", "drive", "answer", "publish", "ack")
        for when in ("before", "after")
    }
    assert sum(place.startswith("drive:before") for place in places) == 3
    print(f"{plan.protocol}: {len(places)} boundaries: {sorted(kinds)}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        broken = [word for word in pool.map(lambda place: survive(plan, place), places) if word]
    assert not broken, f"{len(broken)} of {len(places)}:\n" + "\n".join(broken[:5])
