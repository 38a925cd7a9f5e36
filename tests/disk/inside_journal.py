"""P7, P11, P12, P13: the real journal on a disk that loses what was not synced.

Runs within the layer: test_layer.py starts it there. The seeds to live through
are in LIVES ("FIRST COUNT"). The last part is faults of the journal that were
found here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from controller.dispensing.interfaces import Standing
from controller.errors import (
    JournalError,
    JournalUncertain,
    JournalUnreadable,
    JournalUnwritable,
)
from controller.journal import store
from controller.journal.files import Files, set_aside
from controller.journal.journal import Journal
from controller.journal.opening import Opening
from controller.model import OrderKey
from tests.disk.layer import Disk, Kept, Op, Where
from tests.disk.lives import STEPS, Broken, Lives
from tests.disk.work import at_once, is_whole, open_inline, rows, step, undisturbed
from tests.journal.conftest import PLAN, accepted, make_order

FIRST, COUNT = (int(word) for word in os.environ.get("LIVES", "0 3").split())


@pytest.fixture
def folder() -> Iterator[Path]:
    """A state directory that is itself durable, as systemd's StateDirectory is."""
    root = Path(mkdtemp(prefix="disk-", dir="/dev/shm"))
    (root / "state").mkdir()
    yield root / "state"
    shutil.rmtree(root, ignore_errors=True)


OPENED: list[Journal] = []
"""By the running test; abandoned at its end."""


def start(folder: Path, **more: Any) -> tuple[Journal, Opening]:
    journal, opening = open_inline(folder, **more)
    OPENED.append(journal)
    return journal, opening


@pytest.fixture
def disk(folder: Path) -> Iterator[Disk]:
    made = Disk(folder.parent)
    yield made
    while OPENED:
        OPENED.pop().abandon()
    assert made.escaped() is None
    made.stop()


def lead_on(lives: Lives, count: int) -> None:
    for seed in range(count):
        lives.lead(seed, faults=False)


async def fill_up(journal: Journal) -> None:
    for number in range(200):
        await journal.event("filler", {"text": "x" * 3_000, "n": number})


@pytest.fixture
def lives() -> Iterator[Lives]:
    made = Lives()
    yield made
    made.close()


def crash(disk: Disk) -> None:
    """The process is gone; `cut` or `revive` comes next."""
    disk.die()
    while OPENED:
        OPENED.pop().abandon()


# ------------------------------------------------------------------ what must hold


def test_nothing_of_a_journals_work_escapes(disk: Disk, folder: Path) -> None:
    undisturbed(folder, 1, STEPS)
    assert disk.escaped() is None
    assert disk.count(Op.SYNC) > STEPS, "a step without a sync"
    assert disk.count(Op.SYNC_FOLDER) >= 2
    assert disk.written > 1_000_000


def test_no_shared_memory_is_used(disk: Disk, folder: Path) -> None:
    journal, _ = start(folder)
    step(journal, 1, 0)
    assert (folder / "journal.db-wal").exists()
    assert not list(folder.glob("*-shm"))
    assert "journal.db" not in Path("/proc/self/maps").read_text(encoding="utf-8")
    journal.abandon()


def test_a_commit_is_durable_when_it_returns(disk: Disk, folder: Path) -> None:
    """P7, the plainest form: after every step a cut that keeps nothing."""
    known = undisturbed(folder, 1, STEPS)
    shutil.rmtree(folder)
    folder.mkdir()
    start(folder)[0].abandon()
    disk.cut(0, Kept.EVERYTHING)
    for number in range(STEPS):
        journal, opening = start(folder)
        assert not opening.lost
        assert rows(journal) == known[number]
        step(journal, 1, number)
        crash(disk)
        disk.cut(0, Kept.NOTHING)


@pytest.mark.parametrize("faults", [False, True], ids=["crashes", "faults"])
def test_lives(lives: Lives, *, faults: bool) -> None:
    for seed in range(FIRST, FIRST + COUNT):
        lives.lead(seed, faults=faults)
    done = lives.done
    print(dict(done))
    assert done["cut"]
    assert done["kill"]
    assert done["step"] > COUNT * STEPS // 2, "most of the work went unheard"


def test_a_life_is_lived_again_the_same_way(lives: Lives) -> None:
    """One seed, one story: whatever was lost, kept and counted."""
    assert lives.lead(FIRST, faults=True) == lives.lead(FIRST, faults=True)


@pytest.mark.parametrize("pragma", ["PRAGMA synchronous = OFF", "PRAGMA synchronous = NORMAL"])
def test_a_missing_sync_is_found(
    lives: Lives, monkeypatch: pytest.MonkeyPatch, pragma: str
) -> None:
    """Were commits not synced, a few seeds would say so."""
    monkeypatch.setattr(store, "PRAGMAS", (*store.PRAGMAS, pragma))
    with pytest.raises(Broken):
        lead_on(lives, 20)


def test_the_making_of_a_journal_survives_crashes(disk: Disk, folder: Path) -> None:
    """P13: a first installation that is interrupted is still a first installation."""
    for seed in range(3 * COUNT):
        dice = random.Random(seed)
        for _ in range(20):
            disk.die_at(dice.randint(1, 60), dice.choice(list(Where)))
            try:
                journal, opening = start(folder)
                assert not opening.lost
                assert not opening.set_aside
                at_once(journal.waiting())
            except (JournalError, OSError, sqlite3.Error):
                if not disk.dead:
                    raise
            crash(disk)
            if dice.random() < 0.8:
                disk.cut(dice.getrandbits(64))
            else:
                disk.revive()
        journal, opening = start(folder)
        assert not opening.lost
        assert is_whole(journal)
        journal.abandon()
        shutil.rmtree(folder)
        folder.mkdir()
        disk.cut(0, Kept.EVERYTHING)


async def test_a_cycle_is_closed_on_a_full_disk(disk: Disk, folder: Path) -> None:
    """P12: the reserve is given up for it, and nothing new begins."""
    journal, _ = start(folder, reserve_bytes=1_048_576)
    step(journal, 1, 0)
    step(journal, 1, 1)
    step(journal, 1, 2)
    disk.capacity(disk.used)
    with pytest.raises(JournalUnwritable):
        await fill_up(journal)
    step(journal, 1, 3)
    assert not journal.reserve_whole
    with pytest.raises(JournalUnwritable):
        await journal.accept(make_order(99), PLAN)
    crash(disk)
    disk.cut(5)
    journal, opening = start(folder, reserve_bytes=1_048_576)
    assert not opening.lost
    assert await journal.open_cycles() == [] or all(c.closed for c in await journal.open_cycles())
    disk.capacity(None)
    await accepted(journal, make_order(99))
    journal.abandon()


# ------------------------------------------------------------------ faults that were found


async def test_a_command_that_was_refused_as_unwritable_is_not_there_later(
    disk: Disk, folder: Path
) -> None:
    """P12: the daemon says `journal_unwritable`; a kill, and the order is found accepted."""
    journal, _ = start(folder)
    step(journal, 1, 0)
    disk.fail(Op.SYNC, 1, errno.EIO)
    with pytest.raises(JournalUnwritable):
        await journal.accept(make_order(7), PLAN)
    assert await journal.order_book(OrderKey(7, "")) is None
    crash(disk)
    disk.revive()
    journal, _ = start(folder)
    assert await journal.order_book(OrderKey(7, "")) is None


async def test_a_refusal_that_a_crash_may_undo_says_so(disk: Disk, folder: Path) -> None:
    """P12: the overwriting write fails as well. Killed right there, the order may be found
    accepted; whoever was told, was told that nobody knows."""
    journal, _ = start(folder)
    step(journal, 1, 0)
    disk.fail(Op.SYNC, 1, errno.EIO)
    overwrite = journal._store._overwrite

    def fails_too() -> bool:
        disk.fail(Op.SYNC, 1, errno.EIO)
        return overwrite()

    journal._store._overwrite = fails_too  # type: ignore[method-assign]
    with pytest.raises(JournalUncertain):
        await journal.accept(make_order(7), PLAN)
    crash(disk)
    disk.revive()
    journal, opening = start(folder)
    assert not opening.lost
    book = await journal.order_book(OrderKey(7, ""))
    assert book is None or (book.waiting, book.running) == (1, 0)


async def test_killed_between_the_failed_commit_and_its_overwriting_nobody_was_told(
    disk: Disk, folder: Path
) -> None:
    """P7, P8: the command was neither answered nor acknowledged; brought again it is the same."""
    journal, _ = start(folder)
    step(journal, 1, 0)
    disk.fail(Op.SYNC, 1, errno.EIO)

    def killed() -> bool:
        disk.die()
        return False

    journal._store._overwrite = killed  # type: ignore[method-assign]
    with pytest.raises(JournalUncertain):
        await journal.accept(make_order(7), PLAN)
    crash(disk)
    disk.revive()
    journal, _ = start(folder)
    standing = await journal.look_up(make_order(7))
    assert standing in {Standing.SAME, Standing.NEW}


@pytest.mark.parametrize("where", Where)
@pytest.mark.parametrize("n", range(1, 9))
async def test_killed_while_it_overwrites_a_failed_commit_it_is_no_damaged_journal(
    disk: Disk, folder: Path, n: int, where: Where
) -> None:
    """Then the rest of two commits lies at the log's end: the one being written, and of the one
    in whose place it is written what was longer."""
    journal, _ = start(folder)
    step(journal, 1, 0)
    disk.fail(Op.SYNC, 1, errno.EIO)
    overwrite = journal._store._overwrite

    def killed() -> bool:
        disk.die_at(n, where)
        return overwrite()

    journal._store._overwrite = killed  # type: ignore[method-assign]
    with contextlib.suppress(JournalUnwritable):
        await journal.accept(make_order(7, 3), PLAN)
    crash(disk)
    disk.revive()
    journal, opening = start(folder)
    assert not opening.lost
    assert is_whole(journal)


def test_a_failed_sync_of_the_logs_name_is_noticed(disk: Disk, folder: Path) -> None:
    """Else a cut takes the log with all commits. The next start makes another log."""
    start(folder)
    crash(disk)
    disk.cut(0, Kept.EVERYTHING)
    journal, _ = start(folder)
    at_once(journal.close())  # the log is gone; the next start makes a new one
    disk.cut(0, Kept.EVERYTHING)
    disk.fail(Op.SYNC_FOLDER, 1, errno.EIO)
    with pytest.raises(JournalUnreadable, match="look at the disk"):
        start(folder)
    for attempt in range(10):
        journal, _ = start(folder)
        step(journal, 1, 2 * attempt)
        step(journal, 1, 2 * attempt + 1)
        known = rows(journal)
        crash(disk)
        disk.cut(attempt, Kept.NOTHING)
        journal, _ = start(folder)
        assert rows(journal) == known
        journal.abandon()


@pytest.mark.parametrize("where", Where)
@pytest.mark.parametrize("n", range(1, 11))
def test_killed_behind_a_failed_sync_of_the_logs_name_the_next_start_makes_another(
    disk: Disk, folder: Path, n: int, where: Where
) -> None:
    """P7, P11: the empty log that the dead start left has a name that no sync keeps any more."""
    journal, _ = start(folder)
    at_once(journal.close())
    disk.cut(0, Kept.EVERYTHING)
    disk.fail(Op.SYNC_FOLDER, 1, errno.EIO)
    disk.die_at(n, where)
    with contextlib.suppress(JournalError, OSError):
        start(folder)
    crash(disk)
    disk.revive()
    disk.fail(Op.SYNC_FOLDER, 0, 0)
    journal, _ = start(folder)
    step(journal, 1, 0)
    known = rows(journal)
    crash(disk)
    disk.cut(n, Kept.NOTHING)
    journal, _ = start(folder)
    assert rows(journal) == known


async def test_a_reserve_that_cannot_be_made_is_unwritable(disk: Disk, folder: Path) -> None:
    """P12: whatever the disk says, `accept` raises JournalUnwritable and nothing else."""
    journal, _ = start(folder)
    step(journal, 1, 0)
    journal._reserve.release()
    disk.fail(Op.WRITE, 1, errno.EIO)
    disk.fail(Op.UNLINK, 1, errno.EIO)
    with pytest.raises(JournalUnwritable):
        await journal.accept(make_order(7), PLAN)


def test_a_journal_that_cannot_be_made_has_a_remedy(disk: Disk, folder: Path) -> None:
    """P13: JournalUnwritable or JournalUnreadable with words for people, not SQLite's own."""
    disk.fail(Op.CREATE, 2, errno.EIO)  # the lock is the first
    with pytest.raises(JournalError):
        start(folder)


def test_a_state_directory_that_was_made_is_durable(disk: Disk, folder: Path) -> None:
    """P13, in the strict reading (not on ext4): all of a new machine's memory is lost unnoticed."""
    folder.rmdir()
    disk.cut(0, Kept.EVERYTHING)
    journal, _ = start(folder)
    step(journal, 1, 0)
    crash(disk)
    disk.cut(0, Kept.NOTHING)
    assert folder.exists()


def test_a_database_is_never_left_without_its_log(disk: Disk, folder: Path) -> None:
    """P13, in the strict reading (not on ext4): then the next start takes the rest for whole."""
    journal, _ = start(folder)
    step(journal, 1, 0)
    crash(disk)
    disk.cut(0, Kept.EVERYTHING)
    again = folder.parent / "again"
    parted = False
    for seed in range(40):
        again.mkdir()
        for path in folder.iterdir():
            (again / path.name).write_bytes(path.read_bytes())
        disk.cut(0, Kept.EVERYTHING)
        disk.die_at(3, Where.BEFORE)  # two renames, and the sync does not come
        with pytest.raises(OSError, match="Input/output"):
            set_aside(Files(again), 0.0)
        disk.cut(seed)
        names = {path.name for path in again.iterdir()}
        parted |= "journal.db" in names and "journal.db-wal" not in names
        shutil.rmtree(again)
        disk.cut(0, Kept.EVERYTHING)
    assert not parted
