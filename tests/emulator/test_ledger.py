"""The ledger is the truth: whole lines, in order, of one emulator."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path

import pytest

from firmware_sim.ledger import Ledger
from firmware_sim.timeline import Timeline


def ledger_on(path: Path) -> Ledger:
    return Ledger(Timeline(asyncio.get_running_loop()), path)


async def test_a_full_disk_stops_no_motor_and_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    ledger = ledger_on(path)
    ledger.write("power_on")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        ledger.write("motor_started", 1)
        ledger.write("motor_stopped", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ledger.count("motor_stopped") == 1
    ledger.write("product_fell", 1, seen=True)
    ledger.close()
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert events == ["power_on", "motor_started", "motor_stopped", "product_fell"]


async def test_a_full_disk_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    ledger = ledger_on(Path("/dev/full"))
    for _ in range(3):
        ledger.write("power_on")
    ledger.close()
    assert capsys.readouterr().err.count("/dev/full: No space left on device") == 1


async def test_the_half_line_of_a_predecessor_does_not_spoil_ours(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text('{"event": "power_on"}\n{"event": "mot')
    ledger = ledger_on(path)
    ledger.write("power_on")
    ledger.close()
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["power_on"] * 2


async def test_two_emulators_never_write_one_ledger(tmp_path: Path) -> None:
    ledger = ledger_on(tmp_path / "l.jsonl")
    with pytest.raises(OSError, match=r"another emulator writes it.*l\.jsonl"):
        ledger_on(tmp_path / "l.jsonl")
    ledger.close()
    ledger_on(tmp_path / "l.jsonl").close()
