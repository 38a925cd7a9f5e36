"""The one cycle that statuses of an XY board may belong to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from controller.boards.xy.frames import DispensingStatus
from controller.boards.xy.outcomes import FF_WAIT_S, Heard, Reading, close_with_error, hear
from controller.dispensing.interfaces import CycleEvent, Ended, LineLost, NotWritten, Restarted

EVENTS_LIMIT = 100
"""Events that wait for their reader; a storm of statuses keeps only the last word."""

TERMINAL = (NotWritten, Restarted, Ended)


@dataclass(slots=True)
class Cycle:
    """The open cycle, or the last one: it goes on listening when its stream was closed, so that
    a `recall` misses nothing that was said in between."""

    cycle_id: int
    reading: Reading
    heard: Heard
    written: bool = False
    garbled: int = 0
    """Of the line's counter, when its frame left."""
    final: CycleEvent | None = None
    readers: int = 0
    """Streams that follow it now."""
    _events: deque[CycleEvent] = field(default_factory=deque)
    _stirred: asyncio.Event = field(default_factory=asyncio.Event)
    _ff_timer: asyncio.TimerHandle | None = None

    @property
    def listening(self) -> bool:
        """A status may belong to it: its drive frame left, and it had no last word."""
        return self.written and self.final is None

    def tell(self, event: CycleEvent) -> None:
        """Nothing counts after the last word."""
        if self.final is not None:
            return
        if isinstance(event, TERMINAL):
            self.final = event
            if self._ff_timer is not None:
                self._ff_timer.cancel()
        if len(self._events) < EVENTS_LIMIT or self.final is not None:
            self._events.append(event)
            self._stirred.set()

    def line_lost(self) -> None:
        """The board tells a status five times and then never again: some may be lost for good."""
        if self.written:
            self.heard = replace(self.heard, gap=True)
        self.tell(LineLost())

    def hear(self, status: DispensingStatus, raw: bytes, garbled: int) -> None:
        """`garbled`: the line's counter now. What was garbled may have been each repeat of a 01."""
        if garbled > self.garbled:
            self.heard = replace(self.heard, gap=True)
        self.heard, event = hear(self.heard, status, self.reading, raw)
        if event is not None:
            self.tell(event)
        if self.heard.error is not None and self.final is None and self._ff_timer is None:
            loop = asyncio.get_running_loop()
            self._ff_timer = loop.call_later(FF_WAIT_S, self._no_ff_came)

    def was_its_last_word(self, status: DispensingStatus) -> bool:
        """A board that repeats how a cycle ended says nothing new."""
        final = self.final
        if not isinstance(final, Ended):
            return False
        said = f"{status.status:02X}"
        return said in (final.finding.raw.get("status"), final.finding.raw.get("then"))

    async def events(self) -> AsyncGenerator[CycleEvent, None]:
        """What is learned, up to the last word; of a cycle that has it, at least that."""
        if self.final is not None and self.final not in self._events:
            self._events.append(self.final)
        self.readers += 1
        try:
            while True:
                while self._events:
                    event = self._events.popleft()
                    yield event
                    if isinstance(event, TERMINAL):
                        return
                self._stirred.clear()
                await self._stirred.wait()
        finally:
            self.readers -= 1

    def _no_ff_came(self) -> None:
        self.heard, event = close_with_error(self.heard, self.reading)
        if event is not None:
            self.tell(event)
