"""Retention, the background check, the bounds on events, migrations, and cost at scale."""

from __future__ import annotations

import json
import os
import random
import sqlite3

import pytest

from controller.dispensing.interfaces import Cancellation, Rejection, Standing
from controller.errors import JournalDamaged
from controller.journal import check, events, migrations, retention
from controller.journal.store import connect
from controller.model import Code, Executed, Finding, OrderKey, Outcome, Reason

from .conftest import (
    DELIVERED,
    NOW,
    SILENT,
    Bench,
    accepted,
    cabinet,
    intent,
    make_order,
    one_cycle,
    unsent,
)

DAY = 86_400
NOTHING = Finding(Outcome.NOT_DELIVERED, Reason.EXPIRED, left_home=False)


async def sold(bench: Bench, count: int, *, publish: bool = True) -> None:
    journal = bench.journals[-1]
    start = (await journal.totals())["accepted"]
    for number in range(start + 1, start + count + 1):
        (job,) = await accepted(journal, make_order(number, issued_at=bench.clock.now))
        await one_cycle(journal, job.ref, DELIVERED)
        if number % 10 == 0:
            await journal.fill(None, "t")
    if publish:
        for topic in ("result", "order", "event"):
            await journal.sent(await journal.oldest(topic, 10_000))


# ------------------------------------------------------------------ retention


async def test_details_go_and_the_identity_stays(bench: Bench) -> None:
    """P8: after the retention a repetition is still known, and answered with the counts."""
    journal = await bench.ready()
    await sold(bench, 45)
    bench.clock.now += 401 * DAY
    assert await journal.prune() > 45
    (order,) = await journal.order(7)
    assert (order["pruned"], order["unit_list"], order["messages"]) == (True, [], [])
    assert (order["delivered"], order["executed"]) == (1, "yes")
    assert await journal.look_up(make_order(7)) is Standing.SAME
    assert await journal.look_up(make_order(7, 2)) is Standing.CONFLICT
    seq = journal.last_seq
    for _ in range(2):
        bench.clock.now += 5
        await journal.replay(make_order(7))
    (answer,) = await unsent(journal, "order")
    assert (answer["status"], answer["code"]) == ("finished", "results_pruned")
    assert answer["counts"] == [1, 1, 0, 0]
    assert (journal.last_seq, answer["seq"]) == (seq + 1, seq + 1)
    assert await journal.last_ticket("main") == {"pack": 7}, "the newest cycle's ticket stays"
    await journal.sent(await journal.oldest("order", 9))
    bench.clock.now += 401 * DAY
    await journal.prune()
    assert await journal.messages_since((0, 0), 500) == []


async def test_nothing_unsent_or_undecided_goes(bench: Bench) -> None:
    """P9: however old, what the broker does not have stays; so does an open order."""
    journal = await bench.ready()
    await sold(bench, 3, publish=False)
    await accepted(journal, make_order(50))
    bench.clock.now += 500 * DAY
    await journal.prune()
    assert len(await unsent(journal, "result")) == 3
    assert len(await journal.waiting_units()) == 1
    assert not (await journal.order(1))[0]["pruned"]


async def test_a_quarantined_cycle_stays(bench: Bench) -> None:
    """P5: the board's quarantine outlives the retention, if it must."""
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    await one_cycle(journal, job.ref, SILENT, quarantined=True)
    await journal.sent(await journal.oldest("result", 9))
    await journal.sent(await journal.oldest("order", 9))
    bench.clock.now += 500 * DAY
    await journal.prune()
    assert len(await journal.open_cycles()) == 1


async def test_answers_events_audit_and_tests_are_bounded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P14: neither time nor a talkative peer makes the file grow without end."""
    journal = await bench.ready()
    for number in range(1, 60):
        bench.clock.now += 1
        told = {"executed": Executed.NO, "units": 1}
        await journal.reject(OrderKey(number), "t", 1, Rejection(Code.EXPIRED, "x"), **told)
        await journal.cancel(Cancellation(OrderKey(number), "t", int(bench.clock.now)))
        await journal.event("door", {"n": number}, key=f"k{number}")
        await journal.set_stock("A1", number % 10, "t")
        await one_cycle(journal, None, DELIVERED, test_id=f"t{number}")
    for topic in ("order", "event"):
        await journal.sent(await journal.oldest(topic, 10_000))
    monkeypatch.setattr(retention, "KEPT_ANSWERS", 50)
    monkeypatch.setattr(retention, "KEPT_EVENTS", 40)
    monkeypatch.setattr(retention, "KEPT_AUDIT", 30)
    await journal.prune()
    left = [count(bench, table) for table in ("answers", "events", "audit", "cycles", "outbox")]
    assert left == [50, 40, 30, 59, 50]
    bench.clock.now += 401 * DAY
    await journal.prune()
    left = [count(bench, table) for table in ("answers", "events", "audit", "cycles", "outbox")]
    assert left == [0, 0, 0, 1, 0]


def count(bench: Bench, table: str) -> int:
    connection = bench.journals[-1]._store._connection
    return int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])  # noqa: S608 - names of ours


async def test_no_pruning_by_a_clock_that_is_not_believed(bench: Bench) -> None:
    journal = await bench.ready()
    await sold(bench, 2)
    bench.clock.now += 9_000 * DAY
    bench.clock.believes = False
    assert await journal.prune() == 0


# ------------------------------------------------------------------ events


async def test_what_ended_under_a_clock_years_behind_is_not_old(bench: Bench) -> None:
    """P8: the clock stood two years back when an order ended and when a cancel came. Neither
    is older than the retention once the clock is right again."""
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order(1))
    bench.clock.now -= 730 * DAY
    await one_cycle(journal, job.ref, DELIVERED)
    await journal.cancel(Cancellation(OrderKey(2), "t", int(NOW)))
    bench.clock.now += 730 * DAY
    for topic in ("result", "order"):
        await journal.sent(await journal.oldest(topic, 99))
    await journal.prune()
    assert not (await journal.order(1))[0]["pruned"]
    assert await journal.look_up(make_order(2)) is Standing.TOMBSTONE


async def test_unsent_events_are_bounded_and_the_loss_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go; every one that went is counted in exactly one `lost` event that is left."""
    monkeypatch.setattr(events, "UNSENT_EVENTS", 100)
    bench.inline = True
    journal = await bench.ready()
    for number in range(700):
        await journal.event("door", {"n": number})
    left = await unsent(journal, "event")
    assert len(left) <= 100 + events.LOOK_EVERY
    doors = [e for e in left if e["kind"] == "door"]
    lost = [e for e in left if e["kind"] == "lost"]
    assert len(doors) + sum(e["count"] for e in lost) == 700
    assert doors[-1]["n"] == 699
    assert (await journal.totals())["events_lost"] == 700 - len(doors)


async def test_an_event_with_a_known_key_changes_nothing(bench: Bench) -> None:
    journal = await bench.ready()
    for _ in range(3):
        await journal.event("jam", {"lane": 1}, key="main:17")
    assert len(await unsent(journal, "event")) == 1
    bench.crash()
    journal, _ = bench.open()
    await journal.event("jam", {"lane": 1}, key="main:17")
    assert [e["kind"] for e in await unsent(journal, "event")] == ["jam", "restart"]


@pytest.mark.parametrize(
    "detail",
    [{"text": "x" * 100_000}, {"text": "\ud800\x00"}, {"deep": [[[{}]]]}, {"bytes": b"\x00\xff"}],
)
async def test_any_detail_of_a_peer_is_stored_bounded(
    bench: Bench, detail: dict[str, object]
) -> None:
    journal = await bench.ready()
    await journal.event("k\ud800" * 100, detail, key="\udfff" * 500)
    (row,) = await journal.oldest("event", 9)
    assert len(row.payload) < 12_000
    json.loads(row.payload)


# ------------------------------------------------------------------ the background check


async def test_a_sound_file_passes_in_many_small_slices(bench: Bench) -> None:
    journal = await bench.ready()
    await sold(bench, 30)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(check, "SMALL_ROWS", 5)
        patch.setattr(check, "SLICE_ROWS", 7)
        await journal.background_check()
        pauses = bench.clock.slept / 0.05
        assert pauses > 30
        await journal.background_check()


@pytest.mark.parametrize("small", [5, 1_000])
@pytest.mark.parametrize("page", range(6, 40, 3))
async def test_a_damaged_page_is_found_by_the_check(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, page: int, small: int
) -> None:
    """P13: the flag is set, JournalDamaged tells the daemon to stop; or the start found it."""
    monkeypatch.setattr(check, "SMALL_ROWS", small)
    monkeypatch.setattr(check, "SLICE_ROWS", 10)
    journal = await bench.ready()
    await sold(bench, 60)
    await journal.close()
    assert bench.database.stat().st_size > 40 * 4096
    free = free_pages(bench)
    with bench.database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(random.Random(page).randbytes(4096))
    journal, opening = bench.open()
    if opening.lost or page in free:
        return
    with pytest.raises(JournalDamaged):
        await journal.background_check()
    assert (bench.folder / "journal.damaged").exists()


def free_pages(bench: Bench) -> set[int]:
    with sqlite3.connect(bench.database) as connection:
        try:
            used = {row[0] for row in connection.execute("SELECT pageno FROM dbstat")}
        except sqlite3.OperationalError:
            pytest.skip("this SQLite cannot tell which pages are free (no dbstat)")
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.close()
    return set(range(1, pages + 1)) - used


async def test_a_row_that_its_index_lost_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A duplicate order would not be recognised: P8 hangs on that index."""
    monkeypatch.setattr(check, "SMALL_ROWS", 5)
    journal = await bench.ready()
    await sold(bench, 20)
    await journal.close()
    with sqlite3.connect(bench.database, isolation_level=None) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        (sql,) = connection.execute(
            "SELECT sql FROM sqlite_schema WHERE name = 'orders_identity'"
        ).fetchone()
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'orders_identity'",
            (f"{sql} WHERE order_id <> 13",))  # fmt: skip
        connection.execute("PRAGMA writable_schema = RESET")
        connection.execute("REINDEX orders_identity")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = ? WHERE name = 'orders_identity'", (sql,)
        )
    connection.close()
    journal, opening = bench.open()
    assert not opening.lost
    with pytest.raises(JournalDamaged, match="orders_identity"):
        await journal.background_check()


# ------------------------------------------------------------------ migrations


@pytest.mark.parametrize("version", range(1, migrations.newest_version() + 1))
async def test_from_every_version(bench: Bench, version: int) -> None:
    """A database of each released schema is brought forward to exactly the newest."""
    bench.folder.mkdir()
    with sqlite3.connect(bench.database, isolation_level=None) as connection:
        assert migrations.migrate(connection, version) == version
        connection.execute("UPDATE journal SET birth = 5, bound = 5, seq = 9")
    connection.close()
    journal, opening = bench.open()
    assert (opening.lost, opening.birth, journal.last_seq) == (False, 5, 9)
    await journal.sync_lanes([cabinet()])
    await accepted(journal, make_order())
    await journal.close()
    with sqlite3.connect(bench.database) as connection:
        assert migrations.shape(connection) == migrations.expected_shape()
        assert migrations.version(connection) == migrations.newest_version()
    connection.close()


def test_a_migration_that_breaks_off_leaves_the_version_as_it_was(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each schema file is one transaction."""
    broken = [*migrations.scripts(), "CREATE TABLE later (a);\nCREATE TABLE nonsense (;"]
    monkeypatch.setattr(migrations, "scripts", lambda: broken)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrations.migrate(connection)
    connection.rollback()
    assert migrations.version(connection) == len(broken) - 1
    assert ("table", "later") not in {row[:2] for row in migrations.shape(connection)}
    connection.close()


# ------------------------------------------------------------------ scale


def many_orders(bench: Bench, count: int) -> None:
    """Old finished orders straight into the file: their identity and one unit each."""
    connection = connect(bench.database)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO orders (order_id, delivery_id, trade_id, content, issued_at, expires_at,"
        " accepted_at, boot, units, delivered, revision, started, finished_at, pruned)"
        " VALUES (?,'',?,?,?,?,?,'',1,1,1,1,?,1)",
        (
            (10**9 + n, os.urandom(16).hex(), os.urandom(16), NOW, NOW + 90, NOW, NOW)
            for n in range(count)
        ),
    )
    connection.execute("COMMIT")
    connection.close()


async def test_the_identity_of_an_order_is_small(bench: Bench) -> None:
    """For ever, so it must be: 200,000 orders are some 40 MB."""
    journal = await bench.ready()
    await journal.close()
    many_orders(bench, 20_000)
    assert bench.database.stat().st_size / 20_000 < 230


async def test_no_statement_of_the_hot_path_walks_over_the_history(bench: Bench) -> None:
    """Every statement of a sale, a replay and a start uses an index; partial ones may be walked."""
    journal = await bench.ready()
    await journal.close()
    said: set[str] = set()
    journal, _ = bench.open()
    journal._store._connection.set_trace_callback(said.add)
    order = make_order(quantity=2)
    jobs = await accepted(journal, order)
    opened = await one_cycle(journal, jobs[0].ref, SILENT, quarantined=True)
    await journal.revise(opened.cycle_id, DELIVERED, {}, lift=True)
    await journal.finish_unit(jobs[1].ref, NOTHING)
    await journal.open_cycle(intent(None, test_id="t"))
    for topic in ("result", "order", "event"):
        await journal.sent(await journal.oldest(topic, 5))
    await journal.look_up(order)
    await journal.look_up(make_order(9))
    await journal.replay(order)
    await journal.cancel(Cancellation(OrderKey(77), "x", 1))
    for question in (
        journal.waiting_units, journal.open_cycles, journal.lane_states, journal.waiting,
        journal.stopped_cabinets, journal.totals,
    ):  # fmt: skip
        await question()
    await journal.newest_cycle("main")
    await journal.last_ticket("main")
    journal._store._connection.set_trace_callback(None)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(connection)
    walked = {
        f"{plan[3]}: {sql}"
        for sql in said
        if sql.split()[0] in {"SELECT", "UPDATE", "INSERT", "DELETE"}
        for plan in connection.execute(f"EXPLAIN QUERY PLAN {sql}")
        if plan[3].startswith("SCAN")
        and plan[3].split()[1] in {"orders", "units", "cycles", "outbox", "events", "answers"}
        and not any(
            part in plan[3]
            for part in ("units_open", "cycles_open", "cycles_quarantined", "outbox_unsent",
                         "events_unsent", "orders_open")
        )
    }  # fmt: skip
    connection.close()
    assert len(said) > 40
    assert not walked, "\n".join(sorted(walked))
