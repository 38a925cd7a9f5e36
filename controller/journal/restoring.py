"""A backup put back in place of the journal, with the daemon stopped (P13).

The file is never opened where it lies: it is copied beside the journal, looked through from
end to end there, and stamped as restored. The present journal is set aside, never deleted.
The start after it takes a new birth, doubts itself and lets all cabinets wait for a count,
for nobody can say what was given out after the backup.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from controller.errors import JournalDamaged, JournalUnreadable
from controller.journal import migrations
from controller.journal.files import (
    Files,
    for_people,
    read_births,
    set_aside,
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
        self._copy = files.folder / "journal.restore"
        self._source = source
        self.backup = self._looked_at()

    def put_in_place(self, who: str, at: float) -> Restored:
        """The stamp, then the present journal aside, then the copy under its name."""
        births = read_births(self._files) or []
        if self.backup.birth is not None:
            # The new birth must be after the copy's, on a new computer too.
            births = [*births, self.backup.birth]
        with contextlib.closing(_open(self._copy)) as connection:
            _stamp(connection, who, self._source.name, at)
        _make_durable(self._copy)
        _as_the_folders_owner(self._files.folder, self._copy)
        write_births(self._files, births)
        _as_the_folders_owner(self._files.folder, self._files.marker)
        aside = set_aside(self._files, at)
        self._files.damaged.unlink(missing_ok=True)  # it was about the one that is aside now
        self._copy.rename(self._files.database)
        sync_folder(self._files.folder)
        return Restored(self.backup, aside)

    def drop_copy(self) -> None:
        for end in ("", "-wal", "-shm", "-journal"):
            self._copy.with_name(self._copy.name + end).unlink(missing_ok=True)

    def _looked_at(self) -> Backup:
        """Copied, recovered from its log, and sound. Raises JournalUnreadable, JournalDamaged."""
        if not self._source.is_file():
            raise JournalUnreadable(f"{self._source} is no file: name the backup's own file")
        self.drop_copy()
        try:
            for end in ("", "-wal"):
                beside = self._source.with_name(self._source.name + end)
                if end == "" or beside.exists():
                    shutil.copyfile(beside, self._copy.with_name(self._copy.name + end))
            return self._examined()
        except BaseException:
            self.drop_copy()
            raise

    def _examined(self) -> Backup:
        try:
            with contextlib.closing(_open(self._copy)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE").fetchall()
                counters = _sound(connection, self._source)
                (orders,) = connection.execute("SELECT COUNT(*) FROM orders").fetchone()
        except sqlite3.Error as error:
            raise JournalDamaged(f"{self._source} cannot be read ({error})") from error
        return Backup(
            birth=counters.birth,
            newest_time=counters.newest_time,
            last_seq=counters.seq,
            orders=orders,
            bytes=self._copy.stat().st_size,
        )


@contextlib.contextmanager
def hold(state_dir: Path, source: Path) -> Iterator[Restoring]:
    """The directory's lock and the checked copy, until the block ends.

    Raises StateDirInUse (the daemon runs), JournalUnreadable (not ours, newer, no rights),
    JournalDamaged, JournalUnwritable (no room). The present journal is as it was then.
    """
    files = Files(state_dir)
    if not state_dir.is_dir():
        raise JournalUnreadable(
            f"there is no state directory {state_dir}: start the daemon once, or name its "
            "settings with --config"
        )
    with for_people(state_dir):
        new = not files.lock.exists()
        lock = take_lock(files)
        try:
            if new:
                _as_the_folders_owner(state_dir, files.lock)
            restoring = Restoring(files, source)
            try:
                yield restoring
            finally:
                restoring.drop_copy()
        finally:
            os.close(lock)


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
        raise JournalUnreadable(f"{source} is no journal of a vending controller")
    version, newest = migrations.version(connection), migrations.newest_version()
    if version > newest:
        raise JournalUnreadable(
            f"{source} has schema {version}, written by a newer program; this one knows {newest}: "
            "install that version first"
        )
    if version == 0 or migrations.shape(connection) != migrations.expected_shape(version):
        raise JournalDamaged(f"{source}: its schema is not that of version {version}")
    said = [row[0] for row in connection.execute(f"PRAGMA integrity_check({FINDINGS})")]
    if said != ["ok"]:
        raise JournalDamaged(f"{source} is damaged: {'; '.join(map(str, said))[:300]}")
    migrations.migrate(connection)
    counters = read_counters(connection)
    if counters is None:
        raise JournalDamaged(f"{source}: the row of counters is gone")
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


def _as_the_folders_owner(folder: Path, path: Path) -> None:
    """Root restores, and the daemon's own user must read and write it."""
    owner = folder.stat()
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)
