# ruff: noqa: RUF001  (Chinese sentences have Chinese marks)
"""`config show` and `config schema`: the settings in force, and what may stand in their file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controller.service.server import Service
from tests.cli.conftest import Vendctl
from tests.config.conftest import GOOD
from tests.service.memory_machine import MemoryMachine

pytestmark = pytest.mark.system


async def test_config_show_tells_what_the_daemon_runs_with(
    service: Service, vendctl: Vendctl
) -> None:
    ran = await vendctl("config", "show")
    assert ran.code == 0, ran.err
    assert '  host  "broker.example"' in ran.out.splitlines()
    assert "as the daemon runs with it" in " ".join(ran.err.split())


async def test_config_show_says_that_the_file_changed_since(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.answers["doctor"]["config"]["changed"] = True
    ran = await vendctl("config", "show")
    assert ran.code == 0
    assert "systemctl restart" in ran.err


async def test_config_show_and_schema_need_no_daemon(vendctl: Vendctl, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    word = tmp_path / "word"
    word.write_text("hunter2\n")
    file.write_text(
        GOOD.replace(
            'host = "localhost"',
            f'host = "localhost"\nusername = "hunter2"\npassword_file = "{word}"',
        )
    )
    ran = await vendctl("config", "show", "--config", str(file))
    assert ran.code == 0, ran.err
    assert "hunter2" not in ran.out
    lines = [line.split(maxsplit=1) for line in ran.out.splitlines()]
    assert ["skew_s", "30.0 (line 6)"] in lines
    assert ["keepalive_s", "30 (default)"] in lines
    assert ["username", "(set) (line 10)"] in lines
    chinese = await vendctl("config", "show", "--config", str(file), "--lang", "zh")
    assert ("（已设置）" in chinese.out, "(set)" in chinese.out) == (True, False)
    told = json.loads((await vendctl("config", "show", "--config", str(file), "--json")).out)
    assert told["running"] is False
    file.write_text('[machine]\nmachine_no = "12"\n')
    ran = await vendctl("config", "show", "--config", str(file))
    assert ran.code == 1
    assert "machine_no" in ran.out
    schema = await vendctl("config", "schema")
    assert schema.code == 0
    assert json.loads(schema.out)["properties"].keys() >= {"machine", "board", "cabinet"}
