"""Turn taking on an XY line: we are the slave, and speak only when the board lets us.

Three exchanges exist: POLL is answered with ACK; POLL is answered with one
command, which the board acknowledges; a data frame of the board is answered with
ACK. Everything here is synchronous, inside the callback that brings the bytes:
an answer leaves within a millisecond of the POLL, or, when the loop was late and
nobody can say how old the POLL is, not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from controller.boards.base import LinkCounters
from controller.boards.port import Line, Port
from controller.boards.xy.frames import (
    ACK,
    MAX_SENDS,
    Command,
    Decoder,
    Frame,
    encode_frame,
)
from controller.errors import BoardOffline
from controller.model import Reason

HEARTBEAT_S = 0.04
FRESH_S = 0.08
"""The loop's heartbeat is at most this old, or a POLL may be older than the 100 ms in which
an answer may start: then it is not answered. A loop in time beats every 40 ms, so an
answer leaves at most 80 ms after the POLL, and within a millisecond when nothing else ran."""
INTER_BYTE_S = 0.1
"""The protocol's page: a half frame is dropped after 100 ms of silence."""
QUEUE_LIMIT = 8
"""One drive, one synchronisation and a few questions; more is a mistake of ours."""
RESEND_WINDOW_S = 1.0
"""The protocol's page: a drive is repeated within 1 s or not at all."""


class Rank(IntEnum):
    """Who speaks first at the next POLL."""

    SYNC = 0
    GREETING = 1
    DRIVE = 2
    QUESTION = 3


@dataclass(slots=True)
class Outgoing:
    """A command that waits for a POLL, then for its ACK.

    Exactly one of `written` and `dropped` is called first; after `written` comes
    at most one of `acked` and `unacknowledged`.
    """

    rank: Rank
    frame: bytes
    resends: int = 0
    deadline: float = float("inf")
    """Monotonic: not written later (P4)."""
    written: Callable[[], None] = lambda: None
    acked: Callable[[bytes], None] = lambda _frame: None
    unacknowledged: Callable[[], None] = lambda: None
    dropped: Callable[[Reason], None] = lambda _reason: None
    sends: int = 0
    first_sent: float = 0.0


@dataclass(slots=True)
class Listener:
    """Who hears what comes in."""

    alive: Callable[[bool], None]
    """After every valid frame; True for a POLL."""
    data: Callable[[Frame, bytes], None]
    """A data frame that is no duplicate; it is acknowledged already."""
    lost: Callable[[str], None]


@dataclass(slots=True)
class LineCounters:
    """Beside those that every link has."""

    polls: int = 0
    late: int = 0
    """POLLs and data frames that were not answered, because the loop was late."""
    acks_in: int = 0
    acks_out: int = 0
    garbled: int = 0
    """Bytes that belonged to no sound frame."""


@dataclass(slots=True)
class _State:
    queue: list[Outgoing] = field(default_factory=list)
    waiting: Outgoing | None = None
    """Sent, and its ACK has not come."""


class SlaveLine:
    """One open line; a new one is made for the next open."""

    def __init__(
        self,
        counters: LinkCounters,
        line_counters: LineCounters,
        hears: Listener,
        last_data: Frame | None = None,
    ) -> None:
        """`last_data`: the newest data frame that an earlier line or process heard; the board
        repeats it where our ACK was lost."""
        self._counters = counters
        self._own = line_counters
        self._hears = hears
        self.last_data = last_data
        """The newest data frame: the same again is a repeat of it."""
        self._decoder = Decoder()
        self._line: Line | None = None
        self._beat_at = float("-inf")
        self._beat: asyncio.TimerHandle | None = None
        self._half: asyncio.TimerHandle | None = None
        self._state = _State()
        self._closed = False

    async def open(self, port: Port) -> None:
        """Raises BoardOffline."""
        self._line = await port.open(self._receive, self._lost)
        self._heartbeat()

    def close(self) -> None:
        """No further word is said; what waits is dropped as BOARD_OFFLINE."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._beat, self._half):
            if timer is not None:
                timer.cancel()
        if self._line is not None:
            self._line.abort()
        self.drop_all()

    def say(self, outgoing: Outgoing) -> bool:
        """Queue a command for the next POLL; False when the queue is full or the line closed."""
        queue = self._state.queue
        if self._closed or len(queue) >= QUEUE_LIMIT:
            return False
        queue.append(outgoing)
        queue.sort(key=lambda entry: entry.rank)
        return True

    def withdraw(self, outgoing: Outgoing) -> bool:
        """Take back a command; False when it was written (or dropped) already. Either way no
        further byte of it leaves."""
        outgoing.resends = 0
        kept = [entry for entry in self._state.queue if entry is not outgoing]
        withdrawn = len(kept) < len(self._state.queue)
        self._state.queue = kept
        return withdrawn

    def drop_all(self) -> None:
        """Nothing that waits will be said: the board restarted, or is gone."""
        queue, self._state.queue = self._state.queue, []
        waiting, self._state.waiting = self._state.waiting, None
        for entry in queue:
            entry.dropped(Reason.BOARD_OFFLINE)
        if waiting is not None:
            waiting.unacknowledged()

    def drop_expired(self) -> None:
        """What outlived its deadline is dropped, also where no POLL comes to say it at (P4)."""
        now = asyncio.get_running_loop().time()
        queue = self._state.queue
        expired = [entry for entry in queue if now >= entry.deadline]
        self._state.queue = [entry for entry in queue if now < entry.deadline]
        for entry in expired:
            entry.dropped(Reason.EXPIRED)

    # ------------------------------------------------------------------ time

    def _heartbeat(self) -> None:
        loop = asyncio.get_running_loop()
        self._beat_at = loop.time()
        if not self._closed:
            self._beat = loop.call_later(HEARTBEAT_S, self._heartbeat)

    def _in_time(self) -> bool:
        return asyncio.get_running_loop().time() - self._beat_at <= FRESH_S

    # ------------------------------------------------------------------ from the line

    def _lost(self, why: str) -> None:
        self.close()
        self._hears.lost(why)

    def _receive(self, data: bytes) -> None:
        if self._closed:
            return
        in_time = self._in_time()
        frames = self._decoder.feed(data)
        if self._half is not None:
            self._half.cancel()
            self._half = None
        if self._decoder.partial:
            loop = asyncio.get_running_loop()
            self._half = loop.call_later(INTER_BYTE_S, self._drop_half)
        self._take_all(frames, in_time=in_time)

    def _drop_half(self) -> None:
        self._half = None
        self._take_all(self._decoder.drop_partial(), in_time=False)

    def _take_all(self, frames: list[Frame], *, in_time: bool) -> None:
        """Of several frames only the last may still wait for an answer: the board has gone on."""
        self._counters.frames_bad += self._decoder.frames_bad
        self._own.garbled += self._decoder.bytes_dropped
        self._decoder.frames_bad = self._decoder.bytes_dropped = 0
        for position, frame in enumerate(frames, start=1):
            if self._closed:
                return
            self._counters.frames_in += 1
            self._take(frame, answer=in_time and position == len(frames))

    def _take(self, frame: Frame, *, answer: bool) -> None:
        if frame.command != Command.ACK and not answer:
            self._own.late += 1
        if frame.command == Command.POLL:
            self._own.polls += 1
            self._hears.alive(True)  # noqa: FBT003  is it a POLL
            self._answer_poll(answer=answer)
            return
        if frame.command == Command.ACK:
            self._acked(frame)
            self._hears.alive(False)  # noqa: FBT003
            return
        if answer:
            self._write_ack()
        if frame == self.last_data and frame.command != Command.SYNC:
            self._counters.duplicates += 1
            self._hears.alive(False)  # noqa: FBT003
            return
        self.last_data = frame
        self._hears.alive(False)  # noqa: FBT003
        self._hears.data(frame, encode_frame(frame) if frame.pack_no else b"")

    def _acked(self, frame: Frame) -> None:
        self._own.acks_in += 1
        waiting, self._state.waiting = self._state.waiting, None
        if waiting is None:
            self._counters.stray += 1
            return
        if waiting.sends == 1:
            self._counters.timed(asyncio.get_running_loop().time() - waiting.first_sent)
        waiting.acked(encode_frame(frame) if frame.pack_no != 0 else b"")

    # ------------------------------------------------------------------ our turn

    def _answer_poll(self, *, answer: bool) -> None:
        now = asyncio.get_running_loop().time()
        waiting = self._state.waiting
        if waiting is not None and not self._may_resend(waiting, now):
            self._state.waiting = None
            self._counters.unanswered += 1
            waiting.unacknowledged()
            waiting = None
        self.drop_expired()
        if not answer:
            return
        if waiting is not None:
            self._counters.resends += 1
            self._send(waiting, now)
        elif self._state.queue:
            self._send(self._state.queue.pop(0), now)
        else:
            self._write_ack()

    @staticmethod
    def _may_resend(waiting: Outgoing, now: float) -> bool:
        in_time = waiting.rank is not Rank.DRIVE or (
            now < waiting.deadline and now - waiting.first_sent <= RESEND_WINDOW_S
        )
        return in_time and waiting.sends <= waiting.resends and waiting.sends < MAX_SENDS

    def _send(self, entry: Outgoing, now: float) -> None:
        """One frame in this window; the same bytes at every send."""
        first = entry.sends == 0
        try:
            self._write(entry.frame)
        except BoardOffline:
            if first:
                entry.dropped(Reason.BOARD_OFFLINE)
            return
        entry.sends += 1
        self._state.waiting = entry
        if first:
            entry.first_sent = now
            entry.written()

    def _write_ack(self) -> None:
        try:
            self._write(encode_frame(ACK))
        except BoardOffline:
            return  # the loss is reported by the line itself
        self._own.acks_out += 1

    def _write(self, frame: bytes) -> None:
        if self._line is None:
            raise BoardOffline("the line is not open")
        self._line.write(frame)
        self._counters.frames_out += 1
