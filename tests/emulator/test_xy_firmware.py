"""The emulated XY board is the master on the wire, hears only in its windows, and forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from controller.boards.xy import frames as xy
from firmware_sim.board import EmulatedBoard
from firmware_sim.faults import Fault
from tests.emulator.hosts import XyHost, make_board
from tests.virtual_time import run_virtual

STARTED, SUCCESS, JAMMED, DID_NOT_STOP = 1, 2, 3, 4


def drive(pack_no: int = 9, lane: int = 10, *, drop: bool = True, length: int = 5) -> bytes:
    return xy.Drive(lane, drop_sensor=drop).encode(pack_no, length)


def test_it_polls_every_200_ms_and_greets_with_31() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"))
        await asyncio.sleep(2.1)
        assert host.frames(xy.Command.SYNC) == [xy.Frame(0x31, 1)]
        polls = host.times(xy.Command.POLL)
        assert [round(b - a, 3) for a, b in pairwise(polls)] == [0.2] * 9

    run_virtual(play)


def test_the_worked_example_of_the_document() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"))
        host.out = [drive()]
        await asyncio.sleep(4)
        commands = [f.command for _, f in host.heard if f.command != xy.Command.POLL]
        assert commands == [0x31, 0x42, 0x04, 0x04]
        assert host.statuses() == [(STARTED, 10), (SUCCESS, 10)]
        assert [f.pack_no for f in host.frames(0x04)] == [2, 3]
        ledger = host.board.ledger
        counted = {e: ledger.count(e, 10) for e in ("drive_frame", "motor_started", "product_fell")}
        assert counted == {"drive_frame": 1, "motor_started": 1, "product_fell": 1}

    run_virtual(play)


def test_without_the_drop_sensor_the_motor_alone_decides() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy", faults='[[board.fault]]\nkind = "no_drop"'))
        host.out = [drive(drop=False)]
        await asyncio.sleep(4)
        assert host.statuses() == [(STARTED, 10), (SUCCESS, 10)]
        assert host.board.ledger.count("product_fell") == 0

    run_virtual(play)


def test_the_hosts_31_is_answered_with_one_11_for_each_lane() -> None:
    async def play() -> None:
        lanes = "".join(f"[[board.lane]]\nnumber = {n}\ngoods = {n}\n" for n in (1, 2, 3))
        host = XyHost(make_board("xy", lanes=lanes))
        host.out = [xy.sync(1)]
        await asyncio.sleep(2)
        reports = [xy.LaneReport.decode(f.text) for f in host.frames(0x11)]
        assert [(r.lane, r.stock, r.status) for r in reports] == [(1, 1, 0), (2, 2, 0), (3, 3, 0)]
        numbers = [f.pack_no for _, f in host.heard if f.pack_no is not None]
        assert numbers == [1, 2, 3, 4]

    run_virtual(play)


@pytest.mark.parametrize(("delay", "heard"), [(0.05, 1), (0.099, 1), (0.12, 0)])
def test_an_answer_outside_its_window_is_ignored(delay: float, heard: int) -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"), delay=delay)
        host.out = [drive()]
        await asyncio.sleep(3)
        assert host.board.ledger.count("drive_frame") == heard
        assert len(host.frames(xy.Command.ACK)) == heard

    run_virtual(play)


def test_an_answer_that_began_in_its_window_may_end_after_it() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"))
        await asyncio.sleep(0.41)  # the poll of 0.4 s
        host.board.on_bytes(b"")
        host.answers_polls = False
        await asyncio.sleep(0.19 + 0.08)
        host.board.on_bytes(drive()[:4])
        await asyncio.sleep(0.04)
        host.board.on_bytes(drive()[4:])
        assert host.board.ledger.count("drive_frame") == 1

    run_virtual(play)


def test_only_the_first_frame_of_an_answer_counts() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"))
        host.out = [xy.encode_frame(xy.ACK) + drive(), drive(10) + drive(11)]
        await asyncio.sleep(6)
        assert [e["pack_no"] for e in host.board.ledger.lines if e["event"] == "drive_frame"] == [
            10
        ]

    run_virtual(play)


@pytest.mark.parametrize(
    "wrong",
    [
        drive()[:-1] + bytes((drive()[-1] ^ 1,)),
        drive(length=6),
        drive(length=7),
        xy.encode_frame(xy.Frame(0x77, 1, b"x")),
        b"garbage",
        bytes.fromhex("FA FB 06 05 00 01 00 00 0A 09"),
    ],
    ids=["xor", "length 6", "length 7", "unknown command", "garbage", "PackNO 0"],
)
def test_what_a_real_board_would_ignore_is_ignored(wrong: bytes) -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"))
        host.out = [wrong]
        await asyncio.sleep(2)
        assert host.board.ledger.count("drive_frame") == 0
        assert host.frames(xy.Command.ACK) == []

    run_virtual(play)


@pytest.mark.parametrize("length", [5, 6, 7])
def test_the_length_of_06_is_a_setting(length: int) -> None:
    async def play() -> None:
        host = XyHost(make_board("xy", f"drive_length = {length}"))
        host.out = [drive(length=length)]
        await asyncio.sleep(3)
        assert host.board.ledger.count("drive_frame") == 1

    run_virtual(play)


def test_a_data_frame_goes_five_times_with_one_pack_number_and_is_then_given_up() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"))
        host.acknowledges = False
        await asyncio.sleep(3)
        greetings = host.frames(xy.Command.SYNC)
        assert greetings == [xy.Frame(0x31, 1)] * 5
        assert host.times(xy.Command.POLL)  # and the polls go on
        host.acknowledges = True
        host.out = [drive()]
        await asyncio.sleep(3)
        # No exchange had succeeded: the number goes on with the next frame.
        assert [f.pack_no for f in host.frames(0x04)] == [1, 2]

    run_virtual(play)


def test_a_lost_ack_makes_the_board_repeat_the_same_bytes() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"))
        await asyncio.sleep(0.3)
        host.out = [drive()]
        host.acknowledges = False
        await asyncio.sleep(0.35)
        host.acknowledges = True
        await asyncio.sleep(3)
        started = [f for f in host.frames(0x04) if f.text[0] == STARTED]
        assert len(started) >= 2
        assert len(set(started)) == 1
        assert host.statuses() == [(STARTED, 10), (SUCCESS, 10)]

    run_virtual(play)


@pytest.mark.parametrize(("dedupe", "drives"), [("false", 2), ("true", 1)])
def test_a_repeated_06_is_a_second_drive_unless_the_board_dedupes(dedupe: str, drives: int) -> None:
    """What P1 protects from: this board does not know a repeat by default."""

    async def play() -> None:
        host = XyHost(make_board("xy", f"dedupe = {dedupe}"))
        host.out = [drive(9), drive(9)]
        await asyncio.sleep(6)
        assert host.board.ledger.count("drive_frame") == drives
        assert host.board.ledger.count("product_fell") == drives
        assert len(host.frames(xy.Command.ACK)) == 2

    run_virtual(play)


def test_a_lost_command_is_no_command_that_a_repeat_could_repeat() -> None:
    async def play() -> None:
        lost = '[[board.fault]]\nkind = "lose_command"'
        host = XyHost(make_board("xy", "dedupe = true", faults=lost))
        host.out = [drive(9), drive(9), drive(9)]
        await asyncio.sleep(6)
        assert host.board.ledger.count("drive_frame") == 1
        assert len(host.frames(xy.Command.ACK)) == 2

    run_virtual(play)


Prepared = Callable[[EmulatedBoard], None]


@pytest.mark.parametrize(
    ("faults", "statuses", "fell"),
    [
        ('kind = "jam"', [(1, 10), (3, 10)], 0),
        ('kind = "no_drop"', [(1, 10), (3, 10)], 0),
        ('kind = "eye_blind"', [(1, 10), (3, 10)], 1),
        ('kind = "motor_runs_on"', [(1, 10), (4, 10)], 1),
        ('kind = "motor_overcurrent"', [(1, 10), (3, 10)], 0),
        ('kind = "motor_open"', [(6, 10), (0xFF, 10)], 0),
        ('kind = "ack_no_status"', [], 1),
        ('kind = "wrong_lane"', [(1, 11), (2, 11)], 1),
        ('kind = "sel_zero"', [(1, 0), (2, 0)], 1),
        ('kind = "success_without_start"', [(2, 10)], 1),
        ('kind = "error_then_ff"', [(7, 10), (0xFF, 10)], 0),
        (
            'kind = "error_then_ff"\nstarted = true\ncode = 18',
            [(1, 10), (18, 10), (255, 10)],
            1,
        ),
        ('kind = "status"\ncode = 5', [(5, 10)], 0),
        ('kind = "status"\ncode = 252', [(0xFC, 10)], 0),
        ('kind = "status"\ncode = 6', [(6, 10), (0xFF, 10)], 0),
        ('kind = "status"\ncode = 4', [(1, 10), (4, 10)], 1),
        ('kind = "status"\ncode = 36', [(1, 10), (0x24, 10)], 1),
        ('kind = "status"\ncode = 255\nstarted = true', [(1, 10), (0xFF, 10)], 1),
        ('kind = "late_drop"', [(1, 10), (3, 10)], 1),
        ('kind = "double_drop"', [(1, 10), (2, 10)], 2),
        ('kind = "lose_command"', [], 0),
        ('kind = "eye_stuck_blocked"\nlane = 10', [(0xFF, 10)], 0),
        ('kind = "eye_faulty"', [(0xFF, 10)], 0),
    ],
)
def test_what_a_fault_makes_the_board_say(
    faults: str, statuses: list[tuple[int, int]], fell: int
) -> None:
    async def play() -> None:
        host = XyHost(make_board("xy", faults="[[board.fault]]\n" + faults))
        host.out = [drive()]
        await asyncio.sleep(10)
        assert host.statuses() == statuses
        assert host.board.ledger.count("product_fell") == fell

    run_virtual(play)


def test_unknown_lane_and_elevator_flag_are_refused_before_motion() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"))
        lift = xy.Drive(10, drop_sensor=False, elevator=True).encode(3)
        host.out = [drive(2, lane=99), lift]
        await asyncio.sleep(4)
        assert host.statuses() == [(5, 99), (7, 10), (0xFF, 10)]
        assert host.board.ledger.count("motor_started") == 0

    run_virtual(play)


def test_no_ack_executes_and_says_nothing_to_the_command() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy", faults='[[board.fault]]\nkind = "no_ack"'))
        host.out = [drive()]
        await asyncio.sleep(4)
        assert host.frames(xy.Command.ACK) == []
        assert host.statuses() == [(STARTED, 10), (SUCCESS, 10)]

    run_virtual(play)


def test_repeat_status_sends_each_04_five_times_though_acknowledged() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy", faults='[[board.fault]]\nkind = "repeat_status"'))
        host.out = [drive()]
        await asyncio.sleep(4)
        assert [f.pack_no for f in host.frames(0x04)] == [2] * 5 + [3] * 5

    run_virtual(play)


def test_data_before_ack_slips_a_frame_in_between() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy", faults='[[board.fault]]\nkind = "data_before_ack"'))
        await asyncio.sleep(0.3)
        host.out = [drive()]
        await asyncio.sleep(4)
        commands = [f.command for _, f in host.heard if f.command != xy.Command.POLL]
        assert commands == [0x31, 0x52, 0x42, 0x04, 0x04]

    run_virtual(play)


def test_ack_of_length_one_poll_gap_and_storm() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"))
        host.board.arm(Fault(kind="ack_length_one"))
        host.out = [xy.ask_elevator(7)]
        await asyncio.sleep(1)
        assert host.frames(xy.Command.ACK) == [xy.Frame(0x42, 7)]
        assert [xy.parse(f) for f in host.frames(0x54)] == [xy.ElevatorAnswer(0)]
        host.board.arm(Fault(kind="poll_gap"))
        await asyncio.sleep(4)
        gaps = [b - a for a, b in pairwise(host.times(xy.Command.POLL))]
        assert 2.0 <= max(gaps) <= 2.4
        host.board.arm(Fault(kind="status_storm", count=7))
        await asyncio.sleep(2)
        assert len(host.frames(0x52)) == 7

    run_virtual(play)


def test_in_a_poll_gap_an_unacknowledged_frame_waits_too() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"))
        await asyncio.sleep(0.5)
        host.acknowledges = False
        host.board.arm(Fault(kind="status_storm", count=1))
        await asyncio.sleep(0.15)
        host.board.arm(Fault(kind="poll_gap"))
        heard = len(host.heard)
        await asyncio.sleep(1.9)
        assert len(host.heard) == heard
        host.acknowledges = True
        await asyncio.sleep(1)
        assert len(set(host.frames(0x52))) == 1
        assert host.board.state()["firmware"]["queued_frames"] == 0

    run_virtual(play)


def test_a_reboot_in_mid_cycle_is_a_31_and_no_word_on_the_cycle() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy", faults='[[board.fault]]\nkind = "reset_mid_cycle"'))
        host.out = [drive()]
        await asyncio.sleep(6)
        assert [f.pack_no for f in host.frames(0x31)] == [1, 1]
        assert host.statuses() == [(STARTED, 10)]
        assert host.board.ledger.count("product_fell") == 0

    run_virtual(play)


def test_questions_are_answered_with_data() -> None:
    async def play() -> None:
        lanes = "[[board.lane]]\nnumber = 1\n[[board.lane]]\nnumber = 2\ngoods = 0\n"
        host = XyHost(make_board("xy", lanes=lanes))
        host.board.arm(Fault(kind="door_open"))
        host.out = [
            xy.check_lane(1, 1),
            xy.check_lane(2, 2),
            xy.check_lane(3, 3),
            xy.ask_status(4),
            xy.set_drop_sensor(5, 0, on=False),
            xy.read_drop_sensor(6, 0),
            xy.drop_sensor_self_test(7, 0),
            xy.menu(8, 0x99, 0),
        ]
        await asyncio.sleep(5)
        checks = [xy.LaneCheckAnswer.decode(f.text).status for f in host.frames(0x02)]
        assert checks == [xy.LaneCheck.NORMAL, xy.LaneCheck.OUT_OF_STOCK, xy.LaneCheck.NO_SUCH_LANE]
        status = xy.MachineStatus.decode(host.frames(0x52)[-1].text)
        assert (status.door, status.temperature) == (1, 4)
        answers = [xy.MenuAnswer.decode(f.text) for f in host.frames(0x71)]
        assert answers == [
            xy.MenuAnswer(0x24, 1, b"\0"),
            xy.MenuAnswer(0x24, 0, b"\2"),
            xy.MenuAnswer(0x50, 1, b"\0\0"),
            xy.MenuAnswer(0x99, 0, b"\1"),
        ]

    run_virtual(play)


def test_the_poll_interval_is_set_by_16() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy"))
        host.out = [xy.poll_interval(1, 500)]
        await asyncio.sleep(4)
        polls = host.times(xy.Command.POLL)[-3:]
        assert [round(b - a, 3) for a, b in pairwise(polls)] == [0.5, 0.5]

    run_virtual(play)


def test_the_menus_lane_test_is_a_drive_and_jams_are_listed_and_cleared() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy", faults='[[board.fault]]\nkind = "jam"'))
        host.out = [xy.menu(1, xy.MenuType.TEST_LANE, 1, b"\x01\x00\x0a")]
        await asyncio.sleep(5)
        assert host.board.ledger.count("drive_frame") == 1
        host.out = [xy.menu(2, xy.MenuType.JAM_LIST, op) for op in (0, 1, 0)]
        await asyncio.sleep(2)
        lists = [xy.MenuAnswer.decode(f.text).data for f in host.frames(0x71)][1:]
        assert lists == [b"\x01\x00\x0a\x00", b"\0", b"\x00\x00"]

    run_virtual(play)


def test_speed_leaves_polls_and_windows_alone() -> None:
    async def play() -> None:
        host = XyHost(make_board("xy", speed=20), delay=0.09)
        host.out = [drive()]
        await asyncio.sleep(2)
        polls = host.times(xy.Command.POLL)
        assert min(b - a for a, b in pairwise(polls)) > 0.199
        assert host.statuses() == [(STARTED, 10), (SUCCESS, 10)]
        stopped = next(e for e in host.board.ledger.lines if e["event"] == "motor_stopped")
        assert 900 <= stopped["run_ms"] <= 1100

    run_virtual(play)
