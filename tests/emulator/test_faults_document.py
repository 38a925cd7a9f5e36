"""docs/faults.md names every fault, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from firmware_sim.faults import KINDS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "faults.md"


def test_the_document_has_a_row_for_each_fault() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    keys = {"lane", "cycle", "at", "probability", "times", "seconds", "after_ms"}
    assert sorted(set(rows) - keys) == sorted(KINDS)
