"""The one connection to the database, its one thread, and the transaction around each job.

A job is a function of the connection. It runs between BEGIN IMMEDIATE and
COMMIT, alone, and either all of it is durable when its caller goes on or none
of it is kept. WAL with synchronous=FULL: one flush a commit.

Exactly one connection exists (locking_mode EXCLUSIVE keeps others out while we
run), which also keeps us clear of the WAL-reset fault of SQLite before 3.51.3.
A caller that is cancelled while it waits does not stop its job: the job is
done as a whole or not at all, and recovery reads what became of it.

Inline, the same code runs in the caller's thread: for simulations, whose
virtual time a thread would not keep pace with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from controller.errors import (
    JournalDamaged,
    JournalError,
    JournalUncertain,
    JournalUnwritable,
    Refused,
)

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

log = logging.getLogger("vending.journal")

BUSY_TIMEOUT_MS = 2_000
"""How long a start waits for a backup tool that holds the file for a moment."""

WAL_LIMIT_BYTES = 4 * 1024 * 1024
"""The log is cut back to this after a checkpoint; SQLite checkpoints at 1,000 pages = 4 MiB."""

COPY_PAGES = 64
"""Of 4 KiB, in one slice of a copy: as long as a commit on a slow card, so that no customer waits
for it longer than for another customer."""

UNWRITABLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
    }
)
SQLITE_IOERR_FSYNC = sqlite3.SQLITE_IOERR_FSYNC
"""The only failure of a commit that comes after all of it was written."""
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})

PRAGMAS = (
    "PRAGMA locking_mode = EXCLUSIVE",  # before journal_mode: then no shared memory file is made
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cell_size_check = ON",  # a damaged page is noticed when it is read, not later
    "PRAGMA trusted_schema = OFF",
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}",
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
)


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing database; it is never created here. Raises sqlite3.Error.

    `check_same_thread` is off because the start-up checks run before the
    thread exists; afterwards only the thread touches the connection.
    """
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        connection.row_factory = sqlite3.Row
        for pragma in PRAGMAS:
            connection.execute(pragma).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code: the low byte of the extended one; 0 where there is none."""
    return extended_code(error) & 0xFF


def extended_code(error: BaseException) -> int:
    """SQLite's extended result code; 0 where there is none."""
    return getattr(error, "sqlite_errorcode", 0) or 0


def uncertain(error: BaseException, path: Path) -> JournalUncertain:
    return JournalUncertain(
        f"journal {path} cannot be synced ({error}): what was refused may be found as done after "
        "a crash; look at the disk"
    )


def is_full(error: BaseException) -> bool:
    """Whether room on the disk was what failed, so that releasing the reserve may help."""
    cause = error.__cause__ if isinstance(error, JournalError) else error
    return isinstance(cause, sqlite3.Error) and primary_code(cause) == sqlite3.SQLITE_FULL


def classified(error: sqlite3.Error, path: Path) -> Exception:
    """The journal's own name for a trouble of SQLite's; anything else is a bug and stays."""
    code = primary_code(error)
    if code in UNWRITABLE:
        return JournalUnwritable(
            f"journal {path} cannot be written ({error}): nothing moves until it can; "
            "free disk space, or look at the disk and at how it is mounted"
        )
    if code in DAMAGED or "Could not decode to UTF-8" in str(error):
        return JournalDamaged(
            f"journal {path} is damaged ({error}): restart the daemon, which sets the file "
            "aside and begins a new one"
        )
    return error


class Store:
    """Owns the connection. `run` is for writing, `read` for jobs that change nothing."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        inline: bool = False,
        on_damage: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._connection = connection
        self._on_damage = on_damage
        self._inline = inline
        self._closed = False
        self.commits = 0
        """Counted up by the database's thread; who reads it sees whether anything was written."""
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if not inline:
            # A daemon thread: a crash of the main thread must end the process, not wait for us.
            self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
            self._thread.start()

    async def run(
        self,
        job: Job[T],
        *,
        landed: Callable[[T], None] = lambda _: None,
        told: Callable[[T], None] = lambda _: None,
        rescue: Callable[[], bool] | None = None,
    ) -> T:
        """One durable transaction. `landed` is called in the database's thread right after
        the commit, `told` in the caller's loop, even when the caller was cancelled.

        `rescue` makes room on a full disk: when it could, the job is tried once more.
        """

        def attempt() -> T:
            try:
                value = self._transact(job)
            except JournalUnwritable as error:
                if rescue is None or not is_full(error) or not rescue():
                    raise
                value = self._transact(job)
            landed(value)
            return value

        return await self._submit(attempt, told)

    async def read(self, job: Job[T]) -> T:
        """A job that only reads: no transaction is needed on the only connection."""
        return await self._submit(lambda: self._guarded(job), lambda _: None)

    async def copy(self, target: Path) -> None:
        """A consistent copy of the whole database into a new file, in slices: what is submitted
        meanwhile is done between two of them, and is in the copy as well.

        Refused (`no_copy`) where the copy cannot be written or the daemon stops.
        """

        def between(_status: int, _left: int, _pages: int) -> None:
            if self._closed:
                raise Refused("no_copy", "the daemon is stopping: no backup was made")
            self._serve_submitted()

        def copied(connection: sqlite3.Connection) -> None:
            with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as made:
                try:
                    connection.backup(made, pages=COPY_PAGES, progress=between)
                    made.execute("PRAGMA journal_mode = DELETE")  # one file, whole by itself
                except sqlite3.Error as error:
                    if primary_code(error) in DAMAGED:
                        raise
                    raise Refused(
                        "no_copy", "{path} cannot be written ({error})", path=target, error=error
                    ) from error

        await self.read(copied)

    def _serve_submitted(self) -> None:
        """In the database's thread, between two slices of a copy."""
        while not self._closed:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is None or self._closed:
                # The stop came between the two lines above: its jobs are for after the copy.
                rest = [job, *(() if job is None else iter(self._jobs.get, None))]
                for waiting in [*(each for each in rest if each is not None), None]:
                    self._jobs.put(waiting)
                return
            job()

    def run_now(self, job: Job[T]) -> T:
        """`run` in the caller's thread: only while nothing was submitted yet (start-up)."""
        return self._transact(job)

    async def close(self) -> None:
        """Finish what was submitted, close the connection, end the thread."""
        if self._closed:
            return
        self._closed = True
        if self._thread is None:
            self._connection.close()
            return
        self._jobs.put(self._connection.close)
        self._jobs.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def close_now(self) -> None:
        """`close` without a loop, for a start that failed."""
        self._closed = True
        self._jobs.put(self._connection.close)
        self._jobs.put(None)
        if self._thread is None:
            self._connection.close()
        else:
            self._thread.join()

    async def _submit(self, attempt: Callable[[], T], told: Callable[[T], None]) -> T:
        if self._closed:
            raise JournalUnwritable(f"journal {self.path} is closed: the daemon is stopping")
        if self._inline:
            value = attempt()
            told(value)
            return value
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def succeed(value: T) -> None:
            told(value)
            if not future.done():
                future.set_result(value)

        def fail(error: BaseException) -> None:
            if not future.done():
                future.set_exception(error)

        def work() -> None:
            try:
                value = attempt()
            except BaseException as error:  # noqa: BLE001 - every failure belongs to its caller
                post(loop, fail, error)
            else:
                post(loop, succeed, value)

        self._jobs.put(work)
        return await future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                log.exception("journal_close_failed")

    def _transact(self, job: Job[T]) -> T:
        def whole(connection: sqlite3.Connection) -> T:
            try:
                connection.execute("BEGIN IMMEDIATE")
                value = job(connection)
                self._commit()
            except BaseException as error:
                self._roll_back()
                if extended_code(error) == SQLITE_IOERR_FSYNC and not self._overwrite():
                    raise uncertain(error, self.path) from error
                raise
            return value

        return self._guarded(whole)

    def _overwrite(self) -> bool:
        """A commit whose sync failed is rolled back, and yet lies whole in the log: the start
        after a crash would find it. The next commit takes its place there; this is one."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for _ in ("there", "and back"):  # what stays as it is, SQLite does not write
                self._connection.execute("UPDATE journal SET clean = NOT clean")
            self._commit()
        except sqlite3.Error as error:
            self._roll_back()
            log.warning("journal_overwrite_failed", extra={"fields": {"error": str(error)}})
            return False
        return True

    def _guarded(self, job: Job[T]) -> T:
        try:
            return job(self._connection)
        except JournalDamaged:
            self._on_damage()
            raise
        except sqlite3.Error as error:
            known = classified(error, self.path)
            if isinstance(known, JournalDamaged):
                self._on_damage()
            if known is error:
                raise
            raise known from error

    def _commit(self) -> None:
        """The only COMMIT of the program: durable when it returns."""
        self._connection.execute("COMMIT")
        self.commits += 1

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite may have rolled back by itself
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                log.warning("journal_rollback_failed", extra={"fields": {"error": str(error)}})


def post(loop: asyncio.AbstractEventLoop, call: Callable[[Any], None], value: object) -> None:
    """Hand a value to the loop; a loop that was closed meanwhile has nobody left to tell."""
    try:
        loop.call_soon_threadsafe(call, value)
    except RuntimeError:
        log.debug("journal_loop_closed")
