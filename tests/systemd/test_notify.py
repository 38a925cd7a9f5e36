"""Words to systemd over real datagram sockets, and the record of the last stop."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import notify
from controller.last_stop import FILE, record_stop


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + address[1:] if address.startswith("@") else address)
        listening.settimeout(5)
        yield listening


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "n") if request.param == "path" else f"@vending-test-{os.getpid()}"


def test_each_word_arrives_whole(address: str) -> None:
    environ = {"NOTIFY_SOCKET": address}
    with manager(address) as listening:
        assert notify.ready("2 boards up", environ)
        assert listening.recv(4096) == b"READY=1\nSTATUS=2 boards up"
        assert notify.status("waiting\nREADY=1", environ)
        assert listening.recv(4096) == b"STATUS=waiting READY=1"  # no second assignment
        assert notify.watchdog(environ)
        assert listening.recv(4096) == b"WATCHDOG=1"
        assert notify.stopping("a cycle runs", 150.5, environ)
        assert listening.recv(4096) == (
            b"STOPPING=1\nSTATUS=a cycle runs\nEXTEND_TIMEOUT_USEC=150500000"
        )


@pytest.mark.parametrize(
    "value", ["", "vsock:2:1234", "/nowhere/at/all", "@nobody-listens", "/" + "x" * 200, "@\0"]
)
def test_nobody_listens_and_nothing_breaks(value: str) -> None:
    assert notify.ready("x", {"NOTIFY_SOCKET": value}) is False


def test_without_a_manager_nothing_is_sent() -> None:
    assert notify.watchdog({}) is False


def test_a_manager_that_does_not_read_stops_nobody(address: str) -> None:
    """The loop feeds the watchdog: it must never wait for systemd."""
    with manager(address):
        sent = [notify.watchdog({"NOTIFY_SOCKET": address}) for _ in range(5000)]
    assert sent[0] is True
    assert sent[-1] is False


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_half_of_the_watchdogs_time(environ: dict[str, str], expected: float | None) -> None:
    assert notify.watchdog_interval_s(environ) == expected


# --------------------------------------------------------------------------- last stop


def recorded(state_dir: Path) -> dict[str, str]:
    (line,) = (state_dir / FILE).read_text().splitlines()
    found: dict[str, str] = json.loads(line)
    return found


def test_a_stop_is_recorded_as_systemd_tells_it(tmp_path: Path) -> None:
    environ = {"SERVICE_RESULT": "watchdog", "EXIT_CODE": "killed", "EXIT_STATUS": "ABRT"}
    record_stop(tmp_path, environ)
    assert recorded(tmp_path) == {
        "result": "watchdog",
        "exit_code": "killed",
        "exit_status": "ABRT",
    }
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_later_stop_replaces_the_record(tmp_path: Path) -> None:
    record_stop(tmp_path, {"SERVICE_RESULT": "watchdog"})
    record_stop(tmp_path, {"SERVICE_RESULT": "success"})
    assert recorded(tmp_path)["result"] == "success"


def test_a_record_that_cannot_be_written_leaves_the_old(tmp_path: Path) -> None:
    record_stop(tmp_path, {"SERVICE_RESULT": "success"})
    (tmp_path / f".{FILE}.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        record_stop(tmp_path, {"SERVICE_RESULT": "watchdog"})
    assert recorded(tmp_path)["result"] == "success"


@given(st.dictionaries(st.sampled_from(["SERVICE_RESULT", "EXIT_CODE", "X"]), st.text()))
def test_any_environment_makes_one_short_line(environ: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        record_stop(Path(name), environ)
        assert set(recorded(Path(name))) == {"result", "exit_code", "exit_status"}
        assert (Path(name) / FILE).stat().st_size < 3000
