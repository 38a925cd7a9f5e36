"""Start: lock, look, and decide between the journal that is there and a new one (P13).

    what is found                           what is done
    --------------------------------------  -------------------------------------------
    a restore that was killed in between    ended, once the marker had decided on it
    nothing, and no marker                  first installation: a new journal
    nothing, but our marker                 lost: a new journal, doubted
    a damaged one, or the damage flag       set aside (renamed), a new journal, doubted
    one that cannot be read, or is newer,   JournalUnreadable with the remedy: a person
      or is not ours                          must look; nothing is changed
    a whole one                             opened; older schemas are brought forward

A start is quick however long the history: header, schema, the log's recovery
and the open rows are looked at here, the whole file later (`check`). *Doubted*
journals add the clock's skew to their bound and let cabinets wait for a count.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controller.dispensing.interfaces import Announcer
from controller.errors import JournalDamaged, JournalUnreadable, JournalUnwritable
from controller.journal import cycles, migrations, units, wal
from controller.journal.files import (
    SET_ASIDE,
    Files,
    drop_unfinished,
    end_restore,
    read_births,
    read_json,
    set_aside,
    sync_folder,
)
from controller.journal.outbox import oldest
from controller.journal.reserve import Reserve
from controller.journal.store import classified, connect, primary_code
from controller.journal.transaction import Counters, Transaction, read_counters

log = logging.getLogger("vending.journal")

UNSENT_LOOKED_AT = 100
"""Unsent rows read at start: the first that the pump will take."""

TORN_COMMITS = 1
"""Commits that may lie unreadable at the log's end: the one that was under way."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the start found. `birth` and `bound` are None until the clock is believed."""

    birth: int | None
    bound: int | None
    first: bool
    """First installation: there never was a journal here."""
    lost: bool
    """There was one, and this one began without its memory."""
    set_aside: Path | None
    """Where the damaged one lies now."""
    last_stop: str
    """clean, crash, power, watchdog."""
    rebooted: bool
    """The machine started anew since the journal was last open."""
    unclean: bool
    """It was not closed in order: `background_check` should look through the whole file."""
    unwritable: str
    """Why nothing could be written at start (P12); empty when it could."""


@dataclass(frozen=True, slots=True)
class Found:
    """An open journal, and how it came to be."""

    connection: sqlite3.Connection
    counters: Counters
    births: list[int]
    first: bool
    lost: bool
    set_aside: Path | None


def find_or_create(files: Files, announcer: Announcer, at: float, reserve: Reserve) -> Found:
    """Raises JournalUnreadable, JournalUnwritable (no journal can be created), OSError."""
    _end_what_was_killed(files)
    births = read_births(files)
    aside: Path | None = None
    if files.database.exists() and not files.damaged.exists():
        try:
            connection, counters = examine(files, announcer, reserve)
        except JournalDamaged as damage:
            log.critical("journal_damaged", extra={"fields": {"error": str(damage)}})
        else:
            return Found(
                connection, counters, births or [], first=False, lost=False, set_aside=None
            )
    existed = files.database.exists()
    aside = set_aside(files, at)
    files.damaged.unlink(missing_ok=True)
    # A start that set one aside and found no room for a new one left no marker.
    lost = existed or births is not None or any(files.folder.glob(SET_ASIDE))
    if lost:
        fields = {"set_aside": str(aside), "births": births}
        log.critical("journal_lost", extra={"fields": fields})
    create(files, lost=lost)
    connection, counters = examine(files, announcer, reserve)
    return Found(connection, counters, births or [], first=not lost, lost=lost, set_aside=aside)


def _end_what_was_killed(files: Files) -> None:
    """A restore that was decided is ended; what else a kill left goes. Raises OSError."""
    try:
        end_restore(files)
        drop_unfinished(files)
    except OSError as error:
        if files.restore.exists():
            raise
        # In place, with no room to note that (P12): the next start notes it.
        log.warning("leftovers_stay", extra={"fields": {"error": str(error)}})


def create(files: Files, *, lost: bool) -> None:
    """A new journal, whole before it gets its name. Raises JournalUnwritable, OSError."""
    for end in ("", "-journal", "-wal", "-shm"):
        files.new.with_name(files.new.name + end).unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(files.new, isolation_level=None)) as connection:
            migrations.migrate(connection)
            connection.execute(
                "UPDATE journal SET doubted = ?, unconfirmed = ? WHERE id = 1",
                (int(lost), int(lost)),
            )
    except sqlite3.Error as error:
        raise classified(error, files.new) from error
    handle = os.open(files.new, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    files.new.rename(files.database)
    sync_folder(files.folder)


# ------------------------------------------------------------------ looking


def examine(
    files: Files, announcer: Announcer, reserve: Reserve
) -> tuple[sqlite3.Connection, Counters]:
    """Open and check. Raises JournalDamaged, JournalUnreadable."""
    path = files.database
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(files.folder, os.W_OK | os.X_OK):
        raise JournalUnreadable(
            f"{path} cannot be read and written by this user: give the directory and its files "
            "to the daemon's user, or mount the disk writable, and start again"
        )
    if path.stat().st_size == 0:
        raise JournalDamaged(f"{path} is empty")
    connection: sqlite3.Connection | None = None
    _drop_empty_log(files)
    try:
        connection = connect(path)
        _check_schema(connection, path, reserve)
        _check_log(connection, files)
        counters = _check_rows(connection, path, announcer)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _verdict(error, path) from error
        raise
    return connection, counters


def _drop_empty_log(files: Files) -> None:
    """Nothing is written into a log before its name is durable (`Core._keep_log`): a start
    that left an empty one may have died behind a failed sync of that name, which no later sync
    brings back. SQLite makes another. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if files.wal.stat().st_size == 0:
            files.wal.unlink()


def _verdict(error: sqlite3.Error, path: Path) -> Exception:
    """At start an unwritable journal is an unreadable one, unless only room is missing (P12)."""
    known = classified(error, path)
    if isinstance(known, JournalUnwritable) and primary_code(error) != sqlite3.SQLITE_FULL:
        return JournalUnreadable(
            f"{path} cannot be opened ({error}): look at the disk, at the file's owner, and "
            "whether another program holds it; then start again"
        )
    if known is error:  # a table or column that is not there: the schema was checked before
        return JournalDamaged(f"{path} cannot be understood ({error})")
    return known


def _check_schema(connection: sqlite3.Connection, path: Path, reserve: Reserve) -> None:
    """The schema word for word; older versions are migrated after it was found whole."""
    version, newest = migrations.version(connection), migrations.newest_version()
    if version > newest:
        raise JournalUnreadable(
            f"{path} has schema {version}, written by a newer program; this one knows {newest}: "
            "install the newer version again, or restore the journal's backup from before"
        )
    shape = migrations.shape(connection)
    if version == 0 or shape != migrations.expected_shape(version):
        ours = {name for _, name, _ in migrations.expected_shape()}
        if shape and not ours & {name for _, name, _ in shape}:
            raise JournalUnreadable(
                f"{path} is a database of another program: move it away and start again"
            )
        raise JournalDamaged(f"{path}: its schema is not that of version {version}")
    marked = connection.execute("PRAGMA application_id").fetchone()[0]
    if marked != migrations.APPLICATION_ID:
        raise JournalDamaged(f"{path}: its header is damaged (application id {marked:#x})")
    if version < newest:
        _bring_forward(connection, reserve)
        log.info("journal_migrated", extra={"fields": {"from": version, "to": newest}})


def _bring_forward(connection: sqlite3.Connection, reserve: Reserve) -> None:
    """In the reserve's room where the disk is full: a machine that sold until the upgrade goes
    on. `Core.begin` puts the reserve by again, and as long as it cannot, nothing new begins."""
    try:
        migrations.migrate(connection)
    except sqlite3.OperationalError as error:
        if primary_code(error) != sqlite3.SQLITE_FULL or not reserve.release():
            raise
        migrations.migrate(connection)


def _check_log(connection: sqlite3.Connection, files: Files) -> None:
    try:
        _, recovered, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error as error:
        if primary_code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
            return  # no room to move the log into the file: P12, and no sign of damage
        raise
    if wal.lost_commits(files.wal, max(0, recovered)) > TORN_COMMITS:
        raise JournalDamaged(f"{files.wal}: commits that were durable cannot be read any more")


def _check_rows(connection: sqlite3.Connection, path: Path, announcer: Announcer) -> Counters:
    """Counters, lanes, everything open, and the first unsent rows: read and understood."""
    try:
        counters = read_counters(connection)
        if counters is None:
            raise JournalDamaged(f"{path}: the row of counters is gone")
        tx = Transaction(connection, counters, announcer, at=0.0, believed=False, boot="")
        for row in tx.all("SELECT * FROM lanes"):
            known = row["stock"] + row["gone"] + row["uncertain"] + row["adjusted"]
            if known != row["loaded"]:
                raise JournalDamaged(f"{path}: the sums of lane {row['channel']} contradict")
        units.waiting_units(tx)
        cycles.open_cycles(tx)
        for topic in ("result", "order", "event"):
            oldest(tx, topic, UNSENT_LOOKED_AT)
        for name, sql in HIGHEST.items():
            (highest,) = connection.execute(sql, {"birth": counters.birth}).fetchone()
            if (highest or 0) > getattr(counters, name):
                raise JournalDamaged(f"{path}: {name} {highest} is beyond its counter")
    except (ValueError, KeyError, TypeError, UnicodeError) as error:
        raise JournalDamaged(f"{path}: an open row cannot be read ({error})") from error
    return counters


HIGHEST = {
    "cycle": "SELECT MAX(n) FROM cycles",
    "event_seq": "SELECT MAX(event_seq) FROM events",
    "seq": "SELECT MAX(seq) FROM outbox WHERE journal = :birth",
}


# ------------------------------------------------------------------ why we stopped


def last_stop(files: Files, found: Found, boot: str) -> str:
    """clean, crash, power or watchdog; the file of the service manager is used up by it.

    A machine that lost power wrote no reason; another boot tells it then.
    """
    try:
        told = read_json(files.last_stop)
        files.last_stop.unlink(missing_ok=True)
    except OSError:
        told = None
    result = str((told or {}).get("result", ""))
    before = found.counters.boot
    rules: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: result == "watchdog", "watchdog"),
        (lambda: not found.lost and bool(found.counters.clean), "clean"),
        (lambda: result not in ("", "success"), "crash"),
        (lambda: before not in ("", boot), "power"),
    )
    return next((verdict for holds, verdict in rules if holds()), "crash")
