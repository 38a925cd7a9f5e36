"""Settings that may leave the machine: by a list of harmless keys, never by a list of secrets."""

from __future__ import annotations

import json
from pathlib import Path

from controller import config
from controller.config_shown import SHOWN, listed, shown, without_login
from controller.config_tables import BOARD_TABLES, SINGLE_TABLES, CabinetTable, LaneTable, TlsTable
from tests.config.conftest import GOOD

NEVER = {"username", "password_file", "key_file", "client_id", "command_keys"}


def test_every_key_is_shown_or_kept_for_a_reason() -> None:
    tables = {**SINGLE_TABLES, "cabinet": CabinetTable, "lane": LaneTable, "tls": TlsTable}
    known = {name: set(table.model_fields) for name, table in tables.items() if name != "security"}
    known["board"] = {key for table in BOARD_TABLES.values() for key in table.model_fields}
    for name, keys in known.items():
        assert keys - SHOWN[name] <= NEVER | {"tls"}, name
        assert SHOWN[name] <= keys, f"{name}: no such key"


def test_secrets_are_set_or_not_set(tmp_path: Path) -> None:
    password = tmp_path / "hunter2-path"
    password.write_text("hunter2-word\n")
    text = GOOD.replace(
        'host = "localhost"',
        'host = "localhost"\nusername = "hunter2-user"\nclient_id = "hunter2-client"\n'
        f'password_file = "{password}"',
    ).replace("tcp://127.0.0.1:4001", "tcp://hunter2:hunter2@127.0.0.1:4001")
    settings = config.judge(text, "config.toml").settings
    assert settings is not None
    told = shown(settings)
    assert "hunter2" not in json.dumps(told)
    assert told["mqtt"]["password_file"] == "(set)"
    assert told["mqtt"]["port"] == 1883
    assert told["board"][1]["port"] == "tcp://127.0.0.1:4001"
    assert [lane["channel"] for lane in told["cabinet"][0]["lane"]] == ["A1", "A2"]


def test_each_setting_says_where_it_came_from() -> None:
    settings = config.judge(GOOD, "config.toml").settings
    assert settings is not None
    found = {each["setting"]: each for each in listed(shown(settings), GOOD)}
    lines = GOOD.splitlines()
    port = found["board[side].port"]
    assert (port["value"], port["source"]) == ("tcp://127.0.0.1:4001", "file")
    assert lines[port["line"] - 1] == 'port = "tcp://127.0.0.1:4001"'
    stock = found["cabinet[A].lane[A1].initial_stock"]
    assert lines[stock["line"] - 1].strip() == "initial_stock = 8"
    assert found["cabinet[A].lane[A2].initial_stock"] == {
        "setting": "cabinet[A].lane[A2].initial_stock",
        "value": 0,
        "source": "default",
        "line": None,
    }
    # What the daemon derives from kind, protocol and drop sensor is in force, too.
    derived = found["cabinet[B].cycle_timeout_s"]
    assert (derived["value"], derived["source"]) == (30.0, "default")


def test_without_the_files_text_nobody_knows_where_a_setting_came_from() -> None:
    settings = config.judge(GOOD, "config.toml").settings
    assert settings is not None
    for text in (None, "[[[ no TOML any more"):
        assert {each["source"] for each in listed(shown(settings), text)} == {"unknown"}


def test_a_login_in_a_url_goes() -> None:
    assert (
        without_login("see tcp://a:b@host:1 and mqtts://c@d/e")
        == "see tcp://host:1 and mqtts://d/e"
    )
