"""Whether a series of counts is flat, and the table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression, median

Series = Mapping[str, Sequence[float]]

BOUNDS: tuple[tuple[str, float], ...] = (
    # A leak of one object in thirty orders is over these after a day: 1,600 orders come in it.
    ("objects of ours", 40),
    ("objects in all", 400),
    ("objects ", 30),
    ("blocks", 2000),
    ("asyncio ", 10),
    ("tasks", 2),
    ("timers ", 4),
    ("descriptors", 0),
    ("threads", 0),
    # One list slot an order is 16 KiB a day; dicts and lists that are full resize at once.
    ("KiB controller", 48),
    ("KiB firmware_sim", 48),
    ("KiB libraries", 128),
    # The allocator keeps pages that were full once; SQLite's cache of 2 MB is filled by degrees.
    ("KiB resident", 2048),
)
"""The first that the name begins with: by how much it may grow from the first third after the
warm-up to the last, median against median."""


@dataclass(frozen=True)
class Growth:
    name: str
    start: float
    """The first sample after the warm-up."""
    middle: float
    end: float
    grown: float
    """Median of the last third less that of the first: a slow leak shows, one odd rest does not."""
    a_day: float
    """Slope of the straight line through all samples after the warm-up."""
    bound: float

    @property
    def is_flat(self) -> bool:
        return self.grown <= self.bound


def bound_of(name: str, bounds: Sequence[tuple[str, float]] = BOUNDS) -> float | None:
    return next((bound for start, bound in bounds if name.startswith(start)), None)


def growths(
    hours: Sequence[float],
    series: Series,
    warm_up_h: float,
    bounds: Sequence[tuple[str, float]] = BOUNDS,
) -> list[Growth]:
    """Of each series that has a bound. A sample that lacks a name has 0 of it."""
    warm = [index for index, hour in enumerate(hours) if hour >= warm_up_h]
    assert len(warm) >= 3, "too short: three samples after the warm-up at least"
    third = max(1, len(warm) // 3)
    when = [hours[index] / 24 for index in warm]
    found = []
    for name, values in series.items():
        bound = bound_of(name, bounds)
        if bound is None:
            continue
        seen = [values[index] for index in warm]
        found.append(
            Growth(
                name,
                seen[0],
                seen[len(seen) // 2],
                seen[-1],
                median(seen[-third:]) - median(seen[:third]),
                linear_regression(when, seen).slope,
                bound,
            )
        )
    return found


def table(found: Sequence[Growth], *, all_rows: bool = False) -> str:
    """`objects …` of one class only where it grew: there are some hundred."""
    lines = [
        f"{'':34} {'start':>11} {'middle':>11} {'end':>11} {'grown':>9} {'bound':>7} {'a day':>9}"
    ]
    for growth in found:
        of_a_class = growth.name.startswith("objects ") and "." in growth.name
        if of_a_class and growth.grown <= 0 and not all_rows:
            continue
        mark = "" if growth.is_flat else "  GROWS"
        name = growth.name if len(growth.name) <= 34 else "…" + growth.name[-33:]
        lines.append(
            f"{name:34} {growth.start:11,.0f} {growth.middle:11,.0f} {growth.end:11,.0f} "
            f"{growth.grown:9,.1f} {growth.bound:7,.0f} {growth.a_day:9,.1f}{mark}"
        )
    return "\n".join(lines)
