"""What a light eye did over a stretch of time, read often enough to see an item pass.

Boards count pulses and tell how long the eye is blocked by now; none tells how long a
pulse lasted. So its begin is the board's word (now less `blocked_ms`), and its end lies
between the last look at which it was dark and the next: a width is right to half the time
between two looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from controller.dispensing.interfaces import Board, Clock, EyeReading
from controller.errors import BoardError

LOOK_S = 0.02
"""Between two looks. An item of 10 to 25 cm that falls at some 3 m/s darkens the eye for 30 to
80 ms; a look takes 3.3 ms of a 115200 baud line, so a sixth of it is taken."""

LINK_GONE_S = 0.5
"""Before the next look after one that failed: the link needs as long to be opened again."""

MOST = 200
"""Pulses and changes that are kept of one stretch: an eye that flutters fills no memory."""

COUNTED_MODULO = 1 << 32
JUMP = 1_000
"""More pulses than this between two looks are no pulses: the board restarted and counts anew."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """Milliseconds since the stretch began. `width_ms` None: shorter than two looks."""

    at_ms: int
    width_ms: int | None


@dataclass(slots=True)
class EyeTrace:
    """`began` is monotonic. Moments are kept as milliseconds since then."""

    began: float
    changes: list[tuple[int, bool]] = field(default_factory=list)
    """[moment, dark?] of each change of level; the first is the level that was found."""
    pulses: list[Pulse] = field(default_factory=list)
    counted: int = 0
    """Pulses by the board's own counter, whether a look saw them or not."""
    over: float = 0.0
    """Monotonic; the newest moment that is known."""
    _last: EyeReading | None = None
    _linked: bool = False
    """The newest look was answered: what lies between it and the next is known."""
    _dark_since: int = 0

    @property
    def level(self) -> str:
        """The newest: clear, blocked, faulty, absent; unverified before the first look."""
        return "unverified" if self._last is None else level_of(self._last)

    @property
    def over_ms(self) -> int:
        return self._ms(max(self.over, self.began))

    @property
    def blocked_ms(self) -> int:
        return 0 if self._last is None else self._last.blocked_ms

    def take(self, now: float, reading: EyeReading) -> list[Pulse]:
        """A look's answer, and the moment at which it came; the pulses that ended since the last.

        Two looks that both see a clear eye while the counter went on had a pulse between them.
        """
        last, before, linked = self._last, self.over, self._linked
        self._last, self.over, self._linked = reading, now, True
        begun = max(now - reading.blocked_ms / 1000, before if linked else self.began)
        more = 0 if last is None else (reading.pulses - last.pulses) % COUNTED_MODULO
        more = 0 if more > JUMP else more
        self.counted += more
        ended: list[Pulse] = []
        if last is not None and linked:
            between = (before + now) / 2
            if last.blocked and (more or not reading.blocked):
                self._turn(min(between, begun) if reading.blocked else between, dark=False)
                ended.append(Pulse(self._dark_since, self.changes[-1][0] - self._dark_since))
            for _ in range(min(more - reading.blocked, MOST)):
                self._turn(between, dark=True)
                self._turn(between, dark=False)
                ended.append(Pulse(self._ms(between), None))
        self._turn(begun if reading.blocked else now, dark=reading.blocked)
        self.pulses += ended[: max(0, MOST - len(self.pulses))]
        return ended

    def hear(self, now: float, *, dark: bool) -> None:
        """The board told a level by itself."""
        self.over = now
        self._turn(now, dark=dark)

    def lost(self) -> None:
        """Nobody looks for a while: what happens until the next look is only counted."""
        self._linked = False

    def _turn(self, at: float, *, dark: bool) -> None:
        if self.changes and self.changes[-1][1] is dark:
            return
        moment = self._ms(at)
        if dark:
            self._dark_since = moment
        self.changes.append((moment, dark))
        if len(self.changes) > 2 * MOST:
            del self.changes[1:3]  # the oldest pulse goes; the newest is what people look for

    def _ms(self, at: float) -> int:
        return round((at - self.began) * 1000)


def level_of(reading: EyeReading) -> str:
    """What cannot be trusted outranks what it says."""
    if reading.absent:
        return "absent"
    if reading.faulty:
        return "faulty"
    return "blocked" if reading.blocked else "clear"


async def look(board: Board, clock: Clock, trace: EyeTrace) -> list[Pulse] | None:
    """One look; None: the link is gone."""
    try:
        reading = await board.read_eye()
    except BoardError:
        trace.lost()
        return None
    return trace.take(clock.monotonic(), reading)


async def _watch(board: Board, clock: Clock, trace: EyeTrace) -> None:
    while True:
        found = await asyncio.shield(look(board, clock, trace))  # a question gets its answer
        await clock.sleep(LOOK_S if found is not None else LINK_GONE_S)


@asynccontextmanager
async def watched(board: Board, clock: Clock, trace: EyeTrace | None) -> AsyncIterator[None]:
    """The eye is looked at for as long as the block takes; not at all without a trace."""
    if trace is None or not board.capabilities.reads_eye:
        yield
        return
    watching = asyncio.create_task(_watch(board, clock, trace), name=f"eye of {board.name}")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
