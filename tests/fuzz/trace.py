"""What an input does in our own code, line by line, without atheris or coverage."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(f"{ROOT}/{name}/" for name in ("controller", "firmware_sim"))

Arc = tuple[str, int, int]
"""From a line of a file to the next one."""


class TooManySteps(AssertionError):
    pass


def traced(run: Callable[[bytes], None], data: bytes, most: float = float("inf")) -> set[Arc]:
    """Run one input. Raises TooManySteps when it takes more than `most` lines of ours."""
    arcs: set[Arc] = set()
    steps = 0

    def call(frame: FrameType, _event: str, _arg: Any) -> Any:
        nonlocal steps
        file = frame.f_code.co_filename
        if not file.startswith(OURS):
            return None
        came_from = 0

        def line(frame: FrameType, event: str, _arg: Any) -> Any:
            nonlocal came_from, steps
            if event == "line":
                arcs.add((file, came_from, frame.f_lineno))
                came_from = frame.f_lineno
                steps += 1
                if steps > most:
                    raise TooManySteps(f"more than {most} steps for {data!r}")
            return line

        return line

    before = sys.gettrace()
    sys.settrace(call)
    try:
        run(data)
    finally:
        sys.settrace(before)
    return arcs


def fewest(run: Callable[[bytes], None], inputs: Iterable[bytes]) -> list[bytes]:
    """Those that go a way through our code which no shorter one goes."""
    kept, known = [], set[Arc]()
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        arcs = traced(run, data)
        if not arcs <= known:
            known |= arcs
            kept.append(data)
    return kept
