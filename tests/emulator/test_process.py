"""The emulator as a person starts it: real ptys, real TCP, real sockets, real signals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial

from controller.boards.vbp import frames as vbp
from controller.boards.xy import frames as xy

pytestmark = pytest.mark.system

CYCLE = 0x692339C000000001

SCENARIO = """
[[board]]
name = "main"
protocol = "vbp"
port = "pty:{dir}/main.tty"
seed = 1
ledger = "{dir}/main.jsonl"
control = "{dir}/main.sock"
memory = "{dir}/main.mem"
  [[board.lane]]
  number = 1
  run_ms = 1000
  fall_ms = 200
[[board]]
name = "spiral"
protocol = "xy"
port = "tcp:127.0.0.1:{port}"
seed = 1
control = "{dir}/spiral.sock"
  [[board.lane]]
  number = 1
  kind = "spiral"
"""


def wait_for(what: Callable[[], Any], limit: float = 10.0) -> Any:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("did not come to be in time")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    def __init__(self, directory: Path, *words: str) -> None:
        self.directory = directory
        self.port = free_port()
        scenario = directory / "scenario.toml"
        scenario.write_text(SCENARIO.format(dir=directory, port=self.port))
        command = [sys.executable, "-m", "firmware_sim.main", str(scenario), *words]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        wait_for(self._listens)

    def _listens(self) -> bool:
        """A killed predecessor leaves its sockets' files: only an answer counts."""
        with contextlib.suppress(OSError):
            return bool(self.tell("spiral", ask="faults")["ok"])
        return False

    def tell(self, board: str, **message: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(5)
            line.connect(str(self.directory / f"{board}.sock"))
            line.sendall(json.dumps(message).encode() + b"\n")
            return dict(json.loads(line.makefile("rb").readline()))

    def ledger(self) -> list[dict[str, Any]]:
        text = (self.directory / "main.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def end(self, number: int = signal.SIGTERM) -> str:
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=10)
        return output


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path, "--speed", "10")
    yield running
    if running.process.poll() is None:
        running.end(signal.SIGKILL)


class Asker:
    """A VBP host on a real pty, as a driver opens it: exclusively."""

    def __init__(self, path: Path) -> None:
        self.line = serial.Serial(str(path), 115200, timeout=0.05, exclusive=True)
        fcntl.ioctl(self.line.fileno(), termios.TIOCEXCL)
        self.decoder = vbp.Decoder()
        self.seq = 0

    def ask(self, request: vbp.Payload) -> vbp.Payload:
        self.seq += 1
        self.line.write(vbp.encode(request, self.seq))

        def answer() -> list[vbp.Payload]:
            data = self.line.read(max(1, self.line.in_waiting))
            frames = [f for f in self.decoder.feed(data) if f.type != vbp.Type.EVENT]
            return [vbp.parse(frame) for frame in frames if frame.seq == self.seq]

        return wait_for(answer, 3.0)[0]


def asker(emulator: Running) -> Asker:
    def opened() -> Asker | None:
        with contextlib.suppress(serial.SerialException):
            return Asker(emulator.directory / "main.tty")
        return None

    return wait_for(opened)


def delivered(host: Asker, cycle: int) -> bool:
    answer = host.ask(vbp.GetResult(cycle))
    assert isinstance(answer, vbp.ResultAnswer)
    return answer.state == vbp.RecordState.DONE and answer.drop == vbp.Drop.SEEN


def test_a_cycle_over_a_real_pty_is_in_ledger_and_output(emulator: Running) -> None:
    host = asker(emulator)
    host.ask(vbp.Hello())
    order = vbp.Dispense(CYCLE, 1, vbp.Option.WATCH_EYE, 3000, 1000, 60_000)
    assert host.ask(order) == vbp.DispenseAnswer(vbp.Verdict.ACCEPTED)
    wait_for(lambda: delivered(host, CYCLE))
    events = [line["event"] for line in emulator.ledger() if line["lane"] == 1]
    assert events == [
        "drive_frame",
        "motor_started",
        "product_left",
        "motor_stopped",
        "product_fell",
        "eye_blocked",
        "eye_clear",
    ]
    drive = next(line for line in emulator.ledger() if line["event"] == "drive_frame")
    assert (drive["cycle_id"], drive["cycle"]) == (CYCLE, 1)
    assert abs(drive["at"] - time.time()) < 60
    output = emulator.end()
    assert emulator.process.returncode == 0
    assert "PRODUCT FELL" in output
    left = {path.name for path in emulator.directory.iterdir()}
    assert left == {"scenario.toml", "main.jsonl", "main.mem"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_quiet_says_nothing_and_ends_cleanly(tmp_path: Path, number: int) -> None:
    running = Running(tmp_path, "--quiet")
    assert running.end(number) == ""
    assert running.process.returncode == 0


def test_unplugged_the_link_is_gone_and_comes_back(emulator: Running) -> None:
    link = emulator.directory / "main.tty"
    host = asker(emulator)
    host.ask(vbp.Hello())
    assert emulator.tell("main", do="unplug") == {"ok": True}
    assert not os.path.lexists(link)
    with pytest.raises((serial.SerialException, OSError)):
        wait_for(lambda: host.line.read(1), 2.0)
    emulator.tell("main", do="plug")
    wait_for(link.exists)
    again = asker(emulator).ask(vbp.Hello())
    assert isinstance(again, vbp.HelloAnswer)
    assert again.uptime_ms > 0  # the board itself never stopped


TIOCGEXCL = 0x80045440
"""ioctl_tty(2): whether the terminal is in exclusive mode."""


def opens_unclaimed(link: Path) -> bool:
    try:
        line = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:  # EBUSY, for everybody but root
        return False
    try:
        return fcntl.ioctl(line, TIOCGEXCL, bytes(4)) == bytes(4)
    finally:
        os.close(line)


def test_a_host_that_was_killed_leaves_a_port_that_opens_again(emulator: Running) -> None:
    """The kernel keeps TIOCEXCL on a pty whose other end is held; a fresh pty has none."""
    link = emulator.directory / "main.tty"
    code = (
        "import fcntl, os, serial, sys, termios;"
        "line = serial.Serial(sys.argv[1], exclusive=True);"
        "fcntl.ioctl(line.fileno(), termios.TIOCEXCL);"
        "print('open', flush=True);"
        "sys.stdin.read(1)"
    )
    host = subprocess.Popen(
        [sys.executable, "-c", code, link], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert host.stdout is not None
    assert host.stdout.readline() == b"open\n"
    assert not opens_unclaimed(link)
    host.kill()
    host.communicate(timeout=10)
    wait_for(lambda: opens_unclaimed(link))
    assert isinstance(asker(emulator).ask(vbp.Hello()), vbp.HelloAnswer)


def test_tcp_takes_one_host_and_refuses_a_second(emulator: Running) -> None:
    with socket.create_connection(("127.0.0.1", emulator.port), 5) as first:
        first.settimeout(5)
        decoder = xy.Decoder()
        wait_for(lambda: xy.POLL in decoder.feed(first.recv(100)))
        with socket.create_connection(("127.0.0.1", emulator.port), 5) as second:
            second.settimeout(5)
            with contextlib.suppress(ConnectionError):
                assert second.recv(10) == b""
        wait_for(lambda: xy.POLL in decoder.feed(first.recv(100)))
    with socket.create_connection(("127.0.0.1", emulator.port), 5) as third:
        third.settimeout(5)
        wait_for(lambda: xy.POLL in xy.Decoder().feed(third.recv(100)))


def test_p11_killed_in_mid_cycle_the_memory_file_says_interrupted(tmp_path: Path) -> None:
    running = Running(tmp_path)
    host = asker(running)
    first = host.ask(vbp.Hello())
    host.ask(vbp.Dispense(CYCLE, 1, vbp.Option.WATCH_EYE, 3000, 1000, 60_000))
    running.end(signal.SIGKILL)
    host.line.close()
    again = Running(tmp_path)
    host = asker(again)
    second = host.ask(vbp.Hello())
    record = host.ask(vbp.GetResult(CYCLE))
    again.end()
    assert isinstance(first, vbp.HelloAnswer)
    assert isinstance(second, vbp.HelloAnswer)
    assert first.memory_id == second.memory_id
    assert first.boot_id != second.boot_id
    assert isinstance(record, vbp.ResultAnswer)
    assert record.state == vbp.RecordState.INTERRUPTED
    assert [line["event"] for line in again.ledger()].count("power_on") == 2


def test_mistakes_end_it_with_a_code_and_a_sentence(tmp_path: Path) -> None:
    def run(text: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "wrong.toml"
        path.write_text(text)
        command = [sys.executable, "-m", "firmware_sim.main", str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    wrong = run('[[board]]\nprotocol = "tcn"\n')
    assert wrong.returncode == 2
    assert "wrong.toml:2: board.[1].protocol" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    nowhere = run(
        '[[board]]\nprotocol = "vbp"\nport = "pty:/nowhere/x"\n[[board.lane]]\nnumber = 1\n'
    )
    assert nowhere.returncode == 1
    assert "pty:/nowhere/x" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr


def test_a_second_emulator_on_the_same_scenario_is_refused_and_disturbs_nothing(
    emulator: Running,
) -> None:
    before = emulator.tell("main", ask="state")["state"]["firmware"]
    memory = (emulator.directory / "main.mem").read_bytes()
    command = [sys.executable, "-m", "firmware_sim.main", str(emulator.directory / "scenario.toml")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert "another emulator" in second.stderr
    assert (emulator.directory / "main.mem").read_bytes() == memory
    assert emulator.tell("main", ask="state")["state"]["firmware"]["boot_id"] == before["boot_id"]
    assert isinstance(asker(emulator).ask(vbp.Hello()), vbp.HelloAnswer)


def test_a_reader_of_its_output_that_goes_away_ends_nothing(tmp_path: Path) -> None:
    running = Running(tmp_path)
    assert running.process.stdout is not None
    running.process.stdout.close()
    running.tell("main", do="door", open=True)
    running.tell("main", do="door", open=False)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(10) == 0
