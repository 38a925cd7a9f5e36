"""docs/mqtt.md is the contract: its examples are valid, and it names every code and field."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from controller.codes import CODES, REASONS, RESPONSES
from controller.uplink.messages import INCOMING, OUTGOING
from controller.uplink.remote import ACTS

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "mqtt.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- example: (\S+) -->\n```json\n(.*?)```", PAGE, re.DOTALL)
MODELS = {**INCOMING, **{f"request/{verb}": model for verb, model in ACTS.items()}, **OUTGOING}


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_an_example_fits_its_model_and_names_only_its_fields(name: str, text: str) -> None:
    model = MODELS[name]
    value = json.loads(text)
    model.model_validate_json(text)
    fields = {field.alias or key for key, field in model.model_fields.items()}
    assert set(value) <= fields
    if name in OUTGOING:
        assert list(value) == [f.alias or key for key, f in model.model_fields.items()]


def test_every_message_has_an_example() -> None:
    assert {name for name, _ in EXAMPLES} == set(MODELS) - {"request"}


def test_every_code_is_explained_in_both_languages() -> None:
    for code, meaning in [*CODES.items(), *RESPONSES.items()]:
        assert f"| `{code.value}` | {meaning.en} | {meaning.zh} |" in PAGE
    for reason, (en, zh) in REASONS.items():
        assert f"| `{reason.value}` | {en} | {zh} |" in PAGE


def test_every_field_of_a_command_is_on_the_page() -> None:
    for name in ("dispense", "cancel", "request/results"):
        for field in MODELS[name].model_fields:
            assert f'"{field}"' in PAGE or f"`{field}`" in PAGE


RAISED = re.compile(
    r"""(?:raise_event\(\s*tx,|_insert\(tx,|\.event\(|BoardNote\(|_tell\()\s*"(\w+)\""""
)
"""An event's kind, where the code names it in the call."""
CHOSEN = {
    *("board_lost", "board_back", "outcome_revised", "late_evidence"),
    *("dispense_rejected", "cancel_rejected"),
}
"""Kinds that the code chooses before the call."""


def test_every_kind_of_event_is_on_the_page() -> None:
    sources = (PROJECT / "controller").rglob("*.py")
    raised = {kind for path in sources for kind in RAISED.findall(path.read_text("utf-8"))}
    assert {"lost", "test_vend", "door", "board_restarted", "eye_blocked"} <= raised
    kinds = raised | CHOSEN
    (table,) = re.findall(r"\| kind \|.*\n.*\n((?:\|.*\n)*)", PAGE)
    told = {
        kind for row in table.splitlines() for kind in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert told == kinds
