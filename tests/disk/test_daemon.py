"""P7, P9, P10, P11: the real daemon, broker and emulator; the power goes with a disk operation.

The daemon kills itself there and leaves its state directory as a disk may look
after the cut. The board keeps its power: what happened meanwhile is judged.
"""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.disk import layer
from tests.disk.layer import NoCompiler, Where
from tests.system.site import TRACK_ON_VBP, Site
from tests.system.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]

CUTS = 8
AT_ONCE = 4
ORDER = 4711
PLAN = replace(TRACK_ON_VBP, run_ms=120, fall_ms=40)
"""The drives are short, so that an order of three ends soon."""
FROM, UPTO = 45, 190
"""Operations of the daemon's disk: a start takes some 35, an order of three 200 more."""


@contextmanager
def site() -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="vcd-"))
    made = Site(directory, [PLAN], machine={"late_drop_window_s": 1})
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(directory, ignore_errors=True)


def survive(seed: int) -> str:
    """ "" when the promises held, else what broke."""
    dice = random.Random(seed)
    with site() as here:
        try:
            here.up()  # a first life makes the journal
            here.daemon.end()
            here.daemon.up(
                layer.environment(
                    here.directory / "state",
                    die_at=dice.randint(FROM, UPTO),
                    where=dice.choice(list(Where)),
                    cut_seed=dice.getrandbits(32),
                )
            )
            here.platform.dispense(ORDER, [{"product_id": 122, "quantity": 3}])
            died = wait_for(lambda: here.daemon.exit_code, "the daemon dies", 30)
            assert died == -signal.SIGKILL, f"it ended with {died}"
            here.daemon.up()
            here.platform.wait_order(ORDER, "finished", timeout=60)
            here.wait_rest(60)
            here.judge()
            assert not list((here.directory / "state").glob("journal-*.db")), "journal set aside"
        except AssertionError as broken:
            return f"--- seed {seed}: {broken}\n{here.daemon.output(3000)}"
        return ""


def test_the_power_goes_in_the_middle_of_an_order() -> None:
    try:
        layer.library()
    except NoCompiler as missing:
        pytest.skip(str(missing))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        broken = [word for word in pool.map(survive, range(CUTS)) if word]
    assert not broken, f"{len(broken)} of {CUTS}:\n" + "\n".join(broken[:3])
