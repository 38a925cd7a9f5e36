"""A figure: samples beside the samples of its baseline, and how it is printed.

Medians, because a shared machine has outliers and no negative ones; the spread is
the middle half of the samples.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

HEADER = ("figure", "ours", "spread", "baseline", "spread", "ratio", "goal", "")
PLACES = 3
"""Significant digits of a printed value: more than a shared machine repeats."""


class Goal(StrEnum):
    """What a goal is held against."""

    RATIO = "ratio"
    """median of ours over median of the baseline"""
    VALUE = "value"
    """median of ours, in the figure's unit"""
    LEAST = "least"
    """the same, where more is better: a rate"""
    NONE = "none"
    """told for comparison"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `samples` and `baseline` are in `unit`."""

    name: str
    unit: str
    samples: Sequence[float]
    baseline: Sequence[float]
    goal: float | None = None
    against: Goal = Goal.NONE
    note: str = ""
    """What the baseline is, for people."""
    detail: dict[str, Any] = field(default_factory=dict)
    """Further measurements of the same run, only in the JSON."""

    @property
    def value(self) -> float:
        return statistics.median(self.samples)

    @property
    def ratio(self) -> float | None:
        """None without a baseline, or when that took no measurable time."""
        bare = statistics.median(self.baseline) if self.baseline else 0.0
        return self.value / bare if bare > 0 else None

    @property
    def excess(self) -> float | None:
        """By which part the goal is missed, 0.1 for a tenth; not above 0 when it is met."""
        measured = self.ratio if self.against is Goal.RATIO else self.value
        if self.goal is None or self.against is Goal.NONE or measured is None:
            return None
        return self.goal / measured - 1 if self.against is Goal.LEAST else measured / self.goal - 1

    def as_json(self) -> dict[str, Any]:
        excess = self.excess
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": summary(self.samples),
            "baseline": summary(self.baseline) if self.baseline else None,
            "ratio": self.ratio,
            "goal": self.goal,
            "goal_against": self.against.value,
            "met": None if excess is None else excess <= 0,
            "missed_by": None if excess is None else max(0.0, excess),
            "note": self.note,
            **self.detail,
        }


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """The bounds of the middle half; of a single sample, itself."""
    if len(samples) == 1:
        return samples[0], samples[0]
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, high


def summary(samples: Sequence[float]) -> dict[str, float]:
    low, high = quartiles(samples)
    return {
        "median": statistics.median(samples),
        "p25": low,
        "p75": high,
        "min": min(samples),
        "max": max(samples),
        "n": len(samples),
    }


def table(figures: Sequence[Figure]) -> str:
    rows = [HEADER, *(_cells(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    notes = [f"{figure.name}: {figure.note}" for figure in figures if figure.note]
    return "\n".join([*lines, "", *notes])


def as_json(figures: Sequence[Figure], machine: dict[str, Any]) -> str:
    return json.dumps({"machine": machine, "figures": [f.as_json() for f in figures]}, indent=2)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
    return "  ".join(cells).rstrip()


def _cells(figure: Figure) -> tuple[str, ...]:
    bare = statistics.median(figure.baseline) if figure.baseline else None
    ratio = figure.ratio
    return (
        figure.name,
        f"{_number(figure.value)} {figure.unit}",
        _spread(figure.samples),
        "" if bare is None else f"{_number(bare)} {figure.unit}",
        _spread(figure.baseline),
        "" if ratio is None else f"{ratio:.3f}" if ratio < 10 else f"{ratio:.0f}",
        _goal(figure),
        _verdict(figure.excess),
    )


def _goal(figure: Figure) -> str:
    if figure.goal is None or figure.against is Goal.NONE:
        return ""
    unit = "" if figure.against is Goal.RATIO else f" {figure.unit}"
    return f"{'>=' if figure.against is Goal.LEAST else '<='} {figure.goal:g}{unit}"


def _verdict(excess: float | None) -> str:
    if excess is None:
        return ""
    return "met" if excess <= 0 else f"missed by {excess:.1%}"


def _spread(samples: Sequence[float]) -> str:
    if len(samples) < 2:
        return ""
    low, high = quartiles(samples)
    return f"{_number(low)}..{_number(high)}"


def _number(value: float) -> str:
    return f"{value:.{PLACES}g}" if abs(value) < 1000 else f"{value:.0f}"
