"""One open line to a VBP board: a request, its answer, never two at once.

Window 1: the next request waits until the last one was answered. No answer in
200 ms: the same bytes again, three sends in all, then the link is down. A frame
is never sent again in any other form; the board answers a byte-identical
request from its memory and executes nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from controller import prose
from controller.boards.base import LinkCounters
from controller.boards.port import Line, Port
from controller.boards.vbp.frames import (
    ANSWER_BIT,
    Decoder,
    ErrorAnswer,
    ErrorCode,
    Event,
    Frame,
    Payload,
    encode,
    parse,
)
from controller.dispensing.interfaces import Clock
from controller.errors import BoardOffline, BoardRefused, FrameError

ANSWER_TIMEOUT_S = 0.2
"""The protocol's page: no answer in 200 ms, the same bytes again."""
MAX_SENDS = 3
"""The protocol's page: at most 3 sends in all, then the link is down."""
SEQUENCES = 0x10000

AnswerT = TypeVar("AnswerT", bound=Payload)


class NotServed(BoardRefused):
    """The board answered E0: nothing was executed. `code` is an ErrorCode."""

    def __init__(self, request: Payload, code: int) -> None:
        name = ErrorCode(code).name.lower() if code in set(ErrorCode) else str(code)
        super().__init__(f"the board does not serve {type(request).__name__}: {name}")
        self.code = code


@dataclass(slots=True)
class Exchange:
    """A request on its way. `frame` is what is sent, each time the same bytes."""

    request: Payload
    seq: int
    frame: bytes
    sends: int = 0
    sent_at: float = 0.0
    answer: Payload | None = None
    answer_frame: bytes = b""
    over: asyncio.Event = field(default_factory=asyncio.Event)


class VbpLink:
    """Lives from one open to the loss of the line; a new one is made for the next."""

    def __init__(
        self,
        clock: Clock,
        counters: LinkCounters,
        on_event: Callable[[Event], None],
        first_seq: int | None = None,
    ) -> None:
        """`first_seq` None: random, so that no answer to an earlier host fits."""
        self.down_because = ""
        """Why the link is down; empty while it is usable."""
        self.down = asyncio.Event()
        self._clock = clock
        self._counters = counters
        self._on_event = on_event
        self._seq = secrets.randbelow(SEQUENCES) if first_seq is None else first_seq
        self._decoder = Decoder()
        self._window = asyncio.Lock()
        self._current: Exchange | None = None
        self._line: Line | None = None

    async def open(self, port: Port) -> None:
        """Raises BoardOffline."""
        self._line = await port.open(self._receive, self.end)

    def end(self, why: str) -> None:
        """The link is down, whoever found out; the line is closed. The first cause stays."""
        if self.down_because:
            return
        self.down_because = why
        if self._line is not None:
            self._line.abort()
        self.down.set()
        if self._current is not None:
            self._current.over.set()

    async def ask(self, request: Payload, answer: type[AnswerT]) -> AnswerT:
        """Raises BoardOffline when the link is or goes down, NotServed when the board says E0."""
        async with self.turn(request) as exchange:
            self.send(exchange)
            return await self.answer(exchange, answer)

    @asynccontextmanager
    async def turn(self, request: Payload) -> AsyncIterator[Exchange]:
        """The window, for one request that is not sent yet."""
        async with self._window:
            exchange = Exchange(request, self._seq, encode(request, self._seq))
            self._seq = (self._seq + 1) % SEQUENCES
            self._current = exchange
            try:
                yield exchange
            finally:
                self._current = None

    def send(self, exchange: Exchange) -> None:
        """Write the frame once. Raises BoardOffline, and then no byte of it left."""
        if self.down_because or self._line is None:
            raise BoardOffline(self.down_because or "the link is not open")
        self._line.write(exchange.frame)
        exchange.sends += 1
        exchange.sent_at = self._clock.monotonic()
        self._counters.frames_out += 1

    async def answer(self, exchange: Exchange, answer: type[AnswerT]) -> AnswerT:
        """Wait for the answer to a sent exchange; the resends happen here."""
        while not exchange.over.is_set():
            try:
                async with self._clock.timeout(ANSWER_TIMEOUT_S):
                    await exchange.over.wait()
            except TimeoutError:
                if exchange.over.is_set():
                    break  # the answer came together with the end of its time
                if exchange.sends >= MAX_SENDS:
                    self._counters.unanswered += 1
                    name = type(exchange.request).__name__
                    self.end(prose.NO_ANSWER.format(sends=MAX_SENDS, request=name))
                else:
                    self._counters.resends += 1
                    self.send(exchange)
        found = exchange.answer
        if isinstance(found, ErrorAnswer):
            raise NotServed(exchange.request, found.code)
        if not isinstance(found, answer):
            raise BoardOffline(self.down_because or "the link is down")
        return found

    # ------------------------------------------------------------------ from the line

    def _receive(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            self._counters.frames_in += 1
            self._take(frame)
        self._counters.frames_bad += self._decoder.frames_bad
        self._decoder.frames_bad = 0

    def _take(self, frame: Frame) -> None:
        try:
            payload = parse(frame)
        except FrameError:
            self._counters.frames_bad += 1
            return
        if isinstance(payload, Event):
            self._on_event(payload)
            return
        exchange = self._current
        if exchange is None or exchange.sends == 0 or exchange.over.is_set():
            self._counters.stray += 1
            return
        fits = payload.TYPE in (exchange.request.TYPE | ANSWER_BIT, ErrorAnswer.TYPE)
        if frame.seq != exchange.seq or not fits:
            self._counters.stray += 1
            return
        exchange.answer = payload
        exchange.answer_frame = encode(payload, frame.seq)
        exchange.over.set()
        if exchange.sends == 1:
            self._counters.timed(self._clock.monotonic() - exchange.sent_at)
