"""P11: a process killed with SIGKILL while it writes; the next one finds all that was durable."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from .conftest import BOOT, Bench, balanced

ROUNDS = 8


def killed(folder: Path, seed: int, after_s: float) -> dict[str, list[int]]:
    """Run the writer, kill it some time after it is ready; what it said was durable."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.journal.writer", str(folder), str(seed)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        if first != "ready\n":
            raise AssertionError(process.stderr.read())
        time.sleep(after_s)  # not a hope: any moment is a good one to die
        process.send_signal(signal.SIGKILL)
        said: dict[str, list[int]] = defaultdict(list)
        for line in process.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                word, number = line.split()
                said[word].append(int(number))
        process.wait()
        assert process.returncode == -signal.SIGKILL, process.stderr.read()
    return said


@pytest.mark.system
async def test_what_was_durable_is_there_after_a_kill(bench: Bench) -> None:
    """Every accepted order, every cycle, every outcome that the dead process had been told."""
    dice = random.Random(7)
    all_closed: set[int] = set()
    for turn in range(ROUNDS):
        said = killed(bench.folder, turn, dice.uniform(0.005, 0.08))
        all_closed |= set(said["closed"])
        bench.boot = BOOT
        bench.clock.now = time.time()
        journal, opening = bench.open()
        assert not opening.lost
        assert opening.last_stop == "crash"
        for number in said["accepted"]:
            (order,) = await journal.order(number)
            assert order["units"] == 2
        for cycle_id in said["opened"]:
            cycle = await journal.cycle(cycle_id)
            assert cycle is not None
            assert cycle.closed or cycle_id not in said["closed"]
        still_open = [c for c in await journal.open_cycles() if not c.closed]
        assert len(still_open) <= 1
        assert all(balanced(state) for state in await journal.lane_states())
        await journal.background_check()
        bench.crash()
    assert all_closed, "the writer never came to a cycle's end"
