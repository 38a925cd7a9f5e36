"""Orders over HTTP: made, paid, closed, void; and their stock."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.platform.conftest import Platform
from tests.platform.merchant import SECRET, Merchant

TRADE = "3f2a58ad69b74e86b8a1a3da6fd75cc1"


async def test_the_documented_answer_byte_for_byte(platform: Platform) -> None:
    body = {
        "machine_no": "16327129",
        "notify_url": "https://merchant.example/told",
        "trade_id": TRADE,
        "products": [{"product_id": 121, "quantity": 1}, {"product_id": 122, "quantity": 1}],
    }
    url = platform.url + "/api/openapi/v1/orders"
    async with platform.http.post(url, json=body, headers=platform.merchant.headers) as response:
        text = await response.text()
    order_id = json.loads(text)["data"]["order_id"]
    assert (response.status, text) == (
        200,
        f'{{"code":0,"message":"ok","data":{{"order_id":{order_id}}}}}',
    )
    async with platform.http.post(url, json=body, headers=platform.merchant.headers) as response:
        assert await response.text() == '{"code":6040,"message":"商户订单号已存在","data":{}}'


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 10008),
        ({"Appid": "ds0123456789abcdef"}, 10008),
        ({"Appid": "who", "AppSecret": SECRET}, 10014),
        ({"Appid": "ds0123456789abcdef", "AppSecret": "x"}, 10013),
    ],
)
async def test_headers_are_looked_at_first(
    platform: Platform, headers: dict[str, str], code: int
) -> None:
    stranger = Merchant(platform.url, platform.http, headers=headers)
    answer = await stranger.plain("/orders", b"no json")
    assert (answer.status, answer.code, answer.data) == (401, code, {})


BAD = [
    (b"", 400),
    (b"[]", 400),
    (b"{" * 100_000, 400),
    (b"\xff\xfe", 400),
    ({"machine_no": 16327129}, 10001),
    ({"machine_no": "1632712"}, 10001),
    ({"machine_no": "99999999"}, 30003),
    ({"machine_no": "16327130"}, 30003),  # another merchant's
    ({"trade_id": ""}, 6041),
    ({"trade_id": 5}, 10001),
    ({"trade_id": "a\nb"}, 10001),
    ({"trade_id": "\ud800"}, 10001),
    ({"notify_url": "ftp://x/"}, 10001),
    ({"notify_url": ""}, 10001),
    ({"notify_url": "http://127.0.0.2/"}, 10001),
    ({"notify_url": "http://[::1]/"}, 10001),
    ({"notify_url": "http://169.254.169.254/latest"}, 10001),
    ({"notify_url": "http://2130706433/"}, 10001),
    ({"notify_url": "http://user@merchant.example/"}, 10001),
    ({"products": []}, 10001),
    ({"products": {}}, 10001),
    ({"products": [{"product_id": 121, "quantity": 0}]}, 10001),
    ({"products": [{"product_id": 121, "quantity": -1}]}, 10001),
    ({"products": [{"product_id": 121, "quantity": 10**9}]}, 10001),
    ({"products": [{"product_id": 121, "quantity": 1.0}]}, 10001),
    ({"products": [{"product_id": 121, "quantity": True}]}, 10001),
    ({"products": [{"product_id": "121", "quantity": 1}]}, 10001),
    ({"products": [{"product_id": 999, "quantity": 1}]}, 6045),
    ({"products": [{"product_id": 222, "quantity": 1}]}, 60002),
    ({"products": [{"product_id": 121, "quantity": 9}]}, 60003),
    ({"products": [{"product_id": 121, "quantity": 8}, {"product_id": 121, "quantity": 1}]}, 60003),
]


@pytest.mark.parametrize(("change", "code"), BAD)
async def test_what_is_wrong_with_an_order_is_told_and_holds_nothing(
    platform: Platform, change: Any, code: int
) -> None:
    good = {
        "machine_no": "16327129",
        "trade_id": TRADE,
        "notify_url": "https://merchant.example/told",
        "products": [{"product_id": 121, "quantity": 1}],
    }
    answer = await platform.merchant.plain(
        "/orders", change if isinstance(change, bytes) else good | change
    )
    assert (answer.code, answer.data) == (code, {}), answer
    assert answer.status != 200
    assert await platform.merchant.stock(121) == 8
    assert await platform.sql("SELECT * FROM purchase") == []


async def test_a_machine_that_is_away_or_in_service_sells_nothing(platform: Platform) -> None:
    await platform.online(online=False)
    assert (await platform.merchant.order("t1", (121, 1))).code == 30002
    await platform.online("service")
    assert (await platform.merchant.order("t1", (121, 1))).code == 30004
    await platform.online("degraded")
    assert (await platform.merchant.order("t1", (121, 1))).code == 0


async def test_stock_is_taken_with_the_order_and_comes_back_when_it_is_closed(
    platform: Platform,
) -> None:
    merchant = platform.merchant
    made = await merchant.order("t1", (121, 3))
    assert await merchant.stock(121) == 5
    assert (await merchant.update(made.data["order_id"], 3)).code == 0
    assert await merchant.stock(121) == 8
    assert (await merchant.update(made.data["order_id"], 3)).code == 0, "may be repeated"
    assert await merchant.stock(121) == 8
    assert (await merchant.update(made.data["order_id"], 1)).code == 40006
    assert (await merchant.query(made.data["order_id"]))["status"] == "CLOSED"
    assert await platform.callbacks() == [], "the merchant closed it, and knows"


async def test_an_unpaid_order_is_void_after_twenty_minutes(platform: Platform) -> None:
    merchant = platform.merchant
    made = await merchant.order("t1", (121, 2))
    order_id = made.data["order_id"]
    await platform.after(1190)
    assert await merchant.stock(121) == 6
    await platform.after(11)
    assert await merchant.stock(121) == 8
    assert (await merchant.update(order_id, 1)).code == 40005
    told = await platform.callbacks()
    assert [(body["order_id"], body["deliver_status"]) for body in told] == [(order_id, "0")]
    assert (await merchant.query(order_id))["notify_send_count"] == 1
    record = (await platform.sql("SELECT record_id FROM record"))[0]["record_id"]
    assert (await merchant.deliver(order_id, record)).code == 40005
    assert await platform.commands() == []


async def test_who_pays_with_a_code_has_until_then(platform: Platform) -> None:
    merchant = platform.merchant
    order_id = (await merchant.order("t1", (121, 1))).data["order_id"]
    assert (await merchant.update(order_id, 5)).code == 0
    assert (await merchant.query(order_id))["status"] == "USERPAYING"
    assert await merchant.stock(121) == 7
    assert (await merchant.update(order_id, 1)).code == 0
    assert (await merchant.update(order_id, 1)).code == 6049
    view = await merchant.query(order_id)
    assert view["status"] == "SUCCESS"
    assert [record["status"] for record in view["records"]] == ["WAITING_PICKED_UP"]


@pytest.mark.parametrize("status", ["0", "7", "", "x", "\u0661"])
async def test_a_status_that_no_merchant_may_upload(platform: Platform, status: str) -> None:
    order_id = (await platform.merchant.order("t1", (121, 1))).data["order_id"]
    answer = await platform.merchant.signed(f"/orders/{order_id}", http="PUT", status=status)
    assert answer.code == 10001


async def test_a_hundred_orders_at_once_for_the_last_eight(platform: Platform) -> None:
    answers = await asyncio.gather(
        *(platform.merchant.order(f"t{n}", (121, 1)) for n in range(100))
    )
    assert sorted(answer.code for answer in answers) == [0] * 8 + [60003] * 92
    assert await platform.merchant.stock(121) == 0


async def test_zero_and_empty_fields_are_left_out(platform: Platform) -> None:
    await platform.merchant.order("t1", (121, 8))
    await platform.online(online=False)
    machines = (await platform.merchant.plain("/rent/machines")).data
    assert [set(machine) & {"is_online", "address"} for machine in machines] == [set()]
    lanes = (await platform.merchant.signed("/floors")).data
    assert "current_inventory" not in lanes[0]
    assert lanes[1]["current_inventory"] == 8


async def test_what_the_catalogue_lists(platform: Platform) -> None:
    merchant = platform.merchant
    assert (await merchant.plain("/ping")).data == "pong"
    first = (await merchant.signed("/products", page="1", per_page="1")).data
    assert [item["channel"]["name"] for item in first] == ["A1"]
    assert first[0]["good"]["price"] == "3.00"
    by_addr = (await merchant.signed("/products", page="1", addr="2", select_all="1")).data
    assert [item["id"] for item in by_addr] == [221, 222]
    assert (await merchant.signed("/products", page="1", addr="2", cabinet_name="B")).code == 10001
    assert (await merchant.signed("/products")).code == 10001
    detail = (await merchant.plain("/rent/machines/16327129")).data
    assert detail["model"]["cabinet_names"] == ["A", "B"]
    assert (await merchant.plain("/rent/machines/16327130")).code == 30003


async def test_paths_and_methods_that_are_not_there(platform: Platform) -> None:
    assert (await platform.merchant.plain("/nothing")).code == 404
    assert (await platform.merchant.plain("/orders", method="GET")).code == 6021
