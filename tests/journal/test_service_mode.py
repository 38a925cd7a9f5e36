"""Service mode in the journal: over crashes, from the schema before it, and against what begins."""

from __future__ import annotations

import sqlite3

import pytest

from controller.dispensing.interfaces import Rejection, ServiceMode, Standing
from controller.errors import InServiceMode, JournalUnwritable
from controller.journal import migrations, service_mode
from controller.model import Code

from .conftest import NOW, PLAN, Bench, accepted, cabinet, intent, make_order, unsent


def rows(bench: Bench, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(bench.database) as connection:
        found = connection.execute(sql).fetchall()
    connection.close()
    return found


AUDIT = "SELECT who, action FROM audit WHERE action LIKE 'service%' ORDER BY id"


async def test_p11_it_is_there_after_a_crash_with_who_and_when(bench: Bench) -> None:
    journal = await bench.ready()
    assert await journal.service_mode() is None
    await journal.service_on("anna")
    bench.clock.now += 60
    assert await journal.service_on("bert") == ServiceMode("bert", NOW), "since it began"
    bench.crash()
    bench.clock.now += 3600
    journal, _ = bench.open()
    assert await journal.service_mode() == ServiceMode("bert", NOW)
    await journal.service_off("daemon", "idle")
    bench.crash()
    journal, _ = bench.open()
    assert await journal.service_mode() is None
    told = [e for e in await unsent(journal, "event") if e["kind"] == "service_mode"]
    assert [(e["on"], e["who"], e["why"]) for e in told] == [
        (True, "anna", "asked"),
        (False, "daemon", "idle"),
    ], "a second `on` changes nothing that the platform must know"
    await journal.close()
    assert rows(bench, AUDIT) == [
        ("anna", "service_on"), ("bert", "service_on"), ("daemon", "service_off"),
    ]  # fmt: skip


async def test_the_row_its_audit_and_its_event_are_one_transaction(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await bench.ready()

    def full(*_: object) -> None:
        raise JournalUnwritable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(service_mode, "raise_event", full)  # the last of the three
        with pytest.raises(JournalUnwritable):
            await journal.service_on("anna")
    assert await journal.service_mode() is None
    await journal.close()
    assert rows(bench, AUDIT) == []


async def test_no_order_and_no_customers_cycle_begins_behind_it(bench: Bench) -> None:
    """Whatever the heart knew when it asked: the transaction itself looks."""
    journal = await bench.ready(cabinet(), cabinet("B", board="side"))
    (job,) = await accepted(journal, make_order(1))
    await journal.service_on("anna")
    with pytest.raises(InServiceMode):
        await journal.open_cycle(intent(job.ref))
    refused = await journal.accept(make_order(2), PLAN)
    assert isinstance(refused, Rejection)
    assert refused.code is Code.SERVICE_MODE
    assert await journal.look_up(make_order(1)) is Standing.SAME
    assert await journal.accept(make_order(1), PLAN) == (), "P8: a known one is replayed"
    opened = await journal.open_cycle(intent(None, test_id="t1"))
    assert opened.test_id == "t1"
    await journal.service_off("anna", "asked")
    assert (await journal.open_cycle(intent(job.ref, channel="B1", board="side"))).unit == job.ref


async def test_a_journal_from_before_it_is_brought_forward_and_sells(bench: Bench) -> None:
    """The version below that of its schema file, with an open order, as an upgrade finds it."""
    before = next(n for n, sql in enumerate(migrations.scripts()) if "TABLE service_mode" in sql)
    later = set(migrations.expected_shape()) - set(migrations.expected_shape(before))
    journal = await bench.ready()
    await accepted(journal, make_order(1))
    await journal.close()
    with sqlite3.connect(bench.database, isolation_level=None) as connection:
        for kind, name, _ in later:
            if kind == "table":
                connection.execute(f"DROP TABLE {name}")
        connection.execute(f"PRAGMA user_version = {before}")
        assert migrations.shape(connection) == migrations.expected_shape(before)
    connection.close()
    journal, opening = bench.open()
    assert (opening.lost, opening.set_aside) == (False, None)
    assert [job.ref.key.order_id for job in await journal.waiting_units()] == [1]
    assert await journal.service_mode() is None
    await journal.service_on("anna")
    bench.crash()
    journal, _ = bench.open()
    assert await journal.service_mode() == ServiceMode("anna", NOW)


async def test_an_act_is_known_by_its_audit_and_reading_is_none(bench: Bench) -> None:
    journal = await bench.ready()
    began = journal.acted_at
    assert began == NOW, "the start of the daemon"
    bench.clock.now += 100
    await journal.lane_states()
    await accepted(journal, make_order(1))
    assert journal.acted_at == began
    await journal.set_stock("A2", 3, "anna")
    assert journal.acted_at == NOW + 100
