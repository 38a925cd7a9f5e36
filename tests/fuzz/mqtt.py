"""What a broker brings: commands, requests, our own state, and packets as such."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from dataclasses import astuple
from types import SimpleNamespace
from typing import Any

from paho.mqtt.properties import VariableByteIntegers

from controller.clock import LoopClock
from controller.dispensing.interfaces import OrderFacts, Rejection
from controller.model import Code, Executed, Order, OrderKey, OrderStatus
from controller.uplink.commands import LARGEST, MAX_LINES, MAX_QUANTITY
from controller.uplink.intake import LARGEST_PAYLOAD, Disposition, Intake, IntakeSettings
from controller.uplink.link import Inbound, Link, LinkEvents, MqttSettings
from controller.uplink.messages import EventMessage, OrderMessage, Payloads, ResponseMessage
from controller.uplink.remote import ACTS, Remote
from controller.uplink.requests import PAGE_BYTES, Requests
from controller.uplink.session import _witness
from tests.fuzz.draw import Draw, text_of
from tests.fuzz.texts import edited
from tests.uplink.conftest import MACHINE, ROOT, Desk, Hand, MemoryJournal, View

NOW = 2_000.0
MESSAGES = 8
LARGEST_ANSWER = 2 * 1024
"""Bytes of an `order` or `event`: identity and trade of 100 characters of up to six bytes each,
a sentence of 160, and the fields around them."""

NAMES = (
    b"order_id", b"delivery_id", b"trade_id", b"machine_no", b"issued_at", b"expires_at",
    b"products", b"product_id", b"quantity", b"channel", b"record_id", b"request_id", b"journal",
    b"seq", b"limit", b"last_seq", b"\\u006frder_id", b"x",
)  # fmt: skip

COMMAND = [
    (b"order_id", b"7"),
    (b"trade_id", b'"t-7"'),
    (b"machine_no", b'"16327129"'),
    (b"issued_at", b"1990"),
    (
        b"products",
        b'[{"product_id":121,"quantity":2},{"product_id":122,"quantity":1,"channel":"A2"}]',
    ),
]
CANCEL = COMMAND[:4]


class StillClock(LoopClock):
    """Stands at NOW, and needs no loop."""

    def __init__(self, *, believed: bool) -> None:
        super().__init__(lambda: believed, lambda: NOW)

    def monotonic(self) -> float:
        return NOW


class TellingJournal(MemoryJournal):
    """Its rejections are rendered as the real journal renders them."""

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
        self.rejected[key, issued_at] = (rejection.code, executed)
        self.seq += 1
        status = OrderStatus.REJECTED
        facts = OrderFacts(
            key, trade_id, status, rejection.code.value, rejection.message, executed, units,
            0, 0, 0, 1, NOW,
        )  # fmt: skip
        self.put("order", self.payloads.order(facts, self.birth, self.seq))
        return True

    async def event(self, kind: str, detail: Mapping[str, Any], key: str | None = None) -> None:
        self._durable()
        self.put("event", self.payloads.event(kind, detail, self.birth, 1, NOW))


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The value of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it waits")


def commands(data: bytes) -> None:
    """Dispenses and cancels that meet in one journal: each is accepted, answered or counted;
    no identity is accepted twice; what is accepted is within its bounds (P8, P14)."""
    draw = Draw(data)
    flags = draw.number(64)
    retained, unwritable, unborn, unbelieved, deaf = (bool(flags >> bit & 1) for bit in range(5))
    journal = TellingJournal()
    journal.unwritable = unwritable
    if unborn:
        journal.birth = journal.bound = None
    desk = Desk(journal)
    said: list[tuple[str, bytes]] = []

    async def publish_now(topic: str, payload: bytes) -> bool:
        said.append((topic, payload))
        return not deaf

    clock = StillClock(believed=not unbelieved)
    payloads = Payloads(MACHINE)
    intake = Intake(IntakeSettings(MACHINE), journal, desk, clock, payloads, publish_now)
    came = 0
    for _ in draw.rounds(MESSAGES):
        cancels = draw.flag()
        payload = edited(draw, CANCEL if cancels else COMMAND, NAMES)
        handler = intake.cancel if cancels else intake.dispense
        word = at_once(handler(payload, retained=retained))
        came += 1
        assert word is Disposition.ACKNOWLEDGE or unwritable or (deaf and said)
    assert unwritable or intake.counters.total() == came
    said += [(row.topic, row.payload) for row in journal.rows]
    for topic, answer in said:
        assert len(answer) <= LARGEST_ANSWER
        (EventMessage if topic == "event" else OrderMessage).model_validate_json(answer)
        json.loads(answer.decode("utf-8"))
    accepted = [order.key for order in desk.submitted]
    assert unwritable or len(accepted) == len(set(accepted))
    for order in desk.submitted:
        assert (retained, unborn, unbelieved) == (False, False, False)
        _within_bounds(order)


def _within_bounds(order: Order) -> None:
    assert 0 < order.key.order_id <= LARGEST
    assert len(order.key.delivery_id) <= 32
    assert 1 <= len(order.trade_id) <= 64
    assert 1_000 <= order.issued_at <= NOW + 30
    assert NOW <= order.expires_at <= LARGEST
    assert 1 <= order.units <= 50
    assert 1 <= len(order.lines) <= MAX_LINES
    for line in order.lines:
        assert 0 < line.product_id <= LARGEST
        assert 1 <= line.quantity <= MAX_QUANTITY
    (order.trade_id + order.key.delivery_id).encode("utf-8")


VERBS = ("status", "inventory", "results", "diagnostics", *ACTS, "nonsense", "")
TOPICS = (f"{ROOT}/response/x", "vending/v1/reply/me", f"{ROOT}/result", "vending/v1/reply/+", "#")
QUESTION = [(b"request_id", b'"r1"'), (b"limit", b"2"), (b"order_id", b"1"), (b"journal", b"1000")]


def requests(data: bytes) -> None:
    """Answered once, below our own `response/` or `{prefix}/reply/` and nowhere else, as JSON of
    a bounded size, whatever verb, payload and properties came."""
    draw = Draw(data)
    verb = draw.pick(VERBS) if draw.number(4) else text_of(draw.some())
    topic = draw.pick((None, *TOPICS)) if draw.number(4) else text_of(draw.some())
    correlation = draw.some() if draw.flag() else None
    retained, too_large = draw.number(8) == 1, draw.number(8) == 1
    payload = None if too_large else edited(draw, QUESTION[: draw.number(5)], NAMES)
    answers: list[tuple[str, bytes, Any]] = []

    async def publish(where: str, answer: bytes, **more: Any) -> None:
        answers.append((where, answer, more["properties"]))

    journal = MemoryJournal()
    journal.known[OrderKey(1)] = Order(OrderKey(1), "t", 1, 2, ())
    for number in (1, 2, 1):
        journal.put_order(OrderKey(number), OrderStatus.REJECTED, Code.EXPIRED)
    session: Any = SimpleNamespace(settings=MqttSettings(MACHINE), publish=publish)
    clock = StillClock(believed=True)
    remote = Remote(Hand(), journal, clock, tuple(ACTS))
    asked = Requests(session, View(journal), journal, Payloads(MACHINE), clock, remote)
    link: Any = None
    where = f"{ROOT}/request/{verb}"
    at_once(asked.handle(Inbound(link, 1, 1, where, payload, retained, topic, correlation)))
    ((answered, answer, properties),) = answers
    assert answered.startswith((f"{ROOT}/response/", "vending/v1/reply/"))
    assert not {"+", "#", "\0"} & set(answered)
    assert len(properties.get("CorrelationData", b"")) <= 256
    assert len(answer) <= PAGE_BYTES + LARGEST_PAYLOAD
    ResponseMessage.model_validate_json(answer)


def own_state(data: bytes) -> None:
    """Our retained state, as anybody may have written it: numbers that fit the journal, or
    nothing."""
    draw = Draw(data)
    state = [(b"journal", b"1763800000"), (b"last_seq", b"4711"), (b"online", b"true")]
    for number in astuple(_witness(edited(draw, state, NAMES))):
        assert number is None or (type(number) is int and 0 <= number < 2**63)


SOUND = (
    b"\x26\x00\x01k\x00\x01v",
    b"\x26\x00\x01k\x00\x03\xef\xbb\xbf",
    b"\x08\x00\x05reply",
    b"\x09\x00\x02id",
    b"\x01\x01",
    b"\x02\x00\x00\x00\x1e",
    b"\x0b\x01",
)
"""Properties of MQTT 5 (2.2.2.2): user property (one with U+FEFF), response topic, correlation
data, payload format, expiry, subscription identifier."""


SUBSCRIBED = tuple(f"{ROOT}/{name}".encode() for name in ("dispense", "cancel", "request/status"))


def packets(data: bytes) -> None:
    """A PUBLISH that a broker passed on arrives, once, with its topic and its payload, whatever
    its properties are: else it would come again on each connection, and end each."""
    draw = Draw(data)
    version_5, qos, retain = draw.number(4) > 0, draw.number(2), draw.number(2)
    topic = draw.some() if draw.number(8) == 1 else draw.pick(SUBSCRIBED)
    properties = b"".join(
        draw.pick(SOUND) if draw.number(3) else draw.some() for _ in draw.rounds(draw.number(4))
    )
    payload = draw.rest()
    packet = len(topic).to_bytes(2, "big") + topic + (b"\0\x07" if qos else b"")
    if version_5:
        packet += bytes(VariableByteIntegers.encode(len(properties))) + properties
    arrived: list[Inbound] = []
    settings = MqttSettings(MACHINE, protocol="5" if version_5 else "3.1.1")
    events = LinkEvents(arrived.append, lambda: None, lambda _why: None)
    client = Link(1, settings, None, events, _LOOP)._client
    client._in_packet["command"] = 0x30 | qos << 1 | retain
    client._in_packet["packet"] = bytearray(packet + payload)
    if not topic and not version_5:
        return  # 3.1.1 knows no such packet
    client._handle_publish()
    (message,) = arrived
    assert (message.payload, message.qos, message.retained) == (payload, qos, bool(retain))
    assert message.mid == (7 if qos else 0)
    assert message.topic in {"", topic.decode("utf-8", "replace")}


_LOOP = asyncio.SelectorEventLoop()
"""Never runs: a link only needs one to tell of its end."""
