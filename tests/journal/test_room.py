"""P12: a full disk, a read-only one, and the space put by for closing what is in flight."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.dispensing.interfaces import Standing
from controller.errors import JournalError, JournalUnreadable, JournalUnwritable
from controller.journal import migrations
from controller.journal.journal import Journal
from controller.journal.reserve import Reserve
from controller.model import Outcome

from .conftest import (
    DELIVERED,
    PLAN,
    Bench,
    accepted,
    balanced,
    cabinet,
    ending,
    intent,
    make_order,
    stock_of,
    unsent,
)


def pages(bench: Bench, limit: int | None) -> None:
    """SQLite's own limit on the file: the next page beyond it is a real SQLITE_FULL."""
    connection = bench.journals[-1]._store._connection
    (used,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {limit if limit is not None else used + 10_000}")


# ------------------------------------------------------------------ without a mount


async def use_up(journal: Journal, times: int = 200) -> None:
    """Write until there is no more room."""
    for number in range(times):
        await journal.event("filler", {"text": "x" * 3_000, "n": number})


async def order_on(journal: Journal, numbers: range, before: list[Any]) -> None:
    """Accept orders; `before` is how things stood in front of the newest."""
    for number in numbers:
        before[:] = [number, *await standing(journal)]
        await accepted(journal, make_order(number, channel=f"A{1 + number % 3}"))


async def standing(journal: Journal) -> list[Any]:
    return [await journal.lane_states(), await journal.waiting(), journal.last_seq]


async def test_a_full_disk_refuses_and_keeps_nothing_half_done(bench: Bench) -> None:
    """JournalUnwritable, no trace of the refused command, and all is well when there is room."""
    journal = await bench.ready()
    pages(bench, 1)
    with pytest.raises(JournalUnwritable, match="free disk space"):
        await use_up(journal)
    before: list[Any] = []
    with pytest.raises(JournalUnwritable):
        await order_on(journal, range(1, 29), before)
    number = before[0]
    assert await journal.look_up(make_order(number)) is Standing.NEW
    assert await standing(journal) == before[1:]
    pages(bench, None)
    await accepted(journal, make_order(number + 1))
    assert all(balanced(state) for state in await journal.lane_states())
    stored = await journal.messages_since((0, 0), 500)
    assert [seq for _, _, seq, _ in stored] == list(range(1, len(stored) + 1))


async def test_closing_uses_the_reserve_when_nothing_else_is_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The space put by is given up for a closing, once; opening waits until it is back."""
    journal = await bench.ready()
    jobs = await accepted(journal, make_order(quantity=3))
    opened = await journal.open_cycle(intent(jobs[0].ref))
    pages(bench, 1)
    with pytest.raises(JournalUnwritable):
        await use_up(journal)
    real_release = Reserve.release

    def release(reserve: Reserve) -> bool:
        """What the freed file gives back on a real disk: room to grow."""
        pages(bench, None)
        return real_release(reserve)

    monkeypatch.setattr(Reserve, "release", release)
    trace = [{"at": 0.0, "event": "x" * 2_000, "frame": ""}] * 20
    end = ending(DELIVERED)
    closed = await journal.close_cycle(
        opened.cycle_id, type(end)(end.finding, trace, end.final, end.failure_limit)
    )
    assert closed.outcome is Outcome.DELIVERED
    assert not journal.reserve_whole
    assert not (bench.folder / "journal.reserve").exists()
    monkeypatch.setattr("controller.journal.reserve.os.urandom", no_room)
    for begin in (
        lambda: journal.open_cycle(intent(jobs[1].ref)),
        lambda: journal.accept(make_order(2), PLAN),
    ):
        with pytest.raises(JournalUnwritable, match="reserve"):
            await begin()
    assert (await stock_of(journal)).gone == 1
    assert len(await unsent(journal, "result")) == 1
    monkeypatch.undo()
    await journal.open_cycle(intent(jobs[1].ref))
    assert journal.reserve_whole


def no_room(size: int) -> bytes:
    raise OSError(28, "No space left on device")


async def test_the_reserve_is_really_written(tmp_path: Path) -> None:
    """A sparse or short file holds no space: it is written anew."""
    reserve = Reserve(tmp_path / "r", 65_536)
    assert reserve.ensure()
    assert (tmp_path / "r").stat().st_blocks * 512 >= 65_536
    os.truncate(tmp_path / "r", 0)
    os.truncate(tmp_path / "r", 65_536)
    again = Reserve(tmp_path / "r", 65_536)
    assert again.ensure()
    assert (tmp_path / "r").stat().st_blocks * 512 >= 65_536
    assert again.release()
    assert not again.release()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, "JournalUnwritable"),
        (sqlite3.SQLITE_READONLY, "JournalUnwritable"),
        (sqlite3.SQLITE_IOERR_FSYNC, "JournalUncertain"),
        (sqlite3.SQLITE_CANTOPEN, "JournalUnwritable"),
        (sqlite3.SQLITE_CORRUPT, "JournalDamaged"),
        (sqlite3.SQLITE_NOTADB, "JournalDamaged"),
    ],
)
async def test_a_commit_that_fails_keeps_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, code: int, kind: str
) -> None:
    """P7, P12: the one narrow commit fails; the caller is told by class, counters stay."""
    journal = await bench.ready()

    def fail() -> None:
        error = sqlite3.OperationalError("from below")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(journal._store, "_commit", fail)
    with pytest.raises(JournalError) as failed:
        await journal.accept(make_order(), PLAN)
    assert type(failed.value).__name__ == kind
    monkeypatch.undo()
    assert journal.last_seq == 0
    assert await journal.waiting_units() == []
    await accepted(journal, make_order())
    assert [m["seq"] for m in await unsent(journal, "order")] == [1]


# ------------------------------------------------------------------ on a real small disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 2 MiB; skips where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def fill_disk(folder: Path) -> None:
    """To the last byte."""
    with (folder / "logs").open("ab", buffering=0) as file:
        for size in (65_536, 4_096, 64, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


async def test_a_cycle_in_flight_is_closed_on_a_really_full_disk(small_disk: Path) -> None:
    """P12 in the open: ENOSPC from the kernel, the reserve released, the outcome durable."""
    bench = Bench(small_disk / "state")
    journal = await bench.ready()
    jobs = await accepted(journal, make_order(quantity=3))
    opened = await journal.open_cycle(intent(jobs[0].ref))
    fill_disk(small_disk)
    with pytest.raises(JournalUnwritable):
        await use_up(journal)
    with pytest.raises(JournalUnwritable):
        await order_on(journal, range(2, 30), [])
    closed = await journal.close_cycle(opened.cycle_id, ending(DELIVERED))
    assert closed.outcome is Outcome.DELIVERED
    fill_disk(small_disk)
    with pytest.raises(JournalUnwritable):
        await journal.open_cycle(intent(jobs[1].ref))
    journal.abandon()

    journal, opening = bench.open()
    assert not opening.lost
    assert (await journal.lane("A1"))["lane"]["gone"] == 1
    (small_disk / "logs").unlink()
    await journal.open_cycle(intent(jobs[1].ref))
    assert journal.reserve_whole
    journal.abandon()


async def test_a_full_disk_at_start_is_no_reason_to_stop(small_disk: Path) -> None:
    """P12, P13: the journal that is there is opened; only where none can be made it stops."""
    bench = Bench(small_disk / "state")
    journal = await bench.ready()
    jobs = await accepted(journal, make_order())
    await use_up(journal, 20)
    await journal.close()
    (bench.folder / "journal.reserve").unlink()
    fill_disk(small_disk)
    journal, opening = bench.open()
    assert not opening.lost
    assert opening.birth is not None
    assert [job.ref for job in await journal.waiting_units()] == [jobs[0].ref]
    with pytest.raises(JournalUnwritable):
        await journal.open_cycle(intent(jobs[0].ref))
    (small_disk / "logs").unlink()
    await journal.open_cycle(intent(jobs[0].ref))
    journal.abandon()

    fill_disk(small_disk)
    other = Bench(small_disk / "other")
    with pytest.raises(JournalUnwritable, match="free disk space"):
        other.open()


async def test_an_upgrade_on_a_full_disk_uses_the_reserve(small_disk: Path) -> None:
    """P12: the older journal is brought forward in the room put by, and nothing new begins
    until that is put by again."""
    bench = Bench(small_disk / "state")
    bench.folder.mkdir()
    with contextlib.closing(sqlite3.connect(bench.database, isolation_level=None)) as older:
        migrations.migrate(older, 1)
        older.execute("PRAGMA journal_mode = WAL")
    assert Reserve(bench.folder / "journal.reserve", 65_536).ensure()
    fill_disk(small_disk)
    journal, opening = bench.open()
    assert (opening.lost, opening.set_aside) == (False, None)
    assert not journal.reserve_whole
    fill_disk(small_disk)
    with pytest.raises(JournalUnwritable, match="free disk space"):
        await journal.open_cycle(intent(None, test_id="t"))
    (small_disk / "logs").unlink()
    assert await journal.believe(), "as the daemon asks again: its birth may have found no room"
    await journal.sync_lanes((cabinet(),))
    await journal.open_cycle(intent(None, test_id="t"))
    assert journal.reserve_whole
    journal.abandon()


async def test_nothing_begins_before_the_lanes_of_the_settings_are_known(
    small_disk: Path,
) -> None:
    """P12: the settings changed while the disk was full; an order must not meet the old lanes."""
    bench = Bench(small_disk / "state")
    journal = await bench.ready()
    await use_up(journal, 20)
    await journal.close()
    (bench.folder / "journal.reserve").unlink()
    fill_disk(small_disk)
    journal, _ = bench.open()
    lanes = (cabinet(lanes=4),)
    with pytest.raises(JournalUnwritable):
        await journal.sync_lanes(lanes)
    (small_disk / "logs").unlink()
    with pytest.raises(JournalUnwritable, match="settings"):
        await accepted(journal, make_order())
    await journal.sync_lanes(lanes)
    assert [state.lane.channel for state in await journal.lane_states()] == ["A1", "A2", "A3", "A4"]
    await accepted(journal, make_order())
    journal.abandon()


async def test_a_disk_that_turns_read_only(small_disk: Path) -> None:
    """While running: unwritable, and what is in memory of the file can be read. At start: a
    person must act, and nothing is set aside."""
    bench = Bench(small_disk / "state")
    journal = await bench.ready()
    await accepted(journal, make_order())
    journal.abandon()
    remount(small_disk, "ro")
    with pytest.raises(JournalUnreadable, match="mount"):
        bench.open()
    remount(small_disk, "rw")
    journal, opening = bench.open()
    assert not opening.lost
    assert len(await journal.waiting_units()) == 1
    journal.abandon()


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)
