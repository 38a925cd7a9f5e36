"""`request/…`: answered, bounded, and never a way to speak in the machine's name (P14)."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from controller.clock import LoopClock
from controller.model import Order, OrderKey, OrderStatus
from controller.uplink.link import Inbound, MqttSettings
from controller.uplink.messages import Payloads, ResponseMessage
from controller.uplink.remote import Remote
from controller.uplink.requests import PAGE_BYTES, Requests, may_write_to
from tests.uplink.conftest import (
    MACHINE,
    ROOT,
    Build,
    Hand,
    Machine,
    MemoryJournal,
    Platform,
    View,
    until,
)


def nobodys(journal: MemoryJournal) -> Remote:
    return Remote(Hand(), journal, LoopClock())


async def ask(platform: Platform, verb: str, payload: Any, **rest: Any) -> dict[str, Any]:
    before = len(platform.on(f"response/{verb}"))
    platform.send(f"request/{verb}", payload, **rest)
    answers = await until(lambda: platform.on(f"response/{verb}")[before:])
    return answers[0].json  # type: ignore[no-any-return]


@pytest.fixture
async def machine(build: Build, platform: Platform) -> Machine:
    made = build()
    await made.uplink.session.ready()
    return made


async def test_status_and_inventory_say_what_the_view_says(
    machine: Machine, platform: Platform
) -> None:
    status = await ask(platform, "status", {"request_id": "r1"})
    assert (status["code"], status["request_id"]) == ("ok", "r1")
    assert status["data"]["mode"] == "ready"
    inventory = await ask(platform, "inventory", b"")
    assert inventory["data"] == {"journal": 1000, "lanes": []}


async def test_results_are_paged_and_verbatim(machine: Machine, platform: Platform) -> None:
    """P9: a gap in seq can be filled; the stored bytes come back as they were."""
    for number in range(1, 6):
        machine.journal.put_order(OrderKey(number), OrderStatus.ACCEPTED)
    seen: list[int] = []
    since: dict[str, Any] | None = {"journal": 0, "seq": 0}
    while since is not None:
        page = await ask(platform, "results", since | {"limit": 2})
        assert len(page["data"]["messages"]) <= 2
        assert page["data"]["topics"] == ["order"] * len(page["data"]["messages"])
        seen += [message["seq"] for message in page["data"]["messages"]]
        since = page["data"]["next"]
    assert seen == [1, 2, 3, 4, 5]
    answer = platform.on("response/results")[0].payload
    assert machine.journal.rows[0].payload in answer


async def test_results_of_one_order_and_of_an_unknown_one(
    machine: Machine, platform: Platform
) -> None:
    platform.send(
        "dispense",
        {
            "order_id": 3,
            "trade_id": "t",
            "issued_at": 1_990,
            "products": [{"product_id": 1, "quantity": 1}],
        },
    )
    await until(lambda: machine.journal.sent_rows)
    known = await ask(platform, "results", {"order_id": "3"})
    assert [m["order_id"] for m in known["data"]["messages"]] == [3]
    assert known["data"]["next"] is None
    unknown = await ask(platform, "results", {"order_id": 4})
    assert unknown["code"] == "unknown_order"
    assert "refused" not in unknown["message"]


async def test_an_order_whose_details_are_gone_says_so(
    machine: Machine, platform: Platform
) -> None:
    """P8: an empty page that says `ok` would mean that nothing ever became of the order."""
    machine.journal.known[OrderKey(5)] = Order(OrderKey(5), "t", 1_990, 2_000, ())
    pruned = await ask(platform, "results", {"order_id": 5})
    assert pruned["code"] == "results_pruned"
    assert pruned["data"] == {"next": None, "topics": [], "messages": []}
    machine.journal.put_order(OrderKey(5), OrderStatus.FINISHED)
    assert (await ask(platform, "results", {"order_id": 5}))["code"] == "ok"
    end = {"order_id": 5, "journal": 1000, "seq": 1}
    assert (await ask(platform, "results", end))["code"] == "ok"


async def test_a_page_has_a_bound_in_bytes(build: Build, platform: Platform) -> None:
    journal = MemoryJournal()
    for number in range(1, 4):
        payload = json.dumps({"journal": 1000, "seq": number, "raw": "x" * (PAGE_BYTES // 2)})
        journal.put("result", payload.encode())
    machine = build(journal=journal)
    await machine.uplink.session.ready()
    page = await ask(platform, "results", {})
    assert len(page["data"]["messages"]) == 1
    assert page["data"]["next"] == {"journal": 1000, "seq": 1}


@pytest.mark.parametrize(
    ("verb", "payload", "code"),
    [
        ("stock.set", {}, "not_allowed"),
        ("lane.test", {}, "not_allowed"),
        ("mode.set", b"[", "not_allowed"),
        ("format.disk", {}, "unknown_verb"),
        ("status", b"[", "bad_json"),
        ("results", {"limit": 0.5}, "bad_field"),
        ("results", {"limit": 1000}, "bad_field"),
        ("results", {"order_id": 1, "delivery_id": 7}, "bad_field"),
        ("status", b" " * 70_000, "too_large"),
    ],
)
async def test_what_cannot_be_answered_gets_a_code(
    machine: Machine, platform: Platform, verb: str, payload: Any, code: str
) -> None:
    """P14."""
    assert (await ask(platform, verb, payload))["code"] == code


async def test_a_verb_that_is_no_verb_is_answered_as_invalid(
    machine: Machine, platform: Platform
) -> None:
    platform.send("request/" + "Ü" * 500, b"{}")
    answer = await until(lambda: platform.on("response/invalid"))
    assert answer[0].json["code"] == "unknown_verb"


async def test_a_retained_request_is_refused(machine: Machine, build: Build) -> None:
    """A retained one would be asked again at every connection."""
    platform = Platform(machine.uplink.session.settings.port, "another")
    await machine.stop()
    platform.send("request/status", {}, retain=True)
    build()
    answer = await until(lambda: platform.on("response/status"))
    assert answer[0].json["code"] == "retained"
    platform.close()


@pytest.mark.parametrize(
    ("topic", "answered_on"),
    [
        ("vending/v1/reply/me", "vending/v1/reply/me"),
        (f"{ROOT}/response/mine", f"{ROOT}/response/mine"),
        (f"{ROOT}/result", f"{ROOT}/response/status"),
        ("vending/v1/16327130/dispense", f"{ROOT}/response/status"),
    ],
)
async def test_the_answer_goes_only_where_answers_may_go(
    machine: Machine, platform: Platform, topic: str, answered_on: str
) -> None:
    """P14: a response topic must not turn a question into a forged result or a command."""
    platform.client.subscribe("vending/v1/reply/#", qos=1)
    await until(lambda: platform.subscribed == 2)
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = topic
    properties.CorrelationData = b"\x01\x02"
    platform.send("request/status", {}, properties=properties)
    answers = await until(lambda: [m for m in platform.heard if m.topic == answered_on])
    assert answers[0].properties.CorrelationData == b"\x01\x02"
    assert answers[0].json["code"] == "ok"


@pytest.mark.parametrize(
    "topic",
    ["", "vending/v1/reply/+", "vending/v1/reply/#", "vending/v1/reply/\0", "x" * 300, "$SYS/a"],
)
def test_response_topics_that_no_answer_goes_to(topic: str) -> None:
    assert not may_write_to(topic, MqttSettings(MACHINE))


async def test_requests_are_rate_limited(machine: Machine, platform: Platform) -> None:
    """P14: a flood of questions costs the disk nothing."""
    for _ in range(60):
        platform.client.publish(f"{ROOT}/request/status", b"{}", qos=1)
    await until(lambda: machine.uplink.requests.counters["suppressed"])
    counters = machine.uplink.requests.counters
    await until(
        lambda: (
            counters["suppressed"]
            + counters["status"]
            + machine.uplink.session.counters["requests_dropped"]
            == 60
        )
    )
    assert counters["status"] <= 40


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
FIELDS = st.dictionaries(
    st.sampled_from(["request_id", "order_id", "delivery_id", "journal", "seq", "limit"]),
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.lists(st.integers()),
)


@settings(deadline=None)
@given(
    verb=st.sampled_from(["status", "inventory", "results"]) | ANY_TEXT,
    payload=st.none()
    | st.binary(max_size=200)
    | FIELDS.map(lambda value: json.dumps(value).encode()),
    retained=st.booleans(),
    response_topic=st.none() | ANY_TEXT | ANY_TEXT.map(lambda text: f"vending/v1/reply/{text}"),
    correlation=st.none() | st.binary(max_size=400),
)
async def test_any_request_is_answered_once_below_the_answers_topics(
    verb: str,
    payload: bytes | None,
    response_topic: str | None,
    correlation: bytes | None,
    *,
    retained: bool,
) -> None:
    """P14: any bytes, any verb, any response topic: one answer with a code, and only there."""
    answers: list[tuple[str, bytes]] = []

    async def publish(topic: str, data: bytes, **_: Any) -> None:
        answers.append((topic, data))

    journal = MemoryJournal()
    journal.put_order(OrderKey(1), OrderStatus.ACCEPTED)
    session: Any = SimpleNamespace(settings=MqttSettings(MACHINE), publish=publish)
    asked = Requests(
        session, View(journal), journal, Payloads(MACHINE), LoopClock(), nobodys(journal)
    )
    link: Any = None
    topic = f"{ROOT}/request/{verb}"
    await asked.handle(Inbound(link, 1, 1, topic, payload, retained, response_topic, correlation))
    ((answered, data),) = answers
    assert answered.startswith((f"{ROOT}/response/", "vending/v1/reply/"))
    assert "+" not in answered
    assert "#" not in answered
    ResponseMessage.model_validate_json(data)
