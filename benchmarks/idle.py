"""What the daemon costs while nothing is sold: processor and memory.

An XY board polls it each 200 ms, its broker is connected. A second board of the
same emulator polls the baseline, a bare Python program that acknowledges.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

from benchmarks.figures import Figure, Goal
from benchmarks.rig import (
    XY_SPIRAL,
    BenchSite,
    bare_program,
    cpu_seconds,
    memory_mib,
    running,
    wait_link,
    workplace,
)
from tests.system.emulator import Emulator
from tests.system.site import emulated

WINDOW_S = 4.0
WINDOWS = 6
"""Together over 20 s: several keepalives of every kind, and a spread."""
SETTLE_S = 5.0
"""The board's synchronisation ends after 2 s of silence; start-up work is done."""
CPU_GOAL = 1.0
MEMORY_GOAL = 60.0


def measure() -> list[Figure]:
    with workplace() as directory:
        site = BenchSite(directory, (XY_SPIRAL,))
        boards = [replace(emulated(XY_SPIRAL), remembers=False)]
        other = replace(boards[0], name="bare")
        site.emulator = Emulator(directory / "boards", [*boards, other])
        with running(site):
            port = site.emulator.port("bare")
            wait_link(port)
            with bare_program(directory, "answerer", port) as bare:
                time.sleep(SETTLE_S)
                ours, baseline = _windows(site.daemon.pid, bare.pid)
                memory, bare_memory = memory_mib(site.daemon.pid), memory_mib(bare.pid)
    polled = "polled by an XY board each 200 ms"
    return [
        Figure(
            name="idle, processor",
            unit="%",
            samples=ours,
            baseline=baseline,
            goal=CPU_GOAL,
            against=Goal.VALUE,
            note=f"of one core, {polled}; baseline: a bare Python program that acknowledges",
        ),
        _memory("resident memory (VmRSS)", memory["rss"], bare_memory["rss"], MEMORY_GOAL),
        _memory("its share of memory (PSS)", memory["pss"], bare_memory["pss"], None),
    ]


def _memory(name: str, ours: float, bare: float, goal: float | None) -> Figure:
    return Figure(
        name=f"idle, {name}",
        unit="MiB",
        samples=[ours],
        baseline=[bare],
        goal=goal,
        against=Goal.NONE if goal is None else Goal.VALUE,
        note="baseline: the same bare program",
    )


def _windows(pid: int, bare_pid: int) -> tuple[list[float], list[float]]:
    """Percent of one core in each window, of both."""
    readings = [(time.perf_counter(), cpu_seconds(pid), cpu_seconds(bare_pid))]
    for _ in range(WINDOWS):
        time.sleep(WINDOW_S)
        readings.append((time.perf_counter(), cpu_seconds(pid), cpu_seconds(bare_pid)))
    ours, bare = [], []
    for before, after in pairwise(readings):
        wall = after[0] - before[0]
        ours.append(100 * (after[1] - before[1]) / wall)
        bare.append(100 * (after[2] - before[2]) / wall)
    return ours, bare
