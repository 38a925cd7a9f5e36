"""The bridge against a real broker: nothing that a machine says is lost, no command either."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import random
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from platform_sim.bridge import Bridge, Pace
from platform_sim.line import BrokerSettings
from tests.certificates import self_signed
from tests.platform.support import PREFIX, Books, Machine, Outbox, until
from tests.system.broker import Broker

QUICK = Pace(retry_first_s=0.1, retry_longest_s=0.2, refused_s=0.2, books_s=0.05, look_s=0.2)
NO = "16327129"
OTHER = "16327130"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker", persistent=False)
    made.up()
    yield made
    made.end()


def gone(broker: Broker, client_id: str) -> bool:
    """The broker has read all that the client said. A new connection of the same name would
    end the old one before that, and what it acknowledged last would come again."""
    lines = [line for line in broker.output(50_000).splitlines() if client_id in line]
    return not lines or lines[-1].endswith(("disconnected.", "closed its connection."))


@pytest_asyncio.fixture
async def machine(broker: Broker) -> AsyncIterator[Machine]:
    made = Machine(broker.port, NO)
    await until(lambda: made.subscribed >= 3)
    yield made
    made.close()


@contextlib.asynccontextmanager
async def bridging(
    broker: Broker, books: Books | None = None, outbox: Outbox | None = None, **rest: Any
) -> AsyncIterator[Bridge]:
    """A bridge that is up, in this loop. `settings` go to the broker's, the rest to it."""
    settings = {"host": "127.0.0.1", "port": broker.port} | rest.pop("settings", {})
    wait = rest.pop("wait", True)
    outbox = outbox or Outbox()
    bridge = Bridge(
        BrokerSettings(**settings),
        outbox,
        books or Books(),
        outbox.woken,
        **({"pace": QUICK, "chance": random.Random(1)} | rest),
    )
    task = asyncio.create_task(bridge.run())
    try:
        if wait:
            await until(lambda: bridge.line and bridge.counters["subscribed"])
        yield bridge
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if wait and broker.alive:
        await until(lambda: gone(broker, BrokerSettings(**settings).client_id))


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


async def test_what_a_machine_says_is_booked(broker: Broker, machine: Machine) -> None:
    books = Books()
    machine.say("state", b"retained", retain=True)
    async with bridging(broker, books) as bridge:
        await until(lambda: books.of(NO, "state"))
        leaves = ("result", "order", "event", "inventory", "response/results")
        for leaf in leaves:
            machine.say(leaf, leaf.encode())
        for leaf in ("telemetry", "response/status", "dispense"):
            machine.say(leaf, b"not for the books")
        await until(lambda: len(books.booked) == 6)
        assert books.booked[0] == (NO, "state", b"retained")
        assert {leaf: books.of(NO, leaf) for leaf in leaves} == {
            leaf: [leaf.encode()] for leaf in leaves
        }
        assert bridge.counters["booked"] == 6
        assert bridge.counters["foreign"] == 0


async def test_many_machines_at_once_each_in_order(broker: Broker, machine: Machine) -> None:
    """Far more than waits at one time; each machine's clerk books in order."""
    most, now = 0, 0

    async def slow(_payload: bytes) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(random.random() * 0.001)
        now -= 1

    books = Books(before=slow)
    async with bridging(broker, books, settings={"waiting_messages": 10}) as bridge:
        for text in numbered(30):
            for number in range(10):
                topic = f"{PREFIX}/{20_000_000 + number}/result"
                machine.client.publish(topic, text, qos=1)
        await until(lambda: len(books.booked) == 300)
        for number in range(10):
            assert books.of(str(20_000_000 + number)) == numbered(30)
        assert bridge.counters["connections"] == 1
    assert most > 1


async def test_not_booked_is_not_acknowledged(broker: Broker, machine: Machine) -> None:
    """Cut between arrival and acknowledgement: it comes again, and is booked again."""
    release = asyncio.Event()

    async def hold(_payload: bytes) -> None:
        await release.wait()

    books = Books(before=hold)
    async with bridging(broker, books) as bridge:
        machine.say("result", b"1")
        machine.say("result", b"2")
        await until(lambda: books.tried)
        assert bridge.line is not None
        bridge.line.cut("the test cuts it")
        await until(lambda: bridge.counters["connections"] == 2)
        release.set()
        await until(lambda: books.of(NO)[-2:] == [b"1", b"2"])
        # A line that is closed with something unread in it takes our last words with it.
        await until(lambda: bridge.counters["subscribed"] == 2 * len(bridge._topics))
    assert Counter(books.tried) == {b"1": 2, b"2": 1}
    booked = len(books.booked)
    async with bridging(broker, books):
        machine.say("result", b"3")
        await until(lambda: books.of(NO)[-1] == b"3")
    assert len(books.booked) == booked + 1, "acknowledged ones do not come again"


async def test_acknowledgements_leave_in_the_order_of_arrival(
    broker: Broker, machine: Machine
) -> None:
    """The first one hangs, later ones of others are booked: the broker gets no word of them."""
    release = asyncio.Event()

    async def hold(payload: bytes) -> None:
        if payload == b"first":
            await release.wait()

    books = Books(before=hold)
    async with bridging(broker, books) as bridge:
        machine.say("result", b"first")
        other = f"{PREFIX}/{OTHER}/result"
        machine.client.publish(other, b"second", qos=1).wait_for_publish(10)
        await until(lambda: books.of(OTHER))
        assert bridge.line is not None
        bridge.line.cut("the test cuts it")
        release.set()
        await until(lambda: books.of(NO) and len(books.of(OTHER)) == 2)


async def test_what_machines_say_while_the_platform_is_away_waits(
    broker: Broker, machine: Machine
) -> None:
    books = Books()
    async with bridging(broker, books):
        pass
    for text in numbered(50):
        machine.say("result", text)
    async with bridging(broker, books):
        await until(lambda: len(books.booked) >= 50)
    assert books.of(NO) == numbered(50)


async def test_the_broker_is_killed_and_comes_back(tmp_path: Path) -> None:
    books, outbox = Books(), Outbox()
    broker = Broker(tmp_path / "broker")
    broker.up()
    machine = Machine(broker.port, NO)
    await until(lambda: machine.subscribed >= 3)
    async with bridging(broker, books, outbox) as bridge:
        machine.say("result", b"before")
        outbox.put(NO, b"one")
        await until(lambda: books.of(NO) and outbox.gone)
        broker.save()
        broker.kill()
        await until(lambda: bridge.line is None)
        looks = outbox.looks
        outbox.put(NO, b"two")
        outbox.put(NO, b"three", "cancel")
        machine.say("result", b"meanwhile", wait=False)
        await until(lambda: bridge.counters["connections"] >= 3)
        assert outbox.looks == looks, "nothing is taken while nobody would get it"
        assert "no connection to 127.0.0.1" in bridge.last_error
        broker.up()
        await until(lambda: books.of(NO)[-1] == b"meanwhile")
        await until(lambda: len(outbox.gone) == 3)
        await until(lambda: machine.heard[-1] == (f"{NO}/cancel", b"three"))
    assert outbox.gone == [1, 2, 3]
    once = list(dict.fromkeys(text for _, text in machine.heard))
    assert once == [b"one", b"two", b"three"], "a killed broker may bring one again"
    machine.close()
    broker.end()


async def test_commands_leave_in_order_and_once(broker: Broker, machine: Machine) -> None:
    """Also where the outbox answers slowly, with what was true a moment ago."""
    outbox = Outbox(slow_s=0.002)
    other = Machine(broker.port, OTHER)
    await until(lambda: other.subscribed >= 3)
    for text in numbered(40):
        outbox.put(NO, text)
        outbox.put(OTHER, text, "request/results")
    async with bridging(broker, outbox=outbox) as bridge:
        await until(lambda: len(outbox.gone) == 80)
        await until(lambda: len(other.heard) >= 40 and len(machine.heard) >= 40)
        assert bridge.counters["sent"] == 80
    assert machine.heard == [(f"{NO}/dispense", text) for text in numbered(40)]
    assert other.heard == [(f"{OTHER}/request/results", text) for text in numbered(40)]
    other.close()


async def test_no_more_is_under_way_than_the_broker_takes(broker: Broker) -> None:
    """mosquitto's own Receive Maximum is 20 unless it is configured; the bridge's is smaller."""
    for window, most in ((100, 20), (7, 7)):
        outbox = Outbox(writing_s=0.01)
        for number in range(60):
            outbox.put(str(20_000_000 + number), b"x")
        pace = replace(QUICK, window=window)
        async with bridging(broker, outbox=outbox, pace=pace) as bridge:
            await until(lambda outbox=outbox: len(outbox.gone) == 60)  # type: ignore[misc]
            assert bridge.line is not None
            assert bridge.line.window == 20
        assert outbox.most_writing == most


async def test_commands_survive_cuts(broker: Broker, machine: Machine) -> None:
    outbox = Outbox()
    for text in numbered(100):
        outbox.put(NO, text)
    async with bridging(broker, outbox=outbox) as bridge:
        for share in (20, 50, 80):
            await until(lambda share=share: len(outbox.gone) >= share and bridge.line)  # type: ignore[misc]
            assert bridge.line is not None
            bridge.line.cut("the test cuts it")
        await until(lambda: len(outbox.gone) == 100)
        await until(lambda: machine.heard[-1][1] == b"99")
    once = list(dict.fromkeys(text for _, text in machine.heard))
    assert once == numbered(100)
    assert len(machine.heard) <= 103, "one under way may go twice at each cut"


async def test_a_command_expires_at_the_broker(broker: Broker, machine: Machine) -> None:
    outbox = Outbox()
    outbox.put(NO, b"no end")
    outbox.put(NO, b"in time", until=1_090.5)
    outbox.put(NO, b"over", until=900.0)
    async with bridging(broker, outbox=outbox, wall=lambda: 1_000.0):
        await until(lambda: len(machine.heard) == 3)
    assert machine.expiries[0] is None
    assert machine.expiries[1] in {90, 91}, "whole seconds, less what it waited"
    assert machine.expiries[2] in {0, 1}


async def test_a_machine_without_a_session_counts_as_sent(broker: Broker) -> None:
    outbox = Outbox()
    async with bridging(broker, outbox=outbox) as bridge:
        outbox.put(NO, b"for nobody")
        await until(lambda: outbox.gone == [1])
        assert bridge.counters["nobody_subscribed"] == 1


async def test_an_outbox_that_cannot_write_is_sent_again(broker: Broker, machine: Machine) -> None:
    outbox = Outbox(broken=OSError("no space left"))
    async with bridging(broker, outbox=outbox):
        outbox.put(NO, b"twice")
        await until(lambda: len(machine.heard) >= 2)
        outbox.broken = None
        await until(lambda: outbox.gone == [1])


async def test_books_that_cannot_write_are_tried_until_they_can(
    broker: Broker, machine: Machine
) -> None:
    """A full disk acknowledges nothing; a bug does after three tries, or it would stay for ever."""
    full = True

    async def fail(payload: bytes) -> None:
        if payload == b"poison":
            raise RuntimeError("a bug")
        if full:
            raise OSError("no space left")

    books = Books(before=fail)
    async with bridging(broker, books) as bridge:
        machine.say("result", b"1")
        await until(lambda: bridge.counters["books_failed"] > 5)
        machine.say("result", b"poison")
        machine.say("result", b"2")
        full = False
        await until(lambda: books.of(NO) == [b"1", b"2"])
        assert books.tried.count(b"poison") == 3
        assert bridge.counters["given_up"] == 1
    async with bridging(broker, books):
        machine.say("result", b"3")
        await until(lambda: books.of(NO)[-1] == b"3")
    assert books.tried.count(b"poison") == 3, "it was acknowledged"


async def test_books_that_stand_still_end_the_connection_and_lose_nothing(
    broker: Broker, machine: Machine
) -> None:
    """Nobody books, the room is full: paho's thread waits its bound, and the line is cut."""
    release = asyncio.Event()

    async def hold(_payload: bytes) -> None:
        await release.wait()

    books = Books(before=hold)
    small = {"waiting_messages": 5, "keepalive_s": 1}
    async with bridging(broker, books, settings=small) as bridge:
        for text in numbered(30):
            machine.say("result", text)
        await until(lambda: bridge.counters["connections"] >= 2)
        assert "faster than they are booked" in bridge.last_error
        release.set()
        await until(lambda: set(books.of(NO)) == set(numbered(30)))


async def test_what_is_no_message_of_a_machine_is_acknowledged_and_counted(
    broker: Broker, machine: Machine
) -> None:
    """A byte order mark in a property ends paho's connection, and unacknowledged every later one;
    so the message is read without its properties."""
    books = Books()
    marked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    marked.UserProperty = ("name", "\ufeffvalue")
    async with bridging(broker, books) as bridge:
        machine.say("result", b"x" * (64 * 1024 + 1))
        machine.client.publish(f"{PREFIX}/{'9' * 33}/result", b"x", qos=1)
        machine.client.publish(f"{PREFIX}//result", b"x", qos=1)
        machine.say("result", b"marked", properties=marked)
        machine.say("result", b"good")
        await until(lambda: books.of(NO) == [b"marked", b"good"])
        assert bridge.counters["foreign"] == 3
        assert bridge.counters["connections"] == 1
    async with bridging(broker, books) as bridge:
        machine.say("result", b"end")
        await until(lambda: books.of(NO) == [b"marked", b"good", b"end"])
        assert bridge.counters["foreign"] == 0


async def test_two_backends_share_what_counts_once(broker: Broker, machine: Machine) -> None:
    first, second = Books(), Books()
    both = {"group": "backend"}
    async with (
        bridging(broker, first, settings={"client_id": "backend-1"}, **both),
        bridging(broker, second, settings={"client_id": "backend-2"}, **both),
    ):
        for text in numbered(30):
            machine.say("result", text)
        machine.say("state", b"up")
        await until(lambda: len(first.of(NO)) + len(second.of(NO)) >= 30)
        await until(lambda: first.of(NO, "state") and second.of(NO, "state"))
    assert sorted(first.of(NO) + second.of(NO)) == sorted(numbered(30))
    assert first.of(NO)
    assert second.of(NO)


class StrictBroker(Broker):
    """The user `platform` has a password, and may not command OTHER nor read inventories."""

    def config(self) -> str:
        directory = self._config.parent
        salt = b"twelve bytes"
        key = hashlib.pbkdf2_hmac("sha512", b"secret", salt, 101)
        told = "$".join(base64.b64encode(each).decode() for each in (salt, key))
        leaves = ("result", "order", "event", "state", "response/results")
        files = {
            "passwords": [f"platform:$7$101${told}"],
            "acl": [
                f"topic readwrite {PREFIX}/#",  # of the machines, which are anonymous here
                "user platform",
                *(f"topic read {PREFIX}/+/{leaf}" for leaf in leaves),
                f"topic write {PREFIX}/{NO}/#",
            ],
        }
        for name, lines in files.items():
            (directory / name).write_text("\n".join([*lines, ""]))
            (directory / name).chmod(0o600)
        # With 0 for "any number", mosquitto 2.0.11 cuts the line of whom it refuses a publish.
        usual = super().config().replace("max_queued_messages 0", "max_queued_messages 1000")
        return f"{usual}password_file {directory}/passwords\nacl_file {directory}/acl\n"


@pytest_asyncio.fixture
async def strict(tmp_path: Path) -> AsyncIterator[tuple[StrictBroker, Machine, dict[str, Any]]]:
    """With a machine, and how one logs in."""
    broker = StrictBroker(tmp_path / "broker")
    broker.up()
    machine = Machine(broker.port, NO)
    await until(lambda: machine.subscribed >= 3)
    password = tmp_path / "password"
    password.write_text("secret\n")
    yield broker, machine, {"username": "platform", "password_file": password}
    machine.close()
    broker.end()


async def test_a_refused_command_holds_back_its_machine_only(
    strict: tuple[StrictBroker, Machine, dict[str, Any]],
) -> None:
    broker, machine, login = strict
    outbox = Outbox()
    outbox.put(OTHER, b"refused")
    outbox.put(OTHER, b"waits behind it")
    for text in numbered(5):
        outbox.put(NO, text)
    async with bridging(broker, outbox=outbox, settings=login) as bridge:
        await until(lambda: len(machine.heard) == 5)
        await until(lambda: bridge.counters["refused"] >= 2)
        assert bridge.counters["connections"] == 1
        assert bridge.counters["refused_subscriptions"] <= 1
    assert [command.payload for command in outbox.waiting] == [b"refused", b"waits behind it"]


@pytest.mark.parametrize(
    ("password", "why"), [("wrong", "refused: Not authorized"), (None, "cannot prepare")]
)
async def test_a_login_that_fails_is_told(
    strict: tuple[StrictBroker, Machine, dict[str, Any]], password: str | None, why: str
) -> None:
    broker, _, login = strict
    if password is None:
        login["password_file"].unlink()
    else:
        login["password_file"].write_text(password)
    async with bridging(broker, wait=False, settings=login) as bridge:
        await until(lambda: why in bridge.last_error)
        login["password_file"].write_text("secret")
        await until(lambda: bridge.counters["subscribed"])


class SecretBroker(Broker):
    """Speaks TLS with the certificate `broker.pem` beside its directory."""

    def config(self) -> str:
        files = self._config.parent.parent
        lines = [f"cafile {files}/broker.pem", f"certfile {files}/broker.pem"]
        lines += [f"keyfile {files}/broker.key", "require_certificate true"]
        first, *rest = super().config().splitlines()
        return "\n".join([first, *lines, *rest, ""])


async def test_tls_with_a_certificate_of_our_own(tmp_path: Path) -> None:
    days = timedelta(days=2)
    certificate = self_signed(tmp_path, "broker", begins=-days, ends=days)
    broker = SecretBroker(tmp_path / "broker")
    broker.up()
    with_tls = {"tls": True, "ca_file": certificate}
    own = {"cert_file": certificate, "key_file": tmp_path / "broker.key"}
    async with bridging(broker, settings=with_tls | own) as bridge:
        assert bridge.counters["connections"] == 1
    async with bridging(broker, settings={"tls": True}, wait=False) as bridge:
        await until(lambda: "certificate verify failed" in bridge.last_error)
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    async with bridging(broker, settings={"tls": True, "ca_file": broken}, wait=False) as bridge:
        await until(lambda: "broken.pem cannot be used" in bridge.last_error)
    broker.end()


async def test_somebody_who_answers_nothing_is_left(tmp_path: Path) -> None:
    """A port that takes connections and stays silent, as a broker that is stuck."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        dead = Broker(tmp_path / "broker", port=port)
        async with bridging(dead, wait=False, settings={"keepalive_s": 1}) as bridge:
            await until(lambda: bridge.counters["connections"] >= 2)
            assert bridge.last_error


async def test_no_file_left_to_open_is_waited_for(broker: Broker, machine: Machine) -> None:
    """It ended the program, and with it the callbacks and the rules of time."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    books = Books()
    spare = os.open(os.devnull, os.O_RDONLY)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, usual[1]))
    try:
        async with bridging(broker, books, wait=False) as bridge:
            await until(lambda: "Too many open files" in bridge.last_error)
            resource.setrlimit(resource.RLIMIT_NOFILE, usual)
            await until(lambda: bridge.counters["subscribed"])
            machine.say("result", b"1")
            await until(lambda: books.of(NO))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
