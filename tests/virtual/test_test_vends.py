"""A technician's test vends in virtual time: stopped, refused, and with boards that mind (P6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.boards.vbp import frames
from controller.errors import Refused
from controller.model import Finding
from firmware_sim.faults import Fault
from firmware_sim.firmware import vbp
from tests.boards.support import in_virtual_time
from tests.virtual.world import SPIRAL, TRACK, World, world


def began(machine: World, channel: str, test_id: str = "t1") -> asyncio.Task[Finding]:
    return asyncio.create_task(
        machine.dispenser.test(channel, test_id, "tech", lambda *_: None), name=test_id
    )


async def until(machine: World, event: str, board: str = "main") -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            for line in machine.boards[board].ledger.lines:
                if line["event"] == event:
                    return dict(line)
            await asyncio.sleep(0.01)


def happened(machine: World, event: str, board: str = "main") -> list[dict[str, Any]]:
    return [dict(ln) for ln in machine.boards[board].ledger.lines if ln["event"] == event]


def test_p6_a_stop_while_the_link_is_gone_is_heard_when_it_is_back(tmp_path: Path) -> None:
    """The board turns on; STOP is said until the cycle has its outcome."""

    async def play() -> None:
        async with world(tmp_path) as machine:
            machine.boards["main"].arm(Fault(kind="motor_runs_on", lane=1))
            vend = began(machine, "A1")
            await until(machine, "motor_started")
            machine.ports["main"].unplug()
            assert machine.dispenser.stop_test("t1").motor == "stopping"
            assert machine.dispenser.stop_test("t1").motor == "stopping", "asked twice"
            await asyncio.sleep(0.5)
            machine.ports["main"].plugged = True
            await vend
            (stopped,) = happened(machine, "motor_stopped")
            assert stopped["why"] == "by_request"
            with pytest.raises(Refused, match="is over"):
                machine.dispenser.stop_test("t1")

    in_virtual_time(play())


def test_p6_a_test_that_is_stopped_before_its_cycle_never_moves_and_has_an_outcome(
    tmp_path: Path,
) -> None:
    async def play() -> None:
        async with world(tmp_path) as machine:
            machine.boards["main"].block_eye(on=True)
            vend = began(machine, "A1")
            await asyncio.sleep(1)
            assert machine.dispenser.stop_test("t1").motor == "untouched"
            assert (await vend).reason == "cancelled"
            assert happened(machine, "motor_started") == []
            await machine.rest()
            (event,) = [e for e in machine.of("event") if e["kind"] == "test_vend"]
            assert event["detail"]["reason"] == "cancelled"

    in_virtual_time(play())


def test_p6_only_a_tests_cycle_can_be_stopped(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as machine:
            await machine.order(1, (121, 1))
            await until(machine, "motor_started")
            (customer,) = machine.dispenser.running()
            for name in (customer.job.name, str(customer.cycle_id), "1", ""):
                with pytest.raises(Refused):
                    machine.dispenser.stop_test(name)
            await machine.rest()
            assert [line["why"] for line in happened(machine, "motor_stopped")] == ["home"]

    in_virtual_time(play())


def test_p5_p6_a_quarantined_board_is_not_tested_and_the_refusal_says_for_how_long(
    tmp_path: Path,
) -> None:
    spiral = replace(SPIRAL, cycle_timeout_s=20.0)

    async def play() -> None:
        async with world(tmp_path, (spiral,)) as machine:
            machine.boards["side"].arm(Fault(kind="ack_no_status", lane=1))
            first = await machine.dispenser.test("B1", "t1", "tech", lambda *_: None)
            assert first.outcome == "unknown"
            await machine.journal.set_stock("B1", 5, "tech")
            await machine.dispenser.floor.refresh()
            with pytest.raises(Refused, match=r"has not told .* for \d+ s more") as refused:
                await machine.dispenser.test("B1", "t2", "tech", lambda *_: None)
            assert refused.value.code == "quarantined"

    in_virtual_time(play())


def test_p6_a_board_that_keeps_its_eye_to_itself_in_mid_cycle_is_not_taken_for_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """*Not now* to READ_EYE: the link stays, and the cycle ends as it would have."""
    free, served = vbp.SERVED[frames.Type.READ_EYE]

    def minds(firmware: Any, request: Any) -> Any:
        if firmware._cycle is not None:
            return frames.ErrorAnswer(frames.ErrorCode.NOT_NOW)
        return served(firmware, request)

    monkeypatch.setitem(vbp.SERVED, frames.Type.READ_EYE, (free, minds))

    async def play() -> None:
        async with world(tmp_path, (TRACK,)) as machine:
            finding = await machine.dispenser.test("A1", "t1", "tech", lambda *_: None)
            assert finding.outcome == "delivered"
            counters = machine.dispenser.stations["main"].board.status().counters
            assert counters["downs"] == 0

    in_virtual_time(play())
