"""A simulated day in one daemon life: does anything in memory grow?"""

from __future__ import annotations

import json
import time
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak import figures
from tests.soak.aged import age
from tests.soak.day import BUSY
from tests.soak.flat import Growth, growths
from tests.soak.shop import Shop

WARM_UP_H = 2.0
"""Every path was walked once, and SQLite's caches are full."""
RETENTION_DAYS = 1
"""The shortest that the settings take: in the last hours of a day there is something to prune."""


@dataclass
class Day:
    """A run, and what was seen in it."""

    shop: Shop
    hours: list[float] = field(default_factory=list)
    samples: list[bytes] = field(default_factory=list)
    took_s: float = 0.0
    disk: dict[str, list[float]] = field(default_factory=dict)
    """First, middle and last sample of the journal."""

    def verdict(self, warm_up_h: float) -> list[Growth]:
        tables = [json.loads(sample) for sample in self.samples]
        names = sorted({name for each in tables for name in each})
        series = {name: [each.get(name, 0) for each in tables] for name in names}
        return growths(self.hours, series, warm_up_h)


def play(
    seed: int, hours: float, layout: str, directory: Path, *, trace: bool, every: int = 1
) -> Day:
    """Raises Breach. `trace` measures allocations, which takes three times as long; `every`: a
    sample at each so many-th rest."""
    if trace:
        tracemalloc.start()
    began = time.process_time()
    try:
        day = Day(Shop(seed, layout, directory, BUSY, RETENTION_DAYS))

        def look() -> None:
            if day.shop.watches == 1:
                assert day.shop.machine.journal is not None
                assert day.shop.machine.daemon is not None
                age(day.shop.machine.journal, day.shop.machine.daemon.dispenser)
            if day.shop.watches % every == 0:
                day.hours.append(day.shop.now / 3600)
                day.samples.append(figures.in_memory(day.shop).encode())  # ours, not json's
            for name, value in figures.on_disk(day.shop).items():
                day.disk.setdefault(name, []).append(value)

        day.shop.sell(hours, look)
    finally:
        tracemalloc.stop()
    day.took_s = time.process_time() - began
    return day
