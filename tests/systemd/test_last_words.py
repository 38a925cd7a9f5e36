"""What vendingd says when it does not start, to a terminal and to journald; and --record-stop."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.system.process import PROGRAMS

SOUND = """
[machine]
machine_no = "16327129"
state_dir = "{state}"
[mqtt]
host = "mqtt.example.com"
[service]
socket = "{state}/control.sock"
[[board]]
name = "main"
protocol = "vbp"
port = "/dev/ttyUSB9"
[[cabinet]]
name = "A"
kind = "track"
board = "main"
drop_sensor = true
second_cycles = 1
  [[cabinet.lane]]
  channel = "A1"
  number = 1
  product_id = 121
  capacity = 8
"""


def vendingd(
    directory: Path, settings: str, *words: str, journal: bool = False, **environ: str
) -> tuple[int, str]:
    """Its exit code, and what it wrote to stderr."""
    file = directory / "config.toml"
    file.write_text(settings, encoding="utf-8")
    log = directory / "stderr"
    with log.open("w") as stderr:
        status = os.fstat(stderr.fileno())
        stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"} if journal else {}
        done = subprocess.run(
            [PROGRAMS / "vendingd", "--config", file, *words],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, **environ, **stream},
            timeout=30,
            check=False,
        )
    return done.returncode, log.read_text(encoding="utf-8")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    return directory


MISTAKES = SOUND.replace("16327129", "1").replace("main", "m n", 1)


def test_mistakes_are_plain_lines_at_a_terminal(tmp_path: Path, state: Path) -> None:
    code, said = vendingd(tmp_path, MISTAKES.format(state=state))
    assert code == 2
    assert f"\n{tmp_path}/config.toml:3: machine.machine_no: must be eight" in f"\n{said}"


def test_mistakes_are_errors_in_the_journal(tmp_path: Path, state: Path) -> None:
    """`journalctl -p err` names each, with its remedy."""
    code, said = vendingd(tmp_path, MISTAKES.format(state=state), journal=True)
    assert code == 2
    lines = said.splitlines()
    assert len(lines) >= 2
    for line in lines:
        assert line.startswith("<3>config_mistake room=daemon text=")
    assert any("machine.machine_no" in line and "write it in quotes" in line for line in lines)


def test_no_remedy_is_cut(tmp_path: Path, state: Path) -> None:
    """The file's long path, the longest warning, and a socket's long path in a trouble."""
    long_dir = tmp_path / ("d" * 100)
    long_dir.mkdir()
    settings = SOUND.format(state=state).replace(f"{state}/control.sock", f"{state}")
    code, said = vendingd(long_dir, settings, journal=True)
    assert code == 1
    assert "or expect results marked late" in said
    (stopped,) = [line for line in said.splitlines() if "stopped" in line]
    assert stopped.startswith("<3>stopped room=daemon ")
    assert "name another path in [service] socket" in stopped


WATCHDOG = {"SERVICE_RESULT": "watchdog", "EXIT_CODE": "killed", "EXIT_STATUS": "ABRT"}


@pytest.mark.parametrize("settings", [SOUND, MISTAKES, SOUND + "[mqtt.tls]\nca_file = '/gone'\n"])
def test_the_stop_is_recorded_whatever_is_wrong_in_the_settings(
    tmp_path: Path, state: Path, settings: str
) -> None:
    """They may have been edited, or a certificate taken away, while the daemon ran."""
    text = settings.format(state=state)
    code, said = vendingd(tmp_path, text, "--record-stop", **WATCHDOG)
    assert (code, said) == (0, "")
    assert json.loads((state / "last_stop").read_text())["result"] == "watchdog"


@pytest.mark.parametrize("environ", [{}, WATCHDOG])
def test_a_stop_that_cannot_be_recorded_is_one_line(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    settings = SOUND.format(state=tmp_path / "missing")
    code, said = vendingd(tmp_path, settings, "--record-stop", journal=True, **environ)
    assert code == 1
    assert said.startswith("<3>stop_not_recorded room=daemon ")
    assert len(said.splitlines()) == 1
