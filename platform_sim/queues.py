"""The books as the two pumps and the MQTT session see them: implements seams over the store."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from platform_sim import booking
from platform_sim.deliveries import Terms
from platform_sim.seams import Callback, Command
from platform_sim.settings import Rules
from platform_sim.store import Store

WHY_LENGTH = 200


class Books:
    """Implements Commands, Booker and CallbackQueue."""

    def __init__(self, store: Store, rules: Rules) -> None:
        self._store = store
        self._rules = rules

    # ------------------------------------------------------------------ Commands

    async def next_commands(self, limit: int) -> Sequence[Command]:
        def read(tx: sqlite3.Connection) -> list[Command]:
            rows = tx.execute("SELECT * FROM command ORDER BY id LIMIT ?", (limit,))
            return [
                Command(row["id"], row["machine_no"], row["leaf"], row["payload"], row["drop_at"])
                for row in rows
            ]

        return await self._store.read(read)

    async def sent(self, command_id: int) -> None:
        await self._store.write(
            lambda tx: tx.execute("DELETE FROM command WHERE id = ?", (command_id,)) and None
        )

    # ------------------------------------------------------------------ Booker

    async def book(self, machine_no: str, leaf: str, payload: bytes) -> None:
        terms = Terms(self._rules, time.time())
        await self._store.write(lambda tx: booking.book(tx, terms, machine_no, leaf, payload))

    # ------------------------------------------------------------------ CallbackQueue

    async def due_callbacks(self, now: float, limit: int) -> Sequence[Callback]:
        def read(tx: sqlite3.Connection) -> list[Callback]:
            rows = tx.execute(
                "SELECT * FROM callback WHERE state = 'due' AND again_at <= ? AND NOT EXISTS"
                " (SELECT 1 FROM callback AS older WHERE older.state = 'due'"
                "  AND older.order_id = callback.order_id AND older.id < callback.id)"
                " ORDER BY again_at, id LIMIT ?",
                (now, limit),
            )
            return [
                Callback(row["id"], row["order_id"], row["url"], row["body"], row["tries"])
                for row in rows
            ]

        return await self._store.read(read)

    async def told(self, callback_id: int) -> None:
        def write(tx: sqlite3.Connection) -> None:
            tx.execute("UPDATE callback SET state = 'told' WHERE id = ?", (callback_id,))
            tx.execute(
                "UPDATE purchase SET notified = notified + 1 WHERE order_id ="
                " (SELECT order_id FROM callback WHERE id = ?)",
                (callback_id,),
            )

        await self._store.write(write)

    async def not_told(self, callback_id: int, why: str, again_at: float | None) -> None:
        def write(tx: sqlite3.Connection) -> None:
            tx.execute(
                "UPDATE callback SET tries = tries + 1, why = ?, again_at = coalesce(?, again_at),"
                " state = CASE WHEN ? IS NULL THEN 'given_up' ELSE state END WHERE id = ?",
                (why[:WHY_LENGTH], again_at, again_at, callback_id),
            )

        await self._store.write(write)
