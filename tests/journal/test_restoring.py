"""Backups made while the journal works, and what a restored one admits (P13)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.errors import (
    JournalDamaged,
    JournalUnreadable,
    JournalUnwritable,
    Refused,
    StateDirInUse,
)
from controller.journal import check, migrations, restoring, retention, store, visits
from controller.journal.restoring import Restored, hold
from controller.model import Code

from .conftest import (
    DELIVERED,
    NOW,
    PLAN,
    Bench,
    accepted,
    balanced,
    cabinet,
    make_order,
    one_cycle,
    stock_of,
    unsent,
)

DAY = 86_400


async def backed_up(bench: Bench, name: str = "backup.db") -> Path:
    target = bench.folder.parent / name
    with await bench.journals[-1].copy("anna") as made:
        target.write_bytes(made.read())
    return target


def put_back(bench: Bench, source: Path) -> Restored:
    with hold(bench.folder, source) as restoring:
        return restoring.put_in_place("anna", bench.clock.now)


async def sold(bench: Bench, number: int) -> None:
    (job,) = await accepted(bench.journals[-1], make_order(number, issued_at=bench.clock.now))
    await one_cycle(bench.journals[-1], job.ref, DELIVERED)


async def test_what_is_written_while_a_copy_is_made_is_in_it_and_waits_for_no_copy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its first slice the copy goes on only when three orders were served."""
    served = threading.Event()
    serve = store.Store._serve_submitted

    def hold_the_copy(self: store.Store) -> None:
        until = time.monotonic() + 10
        while not served.is_set() and time.monotonic() < until:
            serve(self)

    monkeypatch.setattr(store, "COPY_PAGES", 1)
    journal = await bench.ready()
    monkeypatch.setattr(store.Store, "_serve_submitted", hold_the_copy)
    copying = asyncio.create_task(backed_up(bench))
    for number in range(1, 4):
        await sold(bench, number)
    assert not copying.done(), "it waits for us"
    served.set()
    copy = await copying
    with sqlite3.connect(copy) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("SELECT SUM(delivered) FROM orders").fetchone() == (3,)
        assert connection.execute("SELECT who FROM audit").fetchall() == [("anna",)]
    connection.close()
    await sold(bench, 4)
    assert balanced(await stock_of(journal))


async def test_a_backup_whose_taker_left_ends_before_the_next_is_made(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on under the one name there is: a second one would write into its file."""
    going_on = threading.Event()
    serve = store.Store._serve_submitted

    def hold_the_copy(self: store.Store) -> None:
        until = time.monotonic() + 10
        while not going_on.is_set() and time.monotonic() < until:
            serve(self)

    monkeypatch.setattr(store, "COPY_PAGES", 1)
    monkeypatch.setattr(store.Store, "_serve_submitted", hold_the_copy)
    journal = await bench.ready()
    first = asyncio.create_task(backed_up(bench))
    async with asyncio.timeout(10):
        while not (bench.folder / "journal.copy").exists():
            await journal.stopped_cabinets()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(Refused) as refused:
        await backed_up(bench)
    assert refused.value.code == "busy"
    going_on.set()
    async with asyncio.timeout(10):
        while (bench.folder / "journal.copy").exists():
            await journal.stopped_cabinets()
    assert (await backed_up(bench)).stat().st_size
    assert not (bench.folder / "journal.copy").exists(), "nothing is left of any of them"
    assert balanced(await stock_of(journal))


async def test_a_copy_that_finds_no_room_or_a_stop_leaves_the_journal_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await bench.ready()
    monkeypatch.setattr(visits, "ROOM_KEPT_BYTES", 1 << 62)
    with pytest.raises(Refused) as refused:
        await journal.copy("anna")
    assert refused.value.code == "no_room"
    monkeypatch.undo()
    serve = store.Store._serve_submitted
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold_the_copy(self: store.Store) -> None:
        loop.call_soon_threadsafe(begun.set)
        until = time.monotonic() + 10
        while not self._closed and time.monotonic() < until:
            serve(self)

    monkeypatch.setattr(store, "COPY_PAGES", 1)
    monkeypatch.setattr(store.Store, "_serve_submitted", hold_the_copy)
    copying = asyncio.create_task(journal.copy("anna"))
    await begun.wait()
    await journal.close()
    with pytest.raises(Refused, match="stopping"):
        await copying
    journal, opening = bench.open()
    assert (opening.lost, opening.last_stop) == (False, "clean")


async def test_p13_a_restored_journal_takes_a_new_birth_doubts_and_waits_for_a_count(
    bench: Bench,
) -> None:
    journal = await bench.ready()
    birth, bound = journal.birth, journal.bound
    assert birth is not None
    assert bound is not None
    await sold(bench, 1)
    backup = await backed_up(bench)
    await sold(bench, 2)
    bench.clock.now += 3600
    await journal.close()
    done = put_back(bench, backup)
    assert done.backup.birth == birth
    assert done.backup.orders == 1
    assert done.set_aside is not None
    assert done.set_aside.exists(), "never deleted"
    assert backup.exists()
    journal = await bench.ready()
    assert journal.birth is not None
    assert journal.birth > birth
    assert journal.bound == journal.birth + 30, "the clock's skew is in it"
    assert journal.doubted
    assert journal.last_seq == 0
    assert await journal.stopped_cabinets() == {"A": "stock_unconfirmed"}
    with pytest.raises(Refused, match="A1"):
        await journal.start_cabinet("A", "anna")
    rejection = await journal.accept(make_order(2, issued_at=NOW), PLAN)
    assert getattr(rejection, "code", None) is Code.JOURNAL_RESET, "it was executed after the copy"
    kinds = [event["kind"] for event in await unsent(journal, "event")]
    assert "journal_restored" in kinds
    assert not journal.is_restored(birth, 99, 99), "our own past is no second restore"


async def test_a_backup_for_another_machine_bears_a_birth_after_its_own(
    bench: Bench, tmp_path: Path
) -> None:
    """No marker there knows the copy's birth, and the clock there is behind it."""
    bench.clock.now += 100 * DAY
    journal = await bench.ready()
    birth = journal.birth
    assert birth is not None
    backup = await backed_up(bench)
    other = Bench(tmp_path / "other")
    other.folder.mkdir()
    try:
        assert put_back(other, backup).set_aside is None
        journal, opening = other.open()
        assert (journal.birth, opening.lost) == (None, False), "the clock is behind the copy"
        other.clock.now = bench.clock.now
        assert await journal.believe()
        assert journal.birth == birth + 1
    finally:
        for opened in other.journals:
            opened.abandon()


async def test_a_journal_that_was_set_aside_with_its_log_can_be_put_back(bench: Bench) -> None:
    await bench.ready()
    await sold(bench, 1)
    bench.crash()
    assert (bench.folder / "journal.db-wal").stat().st_size
    for end in ("", "-wal"):
        (bench.folder / f"journal.db{end}").rename(bench.folder / f"journal-x.db{end}")
    (bench.folder / "journal.damaged").touch()
    assert put_back(bench, bench.folder / "journal-x.db").backup.orders == 1
    journal, opening = bench.open()
    assert not opening.lost
    assert len((await journal.orders(9))["orders"]) == 1


async def test_what_must_not_be_put_back_is_refused_and_changes_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    journal = await bench.ready()
    await sold(bench, 1)
    backup = await backed_up(bench)
    with pytest.raises(StateDirInUse), hold(bench.folder, backup):
        pass
    await journal.close()
    before = sorted(path.name for path in bench.folder.iterdir())
    content = bench.database.read_bytes()
    whole = backup.read_bytes()
    newer, foreign, torn = tmp_path / "newer.db", tmp_path / "foreign.db", tmp_path / "torn.db"
    newer.write_bytes(whole)
    with sqlite3.connect(newer) as connection:
        connection.execute(f"PRAGMA user_version = {migrations.newest_version() + 1}")
    connection.close()
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    torn.write_bytes(whole[: len(whole) // 2])
    refusals: list[tuple[Path, type[Exception], str]] = [
        (newer, JournalUnreadable, "newer program"),
        (foreign, JournalUnreadable, "no journal"),
        (torn, JournalDamaged, "torn.db"),
        (tmp_path / "absent.db", JournalUnreadable, "no file"),
        (tmp_path, JournalUnreadable, "no file"),
    ]
    for source, kind, words in refusals:
        with pytest.raises(kind, match=words), hold(bench.folder, source):
            pass
    assert sorted(path.name for path in bench.folder.iterdir()) == before
    assert bench.database.read_bytes() == content
    with pytest.raises(JournalUnreadable, match="no state directory"), hold(tmp_path / "x", backup):
        pass


async def test_what_is_no_backup_is_refused_before_a_byte_is_copied(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe would keep the technician waiting, and a file of 5 TB fill the disk."""
    journal = await bench.ready()
    await sold(bench, 1)
    backup = await backed_up(bench)
    await journal.close()
    whole = backup.read_bytes()

    def made(name: str, content: bytes, size: int | None = None) -> Path:
        (tmp_path / name).write_bytes(content)
        if size is not None:
            os.truncate(tmp_path / name, size)
        return tmp_path / name

    os.mkfifo(tmp_path / "pipe.db")
    foreign = whole[:68] + b"ELSE" + whole[72:]
    huge = 5_000_000_000_000
    unsure = whole[:92] + bytes(4) + whole[96:]
    refusals: list[tuple[Path, type[Exception], str]] = [
        (tmp_path / "pipe.db", JournalUnreadable, "is no file"),
        (Path("/dev/zero"), JournalUnreadable, "is no file"),
        (made("empty.db", b""), JournalUnreadable, "no journal"),
        (made("zeros.db", b"", huge), JournalUnreadable, "no journal"),
        (made("text.db", b"SQLite " * 9_000), JournalUnreadable, "no journal"),
        (made("foreign.db", foreign), JournalUnreadable, "no journal"),
        (made("long.db", whole, huge), JournalDamaged, "tells of"),
        (made("unsure.db", unsure, huge), JournalUnwritable, "MB free"),
        (made("short.db", whole[:-4096]), JournalDamaged, "tells of"),
    ]
    monkeypatch.setattr(restoring, "_copy", None)
    for source, kind, words in refusals:
        with pytest.raises(kind, match=words), hold(bench.folder, source):
            pass
    monkeypatch.undo()
    os.mkfifo(tmp_path / "backup.db-wal")
    backup.rename(tmp_path / "backup.db")
    with pytest.raises(JournalUnreadable, match="is no file"):
        put_back(bench, tmp_path / "backup.db")
    left = bench.folder / "journal.copy"
    left.write_bytes(whole)
    with pytest.raises(JournalUnreadable, match="left"):
        put_back(bench, left)
    assert left.exists(), "what a person names is not what we clean up"


async def test_what_a_killed_backup_or_restore_left_goes_at_the_next_start(bench: Bench) -> None:
    await bench.ready()
    await sold(bench, 1)
    bench.crash()
    for name in ("journal.copy", "journal.copy-journal", "journal.restore", "journal.restore-wal"):
        (bench.folder / name).write_bytes(b"half of it")
    (bench.folder / "journal.marker.part").write_bytes(b"{")
    journal, opening = bench.open()
    assert not opening.lost
    assert len((await journal.orders(9))["orders"]) == 1
    left = [path.name for path in bench.folder.iterdir() if IN_THE_MAKING.match(path.name)]
    assert left == []


async def test_p13_a_restore_that_is_killed_leaves_the_old_journal_or_the_restored_one(
    bench: Bench, tmp_path: Path
) -> None:
    """Killed before each call that changes the directory, by SIGKILL; then the daemon starts.
    The old journal has a log with commits that its file does not have yet."""
    await bench.ready()
    await sold(bench, 1)
    backup = await backed_up(bench)
    await sold(bench, 2)
    bench.crash()
    assert (bench.folder / "journal.db-wal").stat().st_size
    restored = []
    for step in range(100):
        after = Bench(tmp_path / f"killed-{step}")
        shutil.copytree(bench.folder, after.folder)
        after.clock.now += 3600
        whole = not killed_at(step, lambda there=after: put_back(there, backup))
        journal, opening = after.open()
        assert (opening.lost, opening.unwritable) == (False, ""), step
        known = {order["order_id"] for order in (await journal.orders(9))["orders"]}
        await journal.sync_lanes((cabinet(),))
        stopped = await journal.stopped_cabinets()
        journal.abandon()
        restored.append(known == {1})
        aside = [each.name for each in after.folder.glob("journal-*")]
        if restored[-1]:
            assert stopped == {"A": "stock_unconfirmed"}, step
            assert sorted(name.partition(".")[2] for name in aside) == ["db", "db-wal"], step
            assert len({name.partition(".")[0] for name in aside}) == 1, "the log with its file"
            with contextlib.closing(sqlite3.connect(after.folder / min(aside))) as old:
                assert old.execute("SELECT SUM(delivered) FROM orders").fetchone() == (2,), step
        else:
            assert (known, stopped, aside) == ({1, 2}, {}, []), step
        left = [path.name for path in after.folder.iterdir() if IN_THE_MAKING.match(path.name)]
        assert left == [], step
        assert "restoring" not in json.loads((after.folder / "journal.marker").read_bytes())
        shutil.rmtree(after.folder)
        if whole:
            break
    assert restored == sorted(restored), "once it is decided it stays so"
    assert restored.count(False) > 3
    assert restored.count(True) > 5
    assert len(restored) < 100, "the last one was not killed"


IN_THE_MAKING = re.compile(r"journal\.(copy|restore|new|marker\.part)")

CHANGING = ("rename", "replace", "unlink", "fsync")
"""Functions of `os` by which a directory and its files are changed. (SQLite's own are not seen:
it works on the copy alone. Opening and giving away comes between these.)"""


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """`work` in a process that ends by SIGKILL before the call number `step`; False when it came
    through with fewer."""
    child = os.fork()
    if child == 0:
        try:
            left = itertools.count(step, -1)

            def before(call: Callable[..., Any]) -> Callable[..., Any]:
                def counted(*args: Any, **more: Any) -> Any:
                    if next(left) == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*args, **more)

                return counted

            for name in CHANGING:
                setattr(os, name, before(getattr(os, name)))
            work()
        except BaseException:  # noqa: BLE001 - the parent sees the exit code
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
async def test_what_root_puts_back_belongs_to_the_daemons_user(bench: Bench) -> None:
    journal = await bench.ready()
    backup = await backed_up(bench)
    await journal.close()
    os.chown(bench.folder, 65534, 65534)
    put_back(bench, backup)
    for name in ("journal.db", "journal.marker"):
        assert (bench.folder / name).stat().st_uid == 65534


# ------------------------------------------------------------------ check and prune


async def test_a_check_says_where_it_is_and_whose_it_was(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "SMALL_ROWS", 2)
    monkeypatch.setattr(check, "SLICE_ROWS", 2)
    journal = await bench.ready()
    for number in range(1, 8):
        await sold(bench, number)
    places = [place async for place in journal.checked_for("anna")]
    assert places[-1].table_no == places[-1].tables
    assert [p.table_no for p in places] == sorted(p.table_no for p in places)
    assert max(p.rows for p in places if p.table == "orders") >= 6
    assert not journal.damage_found.is_set()


async def test_damage_that_a_check_finds_is_told_to_the_daemon(bench: Bench) -> None:
    journal = await bench.ready()
    for number in range(1, 6):
        await sold(bench, number)
    journal._store._connection.execute("PRAGMA writable_schema = ON")
    journal._store._connection.execute(
        "UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'orders_trade'"
    )
    journal._store._connection.execute("PRAGMA writable_schema = RESET")
    with pytest.raises(JournalDamaged):
        [place async for place in journal.checked_for("anna")]
    assert journal.damage_found.is_set()
    assert (bench.folder / "journal.damaged").exists()


async def test_p8_prune_says_what_it_removes_and_keeps_what_tells_a_repetition(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "KEPT_EVENTS", 5)
    journal = await bench.ready()
    for number in range(1, 8):
        await sold(bench, number)
        await journal.event("door", {"n": number})
    for topic in ("result", "order", "event"):
        await journal.sent(await journal.oldest(topic, 99))
    assert set((await journal.would_prune()).values()) <= {0, 2}, "events beyond their number"
    bench.clock.now += 401 * DAY
    await sold(bench, 8)
    would = await journal.would_prune()
    assert would["orders"] == 7
    assert would["events"] >= 2
    gone: dict[str, int] = dict.fromkeys(would, 0)
    async for kind, rows in journal.pruned_for("anna"):
        gone[kind] += rows
    assert gone == would
    assert set((await journal.would_prune()).values()) == {0}
    assert [(await journal.order(n))[0]["pruned"] for n in (1, 8)] == [True, False]
    assert await journal.accept(make_order(1), PLAN) == (), "known for ever: replayed, not driven"
    bench.clock.believes = False
    with pytest.raises(Refused) as refused:
        await journal.would_prune()
    assert refused.value.code == "clock_unset"


async def test_the_backlog_names_the_oldest_of_each_topic(bench: Bench) -> None:
    journal = await bench.ready()
    empty = {row["topic"]: row for row in await journal.backlog()}
    assert empty["result"] == {
        "topic": "result", "count": 0, "oldest_seq": None, "oldest_at": None,
    }  # fmt: skip
    await sold(bench, 1)
    bench.clock.now += 60
    await sold(bench, 2)
    await journal.event("door", {})
    told = {row["topic"]: row for row in await journal.backlog()}
    assert (told["result"]["count"], told["result"]["oldest_at"]) == (2, NOW)
    assert (told["order"]["count"], told["order"]["oldest_seq"]) == (4, 1)
    assert told["event"]["count"] == 1
