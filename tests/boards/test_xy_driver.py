"""The XY driver against a scripted board in memory, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from controller.boards.xy import frames
from controller.boards.xy.driver import XyBoard
from controller.boards.xy.frames import Command, Frame, MachineStatus, encode_frame
from controller.boards.xy.options import XyOptions
from controller.dispensing.interfaces import (
    BoardNote,
    CycleEvent,
    DoorChanged,
    Ended,
    NotWritten,
    Ticket,
)
from controller.errors import BoardOffline, BoardRefused
from controller.model import Reason
from tests.boards.scripted_xy import ScriptedXy
from tests.boards.support import (
    CLOCK,
    MemoryPort,
    NotebookDesk,
    VirtualLoop,
    an_order,
    collect,
    drive,
    in_virtual_time,
    names,
    running,
    until,
)


class Bench:
    def __init__(self, board: ScriptedXy, ticket: Ticket | None, options: dict[str, Any]) -> None:
        self.board = board
        self.port = MemoryPort(board)
        self.desk = NotebookDesk(ticket)
        self.driver = XyBoard("side", self.port, CLOCK, XyOptions(**options))


def on_bench(
    play: Callable[[Bench], Awaitable[None]],
    board: ScriptedXy | None = None,
    ticket: Ticket | None = None,
    **options: Any,
) -> None:
    async def whole() -> None:
        given = {"status_every_s": 0} | options
        bench = Bench(board or ScriptedXy(), ticket, given)
        async with running(bench.driver, bench.desk):
            await play(bench)
        assert bench.board.outside == [], "a word outside the answer window"
        assert all(delay <= 0.05 for delay in bench.board.answer_delays)

    in_virtual_time(whole())


def ended(events: list[CycleEvent]) -> str:
    last = events[-1]
    assert isinstance(last, Ended)
    return f"{last.finding.outcome}/{last.finding.reason}"


def test_a_cycle_from_poll_to_success() -> None:
    async def play(bench: Bench) -> None:
        events = await drive(bench.driver, an_order(7, lane=10))
        assert names(events) == ["FrameWritten", "Acknowledged", "Moving", "Ended"]
        assert ended(events) == "delivered/None"
        assert bench.board.drives == [
            bytes.fromhex("FAFB060501 01 00 000A".replace(" ", "") + "08")
        ]

    on_bench(play)


def test_polls_are_answered_and_nothing_else_is_said() -> None:
    async def play(bench: Bench) -> None:
        await asyncio.sleep(10)
        assert {frame.command for frame in bench.board.heard} == {Command.ACK}
        assert bench.board.unanswered_polls <= 1

    on_bench(play)


def test_up_by_the_first_poll_without_an_unsolicited_31() -> None:
    async def play(bench: Bench) -> None:
        assert bench.driver.status().up
        await asyncio.sleep(3)
        assert not any(frame.command == Command.SYNC for frame in bench.board.heard)

    on_bench(play)


def test_synchronisation_after_the_boards_31() -> None:
    async def play(bench: Bench) -> None:
        assert bench.driver.status().detail["lanes"] == 3
        assert [f.command for f in bench.board.heard].count(Command.SYNC) == 1
        ups = [up for up, _ in bench.desk.ups]
        assert ups[-1] is True
        assert bench.driver.counters.resets == 1

    on_bench(play, ScriptedXy(boot=True))


def test_p5_a_31_in_mid_cycle_ends_it_as_restarted() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        first = [await anext(stream) for _ in range(3)]
        assert names(first) == ["FrameWritten", "Acknowledged", "Moving"]
        bench.board.story = []
        bench.board.restart()
        rest = await collect(stream)
        assert names(rest) == ["LineLost", "Restarted"]
        with pytest.raises(BoardOffline):
            await bench.driver.prepare(an_order(8))
        await until(lambda: bench.driver.status().up)
        assert len(bench.board.drives) == 1

    on_bench(play, ScriptedXy(story=[(0.1, 1, 0)]))


def test_p1_no_ack_and_no_status_is_one_frame_and_no_end() -> None:
    """Silence after 06: sent once, and the driver waits; the caller bounds the time."""

    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        with pytest.raises(TimeoutError):
            await collect(stream, within_s=90)
        assert len(bench.board.drives) == 1
        assert bench.driver.counters.unanswered == 1

    on_bench(play, ScriptedXy(story=[], ack=False))


def test_a_lost_ack_and_then_its_01_is_a_delivery() -> None:
    async def play(bench: Bench) -> None:
        events = await drive(bench.driver, an_order(7))
        assert names(events) == ["FrameWritten", "Moving", "Ended"]
        assert len(bench.board.drives) == 1

    on_bench(play, ScriptedXy(ack=False))


def test_p5_a_success_with_neither_ack_nor_01_is_conflicting() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        events = [await anext(stream), await anext(stream)]
        assert names(events) == ["FrameWritten", "Conflicting"]
        with pytest.raises(TimeoutError):
            await collect(stream, within_s=60)

    on_bench(play, ScriptedXy(ack=False, story=[(1.0, 2, 0)]))


@pytest.mark.parametrize("resends", [0, 1, 4])
def test_resends_are_the_operators_choice_and_the_same_bytes(resends: int) -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        with pytest.raises(TimeoutError):
            await collect(stream, within_s=20)
        assert len(bench.board.drives) == resends + 1
        assert len(set(bench.board.drives)) == 1

    on_bench(play, ScriptedXy(ack=False, story=[]), resend_same_packno=resends)


def test_a_closed_stream_resends_nothing() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        assert names([await anext(stream)]) == ["FrameWritten"]
        await stream.aclose()
        await asyncio.sleep(5)
        assert len(bench.board.drives) == 1

    on_bench(play, ScriptedXy(ack=False, story=[]), resend_same_packno=4)


def test_p4_an_expired_drive_is_never_sent() -> None:
    async def play(bench: Bench) -> None:
        now = asyncio.get_running_loop().time()
        bench.board.poll_gap_until = now + 2
        order = an_order(7, deadline=now + 1)
        events = await drive(bench.driver, order)
        assert events == [NotWritten(reason=Reason.EXPIRED)]
        await asyncio.sleep(5)
        assert bench.board.drives == []

    on_bench(play)


def test_a_withdrawn_stream_is_never_sent() -> None:
    async def play(bench: Bench) -> None:
        bench.board.poll_gap_until = asyncio.get_running_loop().time() + 2
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await stream.aclose()
        await asyncio.sleep(5)
        assert bench.board.drives == []

    on_bench(play)


def test_link_lost_before_the_frame_left_writes_nothing() -> None:
    async def play(bench: Bench) -> None:
        bench.board.alive = False
        events = await drive(bench.driver, an_order(7))
        assert events == [NotWritten(reason=Reason.BOARD_OFFLINE)]
        assert not bench.driver.status().up
        bench.board.alive = True
        await until(lambda: bench.driver.status().up)
        await asyncio.sleep(1)
        assert bench.board.drives == []

    on_bench(play)


def test_silence_loses_the_link_and_a_poll_brings_it_back_in_mid_cycle() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        for _ in range(3):
            await anext(stream)
        bench.board.alive = False
        silent = asyncio.get_running_loop().time()
        assert names([await anext(stream)]) == ["LineLost"]
        assert 2.9 <= asyncio.get_running_loop().time() - silent <= 3.4
        bench.board.alive = True
        await until(lambda: bench.driver.status().up)
        bench.board.status(2, 1)
        assert names(await collect(stream)) == ["LineBack", "Ended"]

    on_bench(play, ScriptedXy(story=[(0.1, 1, 0)]))


def test_a_line_silent_for_long_is_opened_anew() -> None:
    async def play(bench: Bench) -> None:
        bench.board.alive = False
        await asyncio.sleep(40)
        assert bench.port.traffic.opens >= 3

    on_bench(play)


def test_unplugged_and_plugged_back_in() -> None:
    async def play(bench: Bench) -> None:
        bench.port.unplug()
        await until(lambda: not bench.driver.status().up, within_s=0.1)
        await asyncio.sleep(20)
        bench.port.plugged = True
        await until(lambda: bench.driver.status().up, within_s=2.3)

    on_bench(play)


def test_pack_no_goes_on_after_the_journal_and_skips_0() -> None:
    async def play(bench: Bench) -> None:
        # 254 is the greeting's, the first packet of this process.
        assert (await bench.driver.prepare(an_order(1)))["pack_no"] == 255
        assert (await bench.driver.prepare(an_order(1)))["pack_no"] == 1

    on_bench(play, ticket={"pack_no": 253})


def test_no_pack_no_of_a_drive_is_used_again_before_the_counter_went_round() -> None:
    async def play(bench: Bench) -> None:
        for number in range(1, 40):
            await drive(bench.driver, an_order(number))
            await asyncio.sleep(2)  # questions of ours in between
        used = [f.pack_no for f in bench.board.heard if f.command != Command.ACK]
        assert len(bench.board.drives) == 39
        assert len({f.command for f in bench.board.heard}) == 3
        for at, number in enumerate(used):
            assert number not in used[at + 1 : at + 200]

    on_bench(play, ScriptedXy(story=[(0.1, 1, 0), (0.5, 2, 0)]), {"pack_no": 250}, status_every_s=1)


def test_duplicates_are_acknowledged_and_processed_once() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        first = [await anext(stream) for _ in range(2)]
        assert names(first) == ["FrameWritten", "Acknowledged"]
        frame = bench.board.status(9, 2)  # another lane's: conflicting, once
        bench.board.queue.extend([(frame, 0)] * 4)
        bench.board.status(1, 1)
        bench.board.status(2, 1)
        events = await collect(stream)
        assert names(events) == ["Conflicting", "Moving", "Ended"]
        assert bench.driver.counters.duplicates == 4

    on_bench(play, ScriptedXy(story=[]))


def test_same_pack_no_with_other_bytes_is_no_duplicate() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        await anext(stream)
        for code in (1, 2):
            bench.board.data(Command.DISPENSING, bytes((code, 0, 1)), pack_no=0x55)
        assert names(await collect(stream)) == ["Acknowledged", "Moving", "Ended"]

    on_bench(play, ScriptedXy(story=[]))


def test_a_data_frame_between_command_and_ack() -> None:
    board = ScriptedXy()
    board.before_ack = Frame(Command.MACHINE_STATUS, 0x77, MachineStatus().encode(1)[5:-1])

    async def play(bench: Bench) -> None:
        events = await drive(bench.driver, an_order(7))
        assert names(events) == ["FrameWritten", "Acknowledged", "Moving", "Ended"]

    on_bench(play, board)


def test_an_ack_of_length_one_counts() -> None:
    async def play(bench: Bench) -> None:
        events = await drive(bench.driver, an_order(7))
        assert names(events)[1] == "Acknowledged"

    on_bench(play, ScriptedXy(ack_frame=Frame(Command.ACK, 1)))


def test_sel_0_means_the_lane_now_selected() -> None:
    async def play(bench: Bench) -> None:
        assert ended(await drive(bench.driver, an_order(7))) == "delivered/None"

    on_bench(play, ScriptedXy(story=[(0.1, 1, -1), (1.0, 2, -1)]))


def test_a_status_for_another_lane_is_conflicting_and_the_own_end_counts() -> None:
    async def play(bench: Bench) -> None:
        events = await drive(bench.driver, an_order(7))
        assert names(events) == ["FrameWritten", "Acknowledged", "Moving", "Conflicting", "Ended"]
        assert ended(events) == "not_delivered/jammed"

    on_bench(play, ScriptedXy(story=[(0.1, 1, 0), (1.0, 2, 9), (2.0, 3, 0)]))


def test_an_error_waits_for_ff() -> None:
    async def play(bench: Bench) -> None:
        began = asyncio.get_running_loop().time()
        events = await drive(bench.driver, an_order(7))
        assert ended(events) == "not_delivered/board_refused"
        assert asyncio.get_running_loop().time() - began > 3

    on_bench(play, ScriptedXy(story=[(0.5, 7, 0), (3.0, 0xFF, 0)]))


def test_an_error_whose_ff_never_comes_counts_after_10_s() -> None:
    async def play(bench: Bench) -> None:
        began = asyncio.get_running_loop().time()
        events = await drive(bench.driver, an_order(7))
        assert ended(events) == "not_delivered/motor_missing"
        assert 10 < asyncio.get_running_loop().time() - began < 11.5

    on_bench(play, ScriptedXy(story=[(0.5, 6, 0)]))


def test_a_status_storm_is_one_note_and_changes_nothing() -> None:
    async def play(bench: Bench) -> None:
        for number in range(200):
            bench.board.status(3, 1 + number % 2)
        await until(lambda: not bench.board.queue, within_s=120)
        notes = [n for n, _ in bench.desk.notices if isinstance(n, BoardNote)]
        assert 2 <= len(notes) <= 4, "two kinds, told once a minute"
        assert ended(await drive(bench.driver, an_order(7))) == "delivered/None"

    on_bench(play)


def test_door_temperature_and_machine_number_from_52() -> None:
    async def play(bench: Bench) -> None:
        await until(lambda: bench.driver.status().temperature_c == -5)
        status = bench.driver.status()
        assert status.door == "open"
        assert status.text == "xy 0000012345"
        await until(lambda: len(bench.desk.identities) == 2)
        assert (DoorChanged(open=True), None) in bench.desk.notices
        assert bench.driver.capabilities.reports_door

    on_bench(play, status_every_s=60, door_means="nonzero_open")


def test_p11_recall_listens_after_a_restart_of_the_daemon() -> None:
    """Of a cycle of an earlier process neither ACK nor 01 is known: 02 counts, an error is no
    refusal."""

    async def play(bench: Bench) -> None:
        stream = bench.driver.recall(an_order(7, lane=2), {"pack_no": 9})
        asyncio.get_running_loop().call_later(1, bench.board.status, 2, 2)
        assert ended(await collect(stream)) == "delivered/None"
        stream = bench.driver.recall(an_order(8, lane=2), {"pack_no": 9})
        asyncio.get_running_loop().call_later(1, bench.board.status, 0xFC, 2)
        assert ended(await collect(stream)) == "unknown/terminated"
        stream = bench.driver.recall(an_order(9, lane=2), {"pack_no": 9})
        asyncio.get_running_loop().call_later(1, bench.board.restart)
        assert names(await collect(stream))[-1] == "Restarted"
        assert bench.board.drives == []

    on_bench(play)


def test_the_last_word_of_a_cycle_is_not_heard_again_for_the_next() -> None:
    """The board repeats its 02 while our ACK was lost: to a daemon that began anew and finds the
    next cycle of the same lane open, and to a line that was opened anew."""
    tickets: list[Ticket] = []

    async def before(bench: Bench) -> None:
        await drive(bench.driver, an_order(7, lane=2))
        tickets.append(await bench.driver.prepare(an_order(8, lane=2)))
        bench.port.unplug()
        bench.port.plugged = True
        await until(lambda: bench.driver.status().up)
        tickets.append(await bench.driver.prepare(an_order(8, lane=2)))

    async def after(bench: Bench) -> None:
        (ticket, _) = tickets
        repeated = bytes.fromhex(ticket["heard"])
        assert repeated[5:7] == bytes((2, 0)), "a success"
        stream = bench.driver.recall(an_order(8, lane=2), ticket)
        heard = asyncio.create_task(collect(stream))
        bench.board.queue.append((repeated, 0))
        await asyncio.sleep(2)
        assert not heard.done(), "told as delivered, and it was never driven"
        assert bench.driver.counters.duplicates == 1
        bench.board.status(2, 2)
        assert ended(await heard) == "delivered/None"

    on_bench(before)
    assert tickets[0]["heard"] == tickets[1]["heard"]
    on_bench(after, ticket=tickets[0])


def test_p5_what_comes_between_a_closed_stream_and_its_recall_is_not_lost() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        ticket = await bench.driver.prepare(order)
        stream = bench.driver.drive(order, ticket)
        for _ in range(3):
            await anext(stream)
        await stream.aclose()
        await asyncio.sleep(5)
        assert ended(await collect(bench.driver.recall(order, ticket))) == "delivered/None"
        assert ended(await collect(bench.driver.recall(order, ticket))) == "delivered/None"

    on_bench(play)


def test_a_late_loop_does_not_answer_out_of_the_window() -> None:
    async def play(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        # 150 ms of somebody else's computing, with a POLL already in the kernel's buffer.
        receive = bench.port._line.receive  # type: ignore[union-attr]
        bench.board.poll_gap_until = loop.time() + 1
        loop.now += 0.15
        written = len(bench.port.to_board)
        receive(encode_frame(frames.POLL))
        assert len(bench.port.to_board) == written, "neither ACK nor the drive"
        assert bench.driver.line_counters.late == 1
        assert names([await waiting]) == ["FrameWritten"], "at the next POLL"

    on_bench(play)


def test_of_two_frames_at_once_only_the_last_is_answered() -> None:
    async def play(bench: Bench) -> None:
        await asyncio.sleep(0.05)
        bench.board.open_window()
        receive = bench.port._line.receive  # type: ignore[union-attr]
        written = len(bench.port.to_board)
        receive(encode_frame(frames.POLL) * 3)
        assert len(bench.port.to_board) == written + 1
        await asyncio.sleep(0)

    on_bench(play)


def test_a_half_frame_is_dropped_after_100_ms() -> None:
    async def play(bench: Bench) -> None:
        receive = bench.port._line.receive  # type: ignore[union-attr]
        receive(b"\xfa\xfb\x11\x0c\x41")  # a noisy POLL would be swallowed by this one's length
        events = await drive(bench.driver, an_order(7))
        assert ended(events) == "delivered/None"

    on_bench(play)


def test_garbage_changes_nothing() -> None:
    async def play(bench: Bench) -> None:
        receive = bench.port._line.receive  # type: ignore[union-attr]
        for size in range(1, 60):
            receive(bytes((size * 7 + n * 13) % 256 for n in range(size)))
            await asyncio.sleep(0.3)
        assert bench.driver.status().up
        assert ended(await drive(bench.driver, an_order(7))) == "delivered/None"

    on_bench(play)


def test_what_an_xy_board_cannot_do() -> None:
    async def play(bench: Bench) -> None:
        with pytest.raises(BoardRefused):
            await bench.driver.read_eye()
        with pytest.raises(BoardRefused):
            await bench.driver.stop(7)
        await bench.driver.release(7)
        capabilities = bench.driver.capabilities
        assert capabilities.watches_eye
        assert not capabilities.reads_eye
        assert not capabilities.remembers_cycles
        assert not capabilities.reports_door

    on_bench(play)


@pytest.mark.parametrize(("length", "tail"), [(5, ""), (6, "00"), (7, "0001")])
def test_the_drive_frame_has_the_set_length(length: int, tail: str) -> None:
    async def play(bench: Bench) -> None:
        await drive(bench.driver, an_order(7, lane=300, watch_eye=False))
        assert bench.board.drives[0][5:-1].hex() == "0001012c" + tail

    on_bench(play, ScriptedXy(), drive_length=length, elevator=True)


def test_p1_a_drive_whose_start_was_told_is_not_resent_for_want_of_its_ack() -> None:
    """A 04 for the lane proves the start, whatever became of the ACK."""

    async def play(bench: Bench) -> None:
        events = await drive(bench.driver, an_order(7))
        assert names(events) == ["FrameWritten", "Moving", "Ended"]
        assert len(bench.board.drives) == 1

    on_bench(play, ScriptedXy(ack=False, story=[(0.02, 1, 0), (2, 2, 0)]), resend_same_packno=4)


@pytest.mark.parametrize("code", [0x05, 0x06, 0xFC, 0xFE, 0xFF, 0x07])
def test_p5_after_a_lost_line_an_error_is_no_refusal(code: int) -> None:
    """The 01 may have been told while nobody heard."""

    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        assert names([await anext(stream) for _ in range(2)]) == ["FrameWritten", "Acknowledged"]
        bench.port.unplug()
        assert names([await anext(stream)]) == ["LineLost"]
        bench.port.plugged = True
        await until(lambda: bench.driver.status().up)
        bench.board.status(code, 1)
        assert ended(await collect(stream)) == "unknown/terminated"

    on_bench(play, ScriptedXy(story=[]))


def test_p5_on_a_garbled_line_an_error_is_no_refusal() -> None:
    """What was garbled may have been each repeat of the 01."""

    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        assert names([await anext(stream) for _ in range(2)]) == ["FrameWritten", "Acknowledged"]
        bench.board.write(bytes.fromhex("FA FB 04 04 30 01 00 0A 3B"))
        await asyncio.sleep(0.5)
        bench.board.status(0xFF, 1)
        assert ended(await collect(stream)) == "unknown/terminated"

    on_bench(play, ScriptedXy(story=[]))


def test_p4_an_expired_drive_is_dropped_though_no_poll_comes() -> None:
    """A storm of data keeps the link up and leaves no POLL: the deadline passes all the same."""

    async def play(bench: Bench) -> None:
        status = MachineStatus().encode(1)[5:-1]
        for _ in range(100):
            bench.board.data(Command.MACHINE_STATUS, status)
        began = asyncio.get_running_loop().time()
        events = await drive(bench.driver, an_order(7, deadline=began + 2))
        assert events == [NotWritten(reason=Reason.EXPIRED)]
        assert asyncio.get_running_loop().time() - began < 3
        assert bench.driver.status().up
        await asyncio.sleep(30)
        assert bench.board.drives == []

    on_bench(play)


def test_after_a_31_two_seconds_of_silence_count_from_our_own_31() -> None:
    """With POLLs 2 s apart the board has said nothing before it heard us."""

    async def play(bench: Bench) -> None:
        bench.board.restart()
        await until(lambda: bench.driver.status().detail["link"] == "synchronising")
        await until(lambda: bench.driver.status().up, within_s=60)
        assert bench.driver.status().detail["lanes"] == 3

    on_bench(play, ScriptedXy(poll_s=2.0), poll_ms=2000)


def test_the_first_drive_after_a_restart_is_not_our_first_packet() -> None:
    """The journal knows the last drive's number, not those of the questions after it: a board
    that drops repeats by the number alone would take the next drive for one of those."""

    async def play(bench: Bench) -> None:
        for number in (7, 8):
            assert ended(await drive(bench.driver, an_order(number))) == "delivered/None"
        said = [(f.command, f.pack_no) for f in bench.board.heard if f.command != Command.ACK]
        assert said == [(Command.ASK_STATUS, 41), (Command.DRIVE, 42), (Command.DRIVE, 43)]

    on_bench(play, ticket={"pack_no": 40})


def test_an_absent_board_has_no_temperature_and_is_asked_anew_when_it_is_back() -> None:
    async def play(bench: Bench) -> None:
        await until(lambda: bench.driver.status().temperature_c == -5)
        bench.board.alive = False
        await until(lambda: not bench.driver.status().up)
        status = bench.driver.status()
        assert (status.temperature_c, status.door) == (None, "unknown")
        asked = [f.command for f in bench.board.heard].count(Command.ASK_STATUS)
        bench.board.alive = True
        await until(lambda: bench.driver.status().up)
        await asyncio.sleep(1)
        assert [f.command for f in bench.board.heard].count(Command.ASK_STATUS) == asked + 1
        assert (bench.driver.status().temperature_c, bench.driver.status().door) == (-5, "open")

    on_bench(play, status_every_s=3600, door_means="nonzero_open")


def test_a_restart_is_told_with_the_identity_and_a_lost_line_is_none() -> None:
    """`link` lists a board's restarts: it knows them by another boot_id."""

    async def play(bench: Bench) -> None:
        bench.board.alive = False
        await until(lambda: not bench.driver.status().up)
        bench.board.alive = True
        await until(lambda: len(bench.desk.identities) == 2)
        bench.board.restart()
        await until(lambda: len(bench.desk.identities) == 3)
        boots = [identity.boot_id for identity in bench.desk.identities]
        assert boots[0] == boots[1] != boots[2]

    on_bench(play)


@pytest.mark.parametrize(("poll_ms", "lost_after"), [(200, 3.0), (600, 3.0), (2000, 10.0)])
def test_the_link_is_lost_after_3_s_or_5_intervals(poll_ms: int, lost_after: float) -> None:
    async def play(bench: Bench) -> None:
        await asyncio.sleep(20.05)  # between two POLLs
        assert bench.driver.status().up
        bench.board.alive = False
        await asyncio.sleep(lost_after - poll_ms / 1000 - 0.05)
        assert bench.driver.status().up
        await asyncio.sleep(poll_ms / 1000 + 0.35)
        assert not bench.driver.status().up

    on_bench(play, ScriptedXy(poll_s=poll_ms / 1000), poll_ms=poll_ms)
