"""The books of the machine in memory: orders acted on, undone tests, outbox, journal."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from controller.errors import Refused

COPY = bytes(range(256)) * 700
"""What a backup holds: longer than one chunk, and no text."""


class MemoryBooks:
    """Part of MemoryMachine, which has these."""

    answers: dict[str, Any]
    acts: list[tuple[Any, ...]]
    lane_views: dict[str, dict[str, Any]]
    damaged = False
    torn = False
    """The backup's last chunk never comes."""

    async def outbox(self) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self.answers["outbox"]
        return answer

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
        self.acts.append(("resolve", order_id, delivery_id, unit, outcome, revision, reason, who))
        order = self.answers["order"]["orders"][0]
        return {"order": order, "unit": unit, "lane": self.lane_views["A20"]}

    async def order_cancel(
        self, order_id: int, delivery_id: str, reason: str, who: str
    ) -> Mapping[str, Any]:
        self.acts.append(("order_cancel", order_id, delivery_id, reason, who))
        return {"code": "ok", "order": self.answers["order"]["orders"][0]}

    async def stock_undo_test(self, channel: str | None, who: str) -> Mapping[str, Any]:
        if channel == "A1":
            raise Refused("nothing_to_undo", f"no test vend of {who} dropped anything")
        self.acts.append(("stock_undo_test", channel, who))
        return {"put_back": {"A20": 2}, "lanes": [self.lane_views["A20"]]}

    async def journal_check(self, who: str) -> AsyncGenerator[Mapping[str, Any], None]:
        self.acts.append(("journal_check", who))
        for number, table in enumerate(("orders", "events"), start=1):
            yield {"event": "checked", "table": table, "table_no": number, "tables": 2, "rows": 300}
        if self.damaged:
            yield {"event": "damaged", "message": "index orders_trade has lost a row"}
            return
        yield {"event": "finished"}

    async def journal_backup(self, who: str) -> AsyncGenerator[Mapping[str, Any], None]:
        self.acts.append(("journal_backup", who))
        half = len(COPY) // 2
        for at in (0,) if self.torn else (0, half):
            data = base64.b64encode(COPY[at : at + half]).decode()
            yield {"event": "chunk", "data": data, "sent": at + half, "of": len(COPY)}
        digest = hashlib.sha256(COPY).hexdigest()
        yield {"event": "finished", "bytes": len(COPY), "sha256": digest, "birth": 1_763_800_000}

    async def journal_would_prune(self) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self.answers["would_prune"]
        return answer

    async def journal_prune(self, who: str) -> AsyncGenerator[Mapping[str, Any], None]:
        self.acts.append(("journal_prune", who))
        yield {"event": "pruned", "kind": "orders", "rows": 20}
        yield {"event": "pruned", "kind": "orders", "rows": 31}
        yield {"event": "finished", "gone": {"orders": 31}}


BOOK_ANSWERS: Mapping[str, Any] = {
    "outbox": {
        "connected": True,
        "topics": [
            {
                "topic": "result",
                "count": 3,
                "oldest_seq": 4711,
                "oldest_at": 1_790_000_000.5,
                "why": "refused",
                "detail": "0x10: nobody subscribes to it",
                "next_try_s": 12.5,
            },
            *(
                {
                    "topic": topic,
                    "count": 0,
                    "oldest_seq": None,
                    "oldest_at": None,
                    "why": "",
                    "detail": "",
                    "next_try_s": None,
                }
                for topic in ("order", "event")
            ),
        ],
    },
    "would_prune": {"retention_days": 400.0, "rows": {"orders": 31, "events": 0}},
}
