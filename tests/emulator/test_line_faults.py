"""Faults of the line and of addressing: which frame is struck, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from controller.boards.vbp import frames as vbp
from firmware_sim.faults import ARMED_LIMIT, Fault, Faults, Opportunity
from tests.emulator.hosts import VbpHost, make_board
from tests.virtual_time import run_virtual

ONE = 0x692339C000000001


async def answers_after(kind: str, wait: float = 1.0, **more: Any) -> tuple[VbpHost, int]:
    """One STATUS under a fault: the host, and how many whole answers came."""
    host = VbpHost(make_board("vbp"))
    host.hello()
    host.board.arm(Fault(kind=kind, **more))
    host.wire.clear()
    host.answers.clear()
    host.send(vbp.Status())
    await asyncio.sleep(wait)
    return host, len(host.answers)


@pytest.mark.parametrize(
    ("kind", "whole"),
    [
        ("dont_answer", 0),
        ("answer_late", 1),
        ("corrupt", 0),
        ("truncate", 0),
        ("duplicate", 2),
        ("noise", 1),
        ("split_writes", 1),
        ("merge_frames", 1),
        ("go_silent", 0),
    ],
)
def test_one_answer_is_struck_and_the_next_is_whole(kind: str, whole: int) -> None:
    async def play() -> None:
        host, came = await answers_after(kind)
        assert came == whole
        if kind == "go_silent":  # everything until lifted
            host.send(vbp.Status())
            assert host.answers == []
            assert host.board.lift("go_silent") == 1
        host.board.on_bytes(b"\0")
        host.decoder.feed(b"\0")
        assert isinstance(host.ask(vbp.Status()), vbp.StatusAnswer)

    run_virtual(play)


def test_a_late_answer_comes_after_its_time_and_split_writes_byte_by_byte() -> None:
    async def play() -> None:
        host, came = await answers_after("answer_late", wait=0.3, delay_ms=400)
        assert came == 0
        await asyncio.sleep(0.11)
        assert len(host.answers) == 1
        host, _ = await answers_after("split_writes")
        assert {len(piece) for piece in host.wire} == {1}

    run_virtual(play)


def test_merged_frames_leave_in_one_write() -> None:
    async def play() -> None:
        host, came = await answers_after("merge_frames", wait=0.1)
        assert came == 0
        host.send(vbp.Status())
        assert len(host.wire) == 1
        assert len(host.answers) == 2

    run_virtual(play)


def test_an_answer_fault_with_a_cycle_strikes_the_answer_to_that_drive() -> None:
    """P1: the motor turns, the answer is lost, and the repeated frame executes nothing."""

    async def play() -> None:
        faults = '[[board.fault]]\nkind = "dont_answer"\nlane = 10\ncycle = 2\n'
        host = VbpHost(make_board("vbp", faults=faults))
        host.hello()
        assert host.dispense(ONE) is vbp.Verdict.ACCEPTED
        await asyncio.sleep(3)
        order = host.order(ONE + 1)
        host.answers.clear()
        data = host.send(order)
        assert host.answers == []
        assert host.board.machine.running == 10
        host.board.on_bytes(data)
        assert vbp.parse(host.answers[0]) == vbp.DispenseAnswer(vbp.Verdict.ACCEPTED)
        assert host.board.ledger.count("drive_frame") == 2

    run_virtual(play)


def test_a_lost_drive_frame_moves_nothing_and_its_repeat_is_executed() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        host.board.arm(Fault(kind="lose_command", lane=10))
        order = host.order(ONE)
        host.answers.clear()
        data = host.send(order)
        assert (host.answers, host.board.ledger.count("drive_frame")) == ([], 0)
        host.board.on_bytes(data)
        assert host.board.ledger.count("drive_frame") == 1

    run_virtual(play)


def test_unplugged_and_unpowered_boards_neither_hear_nor_speak() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        plugs: list[bool] = []
        host.board.on_plug = plugs.append
        host.hello()
        for kind in ("unplug", "power_cut"):
            host.board.arm(Fault(kind=kind))
            host.answers.clear()
            host.send(vbp.Dispense(ONE, 10, 1, 3000, 1000, 3000))
            assert host.answers == []
            host.board.lift(kind)
        await asyncio.sleep(0.2)
        assert plugs == [False, True]
        assert host.board.ledger.count("drive_frame") == 0
        assert host.ask(vbp.Status()) == vbp.ErrorAnswer(vbp.ErrorCode.NOT_NOW)  # it restarted

    run_virtual(play)


def test_a_cable_out_in_mid_cycle_does_not_stop_the_motor() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        host.board.arm(Fault(kind="unplug", lane=10, seconds=3))
        host.dispense(ONE)
        await asyncio.sleep(2)
        assert not host.board.wire.plugged
        assert host.board.ledger.count("product_fell") == 1
        await asyncio.sleep(2)
        assert host.result(ONE).drop == vbp.Drop.SEEN

    run_virtual(play)


def test_a_state_armed_while_the_cycle_runs_strikes_now() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        host.dispense(ONE)
        await asyncio.sleep(0.2)
        host.board.arm(Fault(kind="power_cut", lane=10, seconds=1))
        assert host.board.machine.running is None
        await asyncio.sleep(1.2)
        host.hello()
        assert host.result(ONE).state == vbp.RecordState.INTERRUPTED

    run_virtual(play)


def test_at_strikes_at_its_second_and_ends_after_its_seconds() -> None:
    async def play() -> None:
        faults = '[[board.fault]]\nkind = "door_open"\nat = 2\nseconds = 1.5\n'
        board = make_board("vbp", faults=faults)
        seen = []
        for _ in range(5):
            await asyncio.sleep(0.9)
            seen.append(board.machine.door_open)
        assert seen == [False, False, True, False, False]

    run_virtual(play)


def test_probability_is_seeded() -> None:
    def strikes(seed: int) -> list[int]:
        faults = Faults([Fault(kind="jam", probability=0.3)], str(seed))
        return [n for n in range(100) if faults.of_cycle(Opportunity(1, n + 1, n + 1, 0.0))]

    assert strikes(1) == strikes(1) != strikes(2)
    assert 15 <= len(strikes(1)) <= 45


def test_a_cycle_number_counts_the_lane_or_the_board() -> None:
    faults = Faults([Fault(kind="jam", lane=2, cycle=3), Fault(kind="no_drop", cycle=3)], "1")
    assert not faults.of_cycle(Opportunity(1, 3, 4, 0.0))
    assert set(faults.of_cycle(Opportunity(2, 3, 9, 0.0))) == {"jam"}
    assert set(faults.of_cycle(Opportunity(1, 1, 3, 0.0))) == {"no_drop"}
    assert not faults.of_cycle(Opportunity(2, 3, 3, 0.0))  # used up


def test_times_and_lift() -> None:
    faults = Faults([Fault(kind="jam", times=2)], "1")
    where = Opportunity(1, 1, 1, 0.0)
    assert [bool(faults.of_cycle(where)) for _ in range(3)] == [True, True, False]
    faults.arm(Fault(kind="jam", lane=1))
    faults.arm(Fault(kind="jam", lane=2))
    faults.lift("jam", 1)
    assert [fault.lane for fault in faults.waiting()] == [2]
    faults.lift()
    assert faults.waiting() == []


def test_armed_faults_are_bounded() -> None:
    faults = Faults([Fault(kind="jam")] * ARMED_LIMIT, "1")
    with pytest.raises(ValueError, match="lift some"):
        faults.arm(Fault(kind="jam"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "jamm"},
        {"kind": "jam", "lane": "1"},
        {"kind": "jam", "cycle": 0},
        {"kind": "jam", "probability": 1.5},
        {"kind": "jam", "colour": "red"},
        {"kind": "jam", "seconds": float("inf")},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate(wrong)


def test_a_split_frame_is_whole_although_an_event_comes_meanwhile() -> None:
    """A line carries one byte after the other, never two frames at once."""

    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        host.board.arm(Fault(kind="split_writes"))
        host.answers.clear()
        host.send(vbp.Status())
        await asyncio.sleep(0.01)
        host.board.arm(Fault(kind="door_open"))  # event 4, in the middle of the answer
        host.send(vbp.LaneInfo(10))
        await asyncio.sleep(0.3)
        assert [frame.type & 0x7F for frame in host.answers] == [
            vbp.Type.STATUS,
            vbp.Type.LANE_INFO,
        ]
        assert [event.kind for event in host.events] == [vbp.EventKind.DOOR_CHANGED]
        assert host.decoder.frames_bad == 0

    run_virtual(play)


def test_a_reset_board_sends_nothing_of_what_it_was_about_to_send() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        for kind in ("answer_late", "merge_frames"):
            host.board.arm(Fault(kind=kind, delay_ms=400 if kind == "answer_late" else None))
            host.answers.clear()
            host.send(vbp.Status())
            host.board.reset()
            await asyncio.sleep(1)
            assert host.answers == []
            host.hello()

    run_virtual(play)


def test_a_reset_at_a_second_strikes_the_cycle_that_runs_then() -> None:
    async def play() -> None:
        faults = '[[board.fault]]\nkind = "reset_mid_cycle"\nat = 2\n'
        host = VbpHost(make_board("vbp", faults=faults))
        host.hello()
        await asyncio.sleep(1.7)
        host.dispense(ONE)
        await asyncio.sleep(0.5)
        assert host.board.ledger.count("board_reset") == 1
        assert host.board.machine.running is None
        assert host.board.faults.waiting() == []

    run_virtual(play)


def test_what_is_lifted_before_its_moment_in_a_cycle_does_not_strike() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        host.board.arm(Fault(kind="power_cut", lane=10))
        host.dispense(ONE)
        host.board.lift("power_cut")
        await asyncio.sleep(3)
        assert host.board.ledger.count("power_off") == 0
        assert host.result(ONE).drop == vbp.Drop.SEEN

    run_virtual(play)
