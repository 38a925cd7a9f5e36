"""A light eye's level over time, drawn in two rows of text: dark above, clear below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.cli import screen
from controller.cli.words import say

AROUND_MS = 500
"""Shown before the first pulse and after the last: enough to see that the eye was at rest."""

SHOWN = 6
"""Pulses that are told one by one; more of them are a fluttering eye, and counted."""

Changes = Sequence[Sequence[Any]]
"""[ms, dark?] at each change of level, the first of them the level that was found."""


def window(changes: Changes, over_ms: int) -> tuple[int, int]:
    """The stretch around everything dark; all of it where nothing was."""
    dark = [at for at, is_dark in changes if is_dark]
    if not dark or over_ms <= 0:
        return 0, max(over_ms, 1)
    light_after = [at for at, is_dark in changes if not is_dark and at >= dark[0]]
    end = light_after[-1] if light_after and light_after[-1] >= dark[-1] else over_ms
    return max(0, dark[0] - AROUND_MS), max(min(over_ms, end + AROUND_MS), dark[0] + 1)


def plot(changes: Changes, from_ms: int, to_ms: int) -> list[str]:
    """Three lines of `screen.WIDTH` columns at most: dark, clear, and the time in seconds.

    A pulse that is narrower than a column fills it; a stretch that nobody saw is blank.
    """
    names = (say("dark"), say("clear"))
    label = max(screen.columns_of(name) for name in names) + 1
    columns = screen.WIDTH - label
    step = max((to_ms - from_ms) / columns, 1e-3)
    dark, clear = "", ""
    for column in range(columns):
        low = from_ms + column * step
        seen = levels_between(changes, low, low + step)
        dark += "#" if True in seen else " "
        clear += "_" if seen == {False} else " "
    rows = [_padded(names[0], label) + dark, _padded(names[1], label) + clear]
    begin, end = f"{from_ms / 1000:.1f} s", f"{to_ms / 1000:.1f} s"
    scale = begin + " " * max(1, columns - len(begin) - len(end)) + end
    return [row.rstrip() for row in (*rows, _padded("", label) + scale)]


def levels_between(changes: Changes, low: float, high: float) -> set[bool]:
    """The levels that the eye had from `low` until `high`; empty before the first look."""
    before = [is_dark for at, is_dark in changes if at <= low]
    return {*before[-1:], *(is_dark for at, is_dark in changes if low < at < high)}


def pulse_lines(pulses: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each pulse with its width."""
    lines = [
        say("pulse at {at:.2f} s: shorter than 20 ms", at=each["at_ms"] / 1000)
        if each["width_ms"] is None
        else say("pulse at {at:.2f} s: {ms} ms", at=each["at_ms"] / 1000, ms=each["width_ms"])
        for each in pulses[:SHOWN]
    ]
    if len(pulses) > SHOWN:
        lines.append(say("{count} pulses in all", count=len(pulses)))
    return lines


def _padded(text: str, columns: int) -> str:
    return text + " " * (columns - screen.columns_of(text))
