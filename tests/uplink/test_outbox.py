"""P9: a row stays until the broker acknowledged it with success, and holds back only its topic."""

from __future__ import annotations

import asyncio
import json

import pytest

from controller.model import Code, OrderKey, OrderStatus
from tests.uplink.conftest import MACHINE, ROOT, Broker, Build, MemoryJournal, Platform, until


def event(journal: MemoryJournal, number: int) -> None:
    journal.put("event", journal.payloads.event("jam", {}, journal.birth, number, 2_000.0))


def result(journal: MemoryJournal, number: int) -> bytes:
    payload = json.dumps({"result": number}).encode()
    journal.put("result", payload)
    return payload


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_rows_leave_in_order_byte_for_byte_and_are_marked(
    build: Build, platform: Platform, protocol: str
) -> None:
    journal = MemoryJournal()
    payloads = [result(journal, number) for number in range(50)]
    build(protocol=protocol, journal=journal)
    await until(lambda: len(journal.sent_rows) == 50)
    assert [m.payload for m in platform.on("result")] == payloads


async def test_nobody_subscribed_is_no_delivery_for_orders_but_is_for_events(
    build: Build, broker: Broker
) -> None:
    """P9: reason code 10 hex keeps a result in the outbox until the platform is there."""
    journal = MemoryJournal()
    payload = result(journal, 1)
    event(journal, 1)
    machine = build(journal=journal)
    await until(lambda: journal.sent_rows == {2})
    await until(lambda: machine.uplink.stuck_topics() == {"result": 0x10})
    assert 1 not in journal.sent_rows
    platform = Platform(broker.port)
    await until(lambda: journal.sent_rows == {1, 2})
    await until(lambda: [m.payload for m in platform.on("result")] == [payload])
    assert machine.uplink.stuck_topics() == {}
    platform.close()


async def test_a_topic_that_the_broker_refuses_holds_back_only_itself(
    build: Build, broker: Broker
) -> None:
    """P9: an ACL without `result`; orders and events leave, in order, and results wait."""
    broker.stop()
    acl = broker.directory / "acl"
    everything = "topic readwrite #\n"
    acl.write_text(
        f"{everything}\nuser {MACHINE}\ntopic read {ROOT}/#\n"
        f"topic write {ROOT}/order\ntopic write {ROOT}/event\ntopic write {ROOT}/state\n"
    )
    acl.chmod(0o700)
    broker.extra = f"acl_file {acl}"
    broker.start()
    platform = Platform(broker.port)
    await until(lambda: platform.subscribed)
    journal = MemoryJournal()
    result(journal, 1)
    result(journal, 2)
    machine = build(journal=journal, username=MACHINE)
    for number in (1, 2):
        journal.put_order(OrderKey(number), OrderStatus.REJECTED, Code.BUSY)
        event(journal, number)
    await until(lambda: len(journal.sent_rows) == 4)
    await until(lambda: machine.uplink.stuck_topics() == {"result": 0x87})
    assert [m.json["seq"] for m in platform.on("order")] == [1, 2]
    assert platform.on("result") == []
    broker.stop()
    broker.extra = ""
    broker.start()
    await until(lambda: len(journal.sent_rows) == 6, 15)
    platform.close()


async def test_what_the_journal_cannot_mark_is_not_sent_over_and_over(
    build: Build, platform: Platform
) -> None:
    """P12: with a full disk a result still leaves, once; it is marked when the disk is back."""
    journal = MemoryJournal(may_mark=False)
    result(journal, 1)
    build(journal=journal)
    await until(lambda: platform.on("result"))
    second = result(journal, 2)
    await until(lambda: len(platform.on("result")) == 2)
    assert platform.on("result")[1].payload == second
    await asyncio.sleep(0.3)  # time in which a hot loop would send hundreds
    assert len(platform.on("result")) == 2
    assert journal.sent_rows == set()
    journal.may_mark = True
    await until(lambda: journal.sent_rows == {1, 2})


async def test_nothing_is_marked_while_there_is_no_broker(build: Build, broker: Broker) -> None:
    """P9: not before the PUBACK."""
    broker.stop()
    journal = MemoryJournal()
    result(journal, 1)
    machine = build(journal=journal)
    await until(lambda: machine.uplink.session.counters["connect_failures"] >= 2)
    assert journal.sent_rows == set()
    broker.start()
    platform = Platform(broker.port)
    await until(lambda: journal.sent_rows == {1})
    platform.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_line_cut_at_any_moment_loses_no_row(
    build: Build, platform: Platform, protocol: str
) -> None:
    """P9: cut the connection again and again while 200 results leave; each arrives, in order."""
    journal = MemoryJournal()
    payloads = [result(journal, number) for number in range(200)]
    machine = build(protocol=protocol, journal=journal)
    session = machine.uplink.session
    for sent in (20, 60, 100, 140):
        await until(lambda bound=sent: len(platform.on("result")) >= bound)  # type: ignore[misc]
        number = session.number
        if session._link is not None:
            session._link.abort()
            async with asyncio.timeout(10):
                await session.ready(other_than=number)
    await until(lambda: len(journal.sent_rows) == 200)
    await until(lambda: platform.on("result")[-1].payload == payloads[-1])
    heard = list(dict.fromkeys(m.payload for m in platform.on("result")))
    assert heard == payloads
