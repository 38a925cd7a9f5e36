"""One open VBP link by itself: its window, its repeats, its numbers (P1, P5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from controller.boards.base import LinkCounters
from controller.boards.port import Line, Lost, Receive, Traffic
from controller.boards.vbp import frames
from controller.boards.vbp.link import ANSWER_TIMEOUT_S, VbpLink
from tests.boards.support import CLOCK, in_virtual_time

STATUS = frames.StatusAnswer(1000, 0, 0, 0, 0, 1, 0)


class Wire:
    """Implements Port and Line: notes what leaves; the test says what comes."""

    spec = "wire:"

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.sent: list[frames.Frame] = []
        self.says: Receive = lambda _data: None
        self.on_frame: Callable[[frames.Frame], None] = lambda _frame: None

    async def open(self, receive: Receive, lost: Lost) -> Line:
        self.says = receive
        return self

    def write(self, data: bytes) -> None:
        (frame,) = frames.Decoder().feed(data)
        self.sent.append(frame)
        self.on_frame(frame)

    def abort(self) -> None:
        pass


def on_link(play: Callable[[VbpLink, Wire], Awaitable[None]], first_seq: int = 7) -> None:
    async def whole() -> None:
        wire = Wire()
        link = VbpLink(CLOCK, LinkCounters(), lambda _event: None, first_seq)
        await link.open(wire)
        await play(link, wire)

    in_virtual_time(whole())


def test_an_answer_that_comes_with_the_end_of_its_time_is_not_asked_for_again() -> None:
    """A loop that was held up finds both at once: the frame in the buffer, the timer over."""

    async def play(link: VbpLink, wire: Wire) -> None:
        def in_the_last_moment(frame: frames.Frame) -> None:
            answer = frames.encode(STATUS, frame.seq)
            asyncio.get_running_loop().call_later(ANSWER_TIMEOUT_S, wire.says, answer)

        wire.on_frame = in_the_last_moment
        assert await link.ask(frames.Status(), frames.StatusAnswer) == STATUS
        assert len(wire.sent) == 1
        assert link.down_because == ""

    on_link(play)


def test_an_answer_to_the_third_send_in_the_last_moment_keeps_the_link() -> None:
    async def play(link: VbpLink, wire: Wire) -> None:
        def third(frame: frames.Frame) -> None:
            if len(wire.sent) == 3:
                answer = frames.encode(STATUS, frame.seq)
                asyncio.get_running_loop().call_later(ANSWER_TIMEOUT_S, wire.says, answer)

        wire.on_frame = third
        assert await link.ask(frames.Status(), frames.StatusAnswer) == STATUS
        assert link.down_because == ""

    on_link(play)


def test_numbers_wrap_and_a_late_answer_to_an_older_one_is_stray() -> None:
    async def play(link: VbpLink, wire: Wire) -> None:
        def late_then_right(frame: frames.Frame) -> None:
            old = frames.StatusAnswer(1, 0, 0, 0, 0, 0, 0)
            wire.says(frames.encode(old, (frame.seq - 1) % 0x10000))
            wire.says(frames.encode(frames.DispenseAnswer(0), frame.seq))  # of another request
            asyncio.get_running_loop().call_soon(wire.says, frames.encode(STATUS, frame.seq))

        wire.on_frame = late_then_right
        for _ in range(3):
            assert await link.ask(frames.Status(), frames.StatusAnswer) == STATUS
        assert [frame.seq for frame in wire.sent] == [0xFFFE, 0xFFFF, 0]

    on_link(play, first_seq=0xFFFE)


def test_window_1_two_askers_are_never_on_the_wire_together() -> None:
    async def play(link: VbpLink, wire: Wire) -> None:
        open_now: list[int] = []

        def answered(frame: frames.Frame) -> None:
            open_now.remove(frame.seq)
            wire.says(frames.encode(STATUS, frame.seq))

        def slow(frame: frames.Frame) -> None:
            open_now.append(frame.seq)
            assert len(open_now) == 1
            asyncio.get_running_loop().call_later(0.1, answered, frame)

        wire.on_frame = slow
        answers = await asyncio.gather(
            *(link.ask(frames.Status(), frames.StatusAnswer) for _ in range(5))
        )
        assert answers == [STATUS] * 5
        assert len(wire.sent) == 5

    on_link(play)
