"""What a technician's visit asks of the open journal: verdicts, undone tests, its own upkeep.

`Journal` (journal.py) is made of this.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from controller.dispensing.interfaces import LaneState
from controller.errors import JournalDamaged, Refused
from controller.journal import (
    check,
    lanes,
    outbox,
    queries,
    resolving,
    retention,
    technician,
    undo_tests,
)
from controller.journal.core import Core
from controller.journal.transaction import Transaction
from controller.model import Outcome, UnitRef

CHECK_PAUSE_S = 0.05
"""Between two slices of the check: it takes at most a tenth of the database's time."""
PRUNE_PAUSE_S = 0.05

DAY_S = 86_400

ROOM_KEPT_BYTES = 16 * 1024 * 1024
"""What a copy must leave free on the disk: the log at its largest (4 MiB), the reserve, and some
hours of a busy machine."""


class Visits(Core):
    """See the module."""

    def __init__(self, *found: Any, **settings: Any) -> None:
        super().__init__(*found, **settings)
        self.damage_found = asyncio.Event()
        """Set when a check that a person asked for met damage: the daemon stops by it (P13)."""
        self._copying = False

    # ------------------------------------------------------------------ units and stock

    async def resolve(
        self, ref: UnitRef, outcome: Outcome, seen: int, reason: str, who: str
    ) -> tuple[dict[str, Any], LaneState]:
        """The order's detail and the lane, as they are afterwards. Refused: see `resolving`."""

        def work(tx: Transaction) -> tuple[dict[str, Any], LaneState]:
            resolving.resolve(tx, ref, outcome, seen, reason, who)
            (detail,) = queries.order(tx, ref.key.order_id, ref.key.delivery_id)
            return detail, lanes.state_of(tx, queries.channel_of(tx, ref))

        return await self._write(work)

    async def undo_tests(self, channel: str | None, who: str) -> Mapping[str, int]:
        """Lane -> items put back. Refused: unknown_channel, nothing_to_undo, cycle_open,
        over_capacity (then nothing is changed)."""
        return await self._write(lambda tx: undo_tests.undo(tx, channel, who))

    async def backlog(self) -> list[dict[str, Any]]:
        return await self._read(outbox.backlog)

    async def note(self, who: str, action: str, target: str, detail: Mapping[str, Any]) -> None:
        """A row of the audit for an act that changes nothing in the journal."""
        await self._write(lambda tx: technician.note(tx, who, action, target, detail))

    # ------------------------------------------------------------------ the whole file

    async def look_through(self) -> AsyncIterator[check.Place]:
        """Look through the whole file in slices, and say where. Raises JournalDamaged; the
        flag is then set."""
        walk: Any = None

        def step(connection: sqlite3.Connection) -> check.Place | None:
            nonlocal walk
            if walk is None:
                walk = check.steps(connection)
            place: check.Place | None = next(walk, None)
            return place

        while (place := await self._store.read(step)) is not None:
            yield place
            await self._clock.sleep(CHECK_PAUSE_S)

    async def background_check(self) -> None:
        """Look through the whole file in slices. Raises JournalDamaged; the flag is then set."""
        async for _place in self.look_through():
            pass

    async def checked_for(self, who: str) -> AsyncIterator[check.Place]:
        """`look_through`, asked for by a person."""
        await self.note(who, "journal_check", "journal", {})
        try:
            async for place in self.look_through():
                yield place
        except JournalDamaged:
            self.damage_found.set()
            raise

    async def copy(self, who: str) -> IO[bytes]:
        """A consistent copy of the journal, made while everything goes on: an open file without
        a name, gone when it is closed. Refused: busy, no_room, no_copy.

        Who is cancelled while he waits does not end the copy: until it is made, the next one is
        refused, for there is one name to make it under.
        """
        if self._copying:
            raise Refused("busy", "another backup is being made: wait for its end")
        self._copying = True
        making = asyncio.ensure_future(self._copied(who))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(_let_go)
            raise

    async def _copied(self, who: str) -> IO[bytes]:
        target = self._files.copy
        try:
            _room_for_copy(self._files.database, self._files.wal)
            await self.note(who, "journal_backup", "journal", {"seq": self.last_seq})
            _drop(target)
            await self._store.copy(target)
            return target.open("rb")
        except OSError as error:
            raise Refused(
                "no_copy", "the copy {path} cannot be written ({error})", path=target, error=error
            ) from error
        finally:
            self._copying = False
            _drop(target)

    # ------------------------------------------------------------------ retention

    async def prune(self) -> int:
        """Remove details older than the retention, slice by slice; how many rows went.

        Nothing while the clock is not believed: age cannot be judged.
        """
        if not self.believed:
            return 0
        gone = 0
        async for _kind, removed in self._prune_slices():
            gone += removed
        return gone

    async def pruned_for(self, who: str) -> AsyncIterator[tuple[str, int]]:
        """`prune`, asked for by a person: what kind and how many rows, slice by slice.

        Refused: clock_unset.
        """
        would = await self.would_prune()
        await self.note(who, "journal_prune", "journal", would)
        async for step in self._prune_slices():
            yield step

    async def would_prune(self) -> dict[str, int]:
        """Kind -> rows that retention would remove now, at most. Refused: clock_unset."""
        if not self.believed:
            raise Refused(
                "clock_unset", "the clock is not believed, so nobody can say what is old enough"
            )
        cutoff = self._cutoff()
        counts: dict[str, int] = {}
        for kind, count in retention.COUNTS.items():
            counts[kind] = await self._read(lambda tx, count=count: count(tx, cutoff))  # type: ignore[misc]
        return counts

    @property
    def retention_days(self) -> float:
        return self._retention_days

    def _cutoff(self) -> float:
        return self._clock.wall() - self._retention_days * DAY_S

    async def _prune_slices(self) -> AsyncIterator[tuple[str, int]]:
        cutoff = self._cutoff()
        for prune_slice in retention.STEPS:
            kind = prune_slice.__name__.removeprefix("prune_")
            while removed := await self._write(partial(_call, prune_slice, cutoff)):
                yield kind, removed
                await self._clock.sleep(PRUNE_PAUSE_S)


def _call(step: Any, cutoff: float, tx: Any) -> int:
    removed: int = step(tx, cutoff)
    return removed


def _drop(copy: Path) -> None:
    for end in ("", "-journal"):
        copy.with_name(copy.name + end).unlink(missing_ok=True)


def _let_go(making: asyncio.Future[IO[bytes]]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()


def _room_for_copy(database: Path, log: Path) -> None:
    size = database.stat().st_size + (log.stat().st_size if log.exists() else 0)
    disk = os.statvfs(database.parent)
    free = disk.f_bavail * disk.f_frsize
    if free < size + ROOM_KEPT_BYTES:
        raise Refused(
            "no_room",
            "a copy takes {size:.0f} MB beside the journal for a moment, and {folder} has "
            "{free:.0f} MB free of which {kept:.0f} MB are kept for customers: free disk space",
            size=size / 1e6,
            folder=database.parent,
            free=free / 1e6,
            kept=ROOM_KEPT_BYTES / 1e6,
        )
