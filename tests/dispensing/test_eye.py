"""An eye's looks become pulses with widths, whatever a look missed."""

from __future__ import annotations

import pytest

from controller.dispensing.eye import MOST, EyeTrace, Pulse
from controller.dispensing.interfaces import EyeReading

CLEAR, DARK = False, True
Look = tuple[int, bool, int, int]
"""Moment in ms, dark?, blocked_ms, the board's counter."""


def traced(*looks: Look) -> EyeTrace:
    trace = EyeTrace(100.0)
    for at_ms, dark, blocked_ms, pulses in looks:
        reading = EyeReading(blocked=dark, blocked_ms=blocked_ms, pulses=pulses)
        trace.take(100.0 + at_ms / 1000, reading)
    return trace


@pytest.mark.parametrize(
    ("looks", "pulses", "changes"),
    [
        # the begin is the board's word, the end lies between two looks
        (
            [(0, CLEAR, 0, 7), (20, DARK, 5, 8), (40, DARK, 25, 8), (60, CLEAR, 0, 8)],
            [Pulse(15, 35)],
            [(0, CLEAR), (15, DARK), (50, CLEAR)],
        ),
        # shorter than two looks: only the counter knows
        (
            [(0, CLEAR, 0, 7), (20, CLEAR, 0, 8)],
            [Pulse(10, None)],
            [(0, CLEAR), (10, DARK), (10, CLEAR)],
        ),
        # two items close behind each other, dark at both looks
        (
            [(0, CLEAR, 0, 0), (20, DARK, 10, 1), (40, DARK, 2, 2), (60, CLEAR, 0, 2)],
            [Pulse(10, 20), Pulse(38, 12)],
            [(0, CLEAR), (10, DARK), (30, CLEAR), (38, DARK), (50, CLEAR)],
        ),
        # dark since long before the stretch began: it begins with it
        ([(10, DARK, 60_000, 3), (30, DARK, 60_020, 3)], [], [(0, DARK)]),
        # the counter runs over, and the board restarts
        (
            [(0, CLEAR, 0, 2**32 - 1), (20, CLEAR, 0, 0)],
            [Pulse(10, None)],
            [(0, CLEAR), (10, DARK), (10, CLEAR)],
        ),
        ([(0, CLEAR, 0, 5000), (20, CLEAR, 0, 0)], [], [(0, CLEAR)]),
    ],
)
def test_looks_become_pulses(
    looks: list[Look], pulses: list[Pulse], changes: list[tuple[int, bool]]
) -> None:
    trace = traced(*looks)
    assert (trace.pulses, trace.changes) == (pulses, changes)
    assert trace.counted == len(pulses)


def test_what_nobody_looked_at_is_counted_and_has_no_width() -> None:
    trace = traced((0, CLEAR, 0, 0))
    trace.lost()
    assert trace.take(105.0, EyeReading(blocked=False, pulses=3)) == []
    assert (trace.counted, trace.pulses) == (3, [])


def test_an_eye_that_flutters_fills_no_memory() -> None:
    trace = traced(*((at * 20, CLEAR, 0, at * 40) for at in range(500)))
    assert trace.counted == 499 * 40
    assert len(trace.pulses) == MOST
    assert len(trace.changes) <= 2 * MOST
