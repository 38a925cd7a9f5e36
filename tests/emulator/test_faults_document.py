"""docs/faults.md names every fault, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from firmware_sim.faults import KINDS
from firmware_sim.scenario import parse

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "faults.md"


def test_the_document_has_a_row_for_each_fault() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    keys = {"lane", "cycle", "at", "probability", "times", "seconds", "after_ms"}
    assert sorted(set(rows) - keys) == sorted(KINDS)


def test_the_scenario_of_the_document_can_be_played() -> None:
    (toml,) = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    every_key = re.sub(r"^# (\w+ = )", r"\1", toml, flags=re.MULTILINE)
    assert "\nseed = 1\n" in every_key
    assert parse(toml).boards[0].faults[0].kind == "jam"
    assert parse(every_key).boards[0].seed == 1
