"""The emulated VBP board keeps the rules of its page, so that a driver tested on it is sound."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from controller.boards.vbp import frames as vbp
from firmware_sim.faults import Fault
from tests.emulator.hosts import VbpHost, make_board
from tests.virtual_time import run_virtual

ONE = 0x692339C000000001
TWO = ONE + 1


def test_before_hello_everything_is_answered_with_not_now() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        for request in (vbp.Status(), vbp.Dispense(ONE, 10, 1, 3000, 1000, 9999), vbp.ListOpen()):
            assert host.ask(request) == vbp.ErrorAnswer(vbp.ErrorCode.NOT_NOW)
        assert host.board.ledger.count("drive_frame") == 0
        assert host.hello().lanes == 1

    run_virtual(play)


def test_a_cycle_is_delivered_recorded_told_and_released() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        assert host.dispense(ONE) is vbp.Verdict.ACCEPTED
        assert host.result(ONE).state == vbp.RecordState.RUNNING
        await asyncio.sleep(2.5)
        record = host.result(ONE)
        assert (record.state, record.motor, record.drop, record.drops) == (3, 0, 1, 1)
        assert 900 <= record.run_ms <= 1100
        assert record.run_ms + 270 <= record.first_drop_ms + 2 <= record.run_ms + 335
        assert host.events[0] == vbp.Event(1, vbp.EventKind.CYCLE_FINISHED, cycle_id=ONE)
        assert host.ask(vbp.ListOpen()) == vbp.ListOpenAnswer((ONE,))
        assert host.ask(vbp.Release(ONE)) == vbp.ReleaseAnswer(ONE)
        assert host.result(ONE).state == vbp.RecordState.UNKNOWN_ID
        assert host.dispense(ONE) is vbp.Verdict.KNOWN
        assert host.dispense(ONE - 1) is vbp.Verdict.KNOWN
        ledger = host.board.ledger
        counted = {e: ledger.count(e, 10) for e in ("drive_frame", "motor_started", "product_fell")}
        assert counted == {"drive_frame": 1, "motor_started": 1, "product_fell": 1}
        assert host.board.machine.lanes[10].goods == 7

    run_virtual(play)


def test_done_is_told_300_ms_after_the_drop() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        host.dispense(ONE)
        for _ in range(3000):
            await asyncio.sleep(0.001)
            if host.result(ONE).state == vbp.RecordState.DONE:
                break
        fell = next(e for e in host.board.ledger.lines if e["event"] == "product_fell")
        assert host.board.timeline.machine_ms() - fell["machine_ms"] == pytest.approx(300, abs=3)

    run_virtual(play)


def test_p1_a_byte_identical_request_gets_the_same_answer_and_executes_nothing() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        order = host.order(ONE)
        data = host.send(order)
        first = host.wire[-1]
        await asyncio.sleep(3)
        host.board.on_bytes(data)
        assert host.wire[-1] == first
        assert host.board.ledger.count("drive_frame") == 1
        # The same seq with other bytes is a new request.
        host.board.on_bytes(vbp.encode(vbp.Status(), host.seq))
        assert vbp.parse(host.answers[-1]).TYPE == vbp.StatusAnswer.TYPE
        # HELLO clears the memory of the request, and the id is known all the same.
        host.hello()
        host.board.on_bytes(data)
        assert vbp.parse(host.answers[-1]) == vbp.DispenseAnswer(vbp.Verdict.KNOWN)
        assert host.board.ledger.count("drive_frame") == 1

    run_virtual(play)


def test_wrong_frames_are_dropped_silently_and_counted() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        host.wire.clear()
        good = vbp.encode(vbp.Status(), 9)
        for at in range(2, len(good) - 1):
            bad = bytearray(good)
            bad[at] ^= 0x40
            host.board.on_bytes(bytes(bad) + b"\0")
        host.board.on_bytes(b"\x55" * 5000 + b"\0")
        assert host.wire == []
        status = host.ask(vbp.Status())
        assert status.frames_bad >= len(good) - 3
        assert status.frames_ok == 2

    run_virtual(play)


def test_errors_name_length_type_and_lane() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        cases = [
            (vbp.Frame(0x10, 5, b"short"), vbp.ErrorCode.BAD_LENGTH),
            (vbp.Frame(0x02, 6, b"x"), vbp.ErrorCode.BAD_LENGTH),
            (vbp.Frame(0x77, 7), vbp.ErrorCode.UNKNOWN_TYPE),
            (vbp.Frame(0x40, 8), vbp.ErrorCode.UNKNOWN_TYPE),
            (vbp.frame_of(vbp.LaneInfo(99), 9), vbp.ErrorCode.UNKNOWN_LANE),
        ]
        for frame, code in cases:
            host.answers.clear()
            host.board.on_bytes(vbp.encode_frame(frame))
            assert [vbp.parse(f) for f in host.answers] == [vbp.ErrorAnswer(code)]
        host.answers.clear()
        host.board.on_bytes(vbp.encode_frame(vbp.Frame(0x82, 10, b"")))
        assert host.answers == []

    run_virtual(play)


def prepare(host: VbpHost, what: str) -> dict[str, Any]:
    """Bring the board into the state for a verdict; returns what the order says then."""
    match what:
        case "known":
            host.dispense(TWO)
            host.ask(vbp.Stop(TWO))
            return {"cycle_id": TWO}
        case "busy":
            host.dispense(ONE)
        case "expired":
            return {"not_after_ms": host.uptime()}
        case "no lane":
            return {"lane": 11}
        case "eye blocked":
            host.board.block_eye(on=True)
        case "eye faulty":
            host.board.arm(Fault(kind="eye_faulty"))
        case "door open":
            host.board.arm(Fault(kind="door_open"))
        case "in service":
            assert host.board.vbp is not None
            host.board.vbp.service = True
    return {}


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        ("nothing", vbp.Verdict.ACCEPTED),
        ("known", vbp.Verdict.KNOWN),
        ("busy", vbp.Verdict.BUSY),
        ("expired", vbp.Verdict.EXPIRED),
        ("no lane", vbp.Verdict.NO_SUCH_LANE),
        ("eye blocked", vbp.Verdict.EYE_BLOCKED),
        ("eye faulty", vbp.Verdict.EYE_FAULTY_OR_ABSENT),
        ("door open", vbp.Verdict.DOOR_OPEN),
        ("in service", vbp.Verdict.IN_SERVICE),
    ],
)
def test_each_verdict_and_only_accepted_moves_a_motor(what: str, verdict: vbp.Verdict) -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        more = prepare(host, what)
        before = host.board.ledger.count("motor_started")
        assert host.dispense(**{"cycle_id": TWO, **more}) is verdict
        moved = host.board.ledger.count("motor_started") - before
        assert moved == (verdict is vbp.Verdict.ACCEPTED)

    run_virtual(play)


def test_records_are_never_overwritten_and_none_free_refuses() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp", "records = 2"))
        host.hello()
        for cycle in (ONE, TWO):
            assert host.dispense(cycle) is vbp.Verdict.ACCEPTED
            await asyncio.sleep(3)
        assert host.dispense(TWO + 1) is vbp.Verdict.NO_RECORD_FREE
        assert host.hello().records_free == 0
        assert host.ask(vbp.ListOpen()).cycle_ids == (ONE, TWO)
        host.ask(vbp.Release(ONE))
        assert host.dispense(TWO + 1) is vbp.Verdict.ACCEPTED

    run_virtual(play)


def test_an_eye_that_is_not_watched_is_neither_asked_nor_told() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp", "eye = false"))
        assert not host.hello().capabilities & (vbp.Capability.WATCHES_EYE | 2)
        assert host.dispense(ONE) is vbp.Verdict.EYE_FAULTY_OR_ABSENT
        assert host.dispense(ONE, options=0, drop_wait_ms=0) is vbp.Verdict.ACCEPTED
        await asyncio.sleep(2)
        record = host.result(ONE)
        assert (record.motor, record.drop, record.drops) == (0, vbp.Drop.NOT_WATCHED, 0)
        assert host.ask(vbp.ReadEye()) == vbp.ErrorAnswer(vbp.ErrorCode.UNKNOWN_TYPE)

    run_virtual(play)


@pytest.mark.parametrize("first", [0, 2**32 - 5_000])
def test_not_after_is_uptime_modulo_2_to_32(first: int) -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp", f"uptime_ms = {first}"))
        host.hello()
        await asyncio.sleep(4)
        now = host.uptime()
        assert now == (first + 4000) % 2**32
        limit = (now + 2000) % 2**32
        await asyncio.sleep(1.999)
        assert host.dispense(ONE, not_after_ms=limit) is vbp.Verdict.ACCEPTED
        await asyncio.sleep(3)
        assert host.dispense(TWO, not_after_ms=limit) is vbp.Verdict.EXPIRED

    run_virtual(play)


def test_events_are_repeated_every_500_ms_until_acknowledged() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.board.arm(Fault(kind="door_open"))
        await asyncio.sleep(2)
        assert host.events == []  # none before HELLO
        host.hello()
        await asyncio.sleep(1.6)
        expected = vbp.Event(1, vbp.EventKind.DOOR_CHANGED, door=vbp.Door.OPEN)
        assert host.events == [expected] * 4
        assert host.ask(vbp.EventAck(1)) == vbp.EventAckAnswer(1)
        await asyncio.sleep(5)
        assert len(host.events) == 4

    run_virtual(play)


def test_a_hello_of_a_wrong_length_is_no_hello() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.board.arm(Fault(kind="door_open"))
        host.board.on_bytes(vbp.encode_frame(vbp.Frame(vbp.Type.HELLO, 1, b"x")))
        assert [vbp.parse(f) for f in host.answers] == [vbp.ErrorAnswer(vbp.ErrorCode.BAD_LENGTH)]
        await asyncio.sleep(2)
        assert host.events == []
        assert host.ask(vbp.Status()) == vbp.ErrorAnswer(vbp.ErrorCode.NOT_NOW)

    run_virtual(play)


def test_an_eye_that_flickers_is_told_only_once_it_has_lasted() -> None:
    """An item of two parts darkens it twice; neither lasts."""

    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        for dark, bright in ((0.05, 0.14), (0.05, 0.0)):
            host.board.block_eye(on=True)
            await asyncio.sleep(dark)
            host.board.block_eye(on=False)
            await asyncio.sleep(bright)
        await asyncio.sleep(2)
        assert host.events == []

    run_virtual(play)


def test_a_late_drop_changes_the_record_and_is_told() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        host.board.arm(Fault(kind="late_drop", delay_ms=1500))
        host.dispense(ONE)
        await asyncio.sleep(2.4)
        assert host.result(ONE).drop == vbp.Drop.NOT_SEEN
        await asyncio.sleep(2)
        late = [e for e in host.events if e.kind == vbp.EventKind.LATE_DROP]
        assert late[0].cycle_id == ONE
        assert late[0].after_ms == pytest.approx(1500, abs=5)
        record = host.result(ONE)
        assert (record.drop, record.drops) == (vbp.Drop.SEEN, 1)

    run_virtual(play)


def test_stop_ends_the_cycle_with_motor_5_and_keeps_the_item() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        host.dispense(ONE)
        await asyncio.sleep(0.4)
        assert host.ask(vbp.Release(ONE)) == vbp.ErrorAnswer(vbp.ErrorCode.NOT_NOW)
        assert host.ask(vbp.Stop(ONE)) == vbp.StopAnswer(ONE)
        await asyncio.sleep(1.5)
        record = host.result(ONE)
        assert (record.state, record.motor, record.drop) == (3, vbp.Motor.STOPPED_BY_REQUEST, 2)
        assert host.ask(vbp.LaneInfo(10)).home == 0
        # The next run goes on from there, and takes only the rest of the way.
        host.dispense(TWO)
        await asyncio.sleep(2)
        assert host.result(TWO).run_ms < 750
        assert host.ask(vbp.LaneInfo(10)) == vbp.LaneInfoAnswer(10, vbp.LaneKind.TRACK, 1, 2, 0)

    run_virtual(play)


@pytest.mark.parametrize(
    ("kind", "motor", "drop", "fell"),
    [
        ("jam", vbp.Motor.RAN_TOO_LONG, vbp.Drop.NOT_SEEN, 0),
        ("no_drop", vbp.Motor.HOME, vbp.Drop.NOT_SEEN, 0),
        ("eye_blind", vbp.Motor.HOME, vbp.Drop.NOT_SEEN, 1),
        ("motor_open", vbp.Motor.OPEN_CIRCUIT, vbp.Drop.NOT_SEEN, 0),
        ("motor_stuck", vbp.Motor.DID_NOT_LEAVE_HOME, vbp.Drop.NOT_SEEN, 0),
        ("motor_overcurrent", vbp.Motor.OVERCURRENT, vbp.Drop.NOT_SEEN, 0),
        ("motor_runs_on", vbp.Motor.RAN_TOO_LONG, vbp.Drop.SEEN, 1),
        ("double_drop", vbp.Motor.HOME, vbp.Drop.SEEN, 2),
        ("item_on_eye", vbp.Motor.HOME, vbp.Drop.SEEN, 1),
    ],
)
def test_what_a_fault_of_physics_leaves_in_record_and_ledger(
    kind: str, motor: vbp.Motor, drop: vbp.Drop, fell: int
) -> None:
    async def play() -> None:
        faults = f'[[board.fault]]\nkind = "{kind}"\nlane = 10\ncycle = 1\n'
        host = VbpHost(make_board("vbp", faults=faults))
        host.hello()
        host.dispense(ONE)
        await asyncio.sleep(6)
        record = host.result(ONE)
        assert (record.state, record.motor, record.drop) == (3, motor, drop)
        assert record.drops == (fell if drop == vbp.Drop.SEEN else 0)
        assert host.board.ledger.count("product_fell") == fell
        assert host.board.machine.lanes[10].goods == 8 - fell
        if kind == "item_on_eye":
            assert host.dispense(TWO) is vbp.Verdict.EYE_BLOCKED
            assert host.board.lift("item_on_eye") == 0
        assert host.dispense(TWO) is vbp.Verdict.ACCEPTED
        await asyncio.sleep(3)
        assert host.result(TWO).drop == vbp.Drop.SEEN  # the fault struck once

    run_virtual(play)


@pytest.mark.parametrize("kind", ["reset_mid_cycle", "power_cut"])
def test_p11_a_board_that_restarts_in_mid_cycle_says_interrupted(kind: str) -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        before = host.hello()
        host.board.arm(
            Fault(kind=kind, lane=10, cycle=1, seconds=None if kind == "reset_mid_cycle" else 1.0)
        )
        host.dispense(ONE)
        await asyncio.sleep(0.55)
        assert host.board.machine.running is None
        await asyncio.sleep(3)
        after = host.hello()
        assert after.boot_id != before.boot_id
        assert after.memory_id == before.memory_id
        assert after.reset_cause == (2 if kind == "reset_mid_cycle" else 1)
        assert after.uptime_ms < 3500
        record = host.result(ONE)
        assert (record.state, record.motor, record.drop) == (vbp.RecordState.INTERRUPTED, 255, 255)
        assert host.board.ledger.count("product_fell") == 0

    run_virtual(play)


def test_a_drop_seen_before_the_power_cut_is_in_the_interrupted_record() -> None:
    async def play() -> None:
        lane = 'number = 10\nkind = "spiral"\nrun_ms = 4000\nfall_ms = 100\njitter = 0\n'
        lanes = f"[[board.lane]]\n{lane}"
        host = VbpHost(make_board("vbp", lanes=lanes))
        host.hello()
        host.board.arm(Fault(kind="power_cut", lane=10, after_ms=3900, seconds=0.5))
        host.dispense(ONE, max_run_ms=9000)
        await asyncio.sleep(6)
        host.hello()
        record = host.result(ONE)
        assert (record.state, record.motor, record.drop, record.drops) == (4, 255, 1, 1)

    run_virtual(play)


def test_rule_2_accepted_is_on_the_disk_before_the_motor_moves(tmp_path: Path) -> None:
    """P11: a kill of the emulator at the motor's start leaves the record."""

    async def play() -> None:
        memory = tmp_path / "board.mem"
        head = f'memory = "{memory}"'
        host = VbpHost(make_board("vbp", head, entropy=1))
        first = host.hello()
        seen: list[bytes] = []
        host.board.ledger.watchers.append(
            lambda line: (
                seen.append(memory.read_bytes()) if line["event"] == "motor_started" else None
            )
        )
        host.dispense(ONE)
        assert str(ONE).encode() in seen[0]
        host.board.close()
        # The next process on the same file: the board remembers, and says so.
        again = VbpHost(make_board("vbp", head, entropy=2))
        second = again.hello()
        assert second.memory_id == first.memory_id
        assert second.boot_id != first.boot_id
        assert again.result(ONE).state == vbp.RecordState.INTERRUPTED
        again.ask(vbp.Release(ONE))
        third = VbpHost(make_board("vbp", head, entropy=3))
        third.hello()
        assert third.dispense(ONE) is vbp.Verdict.KNOWN

    run_virtual(play)


def test_without_a_file_the_memory_id_comes_from_the_seed() -> None:
    async def play() -> None:
        ids = {VbpHost(make_board("vbp", entropy=e)).hello().memory_id for e in (1, 2)}
        boots = {VbpHost(make_board("vbp", entropy=e)).hello().boot_id for e in (1, 2)}
        assert (len(ids), len(boots)) == (1, 2)
        assert VbpHost(make_board("vbp", seed=5)).hello().memory_id not in ids

    run_virtual(play)


def test_a_damaged_memory_file_is_a_formatted_memory(tmp_path: Path) -> None:
    async def play() -> None:
        memory = tmp_path / "board.mem"
        memory.write_bytes(b'{"memory_id": "no"}')
        host = VbpHost(make_board("vbp", f'memory = "{memory}"'))
        assert host.hello().records_free == 32
        assert host.board.ledger.lines[0]["event"] == "memory_damaged"

    run_virtual(play)


@pytest.mark.parametrize("kind", ["forget_memory", "swap"])
def test_lost_memory_has_a_new_identity(kind: str) -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        before = host.hello()
        host.dispense(ONE)
        await asyncio.sleep(3)
        host.board.arm(Fault(kind=kind))
        await asyncio.sleep(0.2)
        after = host.hello()
        assert after.memory_id != before.memory_id
        assert host.result(ONE).state == vbp.RecordState.UNKNOWN_ID

    run_virtual(play)


def test_the_eye_is_read_with_its_time_and_self_test() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        assert host.ask(vbp.ReadEye()) == vbp.ReadEyeAnswer(0, 0, 0, vbp.SelfTest.NOT_RUN)
        host.board.block_eye(on=True)
        await asyncio.sleep(0.7)
        read = host.ask(vbp.ReadEye(1))
        assert (read.eye, read.pulses, read.selftest) == (vbp.Eye.BLOCKED, 1, vbp.SelfTest.OK)
        assert read.blocked_ms == pytest.approx(700, abs=2)
        assert host.events[0] == vbp.Event(1, vbp.EventKind.EYE_CHANGED, eye=1)
        host.board.block_eye(on=False)
        host.board.arm(Fault(kind="eye_faulty"))
        assert host.ask(vbp.ReadEye(1)).selftest == vbp.SelfTest.FAULT

    run_virtual(play)


def test_an_output_is_set_and_told() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        host.hello()
        assert host.ask(vbp.Output(1, 1)) == vbp.OutputAnswer(1, 1)
        assert host.ask(vbp.Output(9, 1)) == vbp.ErrorAnswer(vbp.ErrorCode.NOT_NOW)

    run_virtual(play)


def test_speed_makes_motors_faster_and_leaves_uptime_and_repeats_alone() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp", speed=20))
        host.hello()
        host.dispense(ONE)
        await asyncio.sleep(0.15)
        record = host.result(ONE)
        assert (record.state, record.drop) == (3, 1)
        assert 900 <= record.run_ms <= 1100  # told in machine time
        assert host.uptime() == pytest.approx(150, abs=1)
        await asyncio.sleep(1.0)
        assert len(host.events) == 3  # at once, then each 500 ms of real time

    run_virtual(play)
