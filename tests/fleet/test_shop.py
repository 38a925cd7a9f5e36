"""What the shop and the platform's books make known: each wrong word of theirs is a breach."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from platform_sim import catalogue
from platform_sim.settings import load
from platform_sim.store import Store
from tests.fleet import verdict
from tests.fleet.machine import GOODS, PRODUCTS, machine_no
from tests.fleet.merchant import Sale
from tests.fleet.platform import FleetPlatform
from tests.fleet.shop import Till

MACHINE = machine_no(0)
LYING = {MACHINE: {str(product): GOODS for product in PRODUCTS}}


def words(delivery_id: str, deliver_status: str) -> dict[str, Any]:
    return {
        "delivery_id": delivery_id,
        "deliver_status": deliver_status,
        "quantity": 1,
        "delivered": int(deliver_status == "1"),
        "timed_out": int(deliver_status == "5"),
    }


def a_till(*told: dict[str, Any]) -> Till:
    till = Till(Sale(MACHINE, 121, 2, asked_at=1.0), asked=["7", ""])
    for body in told:
        till.book(body)
    return till


def found(till: Till, fell: int) -> list[str]:
    ledger = {"drives": {"121": 2}, "falls": {"121": fell}, "driven_twice": []}
    return [*till.breaches(), *verdict.breaches([till.sale], {MACHINE: ledger})]


def test_a_repeat_and_a_correction_are_no_breach() -> None:
    till = a_till(words("7", "1"), words("7", "1"), words("8", "5"), words("8", "1"))
    assert (till.repeats, till.sale.ends, found(till, fell=2)) == (1, 1, [])


def test_a_timeout_that_nobody_resolved_may_have_fallen_or_not() -> None:
    till = a_till(words("7", "1"), words("8", "5"))
    assert found(till, fell=1) == found(till, fell=2) == []
    assert found(till, fell=0)


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("what was certain", [words("7", "1"), words("8", "0"), words("8", "1")]),
        ("what was certain", [words("7", "1"), words("8", "1"), words("8", "5")]),
        ("asked for", [words("8", "1"), words("9", "1")]),
        ("2 ends", [words("7", "1"), words("8", "1"), words("9", "1")]),
        ("0 ends", [words("7", "1")]),
        ("other counts", [words("7", "1"), words("8", "1") | {"delivered": 0}]),
        ("2 fell, booked", [words("7", "1"), words("8", "0")]),
    ],
)
def test_a_wrong_callback_is_told(sentence: str, told: list[dict[str, Any]]) -> None:
    assert any(sentence in breach for breach in found(a_till(*told), fell=2))


@pytest.fixture
def platform(tmp_path: Path) -> FleetPlatform:
    """Its books, as its program makes them, and no program."""
    made = FleetPlatform(tmp_path, [MACHINE], 1)

    async def take_over() -> None:
        store = Store(made.database)
        settings = load(tmp_path / "platform-sim.toml")
        await store.write(lambda tx: catalogue.take_over(tx, settings, now=time.time()))
        await store.close()

    asyncio.run(take_over())
    return made


DELIVERY = (
    "INSERT INTO delivery (delivery_id, machine_no, record_id, channel, kind, quantity, notify_url,"
    " asked_at, sign, state, lock_until) VALUES ('1', '10000001', 1, 'A1', 'belt', 1, '', 1, '', "
)
PURCHASE = (
    "INSERT INTO purchase (order_id, appid, machine_no, trade_id, notify_url, created_at, status)"
    " VALUES (1, '', '10000001', '', '', 1, "
)
RECORD = (
    "INSERT INTO record (record_id, order_id, machine_no, product_id, quantity, status)"
    " VALUES (1, 1, '10000001', 121, 1, 'WAITING_PICKED_UP')"
)
ONE_SOLD = "UPDATE product SET stock = 249 WHERE channel = 'A1'"
DISPENSING = "INSERT INTO unit (delivery_id, unit, status) VALUES ('1', 1, 3)"
CALLBACK = "INSERT INTO callback (order_id, url, body, made_at, again_at, state) VALUES "


def test_books_that_rest(platform: FleetPlatform) -> None:
    """An order that nobody paid holds its stock."""
    spoil(platform, f"{PURCHASE} 0)", RECORD, ONE_SOLD)
    assert platform.rests()
    assert (platform.unpaid(), platform.breaches(LYING)) == (1, [])


@pytest.mark.parametrize(
    ("sentence", "statements"),
    [
        ("callbacks that were not told", [f"{CALLBACK} (1, '', '', 1, 1, 'due')"]),
        ("callbacks were given up", [f"{CALLBACK} (1, '', '', 1, 1, 'given_up')"]),
        ("commands that have not left", ["INSERT INTO command VALUES (1, '', '', '', 1)"]),
        ("without an end", [f"{DELIVERY} 'queued', NULL)"]),
        ("hold a lock", [f"{DELIVERY} 'ended', 9)"]),
        ("no final state", [f"{DELIVERY} 'ended', NULL)", DISPENSING]),
        ("no delivery of their own", [f"{PURCHASE} 1)", RECORD]),
        ("gaps in the machines' journals", ["INSERT INTO journal VALUES ('10000001', 1, 1, 9)"]),
        ("behind a gap", ["INSERT INTO ahead VALUES ('10000001', 1, 3)"]),
        ("words not booked", ["INSERT INTO counter VALUES ('a result of no delivery', 1)"]),
        ("249 for sale", [ONE_SOLD]),
    ],
)
def test_spoilt_books_are_told(
    platform: FleetPlatform, sentence: str, statements: list[str]
) -> None:
    assert platform.breaches(LYING) == []
    spoil(platform, *statements)
    assert any(sentence in breach for breach in platform.breaches(LYING))


def spoil(platform: FleetPlatform, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(platform.database)) as tx, tx:
        for statement in statements:
            tx.execute(statement)
