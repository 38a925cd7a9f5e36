"""Bad signed requests over HTTP: the documented code, and nothing sent to a machine."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from platform_sim.payload import seal, sign
from tests.platform.conftest import Platform
from tests.platform.merchant import KEY, Merchant


def body(fields: Any) -> bytes:
    return json.dumps({"payload": base64.b64encode(json.dumps(fields).encode()).decode()}).encode()


Fields = dict[str, str]


def signed(fields: Fields, **more: str) -> bytes:
    return seal({**fields, **more}, KEY)


def without(fields: Fields, name: str) -> Fields:
    return {key: value for key, value in fields.items() if key != name}


BAD: dict[str, tuple[Callable[[Fields], bytes], int]] = {
    "unsigned": (body, 4006),
    "wrong signature": (lambda good: body({**good, "sign": "0" * 32}), 4006),
    "another's key": (lambda good: seal(good, "k2"), 4006),
    "changed after signing": (
        lambda good: body({**good, "sign": sign(good, KEY), "record_id": "77"}),
        4006,
    ),
    "a number in it": (lambda good: body({**good, "sign": sign(good, KEY), "quantity": 1}), 4006),
    "an object in it": (lambda good: body({**good, "sign": sign(good, KEY), "x": {}}), 4006),
    "not base64": (lambda _: b'{"payload": "%%%"}', 400),
    "no payload": (lambda _: b"{}", 400),
    "no JSON": (lambda _: b"payload=x", 400),
    "nothing": (lambda _: b"", 400),
    "too long": (lambda _: b'{"payload": "' + b"A" * 70_000 + b'"}', 400),
    "no timestamp": (lambda good: signed(without(good, "timestamp")), 10001),
    "another method": (lambda good: signed(good, method="device.reboot"), 10001),
    "no order": (lambda good: signed(good, order_id=""), 10001),
    "a negative order": (lambda good: signed(good, order_id="-1"), 10001),
    "a huge order": (lambda good: signed(good, order_id="9" * 40), 10001),
    "an order of nobody": (lambda good: signed(good, order_id="999"), 80002),
    "a line of nobody": (lambda good: signed(good, record_id="999"), 80002),
    "another machine": (lambda good: signed(good, machine_no="16327130"), 80002),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_request_sends_nothing(platform: Platform, what: str) -> None:
    make, code = BAD[what]
    order_id, records = await platform.merchant.paid_order("t1", (221, 1))
    good = {
        "machine_no": "16327129",
        "method": "device.delivery.put",
        "order_id": str(order_id),
        "record_id": str(records[0]),
        "timestamp": "1763900000",
    }
    answer = await platform.merchant.plain("/deliveries", make(good))
    assert (answer.code, answer.data) == (code, {}), answer
    assert answer.status != 200
    assert await platform.commands() == []
    assert await platform.sql("SELECT * FROM delivery") == []
    assert (await platform.merchant.plain("/deliveries", signed(good))).code == 0, "the good one"


@pytest.mark.parametrize(("encoding", "code"), [("url", 0), ("raw", 4006)])
async def test_values_are_signed_as_the_merchants_setting_says(
    platform: Platform, encoding: str, code: int
) -> None:
    """Where both forms differ: a value with a slash in it."""
    other = Merchant(
        platform.url,
        platform.http,
        machine_no="16327130",
        headers={"Appid": "ds-other", "AppSecret": "s2"},
    )
    fields = {"machine_no": "16327130", "timestamp": "1763900000", "note": "a/b: c"}
    answer = await other.plain("/floors", seal(fields, "k2", encoding))  # type: ignore[arg-type]
    assert answer.code == code


async def test_no_merchant_reaches_another_ones_orders(platform: Platform) -> None:
    order_id, records = await platform.merchant.paid_order("t1", (221, 1))
    fields = {
        "machine_no": "16327129",
        "method": "device.delivery.put",
        "order_id": str(order_id),
        "record_id": str(records[0]),
        "status": "3",
        "timestamp": "1763900000",
    }
    other = Merchant(platform.url, platform.http, headers={"Appid": "ds-other", "AppSecret": "s2"})
    payload = seal(fields, "k2", "url")
    answers = [
        await other.plain("/deliveries", payload),
        await other.plain(f"/orders/{order_id}", payload, "PUT"),
        await other.plain(f"/orders/{order_id}", payload),
    ]
    assert [answer.code for answer in answers] == [80002] * 3
    assert await platform.commands() == []


async def test_the_same_delivery_asked_for_by_fifty_at_once_is_one_command(
    platform: Platform,
) -> None:
    order_id, records = await platform.merchant.paid_order("t1", (221, 1))
    answers = await asyncio.gather(
        *(platform.merchant.deliver(order_id, records[0]) for _ in range(50))
    )
    assert sorted(answer.code for answer in answers) == [0] + [6034] * 49
    assert len(await platform.commands()) == 1
