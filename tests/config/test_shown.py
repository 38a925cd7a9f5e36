"""Settings that may leave the machine: by a list of harmless keys, never by a list of secrets."""

from __future__ import annotations

import json
from pathlib import Path

from controller import config
from controller.config_shown import SHOWN, shown, without_login
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


def test_a_login_in_a_url_goes() -> None:
    assert (
        without_login("see tcp://a:b@host:1 and mqtts://c@d/e")
        == "see tcp://host:1 and mqtts://d/e"
    )
