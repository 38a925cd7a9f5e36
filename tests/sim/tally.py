"""Sums of many runs, kept in a file: a long run may be made in parts.

python -m tests.sim --storm --layout vbp --first 1 --count 100 --tally long.json
python -m tests.sim --count 0 --tally long.json --matrix
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sim import matrix

if TYPE_CHECKING:
    from tests.sim.world import World

TOLD = (
    "orders", "commands", "troubles", "cycles", "drive_frame", "product_fell", "fault", "commits",
    "board_reset", "power_off", "unplugged", "gave_up", "fell_too_late", "board_denied",
    "journal_directory", "journal_database", "journal_corrupt", "journal_older",
    "journal_older_directory", "old_copy_never_noticed", "went_on_from_an_old_copy",
    "taken_again_unknowing", "told_from_an_old_copy", "pruned_by_a_wrong_clock", "service_modes",
    "act_resolve", "act_stock_undo_test", "act_order_cancel", "act_lane_disable", "wrong_verdicts",
)  # fmt: skip


@dataclass
class Tally:
    runs: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    totals: Counter[str] = field(default_factory=Counter)
    cells: Counter[matrix.Cell] = field(default_factory=Counter)

    def add(self, world: World) -> None:
        self.runs += 1
        self.virtual_s += world.now
        self.totals.update(world.judge.counts)
        self.totals["orders"] += len(world.commands)
        self.totals["troubles"] += world.judge.matrix.troubles
        self.cells.update(world.judge.matrix.seen)

    def figures(self) -> str:
        took = max(self.cpu_s, 0.001)
        crashes = self.totals["crashes"]
        counts = (f"{name} {self.totals[name]}" for name in TOLD if self.totals[name])
        hours, speed, often = self.virtual_s / 3600, self.virtual_s / took, crashes / took
        return (
            f"{self.runs} runs, no promise broken: {hours:.1f} hours in {took:.1f} s of one core "
            f"({speed:.0f} times real time), {crashes} crashes ({often:.1f} a second)\n"
            + ", ".join(counts)
        )

    def tables(self) -> tuple[str, list[matrix.Cell]]:
        """Both matrices as Markdown, and the cells in which nothing was ever tried."""
        protocols = tuple(sorted({protocol for protocol, _, _ in self.cells}))
        shown = "\n\n".join(matrix.table(self.cells, protocol) for protocol in protocols)
        return shown, matrix.empty_cells(self.cells, protocols)

    # ------------------------------------------------------------------ the file

    @classmethod
    def read(cls, file: Path | None) -> Tally:
        if file is None or not file.exists():
            return cls()
        kept = json.loads(file.read_text(encoding="utf-8"))
        cells = {tuple(name.split("|")): count for name, count in kept["cells"].items()}
        return cls(
            kept["runs"], kept["virtual_s"], kept["cpu_s"], Counter(kept["totals"]), Counter(cells)
        )

    def write(self, file: Path) -> None:
        kept = {
            "runs": self.runs,
            "virtual_s": self.virtual_s,
            "cpu_s": self.cpu_s,
            "totals": self.totals,
            "cells": {"|".join(cell): count for cell, count in self.cells.items()},
        }
        file.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
