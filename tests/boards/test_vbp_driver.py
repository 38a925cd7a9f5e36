"""The VBP driver against a scripted board in memory, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from controller.boards.vbp import frames
from controller.boards.vbp.driver import VbpBoard
from controller.dispensing.interfaces import (
    BoardNote,
    Collision,
    DoorChanged,
    Ended,
    EyeChanged,
    LaneFault,
    LateDrop,
    NotWritten,
    RefusedBeforeMotion,
)
from controller.errors import BoardOffline, JournalUnwritable
from controller.model import Reason
from tests.boards.scripted_vbp import ScriptedVbp
from tests.boards.support import (
    CLOCK,
    MemoryPort,
    NotebookDesk,
    an_order,
    collect,
    drive,
    in_virtual_time,
    names,
    running,
    until,
)


class Bench:
    """A scripted board, its cable, the driver and the desk."""

    def __init__(self, board: ScriptedVbp) -> None:
        self.board = board
        self.port = MemoryPort(board)
        self.desk = NotebookDesk()
        self.driver = VbpBoard("main", self.port, CLOCK)


def on_bench(play: Callable[[Bench], Awaitable[None]], board: ScriptedVbp | None = None) -> None:
    async def whole() -> None:
        bench = Bench(board or ScriptedVbp())
        async with running(bench.driver, bench.desk):
            await play(bench)

    in_virtual_time(whole())


def ended(events: list[object]) -> str:
    last = events[-1]
    assert isinstance(last, Ended)
    return f"{last.finding.outcome}/{last.finding.reason}"


def test_a_cycle_from_frame_to_record() -> None:
    async def play(bench: Bench) -> None:
        started = asyncio.get_running_loop().time()
        events = await drive(bench.driver, an_order(7))
        assert names(events) == ["FrameWritten", "Acknowledged", "Moving", "Ended"]
        assert ended(events) == "delivered/None"
        assert bench.board.started == [7]
        assert asyncio.get_running_loop().time() - started < 2.1, "its end is told, not polled"
        assert bench.board.released == []
        await bench.driver.release(7)
        assert bench.board.released == [7]
        assert bench.desk.records == [], "the stream's record is the heart's"
        assert bench.board.pending == {}, "the event was acknowledged"

    on_bench(play)


def test_the_first_words_are_hello_and_who_is_there() -> None:
    async def play(bench: Bench) -> None:
        assert isinstance(bench.board.seen[0], frames.Hello)
        identity = bench.desk.identities[0]
        assert (identity.boot_id, identity.memory_id) == (0xCAFE, 0xB0A7)
        assert identity.reset_cause == "power_on"
        status = bench.driver.status()
        assert status.up
        assert status.text == "scripted"
        assert bench.driver.capabilities.remembers_cycles
        assert bench.driver.capabilities.can_stop
        assert not bench.driver.capabilities.reports_temperature

    on_bench(play)


@pytest.mark.parametrize("verdict", range(2, 11))
def test_every_refusal_ends_before_motion(verdict: int) -> None:
    async def play(bench: Bench) -> None:
        events = await drive(bench.driver, an_order(7))
        assert names(events) == ["FrameWritten", "RefusedBeforeMotion"]
        last = events[-1]
        assert isinstance(last, RefusedBeforeMotion)
        assert last.raw["verdict"] == verdict
        assert bench.board.started == []

    on_bench(play, ScriptedVbp(verdict=verdict))


def test_known_on_the_first_send_is_a_collision() -> None:
    async def play(bench: Bench) -> None:
        events = await drive(bench.driver, an_order(7))
        assert isinstance(events[-1], Collision)

    on_bench(play, ScriptedVbp(verdict=1))


def test_known_after_a_resend_is_unknown_and_no_collision() -> None:
    """P2: a second drive after it could be a second item."""

    async def play(bench: Bench) -> None:
        bench.port.from_board_lost = 1
        ticket = await bench.driver.prepare(order := an_order(7))
        bench.port.from_board_lost = 1
        events = await collect(bench.driver.drive(order, ticket))
        assert ended(events) == "unknown/conflicting_evidence"

    on_bench(play, ScriptedVbp(verdict=1))


def test_rule_4_the_disputed_record_is_journalled_as_foreign_before_it_is_released() -> None:
    """Rule 1: never read as this cycle's; rule 4: never released unread."""
    board = ScriptedVbp(verdict=1)

    async def play(bench: Bench) -> None:
        ticket = await bench.driver.prepare(order := an_order(7))
        board.records[7] = frames.ResultAnswer(7, 3, 0, 1, 1)
        bench.port.from_board_lost = 1
        events = await collect(bench.driver.drive(order, ticket))
        assert ended(events) == "unknown/conflicting_evidence"
        await asyncio.sleep(10)
        assert board.released == [], "the heart has not journalled the outcome yet"
        bench.desk.refuse = JournalUnwritable("disk full")
        await bench.driver.release(7)
        await asyncio.sleep(10)
        assert board.released == []
        bench.desk.refuse = None
        await until(lambda: board.released == [7])
        assert bench.desk.records == []
        ((notice, key),) = bench.desk.notices
        assert isinstance(notice, BoardNote)
        assert (notice.kind, notice.detail["cycle_id"]) == ("foreign_record", 7)
        assert notice.detail["record"]["drop"] == 1
        assert key == "foreign:main:7"

    on_bench(play, board)


def test_what_was_told_before_a_drive_is_not_about_it() -> None:
    """An old copy of the journal gives an id again. The board that knew it was changed for
    another, whose first word must not be the record of the one before."""
    board = ScriptedVbp()
    board.records[7] = frames.ResultAnswer(7, 3, 0, 1, 1)

    async def play(bench: Bench) -> None:
        await until(lambda: bool(bench.desk.records))
        board.restart(0xBEEF)
        board.records.clear()
        await until(lambda: bench.driver.status().detail.get("boot_id") == 0xBEEF)
        events = await drive(bench.driver, an_order(7))
        assert names(events) == ["FrameWritten", "Acknowledged", "Moving", "Ended"]

    on_bench(play, board)


@pytest.mark.parametrize("lost", [1, 2])
def test_p1_a_lost_answer_leads_to_one_motor_run(lost: int) -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        ticket = await bench.driver.prepare(order)
        bench.port.from_board_lost = lost
        events = await collect(bench.driver.drive(order, ticket))
        assert ended(events) == "delivered/None"
        assert bench.board.started == [7]
        sent = [f for f in bench.port.to_board if len(f) > 30]
        assert len(sent) == lost + 1
        assert len(set(sent)) == 1, "byte for byte the same"
        assert bench.driver.counters.resends == lost

    on_bench(play)


def test_p5_no_answer_to_three_sends_is_settled_by_the_record() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        ticket = await bench.driver.prepare(order)
        bench.board.mute, bench.board.mute_types = -1, (frames.Type.DISPENSE,)
        events = await collect(bench.driver.drive(order, ticket))
        assert names(events)[:3] == ["FrameWritten", "LineLost", "LineBack"]
        assert ended(events) == "delivered/None"
        assert bench.board.count(frames.Dispense) == 3
        assert bench.board.started == [7]
        assert bench.driver.counters.unanswered == 1

    on_bench(play)


def test_p5_a_frame_that_never_arrived_is_not_started_once_its_time_is_over() -> None:
    """Rule 6: the same memory, and the board's clock past *not after*."""

    async def play(bench: Bench) -> None:
        order = an_order(7)
        ticket = await bench.driver.prepare(order)
        began = asyncio.get_running_loop().time()
        bench.board.dispense = lambda _request: 0  # type: ignore[method-assign]  # it got lost
        bench.board.mute, bench.board.mute_types = -1, (frames.Type.DISPENSE,)
        events = await collect(bench.driver.drive(order, ticket))
        assert ended(events) == "not_delivered/not_started"
        assert asyncio.get_running_loop().time() - began >= 3.0, "a frame lives 3 s"
        assert events[-1].finding.left_home is False  # type: ignore[attr-defined]

    on_bench(play)


def test_p5_another_memory_means_forgot() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        ticket = dict(await bench.driver.prepare(order)) | {"memory_id": 1}
        events = await collect(bench.driver.recall(order, ticket))
        assert ended(events) == "unknown/board_forgot"

    on_bench(play)


def test_p5_an_accepted_cycle_that_the_board_no_longer_knows_is_no_proof_of_rest() -> None:
    """Rule 2: `accepted` was in its memory before the motor moved. Then the memory is no witness,
    and `not_delivered` could give the customer a second item."""

    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        assert names([await anext(stream), await anext(stream)]) == ["FrameWritten", "Acknowledged"]
        bench.board.records.clear()
        assert ended(await collect(stream)) == "unknown/board_forgot"
        assert bench.board.started == [7]

    on_bench(play)


def test_p11_recall_waits_while_the_board_says_running() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        ticket = await bench.driver.prepare(order)
        stream = bench.driver.drive(order, ticket)
        assert names([await anext(stream), await anext(stream)]) == ["FrameWritten", "Acknowledged"]
        await stream.aclose()
        events = await collect(bench.driver.recall(order, ticket))
        assert names(events) == ["Moving", "Ended"]
        assert bench.board.started == [7]

    on_bench(play)


def test_link_loss_in_mid_cycle_and_back() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        first = [await anext(stream) for _ in range(3)]
        assert names(first) == ["FrameWritten", "Acknowledged", "Moving"]
        bench.port.unplug()
        assert names([await anext(stream)]) == ["LineLost"]
        await until(lambda: not bench.driver.status().up)
        await asyncio.sleep(5)  # the cycle ends while nobody hears it
        bench.port.plugged = True
        plugged = asyncio.get_running_loop().time()
        rest = await collect(stream)
        assert names(rest) == ["LineBack", "Ended"]
        assert asyncio.get_running_loop().time() - plugged < 2.1, "within 2 s, without a restart"
        assert ended(rest) == "delivered/None"
        assert bench.board.count(frames.Dispense) == 1

    on_bench(play)


def test_restart_in_mid_cycle_is_interrupted() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        await anext(stream)
        await anext(stream)
        bench.board.restart(0xBEEF)
        rest = await collect(stream)
        assert ended(rest) == "unknown/power_lost"
        assert bench.desk.identities[-1].boot_id == 0xBEEF
        notes = [n for n, _ in bench.desk.notices if isinstance(n, BoardNote)]
        assert [n.kind for n in notes] == ["board_restarted"]
        assert bench.driver.counters.resets == 1

    on_bench(play)


def test_p4_an_expired_drive_is_not_written() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7, deadline=asyncio.get_running_loop().time() + 1)
        ticket = await bench.driver.prepare(order)
        await asyncio.sleep(1.5)
        events = await collect(bench.driver.drive(order, ticket))
        assert events == [NotWritten(reason=Reason.EXPIRED)]
        assert bench.board.count(frames.Dispense) == 0

    on_bench(play)


def test_p4_a_frame_found_late_in_a_buffer_is_refused_by_the_board() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        ticket = await bench.driver.prepare(order)
        await asyncio.sleep(3.5)
        events = await collect(bench.driver.drive(order, ticket))
        last = events[-1]
        assert isinstance(last, RefusedBeforeMotion)
        assert (last.reason, last.retry) == (Reason.EXPIRED, True)

    on_bench(play)


def test_a_ticket_of_another_boot_is_not_written() -> None:
    """Its *not after* belongs to a clock that is gone."""

    async def play(bench: Bench) -> None:
        order = an_order(7)
        ticket = await bench.driver.prepare(order)
        bench.board.restart(0xBEEF)
        await until(lambda: len(bench.desk.identities) == 2)
        await until(lambda: bench.driver.session is not None)
        events = await collect(bench.driver.drive(order, ticket))
        assert events == [NotWritten(reason=Reason.BOARD_OFFLINE)]

    on_bench(play)


def test_without_a_link_nothing_is_prepared_or_written() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        ticket = await bench.driver.prepare(order)
        bench.port.unplug()
        with pytest.raises(BoardOffline, match="main: no link"):
            await bench.driver.prepare(order)
        with pytest.raises(BoardOffline):
            await bench.driver.read_eye()
        events = await collect(bench.driver.drive(order, ticket))
        assert events == [NotWritten(reason=Reason.BOARD_OFFLINE)]

    on_bench(play)


def test_rule_5_left_over_records_go_to_the_desk_and_are_released() -> None:
    board = ScriptedVbp()
    board.records = {n: frames.ResultAnswer(n, 3, 0, 1, 1) for n in range(1, 41)}
    board.records[99] = frames.ResultAnswer(99, 4)

    async def play(bench: Bench) -> None:
        await until(lambda: not bench.board.records)
        assert [cycle for cycle, _ in bench.desk.records] == [*range(1, 41), 99]
        assert bench.desk.records[-1][1].reason is Reason.POWER_LOST

    on_bench(play, board)


def test_a_left_over_record_is_read_by_what_its_own_cabinet_has() -> None:
    """A board with both: belts under an eye, and spirals without."""
    board = ScriptedVbp(send_finished=False)

    async def play(bench: Bench) -> None:
        order = an_order(7, watch_eye=False)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        await anext(stream)
        await anext(stream)
        await stream.aclose()  # silence for the heart: its outcome is `unknown`
        board.records[7] = frames.ResultAnswer(7, frames.RecordState.RUNNING)
        await drive(bench.driver, an_order(8))
        await bench.driver.release(8)
        board.records[7] = frames.ResultAnswer(7, 3, 0, frames.Drop.NOT_WATCHED)
        await until(lambda: 7 in board.released)
        ((cycle_id, finding),) = bench.desk.records
        assert (cycle_id, finding.outcome, finding.evidence) == (7, "delivered", "motor")

    on_bench(play, board)


def test_rule_5_a_running_foreign_record_is_waited_for() -> None:
    board = ScriptedVbp()
    board.records = {5: frames.ResultAnswer(5, frames.RecordState.RUNNING)}

    async def play(bench: Bench) -> None:
        await asyncio.sleep(3)
        assert bench.desk.records == []
        bench.board.send_finished = False
        bench.board.finish(5)
        await until(lambda: bench.board.released == [5], within_s=3)
        assert [cycle for cycle, _ in bench.desk.records] == [5]

    on_bench(play, board)


def test_p7_a_record_is_not_released_before_the_desk_has_it() -> None:
    board = ScriptedVbp()
    board.records = {5: frames.ResultAnswer(5, 3, 0, 1, 1)}

    async def whole() -> None:
        bench = Bench(board)
        async with running(bench.driver, bench.desk):
            await until(lambda: bench.board.released == [5])
            bench.desk.refuse = JournalUnwritable("disk full")
            bench.board.records[6] = frames.ResultAnswer(6, 3, 0, 1, 1)
            bench.board.tell(frames.EventKind.CYCLE_FINISHED, cycle_id=6)
            bench.board.tell(frames.EventKind.DOOR_CHANGED, door=1)
            await asyncio.sleep(10)
            assert 6 in bench.board.records
            assert [e.kind for e in bench.board.pending.values()] == [4], "the door: not durable"
            bench.desk.refuse = None
            await until(lambda: bench.board.released == [5, 6], within_s=5)
            await until(lambda: not bench.board.pending, within_s=5)
            assert bench.driver.status().up

    in_virtual_time(whole())


def test_an_ended_record_waits_for_release_however_long_the_journal_takes() -> None:
    """P7: between `Ended` and `release` nobody else may let the board forget."""

    async def play(bench: Bench) -> None:
        await drive(bench.driver, an_order(7))
        bench.board.tell(frames.EventKind.CYCLE_FINISHED, cycle_id=7)
        await asyncio.sleep(60)
        assert bench.board.released == []
        assert bench.desk.records == []
        await bench.driver.release(7)
        assert bench.board.released == [7]

    on_bench(play)


def test_a_release_that_came_too_early_is_looked_at_again() -> None:
    """Rule 4: RELEASE of a running id is E0 4. Nothing else would ever show that record."""
    board = ScriptedVbp()

    async def play(bench: Bench) -> None:
        board.send_finished = False
        await asyncio.sleep(2)  # LIST_OPEN was empty
        board.records[5] = frames.ResultAnswer(5, frames.RecordState.RUNNING)
        await bench.driver.release(5)
        await asyncio.sleep(3)
        assert board.released == []
        board.finish(5)
        await until(lambda: board.released == [5], within_s=3)
        assert [cycle for cycle, _ in bench.desk.records] == [5]

    on_bench(play, board)


def test_a_record_of_another_id_than_was_asked_for_is_nobodys() -> None:
    board = ScriptedVbp()
    board.records = {5: frames.ResultAnswer(6, 3, 0, 1, 1)}

    async def play(bench: Bench) -> None:
        await asyncio.sleep(5)
        assert bench.desk.records == []
        assert board.released == []
        assert bench.driver.status().up

    on_bench(play, board)


def test_an_event_that_comes_before_the_hello_is_of_a_boot_that_nobody_knows() -> None:
    """It lay in a serial server's buffer. Under the new boot's id it would hide a later one."""

    async def whole() -> None:
        bench = Bench(ScriptedVbp())
        stale = frames.encode(frames.Event(1, frames.EventKind.DOOR_CHANGED, door=0), 0)
        connect = bench.board.connect

        def connect_and_pour(write: Callable[[bytes], None]) -> None:
            connect(write)
            write(stale)

        bench.board.connect = connect_and_pour  # type: ignore[method-assign]
        async with running(bench.driver, bench.desk):
            await asyncio.sleep(1)
            assert bench.desk.notices == []
            bench.board.tell(frames.EventKind.DOOR_CHANGED, door=1)
            await until(lambda: not bench.board.pending)
            assert bench.desk.notices == [(DoorChanged(open=True), "vbp:0000cafe:1")]

    in_virtual_time(whole())


def test_release_is_made_good_after_a_lost_link() -> None:
    async def play(bench: Bench) -> None:
        await drive(bench.driver, an_order(7))
        bench.port.unplug()
        await bench.driver.release(7)
        assert bench.board.released == []
        bench.port.plugged = True
        await until(lambda: bench.board.released == [7])

    on_bench(play)


def test_a_recall_after_the_desk_had_the_record_still_gets_it() -> None:
    """The record was reported and released before anybody asked: `unknown id` would lie."""
    board = ScriptedVbp()
    board.records = {7: frames.ResultAnswer(7, 3, 0, 2, 0)}

    async def play(bench: Bench) -> None:
        await until(lambda: bench.board.released == [7])
        order = an_order(7)
        ticket = dict(await bench.driver.prepare(order)) | {"not_after": 0}
        events = await collect(bench.driver.recall(order, ticket))
        assert ended(events) == "not_delivered/no_drop"

    on_bench(play, board)


def test_p7_events_are_noted_once_and_acknowledged_each_time() -> None:
    async def play(bench: Bench) -> None:
        bench.board.tell(frames.EventKind.EYE_CHANGED, eye=1)
        bench.board.tell(frames.EventKind.LATE_DROP, cycle_id=7, after_ms=4000)
        bench.board.tell(frames.EventKind.DOOR_CHANGED, door=1)
        bench.board.tell(frames.EventKind.LANE_FAULT, lane=3, motor=2)
        await until(lambda: not bench.board.pending)
        again = frames.Event(1, frames.EventKind.EYE_CHANGED, eye=1)
        bench.board.pending[1] = again
        bench.board.repeat(again)
        await until(lambda: not bench.board.pending)
        assert bench.desk.notices == [
            (EyeChanged("blocked"), "vbp:0000cafe:1"),
            (LateDrop(7, 4000), "vbp:late:7"),
            (DoorChanged(open=True), "vbp:0000cafe:3"),
            (LaneFault(3, "motor: open_circuit"), "vbp:0000cafe:4"),
        ]

    on_bench(play)


def test_p7_a_late_drop_waits_until_the_outcome_of_its_cycle_is_durable() -> None:
    """Told earlier, it would find a cycle without an outcome, and nothing to revise."""

    async def play(bench: Bench) -> None:
        events = await drive(bench.driver, an_order(7))
        assert ended(events) == "not_delivered/no_drop"
        bench.board.tell(frames.EventKind.LATE_DROP, cycle_id=7, after_ms=20)
        bench.board.tell(frames.EventKind.DOOR_CHANGED, door=1)
        await asyncio.sleep(3)  # the journal takes its time
        assert bench.desk.notices == [(DoorChanged(open=True), "vbp:0000cafe:3")]
        assert [e.kind for e in bench.board.pending.values()] == [frames.EventKind.LATE_DROP]
        await bench.driver.release(7)
        assert bench.desk.notices[1:] == [(LateDrop(7, 20), "vbp:late:7")], "before a next cycle"
        await until(lambda: not bench.board.pending)
        assert bench.board.released == [7]

    on_bench(play, ScriptedVbp(drop=2))


def test_a_late_drop_that_the_record_has_already_is_not_counted_again() -> None:
    """The kept record changes too: an item is one item, told twice."""

    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        await anext(stream)
        bench.board.send_finished = False
        await asyncio.sleep(2.5)  # the cycle is over, nothing fell, and nobody asked yet
        bench.board.records[7] = frames.ResultAnswer(7, 3, 0, 1, 1)
        bench.board.tell(frames.EventKind.LATE_DROP, cycle_id=7, after_ms=300)
        await asyncio.sleep(0.1)
        assert ended(await collect(stream)) == "delivered/None"
        await bench.driver.release(7)
        await until(lambda: not bench.board.pending)
        (noted,) = bench.desk.notices
        assert noted == (
            BoardNote("late_drop", {"cycle_id": 7, "after_ms": 300, "in_record": True}),
            "vbp:late:7",
        )

    on_bench(play, ScriptedVbp(drop=2))


def test_a_late_drop_in_a_left_over_record_is_not_counted_again() -> None:
    board = ScriptedVbp()
    board.records = {7: frames.ResultAnswer(7, 3, 0, 1, 1)}

    async def whole() -> None:
        bench = Bench(board)
        board.tell(frames.EventKind.LATE_DROP, cycle_id=7, after_ms=300)
        async with running(bench.driver, bench.desk):
            await until(lambda: board.released == [7] and not board.pending)
        assert len(bench.desk.records) == 1
        kinds = [type(notice) for notice, _ in bench.desk.notices]
        assert kinds in ([BoardNote], [LateDrop]), "either before the record, or in it"
        if kinds == [LateDrop]:
            assert bench.desk.order.index("notice") < bench.desk.order.index("recorded")

    in_virtual_time(whole())


def test_eye_and_stop() -> None:
    async def play(bench: Bench) -> None:
        assert (await bench.driver.read_eye()).blocked
        await asyncio.sleep(2)
        assert bench.driver.status().eye == "blocked"
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        await anext(stream)
        await anext(stream)
        await bench.driver.stop(7)
        assert ended(await collect(stream)) == "unknown/stopped"

    on_bench(play, ScriptedVbp(eye=1))


def test_noise_and_foreign_answers_change_nothing() -> None:
    async def play(bench: Bench) -> None:
        bench.board.write(b"\x00\x05garbage\x00" * 50)
        bench.board.write(frames.encode(frames.DispenseAnswer(0), 12345))
        bench.board.write(frames.encode(frames.Hello(), 1))
        events = await drive(bench.driver, an_order(7))
        assert ended(events) == "delivered/None"
        assert bench.driver.counters.frames_bad == 50
        assert bench.driver.counters.stray == 2

    on_bench(play)


def test_the_ticket_is_dated_by_the_boards_clock_across_its_wrap() -> None:
    async def play(bench: Bench) -> None:
        ticket = await bench.driver.prepare(an_order(7))
        assert ticket["not_after"] < 10_000, "wrapped"
        events = await drive(bench.driver, an_order(8))
        assert ended(events) == "delivered/None"

    on_bench(play, ScriptedVbp(uptime_base_ms=2**32 - 1000))


def test_an_uptime_that_went_back_is_a_restart() -> None:
    async def play(bench: Bench) -> None:
        bench.board.boot_id = (
            0xBEEF  # a restart that kept the link's greeting: only the clock tells
        )
        bench.board.uptime_base_ms = 0
        bench.board.booted_at = asyncio.get_running_loop().time()
        await until(lambda: len(bench.desk.identities) == 2, within_s=3)
        assert bench.driver.counters.resets == 1

    on_bench(play)


def test_rule_3_an_uptime_that_went_back_over_a_lost_link_is_a_restart() -> None:
    """Like a new boot_id: a ticket dated by the clock before it would live for hours."""

    async def play(bench: Bench) -> None:
        order = an_order(7)
        ticket = await bench.driver.prepare(order)
        bench.port.unplug()
        await until(lambda: not bench.driver.status().up)
        bench.board.uptime_base_ms, bench.board.booted_at = 0, None
        bench.port.plugged = True
        await until(lambda: bench.driver.status().up)
        assert bench.driver.counters.resets == 1
        assert [n.kind for n, _ in bench.desk.notices if isinstance(n, BoardNote)] == [
            "board_restarted"
        ]
        events = await collect(bench.driver.drive(order, ticket))
        assert events == [NotWritten(reason=Reason.BOARD_OFFLINE)]
        assert bench.board.count(frames.Dispense) == 0

    on_bench(play, ScriptedVbp(uptime_base_ms=5_000_000))


def test_a_silent_board_is_found_out_and_asked_for_ever() -> None:
    async def play(bench: Bench) -> None:
        bench.board.mute = -1
        await asyncio.wait_for(bench.desk.down.wait(), 2)
        hellos = bench.board.count(frames.Hello)
        await asyncio.sleep(60)
        assert bench.board.count(frames.Hello) - hellos >= 60, "every 2.6 s, three sends"
        bench.board.mute = 0
        await asyncio.wait_for(bench.desk.up.wait(), 3)

    on_bench(play)
