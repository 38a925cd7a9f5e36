"""The platform's memory: one SQLite file, one connection, one thread.

`write` returns when what it wrote is on the disk. Writers that wait at the same time share a
commit: each runs in a savepoint of its own, so that one that raises takes nothing of the others
with it, and a flush of the disk is paid once for all of them.
"""

from __future__ import annotations

import asyncio
import fcntl
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any, TypeVar

Answer = TypeVar("Answer")

TOGETHER = 200
"""Writers in one commit at most: some 20 ms of statements, so that nobody waits long."""
SCHEMA_VERSION = 2
BEFORE_ALL = 1_700_000_000
"""Unix seconds: before this program was."""


@dataclass
class _Job:
    act: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    reads: bool
    value: Any = None
    error: BaseException | None = None


class Store:
    """Made: raises sqlite3.DatabaseError where the file is not ours or is damaged."""

    def __init__(self, file: Path) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._alone = _alone(file)
        try:
            self._connection = _opened(file)
        except BaseException:
            self._alone.close()
            raise
        self._closed = False
        self.wakes: list[asyncio.Event] = []
        """Set behind each commit: the pumps look whether there is something for them."""
        self._thread = threading.Thread(target=self._run, name="platform store", daemon=True)
        self._thread.start()

    async def write(self, act: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Durable when it returns. What `act` raises undoes what it did, and comes out here."""
        answer: Answer = await self._submit(act, reads=False)
        for event in self.wakes:
            event.set()
        return answer

    async def read(self, act: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Sees everything that was durable before."""
        answer: Answer = await self._submit(act, reads=True)
        return answer

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._connection.close()
            self._alone.close()

    async def _submit(self, act: Callable[[sqlite3.Connection], Any], *, reads: bool) -> Any:
        if self._closed:
            raise sqlite3.ProgrammingError("the store is closed")
        loop = asyncio.get_running_loop()
        job = _Job(act, loop.create_future(), loop, reads)
        self._jobs.put(job)
        return await job.done

    # ------------------------------------------------------------------ on the thread

    def _run(self) -> None:
        last = False
        while not last:
            first = self._jobs.get()
            if first is None:
                return
            jobs = [first]
            while len(jobs) < TOGETHER and not self._jobs.empty():
                more = self._jobs.get()
                if more is None:
                    last = True
                    break
                jobs.append(more)
            self._together(jobs)
            for job in jobs:
                job.loop.call_soon_threadsafe(_tell, job)

    def _together(self, jobs: list[_Job]) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._one(job)
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001  (each of them must hear of it)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for job in jobs:
                job.error = error  # a refusal too: it may rest on what was not written

    def _one(self, job: _Job) -> None:
        connection = self._connection
        if job.reads:
            try:
                job.value = job.act(connection)
            except Exception as error:  # noqa: BLE001  (it belongs to its caller)
                job.error = error
            return
        connection.execute("SAVEPOINT one")
        try:
            job.value = job.act(connection)
        except Exception as error:  # noqa: BLE001  (it belongs to its caller)
            connection.execute("ROLLBACK TO one")
            job.error = error
        connection.execute("RELEASE one")


def _tell(job: _Job) -> None:
    if job.done.done():
        return
    if job.error is not None:
        job.done.set_exception(job.error)
    else:
        job.done.set_result(job.value)


def _begin_numbers(connection: sqlite3.Connection) -> None:
    """Machines keep the identity of an order for ever: a new database must not give out the ids of
    one that was deleted. Orders begin at a number that grows faster than they do, deliveries at
    sixteen digits, as the platform's own have."""
    born = int(time.time())
    connection.executemany(
        "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)",
        [("purchase", (born - BEFORE_ALL) * 100), ("delivery", born * 1_000_000)],
    )


def _alone(file: Path) -> IO[bytes]:
    """Of two programs on one database each would tell every merchant, and both out of order."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.with_name(f"{file.name}.lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise sqlite3.DatabaseError(f"{file}: another platform-sim has it open") from None
    return lock


def _opened(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
    except sqlite3.Error as error:
        connection.close()
        raise sqlite3.DatabaseError(f"{file}: {error}") from None
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        schema = resources.files("platform_sim").joinpath("schema.sql").read_text("utf-8")
        connection.executescript(f"BEGIN; {schema}")
        _begin_numbers(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    elif version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError(
            f"schema {version} is not {SCHEMA_VERSION}, the one of this program;"
            " take the program that wrote it, or another file"
        )
