"""Many simulated days of sparse traffic: the journal grows until the retention, and then not.

What stays for ever by decision is one row of each order (`docs/decisions/
journal-identity-for-ever.md`); the growth of that table is told and not judged.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak import figures
from tests.soak.day import SPARSE
from tests.soak.figures import TABLES, Sample
from tests.soak.flat import Growth, growths
from tests.soak.shop import Shop

DAY_S = 86_400.0
BOUNDS: tuple[tuple[str, float], ...] = (
    # Traffic is drawn: a day's rows differ by some 10 %, and the retention holds some days' worth.
    ("rows orders with details", 60),
    *((f"rows {table}", 250) for table in TABLES if table != "orders"),
    # Pages that pruning left half empty fill again later; a day without pruning is 500 KiB.
    *((f"bytes {table}", 80 * 1024) for table in TABLES if table != "orders"),
    ("bytes beside the orders", 120 * 1024),
    ("bytes log", 64 * 1024),
)


@dataclass
class Days:
    shop: Shop
    retention_days: int
    days: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    took_s: float = 0.0

    def series(self) -> dict[str, list[float]]:
        return {name: [each[name] for each in self.samples] for name in self.samples[0]}

    def verdict(self) -> list[Growth]:
        """From a day after the retention on: the first details are a day old when they go."""
        hours = [day * 24 for day in self.days]
        return growths(hours, self.series(), (self.retention_days + 1) * 24, BOUNDS)

    def bytes_per_order(self) -> float:
        """Of `orders` with its indexes, from the retention on: what stays for ever."""
        first = next(i for i, day in enumerate(self.days) if day >= self.retention_days + 1)
        then, last = self.samples[first], self.samples[-1]
        return (last["bytes orders"] - then["bytes orders"]) / (
            last["rows orders"] - then["rows orders"]
        )

    def table(self) -> str:
        names = ("rows orders", "rows orders with details",
                 *(f"rows {table}" for table in TABLES if table != "orders"))  # fmt: skip
        sizes = ("bytes orders", "bytes beside the orders", "bytes free", "bytes database",
                 "bytes log")  # fmt: skip
        heads = [*(name.removeprefix("rows ") for name in names),
                 *(name.removeprefix("bytes ") + " KiB" for name in sizes)]  # fmt: skip
        heads[1] = "detailed"
        heads[-4] = "rest KiB"
        lines = ["day   " + " ".join(f"{head:>12}" for head in heads)]
        for day, sample in zip(self.days, self.samples, strict=True):
            cells = [sample[name] for name in names] + [sample[name] / 1024 for name in sizes]
            lines.append(f"{day:5.1f} " + " ".join(f"{cell:12,.0f}" for cell in cells))
        return "\n".join(lines)


def play(seed: int, days: float, retention_days: int, directory: Path) -> Days:
    """Raises Breach. On the VBP board alone: a line that is not polled costs no virtual time."""
    began = time.process_time()
    run = Days(Shop(seed, "vbp", directory, SPARSE, retention_days), retention_days)

    def look() -> None:
        passed = run.shop.now / DAY_S
        if passed >= len(run.days) + 1:
            sample = figures.on_disk(run.shop)
            used = sample["bytes database"] - sample["bytes free"]
            sample["bytes beside the orders"] = used - sample["bytes orders"]
            run.days.append(passed)
            run.samples.append(sample)

    run.shop.sell(days * 24, look)
    run.took_s = time.process_time() - began
    return run


def all_flat(found: Sequence[Growth]) -> bool:
    return all(growth.is_flat for growth in found)
