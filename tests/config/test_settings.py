"""A good file becomes settings; defaults are those of the documents."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import ValidationError

from controller import config
from controller.boards import PROTOCOLS
from controller.config_tables import (
    BOARD_TABLES,
    SERVED_PROTOCOLS,
    SINGLE_TABLES,
    CabinetTable,
    LaneTable,
    Table,
    TlsTable,
    VbpTable,
    XyTable,
)
from controller.model import Cabinet, CabinetKind, Lane
from tests.config.conftest import GOOD, changed

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "vending-controller.toml"
DOCUMENT = ROOT / "docs" / "operating.md"


def settings_of(text: str) -> config.Settings:
    verdict = config.judge(text, "config.toml")
    assert verdict.errors == ()
    assert verdict.settings is not None
    return verdict.settings


def test_a_good_file_loads_without_a_word(good_file: Path) -> None:
    settings, warnings = config.load(good_file)
    assert warnings == ()
    assert settings.machine.machine_no == "16327129"
    assert config.check_text(good_file) == ([], [])


def test_defaults_of_the_whole_file() -> None:
    settings = settings_of(GOOD)
    machine = settings.machine
    assert (machine.max_parallel_cycles, machine.max_units_per_order) == (1, 50)
    assert (machine.order_ttl_s, machine.late_drop_window_s) == (90, 30)
    assert (machine.lane_failure_limit, machine.max_queued_orders) == (3, 100)
    assert (machine.enforce_stock, machine.resume_after_reboot) == (True, False)
    assert machine.result_retention_days == 400
    assert settings.clock.require_sync is True
    assert (settings.mqtt.prefix, settings.mqtt.protocol) == ("vending/v1", "5")
    assert (settings.mqtt.keepalive_s, settings.mqtt.session_expiry_s) == (30, 604_800)
    assert settings.mqtt_client_id == "16327129"
    assert settings.service.socket == Path("/run/vending-controller/control.sock")
    assert (settings.service.read_group, settings.service.act_group) == ("vending", "vending-tech")
    assert settings.service.remote_verbs == ()


def test_cabinets_in_the_words_of_the_heart() -> None:
    track, spiral = config.cabinets(settings_of(GOOD))
    assert track == Cabinet(
        name="A",
        kind=CabinetKind.TRACK,
        board="main",
        drop_sensor=True,
        lanes=(Lane("A1", 1, 121, 8, "A", 8), Lane("A2", 2, 122, 6, "A", 0)),
        eye_clear_timeout_s=10.0,
        settle_s=0.0,
        cycle_timeout_s=90.0,
        max_run_ms=15_000,
        drop_wait_ms=3_000,
        second_cycles=0,
    )
    assert (spiral.kind, spiral.drop_sensor) == (CabinetKind.SPIRAL, False)
    assert (spiral.cycle_timeout_s, spiral.drop_wait_ms, spiral.settle_s) == (30.0, 0, 0.0)


@pytest.mark.parametrize(
    ("kind", "cycle_timeout_s", "max_run_ms"),
    [("locker", 15.0, 5_000), ("spiral", 30.0, 15_000), ("track", 90.0, 15_000)],
)
def test_defaults_by_kind_keep_the_rule_of_times(
    kind: str, cycle_timeout_s: float, max_run_ms: int
) -> None:
    text = changed('kind = "track"', f'kind = "{kind}"')
    cabinet = config.cabinets(settings_of(text))[0]
    assert (cabinet.cycle_timeout_s, cabinet.max_run_ms) == (cycle_timeout_s, max_run_ms)
    assert cabinet.drop_wait_ms == 3_000


def test_a_cabinet_whose_eye_only_the_board_sees_settles() -> None:
    """P3: where the eye cannot be read, a pause separates cycles."""
    text = changed('board = "side"\n\n', 'board = "side"\ndrop_sensor = true\n\n')
    assert config.cabinets(settings_of(text))[1].settle_s == 0.5
    told = text.replace('"B"\n', '"B"\nsettle_ms = 120\n')
    assert config.cabinets(settings_of(told))[1].settle_s == 0.12


def test_options_of_the_boards() -> None:
    boards = settings_of(GOOD).boards
    assert isinstance(boards[0], VbpTable)
    assert isinstance(boards[1], XyTable)
    assert config.board_options(boards[0]) == {"baudrate": 115_200}
    assert config.board_options(boards[1]) == {
        "baudrate": 57_600,
        "drive_length": 5,
        "jam_means": "not_delivered",
        "resend_same_packno": 0,
        "elevator": False,
        "door_means": "unknown",
        "poll_ms": 200,
        "status_every_s": 60,
    }


@pytest.mark.parametrize("protocol", list(BOARD_TABLES))
def test_each_driver_takes_the_options_it_is_given(protocol: str) -> None:
    """The tables here and the drivers' own options name the same keys and defaults."""
    ours = BOARD_TABLES[protocol].model_validate(
        {"name": "x", "protocol": protocol, "port": "/dev/x"}
    )
    drivers = PROTOCOLS[protocol].options()
    assert config.board_options(ours) == asdict(drivers)


def test_every_driver_has_its_table() -> None:
    assert set(PROTOCOLS) == set(BOARD_TABLES) == set(SERVED_PROTOCOLS)


def test_settings_are_frozen() -> None:
    settings = settings_of(GOOD)
    with pytest.raises(ValidationError, match="frozen"):
        settings.machine.max_parallel_cycles = 4
    with pytest.raises(AttributeError):
        settings.boards = ()  # type: ignore[misc]


def test_tls_moves_the_default_port() -> None:
    assert settings_of(GOOD).mqtt_port == 1883
    assert settings_of(changed("[service]", "[mqtt.tls]\n[service]")).mqtt_port == 8883
    told = changed("[service]", "port = 1884\n[mqtt.tls]\n[service]")
    assert settings_of(told).mqtt_port == 1884


def test_windows_line_ends_and_byte_order_mark_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert config.check_text(path) == ([], [])


def test_the_example_is_a_good_file_for_a_real_machine() -> None:
    verdict = config.judge(EXAMPLE.read_text(), "example")
    assert (verdict.errors, verdict.warnings) == ((), ())
    assert verdict.settings is not None
    track, spiral = config.cabinets(verdict.settings)
    assert track.one_item_per_eye
    assert spiral.settle_s == 0.5


def test_the_example_shows_true_defaults() -> None:
    """Each commented key, made active, changes nothing."""
    shown = re.sub(r"(?m)^# ([a-z_]+ = .*)$", r"\1", EXAMPLE.read_text())
    assert shown != EXAMPLE.read_text()
    told, silent = settings_of(shown), settings_of(EXAMPLE.read_text())
    assert config.cabinets(told) == config.cabinets(silent)
    for part in ("machine", "clock", "service", "boards"):
        assert getattr(told, part) == getattr(silent, part)
    assert told.mqtt_client_id == silent.mqtt_client_id
    same = {"prefix", "protocol", "keepalive_s", "session_expiry_s"}
    assert told.mqtt.model_dump(include=same) == silent.mqtt.model_dump(include=same)


def test_the_document_lists_every_key() -> None:
    text = DOCUMENT.read_text()
    tables: tuple[type[Table], ...] = (
        *SINGLE_TABLES.values(),
        *BOARD_TABLES.values(),
        TlsTable,
        CabinetTable,
        LaneTable,
    )
    keys = {key for table in tables for key in table.model_fields}
    assert sorted(key for key in keys if f"`{key}`" not in text) == []


def test_the_document_tells_true_defaults() -> None:
    """Rows whose default is a plain number or true/false, against the tables of the code."""
    rows = re.findall(r"(?m)^\| `(\w+)` \| (\d+|true|false) \|", DOCUMENT.read_text())
    tables: tuple[type[Table], ...] = (
        *SINGLE_TABLES.values(),
        *BOARD_TABLES.values(),
        CabinetTable,
        LaneTable,
    )
    defaults = {
        key: field.default
        for table in tables
        for key, field in table.model_fields.items()
        if not field.is_required()
    }
    assert len(rows) > 15
    told = {key: json.loads(value) for key, value in rows}
    assert told == {key: defaults[key] for key in told}


def test_no_slow_import() -> None:
    """Start-up: the settings need pydantic and nothing heavier."""
    heavy = ("pydantic_settings", "aiohttp", "asyncio", "hypothesis", "email_validator")
    found = subprocess.run(
        [sys.executable, "-c", "import controller.config, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.split()
    assert "controller.config" in found
    assert set(heavy) & set(found) == set()
