"""vendctl trace: what a person reads, what a script gets, what is saved."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from controller import capture
from controller.service.server import Service
from tests.cli.conftest import Vendctl
from tests.service.memory_machine import MemoryMachine, trace_frame, trace_note
from tests.service.test_bounds import until

pytestmark = pytest.mark.system


async def test_frames_are_shown_raw_beside_interpreted_in_60_columns(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.trace_lines += [
        trace_frame(2, name="no frame", frame="AA " * 80 + "AA", meaning="81 bytes", ok=False),
        trace_frame(3, direction="out", name="ACK", idle=True, meaning=""),
    ]
    ran = await vendctl("trace", "--seconds", "300")
    assert (ran.code, ran.err) == (0, "")
    assert max(map(len, ran.out.splitlines())) <= 60
    assert "\x1b" not in ran.out
    assert ran.out.splitlines()[:3] == [
        "14:13:20.500 main < DISPENSING",
        "    PackNO 2, lane 1 started",
        "    FA FB 04 04 02 01 00 01 03",
    ]
    assert "< no frame (not understood)" in ran.out
    assert ran.out.count("AA") == 81
    assert "ACK" not in ran.out
    assert machine.acts == [("trace", 300, None, False, True)]
    assert "> ACK" in (await vendctl("trace", "main", "--all")).out


async def test_json_is_an_object_a_line(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    ran = await vendctl("trace", "main", "--json", "--all")
    assert (ran.code, ran.err) == (0, "")
    assert [json.loads(line) for line in ran.out.splitlines()] == machine.trace_lines
    assert machine.acts == [("trace", 60, "main", False, False)]


async def test_a_saved_capture_has_every_frame_and_whose_it_is(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, tmp_path: Path
) -> None:
    machine.trace_lines.append(trace_frame(2, name="POLL", frame="FA FB 41 00 40", idle=True))
    file = tmp_path / "jam.capture"
    ran = await vendctl("trace", "--save", str(file))
    assert ran.code == 0
    assert f"3 frames are in {file}" in ran.err
    assert "Nothing passed" not in ran.err
    found = capture.read(file.read_text())
    assert found.header["board"] == "main"
    assert (found.header["protocol"], found.header["baudrate"]) == ("xy", "57600")
    assert [piece.mono for piece in found.pieces] == [100.5, 101.5, 102.5]
    assert "PackNO 2, lane 1 started" in file.read_text(), "for people, behind each frame"
    assert machine.acts[-1] == ("trace", 60, "main", False, False), "also what is idle"
    assert "POLL" not in ran.out, "saved, and not shown"
    machine.trace_lines = [line for line in machine.trace_lines if line.get("idle", True)]
    idle = await vendctl("trace", "--save", str(tmp_path / "idle.capture"))
    assert (idle.out, "1 frames are in" in idle.err) == ("", True)
    assert "Nothing passed" not in idle.err, "it was saved"
    again = await vendctl("trace", "--save", str(file))
    assert again.code == 4
    assert "file_exists" in again.err
    assert capture.read(file.read_text()) == found, "nothing is written over"


async def test_a_capture_is_of_one_board(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, tmp_path: Path
) -> None:
    ports = machine.answers["link"]["ports"]
    ports.append({**ports[0], "board": "side"})
    ran = await vendctl("trace", "--save", str(tmp_path / "x"))
    assert ran.code == 2
    assert "main, side" in ran.err
    assert not (tmp_path / "x").exists()


async def test_trouble_is_told_with_its_exit_code(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    assert (await vendctl("trace", "nobody")).code == 1
    machine.trace_lines = [trace_note(problem="/run/x: No space left on device")]
    ran = await vendctl("trace")
    assert (ran.code, ran.out) == (0, "")
    assert "No space left on device" in ran.err
    assert "Nothing passed" in ran.err
    machine.trace_lines = [{"at": 1.0, "board": "", "note": "too_slow"}]
    assert (await vendctl("trace")).code == 5


async def test_follow_shows_what_comes_and_ctrl_c_keeps_what_was_saved(
    service: Service, machine: MemoryMachine, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "live.capture"
    child = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "controller.cli.main", "trace", "main", "--follow", "--save"],
        str(file),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await until(lambda: machine.tails_open == 1, 20)
    machine.passing.put_nowait(trace_frame(7, meaning="comes live"))
    assert child.stdout is not None
    async with asyncio.timeout(20):
        await child.stdout.readuntil(b"comes live")
    child.send_signal(signal.SIGINT)
    _out, err = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode == 130
    assert b"3 frames are in" in err
    assert len(capture.read(file.read_text()).pieces) == 3
    await until(lambda: machine.tails_open == 0, 15)
