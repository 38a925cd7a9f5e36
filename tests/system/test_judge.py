"""The judge itself: it acquits a truthful machine, and finds each kind of lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.system import judge
from tests.system.platform_client import Message

LANES = {"A1": ("main", 1)}


def order(seq: int, status: str, **fields: Any) -> Message:
    body = {
        "journal": 1,
        "seq": seq,
        "order_id": 7,
        "delivery_id": "",
        "status": status,
        "units": 2,
        "delivered": 0,
        "not_delivered": 0,
        "unknown": 0,
        "revision": 1,
        **fields,
    }
    return Message("order", json.dumps(body).encode(), retained=False, at=0.0)


def result(seq: int, unit: int, outcome: str, **fields: Any) -> Message:
    body = {
        "journal": 1,
        "seq": seq,
        "order_id": 7,
        "delivery_id": "",
        "unit": unit,
        "revision": 1,
        "outcome": outcome,
        "channel": "A1",
        "cycles": 1,
        **fields,
    }
    return Message("result", json.dumps(body).encode(), retained=False, at=0.0)


def drive(cycle: int, *, fell: bool = True) -> list[Mapping[str, Any]]:
    lines: list[Mapping[str, Any]] = [{"event": "drive_frame", "lane": 1, "cycle_id": cycle}]
    return [*lines, {"event": "product_fell", "lane": 1}] if fell else lines


TRUTH = (
    order(1, "accepted"),
    result(2, 1, "delivered"),
    result(3, 2, "unknown"),
    order(4, "finished", delivered=1, unknown=1),
)
LEDGER = [*drive(1), *drive(2, fell=False)]


def judged(
    messages: Sequence[Message], ledger: Sequence[Mapping[str, Any]] = LEDGER, **more: Any
) -> list[str]:
    return judge.breaches(judge.Facts(messages, {"main": ledger}, LANES, **more))


def test_a_truthful_machine_is_acquitted() -> None:
    assert judged(TRUTH) == []
    assert judged([*TRUTH, *TRUTH]) == [], "repeats are allowed while they are the same bytes"
    assert judged(TRUTH, [*drive(1), *drive(2)]) == [], "an unknown unit may have fallen"


def test_a_later_revision_counts() -> None:
    late = [
        result(5, 2, "delivered", revision=2),
        order(6, "finished", delivered=2, revision=2),
    ]
    assert judged([*TRUTH, *late], [*drive(1), *drive(2)]) == []


@pytest.mark.parametrize(
    ("messages", "ledger", "said"),
    [
        (TRUTH[:-1], LEDGER, "never finished"),
        (TRUTH[:2] + TRUTH[3:], LEDGER, "lacks seq [3]"),
        (TRUTH, [*LEDGER, *drive(2, fell=False)], "driven 3 times for 2 cycles"),
        (TRUTH, [*LEDGER, *drive(2, fell=False)], "started cycle 2 2 times"),
        (TRUTH, drive(1, fell=False), "1 told as delivered, 0 fell"),
        (TRUTH, [*drive(1), *drive(2), {"event": "product_fell", "lane": 1}], "3 fell, at most 2"),
        ((*TRUTH, result(3, 2, "not_delivered")), LEDGER, "different bytes"),
        ((*TRUTH, result(3, 2, "not_delivered")), LEDGER, "used for two messages"),
        ((*TRUTH, result(5, 2, "delivered", cycles=2)), LEDGER, "had 2 cycles"),
        ((*TRUTH, result(5, 1, "unknown", revision=2)), LEDGER, "delivered, and then not"),
        ((*TRUTH, result(5, 2, "delivered", revision=3)), LEDGER, "has the revisions [1, 3]"),
        ((*TRUTH, result(5, 2, "lost", revision=2)), LEDGER, "none of the three"),
        ((TRUTH[0], TRUTH[2], TRUTH[1], TRUTH[3]), LEDGER, "seq 2 of result came first after 3"),
        ((order(1, "rejected"), result(2, 1, "delivered")), LEDGER, "was rejected and has results"),
        ((*TRUTH[:3], order(4, "finished", delivered=2)), LEDGER, "its results say"),
    ],
)
def test_each_lie_is_found(
    messages: Sequence[Message], ledger: Sequence[Mapping[str, Any]], said: str
) -> None:
    found = judged(messages, ledger)
    assert any(said in sentence for sentence in found), found


def test_stock_that_does_not_add_up_is_found() -> None:
    lane = {"channel": "A1", "stock": 7, "gone": 1, "uncertain": 0, "adjusted": 0, "loaded": 8}
    assert judge.stock_breaches([{**lane, "reserved": 0}]) == []
    assert judge.stock_breaches([{**lane, "reserved": 1}])
    assert judge.stock_breaches([{**lane, "reserved": 0, "uncertain": 1}])
