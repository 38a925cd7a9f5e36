"""The delivery policy, complete:

One pump per topic. The oldest unsent row goes first and alone; the next one leaves only
after the broker acknowledged it with success, and for `result` and `order` not with
*nobody subscribed* either. A row that is refused stays the oldest and is tried again more
and more slowly, holding back its own topic only; a new connection tries it at once.
Nothing is published while disconnected, nor before our own retained state was read. A row
is marked as sent after its PUBACK, never before: a crash between the two sends it again,
which consumers recognise (P9).
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from controller.dispensing.interfaces import Clock, Outbox, OutboxRow
from controller.errors import JournalError
from controller.model import OrderKey
from controller.uplink.link import PublishResult
from controller.uplink.logs import say
from controller.uplink.session import Session

MARKED_AT_ONCE = 20
"""Rows that one journal transaction marks as sent; a crash sends at most so many again."""

UNMARKED_RETRY_S = 5.0
"""Between attempts to mark rows in a journal that cannot be written."""

Acceptance = Callable[[PublishResult], bool]

TOPICS: Mapping[str, Acceptance] = MappingProxyType(
    {
        "result": lambda result: result.heard,
        "order": lambda result: result.heard,
        "event": lambda result: result.accepted,
    }
)
"""What counts as success per topic."""


@dataclass(slots=True)
class Pump:
    """Moves the rows of one topic. `stuck` is the reason code that holds it, for the doctor."""

    topic: str
    session: Session
    outbox: Outbox
    clock: Clock
    stuck: int | None = None
    retry_at: float | None = None
    """Monotonic: when a row that was refused or unheard is tried again at the latest."""
    counters: Counter[str] = field(default_factory=Counter)
    _unmarked: dict[int, OutboxRow] = field(default_factory=dict)
    """Acknowledged by the broker, and not yet marked: the journal could not be written."""

    async def run(self) -> None:
        """For ever; ends by cancellation."""
        pace = self.session.pace
        pause = pace.refused_first_s
        while True:
            connection = await self.session.ready()
            rows = await self._unsent_rows()
            refusal = await self._publish_in_order(rows)
            await self._mark()
            if refusal is None:
                pause = pace.refused_first_s
                continue
            if refusal.reason_code is None:
                # The connection ended, or its end is about to be told.
                await self._next_connection(connection, pace.refused_first_s)
                continue
            say(
                logging.ERROR,
                "publish_refused",
                topic=self.topic,
                reason_code=f"0x{refusal.reason_code:02x}",
                retry_s=pause,
                remedy="check the broker's ACL, and whether the platform subscribes",
            )
            await self._next_connection(connection, pause)
            pause = min(pace.refused_longest_s, pause * 2)

    async def _unsent_rows(self) -> list[OutboxRow]:
        """At least one row, the oldest first; waits for it."""
        signal = self.outbox.signal(self.topic)
        while True:
            signal.clear()
            try:
                rows = await self.outbox.oldest(self.topic, MARKED_AT_ONCE + len(self._unmarked))
            except JournalError:
                await self.clock.sleep(UNMARKED_RETRY_S)
                continue
            unsent = [row for row in rows if row.row not in self._unmarked]
            if unsent:
                return unsent
            if not self._unmarked:
                await signal.wait()
            else:
                await self._wait_a_while(signal.wait(), UNMARKED_RETRY_S)
                await self._mark()

    async def _publish_in_order(self, rows: list[OutboxRow]) -> PublishResult | None:
        """None when all of them are with the broker, else what it said to the first that is not."""
        root = self.session.settings.root
        for row in rows:
            result = await self.session.publish(f"{root}/{row.topic}", row.payload)
            if not TOPICS[self.topic](result):
                self.stuck = result.reason_code
                self.counters["refused"] += result.reason_code is not None
                return result
            self.stuck = None
            self.counters["sent"] += 1
            self._unmarked[row.row] = row
            say(logging.INFO, "published", topic=self.topic, **_named(row))
        return None

    async def _mark(self) -> None:
        if not self._unmarked:
            return
        try:
            await self.outbox.sent(list(self._unmarked.values()))
        except JournalError as error:
            say(logging.WARNING, "sent_rows_not_marked", topic=self.topic, why=str(error))
        else:
            self._unmarked.clear()

    async def _next_connection(self, than: int, longest_s: float) -> None:
        self.retry_at = self.clock.monotonic() + longest_s
        await self._wait_a_while(self.session.ready(other_than=than), longest_s)
        self.retry_at = None

    async def _wait_a_while(self, something: Awaitable[object], longest_s: float) -> None:
        try:
            async with self.clock.timeout(longest_s):
                await something
        except TimeoutError:
            pass


def _named(row: OutboxRow) -> dict[str, Any]:
    """What makes an order's way out findable by its id in the log; the row is told as it is."""
    try:
        body = json.loads(row.payload)
    except ValueError:
        return {}
    named = {name: body[name] for name in ("kind", "status", "seq", "event_seq") if name in body}
    if "order_id" not in body:
        return named
    order = str(OrderKey(body["order_id"], body.get("delivery_id", "")))
    return {"order": f"{order}#{body['unit']}" if "unit" in body else order, **named}


def pumps(session: Session, outbox: Outbox, clock: Clock) -> tuple[Pump, ...]:
    """One for each topic class that is never dropped, and one for events."""
    return tuple(Pump(topic, session, outbox, clock) for topic in TOPICS)
