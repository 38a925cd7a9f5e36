"""Deliveries: one lock a machine, one item where a light eye watches, and what becomes of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_sim.store import Store
from tests.platform.conftest import MACHINE_NO, Platform, running, settings_of


async def one(platform: Platform, product: int = 221, quantity: int = 1) -> dict[str, Any]:
    """A paid order of one line, asked for: its command."""
    order_id, records = await platform.merchant.paid_order(f"t{product}", (product, quantity))
    assert (await platform.merchant.deliver(order_id, records[0])).code == 0
    (command,) = await platform.commands()
    return command


async def test_a_sale(platform: Platform) -> None:
    merchant = platform.merchant
    order_id, records = await merchant.paid_order("t1", (221, 2))
    answer = await merchant.deliver(order_id, records[0])
    delivery_id = answer.data["delivery_id"]
    assert len(delivery_id) == 16
    assert delivery_id.isdigit()
    (command,) = await platform.commands()
    assert command["products"] == [
        {"product_id": 221, "quantity": 2, "channel": "B1", "record_id": records[0]}
    ]
    assert (command["order_id"], command["delivery_id"], command["trade_id"]) == (
        order_id,
        delivery_id,
        "t1",
    )
    assert command["expires_at"] - command["issued_at"] == 90, "inside the backstop of 120 s"
    await platform.order_word(command, "accepted", None, "unknown")
    assert (await merchant.delivery(delivery_id))["delivery_logs"] == [
        {"unit": 1, "status": "3"},
        {"unit": 2, "status": "3"},
    ]
    await platform.result(command, 1, "delivered")
    assert await platform.callbacks() == [], "one word for the whole delivery"
    assert (await merchant.query(order_id))["records"][0]["status"] == "IS_DELIVERING"
    await platform.result(command, 2, "delivered")
    assert await platform.callbacks() == [
        {
            "method": "device.delivery.response",
            "order_id": order_id,
            "record_id": records[0],
            "deliver_status": "1",
            "floor_status": "1",
            "error_msg": "",
            "fail_reason": "",
            "delivery_id": delivery_id,
            "channel_name": "B1",
            "quantity": 2,
            "delivered": 2,
            "timed_out": 0,
        }
    ]
    assert (await merchant.query(order_id))["records"][0] == {
        "id": records[0],
        "product_id": 221,
        "quantity": 2,
        "status": "IS_SUCCESS",
        "notify_sent": "1",
    }
    delivery = await merchant.delivery(delivery_id)
    assert delivery["status"] == "出货完成"
    assert delivery["delivered_at"] > 0
    assert (await merchant.deliver(order_id, records[0])).code == 6034
    assert await merchant.stock(221) == 6


async def test_behind_a_light_eye_a_delivery_is_one_item(platform: Platform) -> None:
    merchant = platform.merchant
    order_id, records = await merchant.paid_order("t1", (121, 2))
    for unit in (1, 2):
        assert (await merchant.deliver(order_id, records[0])).code == 0
        (command,) = await platform.commands()
        assert command["products"][0]["quantity"] == 1
        await platform.result(command, 1, "delivered")
        state = (await merchant.query(order_id))["records"][0]["status"]
        assert state == ("WAITING_PICKED_UP" if unit == 1 else "IS_SUCCESS")
    assert (await merchant.deliver(order_id, records[0])).code == 6034
    assert len(await platform.callbacks()) == 2


async def test_the_machine_is_locked_until_a_delivery_ended(platform: Platform) -> None:
    merchant = platform.merchant
    order_id, records = await merchant.paid_order("t1", (121, 1), (221, 1), (122, 1))
    for record in records:
        assert (await merchant.deliver(order_id, record)).code == 0
    sent = []
    for _ in records:
        (command,) = await platform.commands()
        sent.append(command["products"][0]["record_id"])
        await platform.result(command, 1, "delivered")
    assert sent == records, "one after the other, in the order of asking"


@pytest.mark.parametrize(("product", "ceiling"), [(121, 90), (221, 30)])
async def test_the_lock_ends_at_its_ceiling(platform: Platform, product: int, ceiling: int) -> None:
    merchant = platform.merchant
    order_id, records = await merchant.paid_order("t1", (product, 1), (122, 1))
    for record in records:
        await merchant.deliver(order_id, record)
    assert len(await platform.commands()) == 1
    await platform.after(ceiling - 2)
    assert await platform.commands() == []
    await platform.after(3)
    assert len(await platform.commands()) == 1


async def test_who_waits_for_two_minutes_gets_nothing_any_more(platform: Platform) -> None:
    """The customer has gone; nothing went out, so the money may go back and the goods are there."""
    merchant = platform.merchant
    order_id, records = await merchant.paid_order("t1", (121, 1), (122, 1), (221, 1))
    for record in records:
        await merchant.deliver(order_id, record)
    assert len(await platform.commands()) == 1
    await platform.after(121)
    assert await platform.commands() == []
    told = [(body["record_id"], body["deliver_status"]) for body in await platform.callbacks()]
    assert sorted(told) == [(records[0], "5"), (records[1], "0"), (records[2], "0")]
    assert [await merchant.stock(product) for product in (121, 122, 221)] == [7, 8, 8]


async def test_a_machine_that_the_settings_name_no_more_sells_nothing(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "p.db")
    async with running(settings):
        pass
    async with running(settings.model_copy(update={"machines": settings.machines[1:]})) as platform:
        assert (await platform.merchant.order("t1", (121, 1))).code == 30004


async def test_a_queue_is_bounded(tmp_path: Path) -> None:
    async with running(settings_of(tmp_path / "p.db", rules={"queue": 2})) as platform:
        merchant = platform.merchant
        order_id, records = await merchant.paid_order("t1", *[(221, 1)] * 4)
        answers = [await merchant.deliver(order_id, record) for record in records]
        assert [answer.code for answer in answers] == [0, 0, 0, 6015], "one is out, two wait"
        (command,) = await platform.commands()
        await platform.result(command, 1, "delivered")
        assert (await merchant.deliver(order_id, records[3])).code == 0


async def test_refused_deliveries_send_nothing(platform: Platform) -> None:
    merchant = platform.merchant
    unpaid = (await merchant.order("t1", (121, 1))).data["order_id"]
    record = (await merchant.query(unpaid))["records"][0]["id"]
    assert (await merchant.deliver(unpaid, record)).code == 6054
    assert (await merchant.deliver(unpaid + 1, record)).code == 80002
    order_id, records = await merchant.paid_order("t2", (121, 1))
    assert (await merchant.deliver(order_id, record)).code == 80002, "another order's line"
    await platform.online(online=False)
    assert (await merchant.deliver(order_id, records[0])).code == 30002
    await platform.online()
    await merchant.update(order_id, 2)
    assert (await merchant.deliver(order_id, records[0])).code == 40006
    assert await platform.commands() == []


async def test_the_same_request_again_asks_for_nothing_new(platform: Platform) -> None:
    """A light-eye line of two: its second item takes a request of its own, not a replay."""
    merchant = platform.merchant
    order_id, records = await merchant.paid_order("t1", (121, 2))
    body = merchant.sealed(
        method="device.delivery.put", order_id=str(order_id), record_id=str(records[0])
    )
    assert (await merchant.plain("/deliveries", body)).code == 0
    assert (await merchant.plain("/deliveries", body)).code == 6034
    (command,) = await platform.commands()
    await platform.result(command, 1, "delivered")
    assert (await merchant.plain("/deliveries", body)).code == 6034
    assert await platform.commands() == []


FAILED = [
    ("jammed", "0", "2", "Goods are Stuck"),
    ("no_drop", "0", "2", "Goods are Stuck"),
    ("eye_blocked", "0", "1", "Dlv Detect Error"),
    ("motor_missing", "0", "3", "Load No Current"),
    ("motor_fault", "0", "3", "Over Current"),
    ("board_offline", "0", "47", "Slave Comm Error"),
    ("door_open", "0", "1", "Door Open"),
    ("something_new", "0", "1", "Something New"),
]


@pytest.mark.parametrize(("reason", "status", "floor", "words"), FAILED)
async def test_a_failure_is_told_in_the_platforms_words_and_goes_back_into_stock(
    platform: Platform, reason: str, status: str, floor: str, words: str
) -> None:
    command = await one(platform)
    assert await platform.merchant.stock(221) == 7
    await platform.result(command, 1, "not_delivered", reason)
    (told,) = await platform.callbacks()
    assert (told["deliver_status"], told["floor_status"]) == (status, floor)
    assert (told["error_msg"], told["fail_reason"]) == (words, words)
    assert await platform.merchant.stock(221) == 8


async def test_unknown_is_a_timeout_and_never_back_in_stock(platform: Platform) -> None:
    command = await one(platform)
    await platform.result(command, 1, "unknown", "no_answer")
    (told,) = await platform.callbacks()
    assert (told["deliver_status"], told["timed_out"]) == ("5", 1)
    assert await platform.merchant.stock(221) == 7
    assert (await platform.merchant.query(command["order_id"]))["records"][0]["status"] == (
        "IS_TIMEOUT"
    )


@pytest.mark.parametrize(
    ("outcome", "status", "state", "stock"),
    [("delivered", "1", "IS_SUCCESS", 7), ("not_delivered", "0", "IS_FAILED", 8)],
)
async def test_a_later_revision_corrects_and_is_told(
    platform: Platform, outcome: str, status: str, state: str, stock: int
) -> None:
    command = await one(platform)
    await platform.result(command, 1, "unknown", "no_answer")
    await platform.callbacks()
    await platform.result(command, 1, outcome, None, revision=2)
    (told,) = await platform.callbacks()
    assert told["deliver_status"] == status
    assert (await platform.merchant.query(command["order_id"]))["records"][0]["status"] == state
    assert await platform.merchant.stock(221) == stock
    await platform.result(command, 1, "unknown", "no_answer", revision=1)
    assert await platform.callbacks() == [], "an older word changes nothing"
    assert await platform.merchant.stock(221) == stock


async def test_a_late_drop_takes_the_unit_out_of_stock_again(platform: Platform) -> None:
    command = await one(platform)
    await platform.result(command, 1, "not_delivered", "no_drop")
    assert await platform.merchant.stock(221) == 8
    await platform.result(command, 1, "delivered", revision=2, late=True)
    assert await platform.merchant.stock(221) == 7
    assert [told["deliver_status"] for told in await platform.callbacks()] == ["0", "1"]


async def test_no_answer_for_two_minutes_is_a_timeout_and_what_comes_later_is_told(
    platform: Platform,
) -> None:
    command = await one(platform)
    await platform.after(118)
    assert await platform.callbacks() == []
    await platform.after(3)
    (told,) = await platform.callbacks()
    assert (told["deliver_status"], told["error_msg"]) == ("5", "Timeout")
    assert await platform.merchant.stock(221) == 7
    await platform.result(command, 1, "delivered", late=True)
    (told,) = await platform.callbacks()
    assert told["deliver_status"] == "1"


@pytest.mark.parametrize(
    ("code", "executed", "told_as", "stock"),
    [
        ("out_of_stock", "no", "0", 8),
        ("expired", "no", "0", 8),
        ("conflict", "unknown", "5", 7),
        ("journal_reset", "unknown", "5", 7),
    ],
)
async def test_a_rejection_is_a_failure_only_where_nothing_moved(
    platform: Platform, code: str, executed: str, told_as: str, stock: int
) -> None:
    command = await one(platform)
    await platform.order_word(command, "rejected", code, executed)
    (told,) = await platform.callbacks()
    assert told["deliver_status"] == told_as
    assert await platform.merchant.stock(221) == stock


async def test_a_closed_order_is_cancelled_on_the_machine(platform: Platform) -> None:
    merchant = platform.merchant
    order_id, records = await merchant.paid_order("t1", (221, 1), (121, 1), (122, 1))
    await merchant.deliver(order_id, records[0])
    await merchant.deliver(order_id, records[1])
    (command,) = await platform.commands()
    assert (await merchant.update(order_id, 2)).code == 0
    (cancel,) = await platform.commands("cancel")
    assert (cancel["order_id"], cancel["delivery_id"], cancel["trade_id"]) == (
        order_id,
        command["delivery_id"],
        "t1",
    )
    assert [await merchant.stock(product) for product in (221, 121, 122)] == [7, 8, 8]
    await platform.result(command, 1, "not_delivered", "cancelled")
    assert await merchant.stock(221) == 8
    assert await platform.commands() == [], "the second one never goes out"
    states = [record["status"] for record in (await merchant.query(order_id))["records"]]
    assert states == ["IS_REFUND"] * 3


async def test_the_machines_own_count_rules(platform: Platform) -> None:
    merchant = platform.merchant
    order_id, records = await merchant.paid_order("t1", (221, 2))
    await platform.says("inventory", lanes=[{"channel": "B1", "stock": 5, "health": "ok"}])
    assert await merchant.stock(221) == 3, "two of the five are sold"
    await merchant.deliver(order_id, records[0])
    (command,) = await platform.commands()
    await platform.result(command, 1, "delivered")
    await platform.says("inventory", lanes=[{"channel": "B1", "stock": 4, "health": "ok"}])
    assert await merchant.stock(221) == 3


@pytest.mark.parametrize(
    ("outcome", "lies", "finished", "stock"),
    [
        ("delivered", 7, "00.000", 7),
        ("unknown", 7, "00.000", 7),
        ("not_delivered", 8, "00.000", 8),
        ("delivered", 8, "02.000", 7),
        ("not_delivered", 8, "02.000", 8),
    ],
)
async def test_an_inventory_overtakes_a_result(
    platform: Platform, outcome: str, lies: int, finished: str, stock: int
) -> None:
    """After an outage a machine tells its stock at once, and behind it what became of a sale: the
    unit was held although it had gone, and the inventory does not come again."""
    command = await one(platform)
    lanes = [{"channel": "B1", "stock": lies, "health": "ok"}]
    await platform.says("inventory", lanes=lanes, at="2026-11-23T09:30:01.000Z")
    assert await platform.merchant.stock(221) == lies - 1, "one is held"
    at = f"2026-11-23T09:30:{finished}Z"
    await platform.result(command, 1, outcome, finished_at=at)
    assert await platform.merchant.stock(221) == stock


async def test_a_lanes_test_is_told_like_a_delivery(platform: Platform) -> None:
    answer = await platform.merchant.signed(
        "/deliveries/debug",
        method="device.delivery.put",
        channel_name="B01",
        notify_url="http://127.0.0.1:9/test",
    )
    delivery_id = answer.data["delivery_id"]
    (request,) = await platform.commands("request/lane.test")
    assert (request["request_id"], request["channel"]) == (delivery_id, "B1")
    assert request["expires_at"] - request["issued_at"] <= 60
    await platform.says(
        "response/lane.test", request_id=delivery_id, code="ok", data={"test_id": "t-7"}
    )
    await platform.says(
        "event", kind="test_vend", detail={"test_id": "t-7", "outcome": "not_delivered",
                                           "reason": "jammed"},
    )  # fmt: skip
    (told,) = await platform.callbacks()
    assert "order_id" not in told
    assert (told["deliver_status"], told["floor_status"], told["channel_name"]) == ("0", "2", "B1")
    refused = await platform.merchant.signed(
        "/deliveries/debug",
        method="device.delivery.put",
        channel_name="Z9",
        notify_url="http://127.0.0.1:9/test",
    )
    assert refused.code == 80002


# ---------------------------------------------------------------------- exactly once, and gaps


async def test_whatever_comes_twice_or_late_is_booked_once(platform: Platform) -> None:
    merchant = platform.merchant
    order_id, records = await merchant.paid_order("t1", (221, 3))
    await merchant.deliver(order_id, records[0])
    (command,) = await platform.commands()
    await platform.order_word(command, "accepted", None, "unknown")
    await platform.result(command, 1, "delivered")
    await platform.result(command, 2, "not_delivered", "jammed")
    await platform.result(command, 3, "unknown", "no_answer")
    await platform.result(command, 3, "delivered", revision=2)
    await platform.order_word(command, "finished", None, "yes")
    stock, first = await merchant.stock(221), await platform.callbacks()
    assert [(body["deliver_status"], body["delivered"]) for body in first] == [("5", 1), ("0", 2)]
    again = platform.heard * 2
    random.Random(1).shuffle(again)
    for fields in again:
        await platform.says("result" if "unit" in fields else "order", **fields)
    assert await merchant.stock(221) == stock == 6
    assert await platform.callbacks() == []
    assert [tuple(row) for row in await platform.sql("SELECT upto, ask_at FROM journal")] == [
        (6, None)
    ]


async def test_a_gap_is_asked_for_and_closed(platform: Platform) -> None:
    first = await one(platform)
    await platform.order_word(first, "accepted", None, "unknown")
    lost = {**platform.numbered(), "order_id": first["order_id"],
            "delivery_id": first["delivery_id"], "unit": 1, "revision": 1,
            "outcome": "delivered", "channel": "B1"}  # fmt: skip
    await platform.order_word(first, "finished", None, "yes")
    assert await platform.commands("request/results") == [], "it may only be late"
    await platform.after(4)
    (asked,) = await platform.commands("request/results")
    assert (asked["journal"], asked["seq"]) == (platform.journal, 1)
    await platform.says(
        "response/results",
        request_id=asked["request_id"],
        code="ok",
        data={"next": None, "topics": ["result"], "messages": [lost]},
    )
    (told,) = await platform.callbacks()
    assert told["deliver_status"] == "1"
    assert [tuple(row) for row in await platform.sql("SELECT upto, ask_at FROM journal")] == [
        (3, None)
    ]
    assert await platform.sql("SELECT * FROM ahead") == []


async def test_a_machines_past_is_not_asked_for_and_its_next_journal_is(
    platform: Platform,
) -> None:
    platform.seq = 4710
    command = await one(platform)
    await platform.result(command, 1, "delivered")
    await platform.after(10)
    assert await platform.commands("request/results") == []
    platform.journal, platform.seq = platform.journal + 1000, 3
    await platform.order_word(command, "finished", None, "yes")
    await platform.after(10)
    (asked,) = await platform.commands("request/results")
    assert (asked["journal"], asked["seq"]) == (platform.journal, 0)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)
NAMES = (
    "journal", "seq", "order_id", "delivery_id", "unit", "revision", "outcome", "reason", "code",
    "status", "command_executed", "data", "request_id", "lanes", "kind", "detail", "online",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("platform") / "platform.db")


@given(
    leaf=st.sampled_from(
        ["result", "order", "state", "inventory", "event", "response/results",
         "response/lane.test", "anything"]
    ),
    fields=st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=8),
)  # fmt: skip
def test_nothing_that_a_machine_says_can_hurt(
    store: Store, leaf: str, fields: dict[str, Any]
) -> None:
    """Booking is called as the bridge calls it, on the store's connection."""
    from platform_sim import booking
    from platform_sim.deliveries import Terms
    from platform_sim.settings import Rules

    connection = store._connection
    connection.execute(
        "INSERT OR IGNORE INTO machine (machine_no, appid, name, address, operating, created_at)"
        " VALUES (?, '', '', '', '', 0)",
        (MACHINE_NO,),
    )
    payload = json.dumps(fields).encode()
    booking.book(connection, Terms(Rules(), 1.0), MACHINE_NO, leaf, payload)


@given(payload=st.binary(max_size=60), leaf=st.sampled_from(["result", "order", "state"]))
def test_no_bytes_can_either(store: Store, payload: bytes, leaf: str) -> None:
    from platform_sim import booking
    from platform_sim.deliveries import Terms
    from platform_sim.settings import Rules

    booking.book(store._connection, Terms(Rules(), 1.0), MACHINE_NO, leaf, payload)


async def test_what_is_older_than_the_retention_is_forgotten(platform: Platform) -> None:
    command = await one(platform)
    await platform.result(command, 1, "delivered")
    await platform.merchant.order("unpaid", (121, 1))
    await platform.merchant.signed(
        "/deliveries/debug",
        method="device.delivery.put",
        channel_name="B1",
        notify_url="http://127.0.0.1:9/test",
    )
    await platform.after(1300)
    await platform.after(89 * 86_400)
    assert len(await platform.sql("SELECT * FROM purchase")) == 2
    await platform.after(2 * 86_400)
    await platform.after(1)
    for table in ("purchase", "record", "delivery", "unit", "callback", "command"):
        assert await platform.sql(f"SELECT * FROM {table}") == [], table  # noqa: S608


async def test_the_machines_books_survive_a_restart_of_the_platform(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "p.db")
    async with running(settings) as platform:
        command = await one(platform)
        sold = await platform.merchant.order("t2", (122, 3))
        assert sold.code == 0
    async with running(settings) as again:
        assert await again.merchant.stock(122) == 5, "the settings' stock is a beginning only"
        await again.result(command, 1, "delivered")
        (told,) = await again.callbacks()
        assert told["deliver_status"] == "1"
        assert (await again.merchant.order("t2", (122, 3))).code == 6040
