"""A fresh real mosquitto per test, the platform's side of the talk, and fakes at the seams."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
import pytest_asyncio
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from controller.clock import LoopClock
from controller.dispensing.interfaces import (
    Cancellation,
    OrderFacts,
    OutboxRow,
    Rejection,
    RequestClaimed,
    RequestTold,
    Standing,
)
from controller.errors import JournalUnwritable, Refused
from controller.model import Code, Executed, Order, OrderKey, OrderStatus
from controller.uplink.intake import IntakeSettings
from controller.uplink.link import MqttSettings
from controller.uplink.messages import Payloads
from controller.uplink.remote import Acting, Remote
from controller.uplink.requests import StoredMessage
from controller.uplink.session import Pace, Witness
from controller.uplink.uplink import Uplink

MACHINE = "16327129"
ROOT = f"vending/v1/{MACHINE}"
LONGEST_WAIT_S = 10.0
QUICK = {"retained_state_wait_s": 0.3, "retry_first_s": 0.2, "refused_first_s": 0.3}


def find_mosquitto() -> str:
    found = shutil.which(
        "mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    )
    if found is None:
        pytest.skip("no mosquitto on this machine: make setup fetches one")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A mosquitto process that can be killed and started again on the same port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.extra = ""
        self.listener_extra = ""
        self.persistence = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "socket_domain ipv4",
            self.listener_extra,
            "allow_anonymous true",
            "set_tcp_nodelay true",
            f"persistence {'true' if self.persistence else 'false'}",
        ]
        if self.persistence:
            lines += [
                f"persistence_location {self.directory}/",
                "autosave_on_changes true",
                "autosave_interval 1",
            ]
        lines += [self.extra, ""]
        config = self.directory / "mosquitto.conf"
        config.write_text("\n".join(lines))
        if os.geteuid() == 0:
            config.write_text(config.read_text() + "user root\n")
        log = (self.directory / "mosquitto.log").open("ab")
        self._process = subprocess.Popen(
            [find_mosquitto(), "-c", str(config)], stdout=log, stderr=log
        )
        log.close()
        deadline = time.monotonic() + LONGEST_WAIT_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.5).close()
            except OSError:
                assert self._process.poll() is None, (self.directory / "mosquitto.log").read_text()
                time.sleep(0.005)
            else:
                return
        raise AssertionError("mosquitto does not listen")

    def signal(self, what: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(what)

    def stop(self) -> None:
        """Kill it: nothing is flushed, nobody is told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(LONGEST_WAIT_S)
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    yield made
    made.stop()


@dataclass(frozen=True)
class Heard:
    topic: str
    payload: bytes
    retained: bool
    properties: Any

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.payload))

    @property
    def last(self) -> str:
        return self.topic.removeprefix(f"{ROOT}/")


class Platform:
    """The other side: sends commands, collects what the machine says."""

    def __init__(self, port: int, client_id: str = "platform", **tls: Any) -> None:
        self.heard: list[Heard] = []
        self.subscribed = 0
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5
        )
        if tls:
            self.client.tls_set(**tls)
        self.client.reconnect_delay_set(1, 1)
        self.topics = [f"{ROOT}/#"]
        self.client.on_connect = self._connected
        self.client.on_subscribe = self._subscribed
        self.client.on_message = self._heard
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _connected(self, client: mqtt.Client, *_rest: Any) -> None:
        for topic in self.topics:
            client.subscribe(topic, qos=1)
        if not self.topics:
            self.subscribed += 1

    def _subscribed(self, *_rest: Any) -> None:
        self.subscribed += 1

    def _heard(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.heard.append(
            Heard(message.topic, bytes(message.payload), message.retain, message.properties)
        )

    def send(self, what: str, payload: Any, *, retain: bool = False, **rest: Any) -> None:
        data = payload if isinstance(payload, (bytes, str)) else json.dumps(payload)
        self.client.publish(f"{ROOT}/{what}", data, qos=1, retain=retain, **rest).wait_for_publish(
            LONGEST_WAIT_S
        )

    def on(self, last: str) -> list[Heard]:
        return [message for message in list(self.heard) if message.last == last]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


async def until(condition: Callable[[], Any], longest_s: float = LONGEST_WAIT_S) -> Any:
    """Wait for the condition to be true, and return what it gave."""
    deadline = time.monotonic() + longest_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {longest_s} s")


@pytest_asyncio.fixture
async def platform(broker: Broker) -> AsyncIterator[Platform]:
    made = Platform(broker.port)
    await until(lambda: made.subscribed)
    yield made
    made.close()


@dataclass
class MemoryJournal:
    """The journal at its seam: CommandJournal, Outbox and Reports, in memory."""

    payloads: Payloads = field(default_factory=lambda: Payloads(MACHINE))
    birth: int | None = 1_000
    bound: int | None = 1_000
    unwritable: bool = False
    requests: dict[str, tuple[str, RequestTold | None]] = field(default_factory=dict)
    flooded: bool = False
    """More rejections came than are stored."""
    may_mark: bool = True
    known: dict[OrderKey, Order] = field(default_factory=dict)
    rejected: dict[tuple[OrderKey, int], tuple[Code, Executed]] = field(default_factory=dict)
    tombstones: set[OrderKey] = field(default_factory=set)
    replays: list[OrderKey] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    rows: list[OutboxRow] = field(default_factory=list)
    sent_rows: set[int] = field(default_factory=set)
    signals: dict[str, asyncio.Event] = field(default_factory=dict)
    seq: int = 0

    def _durable(self) -> None:
        if self.unwritable:
            raise JournalUnwritable("no space left; free some")

    def put(self, topic: str, payload: bytes) -> int:
        number = len(self.rows) + 1
        self.rows.append(OutboxRow(number, topic, payload))
        self.signal(topic).set()
        return number

    def put_order(self, key: OrderKey, status: OrderStatus, code: Code | None = None) -> int:
        self.seq += 1
        facts = OrderFacts(
            key, "t", status, code and code.value, "", Executed.UNKNOWN, 1, 0, 0, 0, 1, 2_000.0
        )
        return self.put("order", self.payloads.order(facts, self.birth, self.seq))

    async def look_up(self, order: Order) -> Standing:
        known = self.known.get(order.key)
        if known is not None:
            return Standing.SAME if known.content() == order.content() else Standing.CONFLICT
        if any(
            other.trade_id == order.trade_id and other.key.order_id != order.key.order_id
            for other in self.known.values()
        ):
            return Standing.CONFLICT
        if order.key in self.tombstones:
            return Standing.TOMBSTONE
        if (order.key, order.issued_at) in self.rejected:
            return Standing.REJECTED
        return Standing.NEW

    async def replay(self, order: Order) -> None:
        self._durable()
        self.replays.append(order.key)

    async def accept(self, order: Order, plan: Any) -> Any:
        self._durable()
        self.known[order.key] = order
        self.put_order(order.key, OrderStatus.ACCEPTED)
        return ()

    async def reject(
        self,
        key: OrderKey,
        trade_id: str,
        issued_at: int,
        rejection: Rejection,
        *,
        executed: Executed,
        units: int,
    ) -> bool:
        self._durable()
        assert self.birth is not None
        if self.flooded:
            return False
        self.rejected[key, issued_at] = (rejection.code, executed)
        self.put_order(key, OrderStatus.REJECTED, rejection.code)
        return True

    async def cancel(self, cancellation: Cancellation) -> Any:
        self._durable()
        known = cancellation.key in self.known
        if not known:
            self.tombstones.add(cancellation.key)
        return (Code.OK if known else Code.UNKNOWN_ORDER), ()

    async def event(self, kind: str, detail: Mapping[str, Any], key: str | None = None) -> None:
        self._durable()
        self.events.append((kind, dict(detail)))

    async def claim_request(self, request_id: str, content: str) -> RequestClaimed | None:
        self._durable()
        known = self.requests.get(request_id)
        if known is None:
            self.requests[request_id] = (content, None)
            return None
        return RequestClaimed(known[0] == content, known[1])

    async def known_request(self, request_id: str, content: str) -> RequestClaimed | None:
        known = self.requests.get(request_id)
        return None if known is None else RequestClaimed(known[0] == content, known[1])

    async def settle_request(self, request_id: str, told: RequestTold) -> None:
        self._durable()
        self.requests[request_id] = (self.requests[request_id][0], told)

    async def oldest(self, topic: str, limit: int) -> Sequence[OutboxRow]:
        unsent = [r for r in self.rows if r.topic == topic and r.row not in self.sent_rows]
        return unsent[:limit]

    async def sent(self, rows: Sequence[OutboxRow]) -> None:
        if not self.may_mark:
            raise JournalUnwritable("no space left; free some")
        self.sent_rows |= {row.row for row in rows}

    def signal(self, topic: str) -> asyncio.Event:
        return self.signals.setdefault(topic, asyncio.Event())

    async def waiting(self) -> Mapping[str, int]:
        return {}

    async def of_order(
        self, key: OrderKey, after: tuple[int, int], limit: int
    ) -> Sequence[StoredMessage] | None:
        if key not in self.known:
            return None
        found = await self.since(after, len(self.rows))
        return [m for m in found if json.loads(m.payload)["order_id"] == key.order_id][:limit]

    async def since(self, after: tuple[int, int], limit: int) -> Sequence[StoredMessage]:
        found = []
        for row in self.rows:
            value = json.loads(row.payload)
            place = (value["journal"], value["seq"])
            if place > after:
                found.append(StoredMessage(row.topic, *place, row.payload))
        return found[:limit]


@dataclass
class Desk:
    """The heart at its seam: accepts into the journal, or says no."""

    journal: MemoryJournal
    verdict: Rejection | None = None
    submitted: list[Order] = field(default_factory=list)
    cancelled: list[Cancellation] = field(default_factory=list)
    before: Callable[[Order], Awaitable[None]] | None = None

    async def submit(self, order: Order) -> Rejection | None:
        self.submitted.append(order)
        if self.before is not None:
            await self.before(order)
        if self.verdict is None:
            await self.journal.accept(order, None)
        return self.verdict

    async def cancel(self, cancellation: Cancellation) -> Code:
        code, _ = await self.journal.cancel(cancellation)
        self.cancelled.append(cancellation)
        return code  # type: ignore[no-any-return]


@dataclass
class View:
    """A machine to look at."""

    journal: MemoryJournal
    mode: str = "ready"
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def state(self) -> Mapping[str, Any]:
        return {
            "mode": self.mode,
            "boot_id": "b",
            "journal": self.journal.birth,
            "last_seq": self.journal.seq,
            "last_event_seq": 0,
            "since": "2026-11-23T09:30:00.000Z",
            "version": "1.0.0",
            "boards": {"main": {"up": True}},
            "cabinets": {"A": {"mode": self.mode}},
            "outbox": 0,
            "last_stop": "clean",
        }

    def inventory(self) -> Mapping[str, Any]:
        return {"journal": self.journal.birth, "lanes": []}

    def telemetry(self) -> Mapping[str, Any]:
        return {"uptime_s": 1, "counters": {"x": 1}}


@dataclass
class Hand:
    """Who carries out acting requests, at its seam: notes them, or refuses."""

    refusal: Refused | None = None
    done: list[tuple[str, str]] = field(default_factory=list)

    async def diagnostics(self) -> Mapping[str, Any]:
        return {"status": {}, "lanes": [], "ports": []}

    async def perform(self, verb: str, asked: Acting) -> Mapping[str, Any]:
        if self.refusal is not None:
            raise self.refusal
        self.done.append((verb, asked.request_id))
        return {"asked": asked.model_dump(exclude={"request_id", "issued_at", "expires_at"})}


@dataclass
class Machine:
    """An uplink with everything around it faked, running in this loop."""

    journal: MemoryJournal
    desk: Desk
    view: View
    uplink: Uplink
    task: asyncio.Task[None]
    adopted: list[Witness]
    hand: Hand

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


Build = Callable[..., Machine]


@pytest_asyncio.fixture
async def build(broker: Broker) -> AsyncIterator[Build]:
    """Make machines: `build(protocol="3.1.1", journal=…, wall=…)`; stopped at the end."""
    made: list[Machine] = []

    def builder(
        *,
        journal: MemoryJournal | None = None,
        wall: Callable[[], float] = lambda: 2_000.0,
        remote_verbs: Sequence[str] = (),
        adopt: Callable[[Witness], Awaitable[None]] | None = None,
        pace: dict[str, Any] | None = None,
        real: Any = None,
        real_desk: Any = None,
        **settings: Any,
    ) -> Machine:
        journal = journal or MemoryJournal()
        desk, view, hand = Desk(journal), View(journal), Hand()
        adopted: list[Witness] = []

        async def on_retained_state(told: Witness) -> None:
            if adopt is not None:
                await adopt(told)
            adopted.append(told)

        named: dict[str, Any] = {"machine_no": MACHINE, "host": "127.0.0.1", "port": broker.port}
        mqtt_settings = MqttSettings(**(named | settings))
        uplink = Uplink(
            mqtt_settings,
            IntakeSettings(MACHINE),
            LoopClock(wall=wall),
            journal=real or journal,
            desk=real_desk or desk,
            outbox=real or journal,
            reports=journal,
            view=view,
            remote=Remote(hand, journal, LoopClock(wall=wall), remote_verbs),
            on_retained_state=on_retained_state,
            pace=Pace(**(QUICK | (pace or {}))),
        )
        task = asyncio.get_running_loop().create_task(uplink.run())
        machine = Machine(journal, desk, view, uplink, task, adopted, hand)
        made.append(machine)
        return machine

    yield builder
    for machine in made:
        await machine.stop()


def command(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A dispense command that is in order at wall time 2000."""
    return {
        "order_id": number,
        "trade_id": f"trade-{number}",
        "machine_no": MACHINE,
        "issued_at": 1_990,
        "products": [{"product_id": 121, "quantity": 1}],
    } | changes
