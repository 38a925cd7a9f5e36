"""The JSON Schema of the settings file agrees with the check, as far as a schema can."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from controller import config
from controller.config_schema import settings_schema
from controller.config_tables import BOARD_TABLES, SINGLE_TABLES, CabinetTable, LaneTable
from tests.config.conftest import GOOD

EXAMPLE = Path(__file__).parents[2] / "config" / "vending-controller.toml"


def mistakes(text: str) -> list[str]:
    validator = Draft202012Validator(settings_schema())
    return [error.message for error in validator.iter_errors(tomllib.loads(text))]


def test_it_is_a_schema_and_names_every_key() -> None:
    schema = settings_schema()
    Draft202012Validator.check_schema(schema)
    models = [*SINGLE_TABLES.values(), *BOARD_TABLES.values(), CabinetTable, LaneTable]
    for model in models:
        named = set(schema["$defs"][model.__name__]["properties"])
        assert named - {"lane"} == set(model.model_fields) - {"command_keys"}


@pytest.mark.parametrize(
    "text", [GOOD, EXAMPLE.read_text(encoding="utf-8")], ids=["good", "example"]
)
def test_it_accepts_what_the_check_accepts(text: str) -> None:
    assert mistakes(text) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('machine_no = "16327129"', 'machine_no = "1632"'),
        ('machine_no = "16327129"', "machine_no = 16327129"),
        ("skew_s = 30", 'skew_s = "30"'),
        ("skew_s = 30", "skew_s = 3601"),
        ("idle_minutes = 10", "idle_minute = 10"),
        ('protocol = "xy"', 'protocol = "xyz"'),
        ('protocol = "vbp"', 'protocol = "vbp"\npoll_ms = 200'),
        ('kind = "track"', 'kind = "belt"'),
        ("  capacity = 8\n", ""),
        ("[clock]", "[security]\ncommand_keys = []\n[clock]"),
        ("[clock]", "[clocks]"),
    ],
)
def test_it_refuses_what_the_check_refuses(right: str, wrong: str) -> None:
    text = GOOD.replace(right, wrong, 1)
    assert text != GOOD
    assert config.judge(text, "config.toml").errors
    assert mistakes(text)
