"""The daemon's books, for people: verdicts, cancels, undone tests, outbox, the journal's upkeep.

Implements service.books.Books; `operations` is made of it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import IO, Any

from controller.dispensing.dispenser import Dispenser
from controller.dispensing.interfaces import Cancellation, Clock, LaneState
from controller.errors import JournalDamaged
from controller.journal.journal import Journal
from controller.model import OrderKey, Outcome, UnitRef
from controller.service import shapes
from controller.uplink.link import NO_SUBSCRIBERS
from controller.uplink.uplink import Uplink

CHUNK_BYTES = 96 * 1024
"""Of a backup, in one step: as base64 with its frame it is half of what vendctl takes as a
line, and reading it takes a slow card some 5 ms."""


class Books(ABC):
    _dispenser: Dispenser
    _journal: Journal
    _clock: Clock
    _uplink: Callable[[], Uplink]
    """Made after this, for it answers requests from here."""

    @abstractmethod
    def _lane(self, state: LaneState) -> shapes.LaneView:
        """A lane as people see it."""

    # ------------------------------------------------------------------ orders and stock

    async def resolve(
        self,
        order_id: int,
        delivery_id: str,
        unit: int,
        outcome: str,
        revision: int,
        reason: str,
        who: str,
    ) -> Mapping[str, Any]:
        ref = UnitRef(OrderKey(order_id, delivery_id), unit)
        order, lane = await self._journal.resolve(ref, Outcome(outcome), revision, reason, who)
        await self._dispenser.floor.refresh()
        return {"order": order, "unit": unit, "lane": self._lane(lane)}

    async def order_cancel(
        self, order_id: int, delivery_id: str, reason: str, who: str
    ) -> Mapping[str, Any]:
        asked = Cancellation(
            OrderKey(order_id, delivery_id), "", int(self._clock.wall()), who, reason
        )
        code = await self._dispenser.cancel(asked)
        (order,) = await self._journal.order(order_id, delivery_id)
        return {"code": code.value, "order": order}

    async def stock_undo_test(self, channel: str | None, who: str) -> Mapping[str, Any]:
        items = await self._journal.undo_tests(channel, who)
        floor = self._dispenser.floor
        await floor.refresh()
        lanes = [self._lane(floor.lanes[name]) for name in items if name in floor.lanes]
        return {"put_back": dict(items), "lanes": lanes}

    # ------------------------------------------------------------------ outbox

    async def outbox(self) -> Mapping[str, Any]:
        answer: shapes.OutboxView = {
            "connected": self._uplink().session.connected,
            "topics": [self._topic(row) for row in await self._journal.backlog()],
        }
        return answer

    def _topic(self, row: Mapping[str, Any]) -> shapes.TopicView:
        uplink = self._uplink()
        session = uplink.session
        pump = next(pump for pump in uplink.pumps if pump.topic == row["topic"])
        why, detail, retry_at = "sending", "", None
        if not row["count"]:
            why = ""
        elif not session.connected:
            why, detail, retry_at = "not_connected", session.last_error, session.retry_at
        elif pump.stuck is not None:
            why, retry_at = "refused", pump.retry_at
            detail = f"0x{pump.stuck:02x}: " + (
                "nobody subscribes to it"
                if pump.stuck == NO_SUBSCRIBERS
                else "see the broker's ACL"
            )
        now = self._clock.monotonic()
        return {
            "topic": row["topic"],
            "count": row["count"],
            "oldest_seq": row["oldest_seq"],
            "oldest_at": row["oldest_at"],
            "why": why,  # type: ignore[typeddict-item]
            "detail": detail,
            "next_try_s": None if retry_at is None else round(max(0.0, retry_at - now), 1),
        }

    # ------------------------------------------------------------------ the journal's upkeep

    async def journal_check(self, who: str) -> AsyncGenerator[Mapping[str, Any], None]:
        try:
            async for place in self._journal.checked_for(who):
                yield {
                    "event": "checked",
                    "table": place.table,
                    "table_no": place.table_no,
                    "tables": place.tables,
                    "rows": place.rows,
                }
        except JournalDamaged as damage:
            yield {"event": "damaged", "message": str(damage)}
            return
        yield {"event": "finished"}

    async def journal_backup(self, who: str) -> AsyncGenerator[Mapping[str, Any], None]:
        file = await self._journal.copy(who)
        try:
            total = (await asyncio.to_thread(file.seek, 0, 2)) or 0
            await asyncio.to_thread(file.seek, 0)
            digest, sent = hashlib.sha256(), 0
            while chunk := await _read(file):
                digest.update(chunk)
                sent += len(chunk)
                data = base64.b64encode(chunk).decode("ascii")
                yield {"event": "chunk", "data": data, "sent": sent, "of": total}
        finally:
            file.close()
        yield {
            "event": "finished",
            "bytes": sent,
            "sha256": digest.hexdigest(),
            "birth": self._journal.birth,
        }

    async def journal_would_prune(self) -> Mapping[str, Any]:
        rows = await self._journal.would_prune()
        return {"retention_days": self._journal.retention_days, "rows": rows}

    async def journal_prune(self, who: str) -> AsyncGenerator[Mapping[str, Any], None]:
        gone: dict[str, int] = {}
        async for kind, removed in self._journal.pruned_for(who):
            gone[kind] = gone.get(kind, 0) + removed
            yield {"event": "pruned", "kind": kind, "rows": gone[kind]}
        yield {"event": "finished", "gone": gone}


async def _read(file: IO[bytes]) -> bytes:
    return await asyncio.to_thread(file.read, CHUNK_BYTES)
