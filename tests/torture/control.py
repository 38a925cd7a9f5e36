"""The control: the same torture on a program with a mistake in it must show a breach.

The mistakes are those that few kills bring to light for certain: one moves a motor twice, one
loses what was in motion. Each is planted in a copy of the program (tests/sim/mistakes.py), and
the copy is tortured as a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.sim.mistakes import CYCLES, Edit, Mistake, planted
from tests.system.broker import find_mosquitto

KILLS = 20
KILLS_A_REST = 5
REST_S = 20.0
"""A unit that was forgotten never ends: it need not be waited for as long as an honest one."""
BOUND_S = 300.0
"""Four rests and twenty kills, on a machine that is busy with other things."""

MISTAKES = (
    Mistake("a cycle found open never began", "both", (Edit(
        "controller/dispensing/dispenser.py",
        "        found = await self._journal.open_cycles()\n",
        "        for open_cycle in await self._journal.open_cycles():\n"
        "            if not open_cycle.closed:\n"
        "                await self._journal.withdraw_cycle(open_cycle.cycle_id, written=False)\n"
        "        found = await self._journal.open_cycles()\n",
    ),)),
    Mistake("a cycle found open is forgotten", "both", (Edit(
        CYCLES,
        'INDEXED BY cycles_open {ORDER} WHERE closed_at IS NULL")',
        'INDEXED BY cycles_open {ORDER} WHERE closed_at IS NULL AND opened_at < {tx.at - 300}")',
    ),)),
)  # fmt: skip


def tortured(mistake: Mistake, kills: int, seed: int) -> tuple[int, list[str]]:
    """Kills until a rest showed breaches, and these; none when the mistake was not seen."""
    with tempfile.TemporaryDirectory(prefix="vc-mistake-") as directory:
        planted(mistake, Path(directory))
        command = [sys.executable, "-m", "tests.torture.play", "--json", "--control", "0"]
        command += ["--kills", str(kills), "--seed", str(seed), "--rest", str(REST_S)]
        command += ["--each", str(KILLS_A_REST)]
        programs = os.pathsep.join([str(Path(find_mosquitto()).parent), os.environ["PATH"]])
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env={**os.environ, "PYTHONPATH": directory, "PATH": programs},
                capture_output=True,
                text=True,
                timeout=BOUND_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return kills, []  # a verdict that does not come has found nothing
    assert done.stdout, f"{mistake.name}: {done.stderr[-2000:]}"
    numbers = json.loads(done.stdout)
    told = [line for line in done.stderr.splitlines() if line.startswith("P") and ":" in line[:4]]
    return numbers["kills"], told if done.returncode else []


def all_caught(kills: int, seed: int, say: Callable[[str], None]) -> bool:
    caught = True
    for mistake in MISTAKES:
        after, told = tortured(mistake, kills, seed)
        caught = caught and bool(told)
        say(f"control: {mistake.name}: " + (f"after {after} kills {told[0]}" if told else "MISSED"))
    return caught
