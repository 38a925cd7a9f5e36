"""The session against a real broker: P7 (acknowledge after the journal), P8, P9, P13, P14."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from controller.errors import JournalUnwritable
from controller.model import Order, OrderKey, OrderStatus
from controller.uplink.link import Link, in_words
from controller.uplink.session import Witness
from tests.uplink.conftest import (
    MACHINE,
    ROOT,
    Broker,
    Build,
    Machine,
    Platform,
    command,
    until,
)

VERSIONS = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


async def ready(machine: Machine) -> None:
    async with asyncio.timeout(10):
        await machine.uplink.session.ready()


@VERSIONS
async def test_a_command_becomes_an_order_and_its_answer_leaves(
    build: Build, platform: Platform, protocol: str
) -> None:
    """P9: what the journal put into the outbox is published and marked."""
    machine = build(protocol=protocol)
    await ready(machine)
    platform.send("dispense", command(7))
    answer = (await until(lambda: platform.on("order")))[0]
    assert answer.json["order_id"] == 7
    assert answer.json["status"] == "accepted"
    assert (answer.json["journal"], answer.json["seq"]) == (1000, 1)
    await until(lambda: machine.journal.sent_rows == {1})


@VERSIONS
async def test_a_command_left_unacknowledged_by_a_cut_is_brought_again(
    build: Build, platform: Platform, protocol: str
) -> None:
    """P7, P8: the line is cut while the journal works; the command comes again and is the same."""
    machine = build(protocol=protocol)
    release = asyncio.Event()

    async def slow(_order: Order) -> None:
        await release.wait()

    machine.desk.before = slow
    await ready(machine)
    platform.send("dispense", command(1))
    await until(lambda: machine.desk.submitted)
    first = machine.uplink.session.number
    link = machine.uplink.session._link
    assert link is not None
    link.abort()
    async with asyncio.timeout(10):
        await machine.uplink.session.ready(other_than=first)
    release.set()
    await until(lambda: machine.journal.replays == [OrderKey(1)])
    assert len(machine.desk.submitted) == 1
    assert machine.uplink.session.counters["stale_acknowledgements"] == 1


@VERSIONS
async def test_commands_sent_while_the_machine_is_away_wait_for_it(
    build: Build, platform: Platform, protocol: str
) -> None:
    """The session at the broker is persistent."""
    machine = build(protocol=protocol)
    await ready(machine)
    await machine.stop()
    for number in (1, 2, 3):
        platform.send("dispense", command(number))
    again = build(protocol=protocol, journal=machine.journal)
    await until(lambda: len(again.desk.submitted) == 3)
    assert [order.key.order_id for order in again.desk.submitted] == [1, 2, 3]


@VERSIONS
async def test_the_will_speaks_when_the_line_is_cut(
    build: Build, platform: Platform, protocol: str
) -> None:
    machine = build(protocol=protocol)
    await until(lambda: platform.on("state"))
    assert platform.on("state")[-1].json["online"] is True
    await machine.stop()
    last = await until(lambda: [m for m in platform.on("state") if not m.json["online"]])
    assert last[0].json["journal"] == 1000
    assert last[0].json["last_seq"] == 0


async def test_leaving_says_offline_and_keeps_the_newest_place(
    build: Build, platform: Platform
) -> None:
    machine = build()
    await ready(machine)
    platform.send("dispense", command(1))
    await until(lambda: machine.journal.sent_rows)
    async with asyncio.timeout(5):
        await machine.uplink.leave()
        await machine.task
    last = await until(lambda: [m for m in platform.on("state") if not m.json["online"]])
    assert last[0].json["last_seq"] == 1


async def test_leaving_without_a_broker_does_not_hang(build: Build, broker: Broker) -> None:
    broker.stop()
    machine = build()
    await until(lambda: machine.uplink.session.counters["connect_failures"])
    async with asyncio.timeout(5):
        await machine.uplink.leave()
        await machine.task


async def test_our_own_retained_state_is_read_before_any_command(
    build: Build, platform: Platform
) -> None:
    """P13: a greater last_seq than ours is told before the first command is judged."""
    platform.send("state", {"journal": 900, "last_seq": 4711}, retain=True)
    session = build()
    await ready(session)
    await session.stop()  # leaves a persistent session, and its own state in its place
    witness = {"journal": 900, "last_seq": 4711, "last_event_seq": 17}
    platform.send("state", witness, retain=True)
    platform.send("dispense", command(5))
    order: list[str] = []
    hold = asyncio.Event()

    async def adopt(told: Witness) -> None:
        await hold.wait()
        order.append(f"adopted {told.journal} {told.last_seq} {told.last_event_seq}")

    async def note(_order: Order) -> None:
        order.append("command")

    again = build(adopt=adopt)
    again.desk.before = note
    await until(lambda: len(again.uplink.session._commands))
    assert order == []
    assert not again.uplink.session._ready
    hold.set()
    await until(lambda: again.desk.submitted)
    assert order == ["adopted 900 4711 17", "command"]


@pytest.mark.parametrize("parting", ["cut", "leave"])
async def test_what_the_retained_state_said_survives_until_it_was_adopted(
    build: Build, platform: Platform, parting: str
) -> None:
    """P13: it may be the only witness of a lost journal. Neither our will nor our farewell
    takes its place while the disk is too full to write down what it says."""
    witness = {"journal": 900, "last_seq": 4711}
    platform.send("state", witness, retain=True)
    told = asyncio.Event()

    async def full(_told: Witness) -> None:
        told.set()
        raise JournalUnwritable("no space left; free some")

    machine = build(adopt=full, pace={"adoption_retry_s": 0.05})
    async with asyncio.timeout(10):
        await told.wait()
        if parting == "leave":
            await machine.uplink.leave()
        else:
            link = machine.uplink.session._link
            assert link is not None
            link.abort()
            told.clear()
            await told.wait()
    await machine.stop()
    again = build(journal=machine.journal)
    await ready(again)
    assert again.adopted == [Witness(900, 4711)]


async def test_a_request_is_answered_once_although_it_was_brought_twice(
    build: Build, platform: Platform
) -> None:
    """One that waited in our mailbox when the line was cut comes again with the session."""
    machine = build()
    await ready(machine)
    await machine.stop()
    platform.send("request/status", {})
    hold = asyncio.Event()

    async def adopt(_told: Witness) -> None:
        await hold.wait()

    again = build(adopt=adopt)
    await until(lambda: len(again.uplink.session._requests))
    hold.set()
    await until(lambda: platform.on("response/status"))
    platform.send("dispense", command(1))
    await until(lambda: platform.on("order"))
    assert again.uplink.requests.counters["status"] == 1


async def test_without_a_retained_state_commands_do_not_wait_for_ever(
    build: Build, platform: Platform
) -> None:
    """P13: nothing retained is no reason to wait for ever."""
    machine = build()
    platform.send("dispense", command(5))
    await ready(machine)
    assert machine.adopted == [Witness()]


async def test_a_retained_state_of_nonsense_counts_as_none(
    build: Build, platform: Platform
) -> None:
    """P14."""
    platform.send("state", b"\xff{{{", retain=True)
    machine = build()
    await ready(machine)
    assert machine.adopted == [Witness()]


@VERSIONS
async def test_a_retained_command_is_refused(
    build: Build, platform: Platform, protocol: str
) -> None:
    """P14: whoever connects later would execute it again and again."""
    platform.send("dispense", command(9), retain=True)
    machine = build(protocol=protocol)
    answer = (await until(lambda: platform.on("order")))[0]
    assert answer.json["code"] == "retained"
    assert machine.desk.submitted == []


async def test_a_command_published_as_retained_is_refused_live_too(
    build: Build, platform: Platform
) -> None:
    """P14: MQTT 5 tells that the sender meant it to be retained (3.1.1 cannot)."""
    machine = build()
    await ready(machine)
    platform.send("dispense", command(9), retain=True)
    answer = (await until(lambda: platform.on("order")))[0]
    assert answer.json["code"] == "retained"
    assert machine.desk.submitted == []


async def test_foreign_and_oversized_messages_are_acknowledged_and_counted(
    build: Build, platform: Platform
) -> None:
    """P14: 70 KiB is refused unread; the next command is served."""
    machine = build()
    await ready(machine)
    platform.send("dispense", b"x" * 70_000)
    platform.send("dispense", command(1))
    await until(lambda: machine.desk.submitted)
    assert machine.journal.events[0][1]["code"] == "too_large"


async def test_a_command_whose_properties_paho_refuses_is_read_without_them(
    build: Build, platform: Platform
) -> None:
    """P14: the broker passes a byte order mark in a property on, and paho would leave the
    connection for it: unacknowledged, the message would end every later connection too."""
    platform.client.unsubscribe(f"{ROOT}/#")  # its own paho would not take it either
    machine = build()
    await ready(machine)
    number = machine.uplink.session.number
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = ("name", "\ufeffvalue")
    platform.send("dispense", command(1), properties=properties)
    platform.send("dispense", command(2), retain=True, properties=properties)
    platform.send("dispense", command(3))
    await until(lambda: OrderKey(3) in machine.journal.known)
    assert OrderKey(1) in machine.journal.known
    assert [key.order_id for key, _ in machine.journal.rejected] == [2]
    assert machine.uplink.session.number == number


async def test_a_handler_that_fails_is_tried_three_times_and_then_acknowledged(
    build: Build, platform: Platform
) -> None:
    """P14: one poisonous message does not stop the others, and does not stay for ever."""
    machine = build(pace={"redelivery_s": 0.1})

    async def broken(order: Order) -> None:
        if order.key.order_id == 13:
            raise RuntimeError("a bug")

    machine.desk.before = broken
    await ready(machine)
    platform.send("dispense", command(13))
    platform.send("dispense", command(14))
    await until(lambda: OrderKey(14) in machine.journal.known)
    await until(lambda: machine.uplink.session.counters["command_failures"] == 3)
    number = machine.uplink.session.number
    platform.send("dispense", command(15))
    await until(lambda: OrderKey(15) in machine.journal.known)
    assert machine.uplink.session.number == number
    assert machine.uplink.session.counters["command_failures"] == 3


async def test_a_flood_is_bounded_and_nothing_of_it_is_lost(
    build: Build, platform: Platform
) -> None:
    """P14: over the mailbox's bound commands stay with the broker and come again."""
    machine = build(pace={"redelivery_s": 0.2, "waiting_commands": 4})
    await ready(machine)
    hold = asyncio.Event()

    async def slow(_order: Order) -> None:
        await hold.wait()

    machine.desk.before = slow
    for number in range(1, 16):
        platform.send("dispense", command(number))
    await until(lambda: machine.uplink.session.counters["overflow"])
    assert len(machine.uplink.session._commands) <= 4
    hold.set()
    await until(lambda: len(machine.journal.known) == 15)


@VERSIONS
async def test_a_broker_killed_and_restarted_finds_us_again(
    build: Build, broker: Broker, platform: Platform, protocol: str
) -> None:
    """P9: rows that wait meanwhile leave afterwards, in order."""
    machine = build(protocol=protocol)
    await ready(machine)
    broker.stop()
    await until(lambda: not machine.uplink.session.connected)
    for number in (1, 2, 3):
        machine.journal.put_order(OrderKey(number), OrderStatus.ACCEPTED)
    before = platform.subscribed
    broker.start()
    await until(lambda: platform.subscribed > before)
    await until(lambda: machine.journal.sent_rows == {1, 2, 3})
    if protocol == "5":  # 3.1.1 cannot say that nobody had subscribed again yet
        await until(lambda: len(platform.on("order")) == 3)
        assert [m.json["seq"] for m in platform.on("order")] == [1, 2, 3]
    await ready(machine)
    platform.send("dispense", command(4))
    await until(lambda: machine.desk.submitted)


async def test_a_dead_paho_thread_is_noticed_and_replaced(
    build: Build, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception inside paho ends its thread while it calls itself connected."""
    machine = build()
    await ready(machine)
    first = machine.uplink.session.number
    link = machine.uplink.session._link
    assert link is not None

    def dies(*_args: Any) -> None:
        raise KeyError("inside paho")

    monkeypatch.setattr(link._client, "_handle_on_message", dies)
    platform.send("dispense", command(1))
    async with asyncio.timeout(10):
        await machine.uplink.session.ready(other_than=first)
    await until(lambda: machine.desk.submitted)


async def test_an_acknowledgement_reaches_only_the_connection_that_brought_the_message(
    build: Build, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: an old ack(1) must not acknowledge another connection's message 1."""
    machine = build()
    hold = asyncio.Event()
    sent: list[int] = []

    async def slow(_order: Order) -> None:
        await hold.wait()

    machine.desk.before = slow
    await ready(machine)
    session = machine.uplink.session
    platform.send("dispense", command(1))
    await until(lambda: machine.desk.submitted)
    first = session._link
    assert first is not None
    first.abort()
    async with asyncio.timeout(10):
        await session.ready(other_than=first.number)
    second = session._link
    assert second is not None
    assert second is not first
    original = second._client.ack

    def counted(mid: int, qos: int) -> Any:
        sent.append(mid)
        return original(mid, qos)

    monkeypatch.setattr(second._client, "ack", counted)
    hold.set()
    await until(lambda: session.counters["stale_acknowledgements"] == 1)
    await until(lambda: machine.journal.replays)
    await until(lambda: sent)
    assert len(sent) == 1  # the redelivered copy, not the old one


async def test_a_second_machine_under_our_client_id_is_told_in_words(
    build: Build, platform: Platform
) -> None:
    """The broker takes one of two, and mosquitto 2.0 closes the other without a word."""
    machine = build()
    await ready(machine)
    other = Platform(platform.client.port, MACHINE)
    await until(lambda: machine.uplink.session.last_error)
    other.close()
    assert "client id" in machine.uplink.session.last_error


async def test_password_and_settings_are_read_at_connect(
    build: Build, broker: Broker, platform: Platform, tmp_path: Any
) -> None:
    """A password file that is not there yet is retried, with a message for people."""
    missing = tmp_path / "password"
    machine = build(username=MACHINE, password_file=missing)
    await until(lambda: "password" in machine.uplink.session.last_error)
    missing.write_text("secret\n")
    await ready(machine)
    assert "secret" not in machine.uplink.session.last_error


async def test_why_there_is_no_connection_is_told_in_words(build: Build, broker: Broker) -> None:
    """Not `[Errno 111]`: a technician looks at the port, or at the name."""
    broker.stop()
    machine = build()
    await until(lambda: machine.uplink.session.last_error != "")
    assert machine.uplink.session.last_error.endswith(": connection refused")
    assert in_words(socket.gaierror(socket.EAI_NONAME, "x")) == "name not found"
    assert in_words(socket.gaierror(socket.EAI_AGAIN, "x")).startswith("name not found: ")
    assert in_words(TimeoutError("timed out")) == "timed out"
    assert in_words(OSError(errno.EHOSTUNREACH, "x")) == "host unreachable"


async def test_subscriptions_refused_by_the_broker_are_named_and_asked_for_again(
    build: Build, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mosquitto's ACL filters on delivery instead; other brokers answer 87 hex here."""
    asked: list[Sequence[str]] = []
    real = Link.subscribe

    async def refusing(link: Link, topics: Sequence[str], **how: Any) -> Sequence[int]:
        asked.append(topics)
        codes = list(await real(link, topics, **how))
        return [0x87, *codes[1:]] if len(topics) > 1 else codes

    monkeypatch.setattr(Link, "subscribe", refusing)
    machine = build(pace={"subscribe_again_s": 0.2})
    await ready(machine)
    assert machine.uplink.session.refused_topics == (f"{ROOT}/dispense",)
    await until(lambda: machine.uplink.session.refused_topics == ())
    assert asked[-1] == (f"{ROOT}/dispense",)


async def test_a_broker_that_falls_silent_is_left_and_the_row_stays(
    build: Build, broker: Broker, platform: Platform
) -> None:
    """P9: no PUBACK in time is no delivery, whatever TCP says."""
    machine = build(pace={"puback_wait_s": 0.3})
    await until(lambda: platform.on("inventory"))
    broker.signal(signal.SIGSTOP)
    machine.journal.put_order(OrderKey(1), OrderStatus.ACCEPTED)
    await until(lambda: machine.uplink.session.counters["puback_timeouts"])
    assert machine.journal.sent_rows == set()
    broker.signal(signal.SIGCONT)
    await until(lambda: machine.journal.sent_rows == {1})
    assert platform.on("order")[0].json["order_id"] == 1


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage collector, as in a daemon that has little to do for hours."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
async def test_a_connection_that_is_over_holds_no_descriptor(build: Build) -> None:
    """P11: nor waits for the garbage collector to let go of them: an outage of days is thousands
    of connections."""
    machine = build()
    await ready(machine)
    before = descriptors()
    for _ in range(5):
        session = machine.uplink.session
        link, number = session._link, session.number
        assert link is not None
        link.abort()
        async with asyncio.timeout(10):
            await session.ready(other_than=number)
        del link
    assert descriptors() == before


async def test_the_line_has_no_nagle(build: Build) -> None:
    """TCP_NODELAY is on: without it a round trip costs 40 to 90 ms."""
    machine = build()
    await ready(machine)
    link = machine.uplink.session._link
    assert link is not None
    line: Any = link._client.socket()
    assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
