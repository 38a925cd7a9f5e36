"""The files of the state directory beside the database, and how they are written.

journal.db           the journal (with journal.db-wal while it is open)
journal.marker       JSON: that there was a journal here, and its births (P13)
journal.damaged      flag: damage was found; the next start sets the journal aside
journal.reserve      disk space put by (P12)
journal.new          a journal in the making; removed at start
journal.copy         a backup in the making; without a name as soon as it is whole
journal.restore      a backup being put back; the next start ends that where the marker says so
journal-<time>.db    one that was set aside; ours to keep, never to delete
lock                 held by the running daemon; holds its pid
last_stop            JSON: why systemd says that the daemon stopped
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any

from controller import prose
from controller.errors import JournalError, JournalUnreadable, JournalUnwritable, StateDirInUse

BIRTHS_KEPT = 100
"""More rebirths than any machine will see; bounds the marker's size."""

SET_ASIDE = "journal-*.db"
"""What `set_aside` calls a database."""

IN_THE_MAKING = ("journal.copy", "journal.restore", "journal.marker.part")
"""What a kill in the middle of a backup or a restore leaves: as large as the journal."""

SMALL_FILE_BYTES = 64 * 1024
"""What is read of marker and last_stop at most: both are under 4 KiB when we wrote them."""

FAR_TIME = 253_402_300_799
"""The end of the year 9999: a clock beyond it has no date to print."""


@dataclass(frozen=True, slots=True)
class Files:
    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "journal.db"

    @property
    def wal(self) -> Path:
        return self.folder / "journal.db-wal"

    @property
    def new(self) -> Path:
        return self.folder / "journal.new"

    @property
    def copy(self) -> Path:
        return self.folder / "journal.copy"

    @property
    def restore(self) -> Path:
        return self.folder / "journal.restore"

    @property
    def marker(self) -> Path:
        return self.folder / "journal.marker"

    @property
    def damaged(self) -> Path:
        return self.folder / "journal.damaged"

    @property
    def reserve(self) -> Path:
        return self.folder / "journal.reserve"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def last_stop(self) -> Path:
        return self.folder / "last_stop"


@contextlib.contextmanager
def for_people(folder: Path) -> Iterator[None]:
    """Turn the system's errors about the state directory into ours, with a remedy (P13)."""
    try:
        yield
    except JournalError:
        raise
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise JournalUnwritable(
                prose.NO_ROOM_FOR_JOURNAL.format(folder=folder, why=error)
            ) from error
        raise JournalUnreadable(prose.JOURNAL_UNUSABLE.format(folder=folder, why=error)) from error


def sync_folder(folder: Path) -> None:
    """Make renames and removals in it durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """The state directory, and its name durable, where nobody made it before."""
    if folder.exists():
        return
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # a parent that is not ours to open
        sync_folder(folder.parent)


def write_whole(path: Path, text: str) -> None:
    """The file has all of its new content or all of its old, at any power cut."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # one that root left behind is not ours to open
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_folder(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """None when it does not exist; {} when it is not a JSON object. Raises OSError."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(SMALL_FILE_BYTES))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_births(files: Files) -> list[int] | None:
    """The births in the marker, oldest first; None without a marker."""
    marker = read_json(files.marker)
    if marker is None:
        return None
    births = marker.get("births")
    if not isinstance(births, list):
        return []
    return sorted({birth for birth in births if type(birth) is int and 0 < birth < 1 << 32})


def write_births(files: Files, births: Sequence[int], aside: str | None = None) -> None:
    """`aside`: a restore is decided, and this is what the present journal is set aside as."""
    kept = sorted(set(births))[-BIRTHS_KEPT:]
    content: dict[str, Any] = {"births": kept}
    if aside is not None:
        content["restoring"] = aside
    write_whole(files.marker, json.dumps(content) + "\n")


def take_lock(files: Files) -> int:
    """The open lock file, held until it is closed. Raises StateDirInUse, OSError."""
    handle = os.open(files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(handle, 20).decode("ascii", "replace").strip()
        os.close(handle)
        holder = prose.PROCESS.format(pid=pid) if pid.isdigit() else prose.ANOTHER_PROCESS
        raise StateDirInUse(
            prose.STATE_DIR_IN_USE.format(folder=files.folder, holder=holder)
        ) from None
    with contextlib.suppress(OSError):  # a full disk: the lock holds without its pid
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def set_aside(files: Files, at: float) -> Path | None:
    """Rename the database and its log; where it went, None when there was none.

    The database first: a log that a crash leaves behind alone is set aside by the next start.
    """
    target = name_aside(files, at)
    return target if _moved_aside(files, target) else None


def name_aside(files: Files, at: float) -> Path:
    """A name that is free, for the journal that is there."""
    stamp = datetime.fromtimestamp(min(max(at, 0.0), FAR_TIME), UTC).strftime("%Y%m%dT%H%M%SZ")
    target = files.folder / f"journal-{stamp}.db"
    number = 1
    while any(target.with_name(target.name + end).exists() for end in ("", "-wal", "-shm")):
        number += 1
        target = files.folder / f"journal-{stamp}-{number}.db"
    return target


def _moved_aside(files: Files, target: Path) -> bool:
    moved = False
    for end in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            (files.folder / f"journal.db{end}").rename(target.with_name(target.name + end))
            moved = True
            # One name after the other, so that no power cut keeps the log's move and undoes the
            # database's: without its log it would look whole.
            sync_folder(files.folder)
    return moved


def end_restore(files: Files) -> None:
    """The renames of a restore that the marker has decided on; again at each start, until the
    marker says that they are done. Nothing where it decided none. Raises OSError.

    The journal has a log beside it, and no rename replaces two files at once: between these
    there is none under the journal's name, and whoever opens one comes by here first.
    """
    aside = (read_json(files.marker) or {}).get("restoring")
    if not isinstance(aside, str) or not Path(aside).match(SET_ASIDE) or "/" in aside:
        return
    if files.restore.exists():
        _moved_aside(files, files.folder / aside)
        files.damaged.unlink(missing_ok=True)  # it was about the one that is aside now
        files.restore.rename(files.database)
        sync_folder(files.folder)
    write_births(files, read_births(files) or [])
    as_the_folders_owner(files.folder, files.marker)


def drop_unfinished(files: Files) -> None:
    """What a kill left of a backup or a restore; under the lock, and after `end_restore`."""
    for name in IN_THE_MAKING:
        for end in ("", "-wal", "-shm", "-journal"):
            (files.folder / f"{name}{end}").unlink(missing_ok=True)


def as_the_folders_owner(folder: Path, path: Path) -> None:
    """Root restores, and the daemon's own user must read and write it."""
    owner = folder.stat()
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)
    path.chmod(0o640)
