"""Whether a late drop is in the record already: one item must not be counted twice.

A late drop is told as an event and changes the kept record too. A record that is read
after it has the item; one that was read before has not. The wire's order tells which,
but for events that waited for a link: those come within two repeats of the HELLO.
"""

from __future__ import annotations

from collections import OrderedDict

from controller.boards.base import remember

PENDING_TOLD_S = 1.0
"""An event is repeated every 500 ms: what was pending at the HELLO has been told by then."""


class LateDrops:
    def __init__(self) -> None:
        self._heard: OrderedDict[int, None] = OrderedDict()
        """Cycles of which a late drop was told."""
        self._fell: OrderedDict[int, None] = OrderedDict()
        """Cycles whose record was read in this session, with a drop in it."""
        self._in_record: OrderedDict[int, None] = OrderedDict()
        self._young_until = 0.0

    def session_begins(self, now: float) -> None:
        self._fell.clear()
        self._young_until = now + PENDING_TOLD_S

    def heard(self, cycle_id: int, now: float) -> None:
        """The event came in, for the first time or again."""
        first = cycle_id not in self._heard
        remember(self._heard, cycle_id)
        if first and now < self._young_until and cycle_id in self._fell:
            remember(self._in_record, cycle_id)

    def read(self, cycle_id: int, drops: int) -> None:
        """A record was read, with so many drops in it."""
        if not drops:
            return
        remember(self._fell, cycle_id)
        if cycle_id in self._heard:
            remember(self._in_record, cycle_id)

    def in_record(self, cycle_id: int) -> bool:
        return cycle_id in self._in_record
