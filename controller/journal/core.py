"""What every method of the journal stands on: start and stop, birth, transactions.

`Journal` (journal.py) adds the interfaces of the rooms to this.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from controller.dispensing.interfaces import Announcer, Clock
from controller.errors import JournalUnreadable, JournalUnwritable
from controller.journal import begun_tests, events, lanes, outbox
from controller.journal.files import Files, sync_folder, write_births
from controller.journal.opening import Found, Opening, last_stop
from controller.journal.reserve import Reserve
from controller.journal.store import Store
from controller.journal.transaction import RESTORED, Transaction, storable

T = TypeVar("T")

log = logging.getLogger("vending.journal")


class Core:
    """One open journal: its file, its counters, who it is."""

    def __init__(
        self,
        found: Found,
        files: Files,
        lock: int,
        *,
        clock: Clock,
        announcer: Announcer,
        boot: str,
        skew_s: float,
        retention_days: float,
        inline: bool,
        reserve: Reserve,
    ) -> None:
        self._counters = found.counters
        self._found = found.counters
        """As the start found them: what the retained state is compared with."""
        self._births = found.births
        self._unnamed = False
        """The marker names other births, and not that of the journal found: another life was led
        here, of which this one may not know."""
        self._files = files
        self._lock = lock
        self._clock = clock
        self._announcer = announcer
        self._boot = boot
        self._skew_s = skew_s
        self._retention_days = retention_days
        self._reserve = reserve
        self.acted_at = clock.monotonic()
        """Monotonic: when a person last did something to the machine, or our start. Of what was
        before it, nobody knows how long ago: the clock may have been set meanwhile."""
        self._lanes_due = False
        """The lanes of the settings could not be stored: nothing may meet the old ones."""
        self._signals = {topic: asyncio.Event() for topic in outbox.TOPICS}
        self._store = Store(
            found.connection, files.database, inline=inline, on_damage=self._flag_damage
        )

    # ------------------------------------------------------------------ start and stop

    def begin(self, found: Found) -> Opening:
        """The start's own transaction. A full disk leaves the journal open and unwritable (P12)."""
        self._keep_log()
        self._reserve.ensure()
        stop = "clean" if found.first else last_stop(self._files, found, self._boot)
        work = self._job(
            lambda tx: self._note_start(tx, found, stop),
            self._clock.wall(),
            believed=self.believed,
        )
        unwritable = ""
        try:
            tx, _ = self._store.run_now(work)
            self._counters = tx.counters
        except JournalUnwritable as trouble:
            unwritable = str(trouble)
            log.error("journal_unwritable", extra={"fields": {"error": unwritable}})  # noqa: TRY400
        if not self._files.marker.exists():
            self._mark()
        return Opening(
            birth=self.birth,
            bound=self.bound,
            first=found.first,
            lost=found.lost,
            set_aside=found.set_aside,
            last_stop=stop,
            rebooted=found.counters.boot not in ("", self._boot),
            unclean=not found.counters.clean,
            unwritable=unwritable,
        )

    def _note_start(self, tx: Transaction, found: Found, stop: str) -> None:
        tx.set(clean=0, boot=self._boot)
        birth = tx.counters.birth
        older = max(self._births, default=None)
        if birth is not None and birth < max(self._births, default=0):
            self._begin_anew(tx, "marker", believed=self.believed)
        elif birth is not None and birth not in self._births:
            self._unnamed = bool(self._births)
            self._mark(birth)
        if self.believed:
            self._take_birth(tx)
        if found.counters.boot == RESTORED:  # what else that means stands in the file: `restoring`
            detail = {"reason": RESTORED, "was": older, "is": tx.counters.birth}
            events.raise_event(tx, "journal_restored", detail)
            log.critical("journal_restored", extra={"fields": detail})
        if not found.first:
            rebooted = found.counters.boot not in ("", self._boot)
            events.raise_event(tx, "restart", {"last_stop": stop, "rebooted": rebooted})
            begun_tests.settle(tx)
        if found.lost:
            aside = None if found.set_aside is None else found.set_aside.name
            events.raise_event(tx, "journal_lost", {"set_aside": aside, "births": self._births})

    async def close(self) -> None:
        """Stop in order: the next start finds it clean. Safe to call twice."""
        try:
            await self._write(lambda tx: tx.set(clean=1))
        except JournalUnwritable as trouble:
            log.warning("journal_not_closed_clean", extra={"fields": {"error": str(trouble)}})
        await self._store.close()
        self._unlock()

    def abandon(self) -> None:
        """Close without a word in the file, as a crash would; for a start that failed."""
        self._store.close_now()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _keep_log(self) -> None:
        """Make the log's name durable, before anything is written into it. SQLite syncs the
        directory too, and does not look whether that failed: a power cut would then take the
        log with all its commits. What a failed sync lost no later one brings back; a new start
        makes a new log."""
        try:
            sync_folder(self._files.folder)
        except OSError as error:
            raise JournalUnreadable(
                f"directory {self._files.folder} cannot be synced ({error}): look at the disk, "
                "then start again"
            ) from error

    def _flag_damage(self) -> None:
        """The next start sets the journal aside (P13)."""
        try:
            self._files.damaged.touch()
            sync_folder(self._files.folder)
        except OSError as error:
            log.critical("damage_flag_not_written", extra={"fields": {"error": str(error)}})

    # ------------------------------------------------------------------ who it is (P13)

    @property
    def birth(self) -> int | None:
        return self._counters.birth

    @property
    def bound(self) -> int | None:
        return self._counters.bound

    @property
    def last_seq(self) -> int:
        """Of the newest result or order message of this birth."""
        return self._counters.seq

    @property
    def last_event_seq(self) -> int:
        """Of the newest event; each start after the first raises one."""
        return self._counters.event_seq

    @property
    def newest_time(self) -> float:
        """The newest wall time that was written under a believed clock; 0 when none was. Births
        are such times, and the marker keeps them when the journal is lost. A person who
        accepted an earlier clock has taken all of that back."""
        return self._counters.newest_time or max(self._births, default=0)

    @property
    def believed(self) -> bool:
        """Whether the clock may judge and label: never while it is behind what we know."""
        return self._clock.believed() and self._clock.wall() >= self.newest_time - self._skew_s

    @property
    def doubted(self) -> bool:
        """It began without an older one's memory, or was restored from a copy."""
        return bool(self._counters.doubted)

    @property
    def reserve_whole(self) -> bool:
        """Whether the disk space for closing cycles was put by, as last seen."""
        return self._reserve.whole

    async def believe(self) -> bool:
        """Give the journal its birth once the clock is believed; whether it has one now.

        Call it again while it is False. Raises JournalUnwritable.
        """
        if self.birth is None and self.believed:
            await self._write(self._take_birth)
        return self.birth is not None

    def is_restored(self, journal: int, last_seq: int, last_event_seq: int) -> bool:
        """Whether the retained state tells of a life of this machine that we do not remember:
        a journal that is none of ours, or ours with messages that were not in it at the start.

        What this run wrote itself does not count: a copy that was put back writes on, and would
        catch up with what it forgot. The events tell of a life that ended without a farewell:
        its will has the `last_seq` of its connect, and a younger event than the copy, for each
        start raises one.
        """
        if journal == self.birth:
            return last_seq > self._found.seq or last_event_seq > self._found.event_seq
        return self._unnamed or journal not in self._births

    async def rebirth(self, reason: str) -> None:
        """An older copy is in use: new birth, bound with skew, seq from 1, stock unconfirmed.

        While the clock is not believed the birth is None afterwards, and `believe` gives it.
        """
        believed = self.believed
        await self._write(lambda tx: self._begin_anew(tx, reason, believed=believed))
        self._unnamed = False

    def _begin_anew(self, tx: Transaction, reason: str, *, believed: bool) -> None:
        old = tx.counters.birth
        tx.set(doubted=1, birth=None, bound=None, seq=0)
        if believed:
            self._take_birth(tx, older=old)
        lanes.unconfirm(tx)
        detail = {"reason": storable(reason), "was": old, "is": tx.counters.birth}
        events.raise_event(tx, "journal_restored", detail)
        log.critical("journal_restored", extra={"fields": detail})

    def _take_birth(self, tx: Transaction, older: int | None = None) -> None:
        if tx.counters.birth is not None:
            return
        birth = max(int(tx.at), *(known + 1 for known in (*self._births, older or 0)))
        skew = math.ceil(self._skew_s)
        # Further ahead than that the older births are of a clock that a person took back: ids
        # must grow from them, and commands are judged by the time that it is.
        begun = min(birth, int(tx.at) + skew + 1)
        tx.set(birth=birth, bound=begun + (skew if tx.counters.doubted else 0))
        self._mark(birth)

    def _mark(self, birth: int | None = None) -> None:
        """Into the marker before the birth is used; one that was never used does no harm."""
        if birth is not None:
            self._births = [*self._births, birth]
        try:
            write_births(self._files, self._births)
        except OSError as error:
            log.warning("marker_not_written", extra={"fields": {"error": str(error)}})

    # ------------------------------------------------------------------ transactions

    def _job(
        self, work: Callable[[Transaction], T], at: float, *, believed: bool
    ) -> Callable[[sqlite3.Connection], tuple[Transaction, T]]:
        def job(connection: sqlite3.Connection) -> tuple[Transaction, T]:
            tx = Transaction(
                connection,
                self._counters,
                self._announcer,
                at=at,
                believed=believed,
                boot=self._boot,
            )
            value = work(tx)
            tx.save()
            return tx, value

        return job

    async def _write(self, work: Callable[[Transaction], T], *, rescued: bool = False) -> T:
        def landed(result: tuple[Transaction, T]) -> None:
            self._counters = result[0].counters

        def told(result: tuple[Transaction, T]) -> None:
            if result[0].acted:
                self.acted_at = self._clock.monotonic()
            for topic in result[0].topics:
                self._signals[topic].set()

        job = self._job(work, self._clock.wall(), believed=self.believed)
        rescue = self._reserve.release if rescued else None
        _, value = await self._store.run(job, landed=landed, told=told, rescue=rescue)
        return value

    async def _write_with_room(self, work: Callable[[Transaction], T]) -> T:
        """For what begins something: only while the space to end it is put by (P12)."""

        def guarded(tx: Transaction) -> T:
            if self._lanes_due:
                raise JournalUnwritable(
                    f"the lanes of the settings are not in {self._files.database} yet: "
                    "nothing new begins; free disk space"
                )
            if not self._reserve.ensure():
                raise JournalUnwritable(
                    f"no room for {self._reserve.size} bytes of reserve in "
                    f"{self._files.folder}: nothing new begins; free disk space"
                )
            return work(tx)

        return await self._write(guarded)

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        at, believed = self._clock.wall(), self.believed

        def job(connection: sqlite3.Connection) -> T:
            return work(
                Transaction(
                    connection,
                    self._counters,
                    self._announcer,
                    at=at,
                    believed=believed,
                    boot=self._boot,
                )
            )

        return await self._store.read(job)
