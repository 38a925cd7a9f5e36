"""A backup put back in place of the journal, with the daemon stopped (P13).

The file is never opened where it lies: it is copied beside the journal, looked through from
end to end there, and stamped as restored. The present journal is set aside, never deleted.
The start after it takes a new birth, doubts itself and lets all cabinets wait for a count,
for nobody can say what was given out after the backup.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from controller import prose
from controller.errors import JournalDamaged, JournalUnreadable, JournalUnwritable
from controller.journal import migrations
from controller.journal.files import (
    IN_THE_MAKING,
    Files,
    as_the_folders_owner,
    drop_unfinished,
    end_restore,
    for_people,
    name_aside,
    read_births,
    sync_folder,
    take_lock,
    write_births,
)
from controller.journal.transaction import (
    RESTORED,
    Counters,
    bounded_json,
    read_counters,
    storable,
)
from controller.journal.visits import ROOM_KEPT_BYTES

HEADER = struct.Struct(">16s H 6x I I 28x I 4x I 20x I")
"""The first bytes of a database: magic, size of a page, changes, pages, user_version,
application_id, and the changes at which the pages were counted.
https://www.sqlite.org/fileformat2.html#the_database_header"""
MAGIC = b"SQLite format 3\0"
MAX_PAGE = 65_536
"""What does not fit into the two bytes of a page's size, and is told as 1."""

CHUNK_BYTES = 1 << 20

FINDINGS = 3
"""Lines of SQLite's own check that are told: the first says that it is damaged, and where."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What lies in a file that may be put back."""

    birth: int | None
    newest_time: float
    last_seq: int
    orders: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Restored:
    backup: Backup
    set_aside: Path | None
    """Where the journal lies that was there before."""


class Restoring:
    """The state directory, held while a person decides. Made by `hold`."""

    def __init__(self, files: Files, source: Path) -> None:
        self._files = files
        self._source = source
        self.backup = self._looked_at()

    def put_in_place(self, who: str, at: float) -> Restored:
        """The stamp, then the decision, then what `end_restore` does. Before the marker says
        so the old journal is the journal; after it the copy is, whenever we are killed."""
        births = read_births(self._files) or []
        if self.backup.birth is not None:
            # The new birth must be after the copy's, on a new computer too.
            births = [*births, self.backup.birth]
        with contextlib.closing(_open(self._files.restore)) as connection:
            _stamp(connection, who, self._source.name, at)
        as_the_folders_owner(self._files.folder, self._files.restore)
        _make_durable(self._files.restore)
        sync_folder(self._files.folder)
        aside = name_aside(self._files, at)
        write_births(self._files, births, aside.name)
        as_the_folders_owner(self._files.folder, self._files.marker)
        end_restore(self._files)
        return Restored(self.backup, aside if aside.exists() else None)

    def _looked_at(self) -> Backup:
        """Copied, recovered from its log, and sound. Raises JournalUnreadable, JournalDamaged,
        JournalUnwritable (no room)."""
        with contextlib.ExitStack() as opened:
            parts = {"": opened.enter_context(_regular(self._source))}
            log = self._source.with_name(self._source.name + "-wal")
            if log.exists():
                parts["-wal"] = opened.enter_context(_regular(log))
            sizes = {end: os.fstat(part.fileno()).st_size for end, part in parts.items()}
            _of_ours(parts[""], self._source, sizes[""], alone=len(parts) == 1)
            _room_for(self._files.folder, sum(sizes.values()))
            for end, part in parts.items():
                copy = self._files.restore.with_name(self._files.restore.name + end)
                _copy(part, copy, sizes[end], self._source)
        return self._examined()

    def _examined(self) -> Backup:
        try:
            with contextlib.closing(_open(self._files.restore)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE").fetchall()
                counters = _sound(connection, self._source)
                (orders,) = connection.execute("SELECT COUNT(*) FROM orders").fetchone()
        except sqlite3.Error as error:
            raise JournalDamaged(
                prose.BACKUP_UNREADABLE.format(file=self._source, why=error)
            ) from error
        return Backup(
            birth=counters.birth,
            newest_time=counters.newest_time,
            last_seq=counters.seq,
            orders=orders,
            bytes=self._files.restore.stat().st_size,
        )


@contextlib.contextmanager
def hold(state_dir: Path, source: Path) -> Iterator[Restoring]:
    """The directory's lock and the checked copy, until the block ends.

    Raises StateDirInUse (the daemon runs), JournalUnreadable (not ours, newer, no rights),
    JournalDamaged, JournalUnwritable (no room). The present journal is as it was then.
    """
    files = Files(state_dir)
    if not state_dir.is_dir():
        raise JournalUnreadable(prose.NO_STATE_DIR.format(folder=state_dir))
    if source.name in IN_THE_MAKING and source.parent.resolve() == state_dir.resolve():
        raise JournalUnreadable(prose.HALF_MADE.format(file=source))
    with for_people(state_dir):
        new = not files.lock.exists()
        lock = take_lock(files)
        try:
            if new:
                as_the_folders_owner(state_dir, files.lock)
            end_restore(files)  # of one that was killed: what it decided stands
            drop_unfinished(files)
            try:
                yield Restoring(files, source)
            finally:
                end_restore(files)  # before what is dropped: the copy may be decided on
                drop_unfinished(files)
        finally:
            os.close(lock)


@contextlib.contextmanager
def _regular(path: Path) -> Iterator[BinaryIO]:
    """A file of the disk, open: a pipe would keep us waiting, and a device is opened by looking
    at it. Raises JournalUnreadable."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise JournalUnreadable(prose.BACKUP_NO_FILE.format(file=path))
        # NONBLOCK: it may have been exchanged since for a pipe.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise JournalUnreadable(prose.NO_SUCH_BACKUP.format(file=path)) from None
    except OSError as error:
        raise JournalUnreadable(
            prose.BACKUP_UNREADABLE.format(file=path, why=error.strerror)
        ) from error
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise JournalUnreadable(prose.BACKUP_NO_FILE.format(file=path))
        yield file


def _of_ours(file: BinaryIO, source: Path, size: int, *, alone: bool) -> None:
    """By its first bytes, before anything is copied. Raises JournalUnreadable, JournalDamaged."""
    head = file.read(HEADER.size)
    file.seek(0)
    told = HEADER.unpack(head.ljust(HEADER.size, b"\0"))
    magic, page, changes, pages, version, marked, counted_at = told
    if magic != MAGIC or marked != migrations.APPLICATION_ID:
        raise JournalUnreadable(prose.NO_JOURNAL_OF_OURS.format(file=source))
    _known(version, source)
    whole = pages * (page if page != 1 else MAX_PAGE)
    if alone and changes == counted_at and size != whole:
        raise JournalDamaged(prose.NOT_WHOLE.format(file=source, bytes=size, whole=whole))


def _known(version: int, source: Path) -> None:
    newest = migrations.newest_version()
    if version > newest:
        raise JournalUnreadable(
            prose.NEWER_JOURNAL.format(file=source, schema=version, newest=newest)
        )


def _room_for(folder: Path, size: int) -> None:
    """Raises JournalUnwritable."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < size + ROOM_KEPT_BYTES:
        raise JournalUnwritable(
            prose.NO_ROOM_FOR_BACKUP.format(
                size=f"{size / 1e6:.0f}",
                folder=folder,
                free=f"{free / 1e6:.0f}",
                kept=f"{ROOM_KEPT_BYTES / 1e6:.0f}",
            )
        )


def _copy(part: BinaryIO, target: Path, size: int, source: Path) -> None:
    """As much as was seen and there is room for, however it grows. Raises JournalUnreadable."""
    with target.open("xb") as file:
        left = size
        while left:
            try:
                chunk = part.read(min(left, CHUNK_BYTES))
            except OSError as error:
                raise JournalUnreadable(
                    prose.BACKUP_UNREADABLE.format(file=source, why=error.strerror)
                ) from error
            if not chunk:
                break  # it was cut off meanwhile: what came is looked through
            file.write(chunk)
            left -= len(chunk)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _sound(connection: sqlite3.Connection, source: Path) -> Counters:
    """Ours, not newer than this program, whole. `source` is what a person knows it by."""
    marked = connection.execute("PRAGMA application_id").fetchone()[0]
    if marked != migrations.APPLICATION_ID:
        raise JournalUnreadable(prose.NO_JOURNAL_OF_OURS.format(file=source))
    version = migrations.version(connection)
    _known(version, source)
    if version == 0 or migrations.shape(connection) != migrations.expected_shape(version):
        raise JournalDamaged(prose.OTHER_SCHEMA.format(file=source, version=version))
    said = [row[0] for row in connection.execute(f"PRAGMA integrity_check({FINDINGS})")]
    if said != ["ok"]:
        raise JournalDamaged(
            prose.BACKUP_DAMAGED.format(file=source, why="; ".join(map(str, said))[:300])
        )
    migrations.migrate(connection)
    counters = read_counters(connection)
    if counters is None:
        raise JournalDamaged(prose.NO_COUNTERS.format(file=source))
    return counters


def _stamp(connection: sqlite3.Connection, who: str, name: str, at: float) -> None:
    """What the next start goes by. Without a birth nothing moves until it took a new one, even
    where the disk is full by then. `clean`: the file was looked through just now."""
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "UPDATE journal SET boot = ?, doubted = 1, birth = NULL, bound = NULL, seq = 0,"
        " unconfirmed = 1, clean = 1",
        (RESTORED,),
    )
    connection.execute(
        "INSERT INTO audit (at, who, action, target, detail) VALUES (?,?,?,?,?)",
        (at, storable(who), "journal_restore", "journal", bounded_json({"file": name})),
    )
    connection.execute("COMMIT")


def _make_durable(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
