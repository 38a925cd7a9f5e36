"""The judge itself: it acquits a truthful machine, and finds each kind of lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
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
        "finished_at": "2026-11-23T09:30:00.000Z",
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


def test_p7_told_messages_that_a_journal_lacks_are_found() -> None:
    came = [*TRUTH, replace(order(9, "rejected"), payload=b'{"journal": null, "seq": null}')]
    assert judge.forgotten(came, {"journal": 1, "last_seq": 4}) == set()
    assert judge.forgotten(came, {"journal": 1, "last_seq": 3}) == {(1, 4)}
    assert len(judge.forgotten(came, {"journal": 2, "last_seq": 9})) == 4


@pytest.mark.parametrize(
    ("lost_at", "excused"), [(None, False), (99.0, False), (101.0, True), (103.0, False)]
)
def test_p9_only_a_loss_between_excuses_a_message_that_came_late(
    lost_at: float | None, *, excused: bool
) -> None:
    """Decided at 100 s; its successor came at 102 s."""
    late = result(2, 1, "delivered", finished_at=datetime.fromtimestamp(100, UTC).isoformat())
    early = replace(result(3, 2, "unknown"), at=102.0)
    messages = [TRUTH[0], early, replace(late, at=110.0), TRUTH[3]]
    found = judged(messages, broker_losses=[] if lost_at is None else [lost_at])
    assert (found == []) is excused, found
