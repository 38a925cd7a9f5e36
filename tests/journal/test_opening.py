"""P13: what a start finds, and what it makes of it. Real files, really damaged."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.dispensing.interfaces import Standing
from controller.errors import JournalDamaged, JournalUnreadable, Refused, StateDirInUse
from controller.journal.files import Files, read_births
from controller.journal.journal import Journal
from controller.journal.migrations import newest_version
from controller.model import Code

from .conftest import (
    BOOT,
    DELIVERED,
    NOW,
    PLAN,
    Bench,
    accepted,
    cabinet,
    ending,
    intent,
    make_order,
    one_cycle,
    unsent,
)

OTHER_BOOT = "22222222-2222-2222-2222-222222222222"


async def history(bench: Bench, orders: int = 40) -> None:
    """A journal with some pages of orders, left by a crash with its log unmerged."""
    journal = await bench.ready(cabinet(stock=20))
    for number in range(1, orders + 1):
        (job,) = await accepted(journal, make_order(number))
        await one_cycle(journal, job.ref, DELIVERED)
        if number % 15 == 0:
            await journal.fill(None, "test")
    bench.crash()


def merge_log(bench: Bench) -> None:
    """Everything into journal.db, as a checkpoint leaves it; the log is gone."""
    with sqlite3.connect(bench.database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


# ------------------------------------------------------------------ first, clean, crash, power


async def test_a_first_installation(bench: Bench) -> None:
    """Birth is now, the bound is the birth, nothing waits for a technician."""
    journal, opening = bench.open()
    assert (opening.first, opening.lost, opening.set_aside) == (True, False, None)
    assert (opening.birth, opening.bound) == (int(NOW), int(NOW))
    assert (opening.last_stop, opening.unclean, opening.unwritable) == ("clean", False, "")
    await journal.sync_lanes([cabinet()])
    assert await journal.stopped_cabinets() == {}
    assert read_births(Files(bench.folder)) == [int(NOW)]
    assert journal.reserve_whole


async def test_a_clean_stop_and_the_same_birth(bench: Bench) -> None:
    journal = await bench.ready()
    await journal.close()
    await journal.close()
    bench.clock.now += 1_000
    journal, opening = bench.open()
    assert (opening.first, opening.lost, opening.unclean) == (False, False, False)
    assert (opening.birth, opening.last_stop, opening.rebooted) == (int(NOW), "clean", False)


@pytest.mark.parametrize(
    ("told", "boot", "stop"),
    [
        (None, BOOT, "crash"),
        (None, OTHER_BOOT, "power"),
        ({"result": "watchdog"}, BOOT, "watchdog"),
        ({"result": "watchdog"}, OTHER_BOOT, "watchdog"),
        ({"result": "signal"}, OTHER_BOOT, "crash"),
        ({"result": "oom-kill"}, BOOT, "crash"),
        ("rubbish", OTHER_BOOT, "power"),
        ({"result": ["a"]}, BOOT, "crash"),
    ],
)
async def test_why_it_stopped(bench: Bench, told: object, boot: str, stop: str) -> None:
    """The service manager's word, and the boot id where power left none; used up by reading."""
    await bench.ready()
    bench.crash()
    if told is not None:
        text = told if isinstance(told, str) else json.dumps(told)
        (bench.folder / "last_stop").write_text(text)
    bench.boot = boot
    _, opening = bench.open()
    assert opening.last_stop == stop
    assert opening.unclean
    assert opening.rebooted is (boot != BOOT)
    assert not (bench.folder / "last_stop").exists()


# ------------------------------------------------------------------ birth and belief


async def test_no_birth_before_the_clock_is_believed(bench: Bench) -> None:
    """Open, but nothing is accepted and nothing moves; then the birth is the believed time."""
    bench.clock.believes = False
    journal, opening = bench.open()
    assert (opening.birth, opening.bound, journal.newest_time) == (None, None, 0)
    await journal.sync_lanes([cabinet()])
    refused = await journal.accept(make_order(), PLAN)
    assert getattr(refused, "code", None) is Code.CLOCK_UNSET
    with pytest.raises(Refused) as no_cycle:
        await journal.open_cycle(intent(None, test_id="t"))
    assert no_cycle.value.code == "clock_unset"
    assert not await journal.believe()
    await journal.event("door", {"open": True})
    bench.clock.believes = True
    bench.clock.now += 100
    assert await journal.believe()
    assert (journal.birth, journal.bound) == (int(NOW) + 100, int(NOW) + 100)
    await accepted(journal, make_order(issued_at=NOW + 100))
    assert journal.newest_time == NOW + 100
    bench.clock.believes = False
    bench.clock.now += 500
    await journal.event("door", {"open": False})
    assert journal.newest_time == NOW + 100


async def test_commands_from_before_the_birth_are_refused(bench: Bench) -> None:
    journal = await bench.ready()
    refused = await journal.accept(make_order(issued_at=NOW - 1), PLAN)
    assert getattr(refused, "code", None) is Code.JOURNAL_RESET


async def test_a_restored_copy_is_found_and_takes_a_new_birth(bench: Bench) -> None:
    """An older copy of ours: bound with skew, seq from 1, cycle ids go on, cabinets wait."""
    journal = await bench.ready(cabinet(lanes=2))
    (job,) = await accepted(journal, make_order())
    opened = await one_cycle(journal, job.ref, DELIVERED)
    birth, seq = journal.birth, journal.last_seq
    assert birth is not None
    assert journal.is_restored(birth + 7, 0, 0)
    before = [row.payload for row in await journal.oldest("result", 9)]
    await journal.rebirth("retained state has a greater seq")
    assert journal.birth == birth + 1
    assert journal.bound == birth + 1 + 30
    assert journal.last_seq == 0
    assert not journal.is_restored(birth, seq + 99, 99), "an earlier birth of our own"
    assert [row.payload for row in await journal.oldest("result", 9)] == before
    assert await journal.stopped_cabinets() == {"A": "stock_unconfirmed"}
    with pytest.raises(Refused, match="A1, A2"):
        await journal.start_cabinet("A", "tech")
    await journal.set_stock("A1", 5, "tech")
    with pytest.raises(Refused, match="A2"):
        await journal.start_cabinet("A", "tech")
    await journal.fill("A", "tech")
    await journal.start_cabinet("A", "tech")
    assert await journal.stopped_cabinets() == {}
    (job,) = await accepted(journal, make_order(2, issued_at=NOW + 40))
    again = await journal.open_cycle(intent(job.ref))
    assert again.cycle_id > opened.cycle_id
    assert again.cycle_id >> 32 == birth + 1
    newest = json.loads((await journal.oldest("order", 99))[-1].payload)
    assert (newest["journal"], newest["seq"]) == (birth + 1, 1)
    bench.crash()
    journal, opening = bench.open()
    assert (opening.birth, opening.bound) == (birth + 1, birth + 31)


async def test_p13_a_copy_from_before_our_newest_birth_is_found(bench: Bench) -> None:
    """The database alone was put back, and the marker beside it names the later birth too: the
    start sees by itself that this copy does not remember it."""
    journal = await bench.ready()
    await accepted(journal, make_order())
    birth = journal.birth
    await journal.close()
    copy = bench.database.read_bytes()
    bench.clock.now += 50
    journal, _ = bench.open()
    await journal.rebirth("retained_state")
    later = journal.birth
    assert birth is not None
    assert later is not None
    assert later > birth
    await journal.close()
    bench.database.write_bytes(copy)
    journal, _ = bench.open()
    assert (journal.birth or 0) > later
    assert journal.doubted
    assert not journal.is_restored(later, 99, 99)


async def test_p13_a_copy_that_the_marker_does_not_name_is_found_by_a_life_that_it_does(
    bench: Bench,
) -> None:
    """The directory was lost under a clock a year behind, so the copy that is put back later has
    the younger birth: the state of the life between them is what tells."""
    journal = await bench.ready()
    await accepted(journal, make_order())
    birth = journal.birth
    await journal.close()
    copy = bench.database.read_bytes()
    for path in bench.folder.iterdir():
        path.unlink()
    bench.clock.now -= 31_536_000
    journal = await bench.ready()
    between = journal.birth
    assert birth is not None
    assert between is not None
    assert between < birth
    await journal.close()
    bench.database.write_bytes(copy)
    bench.clock.now = NOW + 100
    journal, _ = bench.open()
    assert not journal.is_restored(birth, 0, 0), "its own"
    assert journal.is_restored(between, 0, 0)
    await journal.rebirth("retained_state")
    assert not journal.is_restored(between, 0, 0), "asked again, it is known"


async def test_a_restored_copy_under_a_clock_that_is_not_believed(bench: Bench) -> None:
    """No birth can be taken from such a clock: nothing is accepted until it is believed."""
    journal = await bench.ready()
    await accepted(journal, make_order())
    await journal.close()
    bench.clock.believes = False
    bench.clock.now -= 9_000
    journal, _ = bench.open()
    assert journal.birth == int(NOW)
    await journal.rebirth("retained_state")
    assert (journal.birth, journal.bound) == (None, None)
    assert not journal.is_restored(int(NOW), 99, 99), "asked again, it is our own earlier birth"
    refused = await journal.accept(make_order(2, issued_at=NOW + 500), PLAN)
    assert getattr(refused, "code", None) is Code.CLOCK_UNSET
    bench.crash()
    bench.clock.believes = True
    bench.clock.now = NOW + 600
    journal, opening = bench.open()
    assert (opening.birth, opening.bound) == (int(NOW) + 600, int(NOW) + 630)


async def copied_and_used(bench: Bench) -> tuple[int, int, int]:
    """A copy of the stopped journal is taken, an order follows, and the copy is put back: what
    the machine's last will said of the life that is forgotten, as at its connect."""
    journal = await bench.ready(cabinet(lanes=2))
    (job,) = await accepted(journal, make_order(1))
    await one_cycle(journal, job.ref, DELIVERED)
    (waits,) = await accepted(journal, make_order(2))
    await journal.close()
    copy = {path.name: path.read_bytes() for path in bench.folder.iterdir() if path.is_file()}
    journal, _ = bench.open()
    will = (journal.birth or 0, journal.last_seq, journal.last_event_seq)
    await one_cycle(journal, waits.ref, DELIVERED)
    bench.crash()
    for path in bench.folder.iterdir():
        path.unlink()
    for name, content in copy.items():
        (bench.folder / name).write_bytes(content)
    return will


async def test_p13_a_will_that_spoke_for_a_crashed_life_finds_the_copy(bench: Bench) -> None:
    """Its last_seq is no greater than the copy's; that its start is unknown here tells it."""
    will = await copied_and_used(bench)
    journal, _ = bench.open()
    assert will[:2] == (journal.birth, journal.last_seq)
    assert journal.is_restored(*will)


async def test_p13_a_copy_that_writes_on_does_not_catch_up_with_what_it_forgot(
    bench: Bench,
) -> None:
    """Units that wait in it end before the broker is there: seq and event_seq grow past the will's,
    and past what the lost life said."""
    birth, seq, event_seq = await copied_and_used(bench)
    journal, _ = bench.open()
    for number in range(3, 9):
        await accepted(journal, make_order(number))
        await journal.event("eye", {"level": "blocked"})
    assert journal.last_seq > seq + 1
    assert journal.is_restored(birth, seq + 1, 0)
    assert journal.is_restored(birth, 0, event_seq)


async def test_p13_what_an_orderly_or_a_crashed_life_said_is_remembered_by_the_next(
    bench: Bench,
) -> None:
    for number, end in enumerate(("clean", "crash"), start=1):
        journal, _ = bench.open()
        await journal.sync_lanes([cabinet()])
        (job,) = await accepted(journal, make_order(number))
        await one_cycle(journal, job.ref, DELIVERED)
        said = (journal.birth or 0, journal.last_seq, journal.last_event_seq)
        if end == "clean":
            await journal.close()
        else:
            bench.crash()
        journal, _ = bench.open()
        assert not journal.is_restored(*said)
        bench.crash()


@pytest.mark.parametrize("believed", [True, False])
async def test_p13_a_journal_older_than_its_marker_is_found_without_a_broker(
    bench: Bench, *, believed: bool
) -> None:
    """journal.db alone was put back from before an earlier restoring: its birth is not the
    newest."""
    journal = await bench.ready(cabinet(lanes=2))
    (job,) = await accepted(journal, make_order())
    opened = await journal.open_cycle(intent(job.ref))
    await journal.close_cycle(opened.cycle_id, ending(DELIVERED))
    await journal.close()
    copy = bench.database.read_bytes()
    journal, _ = bench.open()
    bench.clock.now += 1_000
    await journal.rebirth("retained_state")
    second = journal.birth or 0
    await journal.close()
    bench.database.write_bytes(copy)
    bench.clock.believes = believed
    journal, opening = bench.open()
    assert await journal.stopped_cabinets() == {"A": "stock_unconfirmed"}
    assert "journal_restored" in [e["kind"] for e in await unsent(journal, "event")]
    bench.clock.believes = True
    assert await journal.believe()
    assert journal.birth == second + 1
    assert journal.bound == second + 31
    refused = await journal.accept(make_order(2, issued_at=second), PLAN)
    assert getattr(refused, "code", None) is Code.JOURNAL_RESET
    assert not opening.lost


@pytest.mark.parametrize("between", [0, 40])
async def test_p13_a_copy_under_the_log_of_a_newer_journal_is_whole_or_damage(
    bench: Bench, between: int
) -> None:
    """journal.db alone was put back, over a crash: SQLite would play the log onto it. It is the
    present journal when the log holds all since the copy, else it does not fit and is set aside."""

    async def sell(journal: Journal, first: int, last: int) -> None:
        for number in range(first, last):
            (job,) = await accepted(journal, make_order(number))
            await one_cycle(journal, job.ref, DELIVERED)
            await journal.fill(None, "test")

    journal = await bench.ready(cabinet(stock=20))
    await sell(journal, 1, 40)
    await journal.close()
    copy = bench.database.read_bytes()
    journal, _ = bench.open()
    await sell(journal, 40, 40 + between)
    if between:
        journal._store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    await sell(journal, 40 + between, 45 + between)
    bench.crash()
    bench.database.write_bytes(copy)
    journal, opening = bench.open()
    assert opening.lost is bool(between)
    if not between:
        for number in range(1, 45):
            assert await journal.look_up(make_order(number)) is Standing.SAME


# ------------------------------------------------------------------ a clock that ran ahead

YEAR = 365 * 86_400


@pytest.mark.parametrize("how", ["jumped", "born ahead", "born ahead, then lost"])
async def test_p13_a_clock_that_ran_a_year_ahead_is_right_again_by_a_persons_word(
    bench: Bench, how: str
) -> None:
    """Nothing is accepted until then: the journal knows a later time. Cycle ids grow on."""
    if how == "jumped":
        journal = await bench.ready()
        bench.clock.now += YEAR
        await journal.event("eye", {"level": "blocked"})
    else:
        bench.clock.now += YEAR
        journal = await bench.ready()
    first = await journal.open_cycle(intent(None, test_id="t1"))
    await journal.close_cycle(first.cycle_id, ending(DELIVERED))
    bench.clock.now = NOW + 100
    if how == "born ahead, then lost":
        await journal.close()
        bench.database.unlink()
        journal, _ = bench.open()
        await journal.sync_lanes([cabinet()])
        assert not await journal.believe()
    assert not journal.believed
    await journal.accept_clock("tech")
    assert journal.believed
    assert await journal.believe()
    with pytest.raises(Refused, match="not behind"):
        await journal.accept_clock("tech")
    refused = await journal.accept(make_order(1, issued_at=NOW - 50), PLAN)
    assert getattr(refused, "code", None) is Code.JOURNAL_RESET
    await accepted(journal, make_order(2, issued_at=NOW + 162))
    await journal.fill(None, "tech")
    second = await journal.open_cycle(intent(None, test_id="t2"))
    assert second.cycle_id > first.cycle_id
    bench.crash()
    journal, _ = bench.open()
    assert journal.believed


# ------------------------------------------------------------------ lost and damaged


async def test_a_missing_journal_where_the_marker_says_there_was_one(bench: Bench) -> None:
    await history(bench, 3)
    bench.database.unlink()
    bench.clock.now += 60
    journal, opening = bench.open()
    assert (opening.first, opening.lost) == (False, True)
    assert (opening.birth, opening.bound) == (int(NOW) + 60, int(NOW) + 90)
    assert journal.doubted
    await journal.sync_lanes([cabinet()])
    assert await journal.stopped_cabinets() == {"A": "stock_unconfirmed"}
    with pytest.raises(Refused, match="nobody counted"):
        await journal.start_cabinet("A", "tech")
    assert [e["kind"] for e in await unsent(journal, "event")][:2] == ["restart", "journal_lost"]
    assert not journal.is_restored(int(NOW), 10_000, 10_000), "the lost one was ours"
    assert read_births(Files(bench.folder)) == [int(NOW), int(NOW) + 60]
    set_aside = list(bench.folder.glob("journal-*.db-wal"))
    assert set_aside, "the log that lay alone is kept"


async def test_a_new_birth_is_greater_than_every_older_one(bench: Bench) -> None:
    """A clock that went back must not make cycle ids or births repeat."""
    await history(bench, 1)
    bench.database.unlink()
    bench.clock.now -= 20
    _, opening = bench.open()
    assert opening.birth == int(NOW) + 1


async def test_p13_a_lost_journal_takes_no_birth_from_a_clock_that_is_far_behind(
    bench: Bench,
) -> None:
    """Its marker knows a later time: a birth from such a clock would bound nothing."""
    await history(bench, 1)
    bench.database.unlink()
    bench.clock.now -= 5_000
    journal, opening = bench.open()
    assert (opening.lost, opening.birth) == (True, None)
    assert not await journal.believe()
    bench.clock.now += 5_000
    assert await journal.believe()


async def test_p13_a_journal_that_was_set_aside_is_remembered_without_a_marker(
    bench: Bench,
) -> None:
    await history(bench, 1)
    bench.database.rename(bench.database.with_name("journal-20260101T000000Z.db"))
    bench.database.with_name("journal.marker").unlink()
    _, opening = bench.open()
    assert (opening.first, opening.lost) == (False, True)


def at(offset: int, data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset if offset >= 0 else path.stat().st_size + offset)
            file.write(data)

    return write


def every_page(path: Path) -> None:
    """Rubbish in the middle of each page but the first."""
    for page in range(1, path.stat().st_size // 4096):
        at(page * 4096, b"\xff" * 64)(path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "magic": at(0, b"not sqlite at all"),
    "page size": at(16, b"\x00\x03"),
    "schema page": at(100, b"\xaa" * 500),
    "application id": at(68, b"\x00\x00\x00\x01"),
    "every page": every_page,
    "truncated to half": lambda path: os.truncate(path, path.stat().st_size // 2 // 4096 * 4096),
    "truncated to a piece": lambda path: os.truncate(path, 5_000),
    "empty": lambda path: os.truncate(path, 0),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a text file": lambda path: path.write_text("hello\n" * 2_000),
    "version lost": at(60, b"\x00\x00\x00\x00"),
}


@pytest.mark.parametrize("kind", DAMAGES)
async def test_a_damaged_file_is_set_aside_and_kept(bench: Bench, kind: str) -> None:
    """Never deleted, never trusted: a new journal with the skew in its bound."""
    await history(bench)
    merge_log(bench)
    DAMAGES[kind](bench.database)
    damaged = bench.database.read_bytes()
    bench.clock.now += 10
    journal, opening = bench.open()
    assert opening.lost
    assert opening.set_aside is not None
    assert len(opening.set_aside.read_bytes()) == len(damaged)
    assert opening.bound == int(NOW) + 10 + 30
    await journal.sync_lanes([cabinet()])
    assert await journal.stopped_cabinets() == {"A": "stock_unconfirmed"}
    await journal.close()
    _, opening = bench.open()
    assert (opening.lost, opening.set_aside, opening.last_stop) == (False, None, "clean")


async def test_a_lost_lane_row_is_damage(bench: Bench) -> None:
    """Sums that contradict (P10) are found at start, even where SQLite sees a sound file."""
    await history(bench, 2)
    with sqlite3.connect(bench.database) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE lanes SET stock = stock + 1 WHERE channel = 'A1'")
    connection.close()
    _, opening = bench.open()
    assert opening.lost


async def test_counters_behind_their_rows_are_damage(bench: Bench) -> None:
    """A seq or a cycle id would be given twice."""
    await history(bench, 2)
    with sqlite3.connect(bench.database) as connection:
        connection.execute("UPDATE journal SET cycle = 1")
    connection.close()
    _, opening = bench.open()
    assert opening.lost


@pytest.mark.parametrize("where", ["header", "middle"])
async def test_a_log_that_lost_durable_commits_is_damage(bench: Bench, where: str) -> None:
    """SQLite would silently forget them: P13 does not."""
    await history(bench)
    wal = bench.folder / "journal.db-wal"
    assert wal.stat().st_size > 50 * 4096
    at(0 if where == "header" else 32 + 20 * 4120 + 300, b"\x5a" * 100)(wal)
    _, opening = bench.open()
    assert opening.lost
    assert opening.set_aside is not None


async def test_the_last_commit_but_one_that_rotted_in_the_log_is_damage(bench: Bench) -> None:
    """Two commits are behind the break, as after a crash while a failed one was written over; but
    here the frames still follow one from the other."""
    await history(bench, 5)
    wal = bench.folder / "journal.db-wal"
    log = wal.read_bytes()
    commits = [at for at in range(32, len(log), 4120) if any(log[at + 4 : at + 8])]
    at(commits[-3] + 4120 + 24 + 300, b"\x5a" * 100)(wal)
    _, opening = bench.open()
    assert opening.lost


async def test_a_torn_end_of_the_log_is_no_damage(bench: Bench) -> None:
    """A power cut in the last commit: it was not durable, and everything before it is."""
    await history(bench, 5)
    wal = bench.folder / "journal.db-wal"
    at(-2_000, b"\x00" * 100)(wal)
    journal, opening = bench.open()
    assert not opening.lost
    assert len(await journal.waiting_units()) + (await journal.totals())["delivered"] == 5


async def test_rubbish_behind_the_log_is_no_damage(bench: Bench) -> None:
    await history(bench, 5)
    with (bench.folder / "journal.db-wal").open("ab") as file:
        file.write(os.urandom(100_000))
    journal, opening = bench.open()
    assert not opening.lost
    assert (await journal.totals())["delivered"] == 5


async def read_everything(journal: Journal) -> None:
    for number in range(1, 41):
        await journal.order(number)
        await journal.messages_since((0, 0), 500)


async def test_damage_met_while_running_is_admitted_at_the_next_start(bench: Bench) -> None:
    """The flag file makes the next start set the journal aside, once."""
    await history(bench)
    merge_log(bench)
    journal, opening = bench.open()
    assert not opening.lost
    size = bench.database.stat().st_size
    for page in range(size // 4096 // 2, size // 4096):
        at(page * 4096, b"\xff" * 200)(bench.database)
    with pytest.raises(JournalDamaged, match="restart"):
        await read_everything(journal)
    assert (bench.folder / "journal.damaged").exists()
    bench.crash()
    _, opening = bench.open()
    assert opening.lost
    assert opening.set_aside is not None
    assert not (bench.folder / "journal.damaged").exists()


async def test_a_crash_while_a_journal_is_made_leaves_none(bench: Bench) -> None:
    """A new journal is whole before it gets its name; a first installation stays one."""
    bench.folder.mkdir()
    (bench.folder / "journal.new").write_bytes(b"SQLite format 3\x00 half of a page")
    _, opening = bench.open()
    assert opening.first


@pytest.mark.parametrize("text", ["", "{", "[]", '{"births": 7}', '{"births": ["a", null, 5]}'])
async def test_a_damaged_marker_still_says_that_there_was_a_journal(
    bench: Bench, text: str
) -> None:
    await history(bench, 1)
    bench.database.unlink()
    (bench.folder / "journal.marker").write_text(text)
    _, opening = bench.open()
    assert opening.lost


# ------------------------------------------------------------------ what a person must look at


async def test_a_newer_schema_stops_with_a_remedy(bench: Bench) -> None:
    await history(bench, 1)
    with sqlite3.connect(bench.database) as connection:
        connection.execute(f"PRAGMA user_version = {newest_version() + 1}")
    connection.close()
    before = bench.database.read_bytes()
    with pytest.raises(JournalUnreadable, match="install the newer version"):
        bench.open()
    assert bench.database.read_bytes() == before
    assert not list(bench.folder.glob("journal-*"))


async def test_a_database_of_another_program_is_left_alone(bench: Bench) -> None:
    bench.folder.mkdir()
    with sqlite3.connect(bench.database) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    with pytest.raises(JournalUnreadable, match="another program"):
        bench.open()
    assert bench.database.exists()


async def test_a_second_daemon_is_refused_and_told_who_holds_it(bench: Bench) -> None:
    journal = await bench.ready()
    with pytest.raises(StateDirInUse, match=f"process {os.getpid()}"):
        bench.open()
    await accepted(journal, make_order())


async def test_a_directory_that_is_a_file(bench: Bench) -> None:
    bench.folder.write_text("")
    with pytest.raises(JournalUnreadable):
        bench.open()


AS_NOBODY = """
import os, sys
from pathlib import Path
from controller.clock import LoopClock
from controller.errors import JournalError
from controller.journal.journal import open_journal
from tests.journal.conftest import PlainAnnouncer
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    open_journal(Path(sys.argv[1]), clock=LoopClock(), announcer=PlainAnnouncer(), boot="b",
                 skew_s=30, retention_days=1)
except JournalError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody without rights")
@pytest.mark.parametrize(
    ("modes", "answer"),
    [
        ({"": 0o755, "journal.db": 0o666, "lock": 0o666}, "JournalUnreadable"),
        ({"": 0o777, "journal.db": 0o644, "lock": 0o666}, "JournalUnreadable"),
        ({"": 0o700}, "JournalUnreadable"),
        ({"": 0o777, "journal.db": 0o666, "journal.marker": 0o600}, "JournalUnreadable"),
    ],
)
async def test_files_of_another_user_stop_the_daemon(
    bench: Bench, modes: dict[str, int], answer: str
) -> None:
    """P13: what cannot be read is not lost: nothing is set aside, and the message has a remedy."""
    await history(bench, 1)
    for folder in list(bench.folder.parents)[:3]:
        folder.chmod(0o755)
    for name, mode in modes.items():
        (bench.folder / name).chmod(mode)
    said = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", AS_NOBODY, str(bench.folder)],
        capture_output=True, text=True, check=False, timeout=30,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert said.stdout.startswith(answer), said.stderr
    assert "user" in said.stdout
    assert not list(bench.folder.glob("journal-*"))
