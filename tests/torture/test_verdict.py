"""What the torture looks for beside the judge is found, and an honest machine is acquitted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.system import judge
from tests.system.platform_client import Message
from tests.torture import verdict
from tests.torture.machine import missing, stored_messages


def line(event: str, lane: int | None = None) -> dict[str, Any]:
    return {"event": event, "lane": lane}


HONEST = [
    line("motor_started", 1),
    line("motor_stopped", 1),
    line("eye_blocked"),
    line("eye_clear"),
    line("motor_started", 2),
    line("motor_stopped", 2),
]


def test_p3_two_motors_at_once_and_a_blocked_eye_are_found() -> None:
    assert not list(verdict.motion("main", HONEST))
    (both,) = verdict.motion("main", [HONEST[0], HONEST[4]])
    assert "turned lane 2 while 1 turned" in both
    (blocked,) = verdict.motion("main", HONEST[2:3] + HONEST[4:])
    assert "turned lane 2 before a blocked eye" in blocked


@pytest.mark.parametrize(("began", "found"), [(None, 0), (1004.0, 0), (1006.0, 1)])
def test_p4_an_order_that_began_after_its_deadline_is_found(
    began: float | None, found: int
) -> None:
    """Two units; the second may begin whenever it likes when the first began in time."""
    times = [None if at is None else iso(at) for at in (began, began and 1200.0)]
    messages = [
        message("result", order_id=7, unit=unit, started_at=at) for unit, at in enumerate(times, 1)
    ]
    facts = judge.Facts(messages, ledgers={}, lanes={})
    given = [{"order_id": 7, "issued_at": 1000, "expires_at": 1005}]
    assert len(list(verdict.late(facts, given))) == found
    assert not list(verdict.late(facts, [{"order_id": 7, "issued_at": 1000}])), "90 s by itself"


@pytest.mark.parametrize(("there", "found"), [(3, 1), (4, 0), (5, 0), (6, 1)])
def test_p10_goods_that_are_not_what_the_journal_counts_are_found(there: int, found: int) -> None:
    lanes = [{"channel": "A1", "stock": 4, "uncertain": 1}]
    assert len(list(verdict.lies(lanes, {"A1": there}))) == found


def test_stored_messages_are_taken_out_of_an_answer_byte_for_byte() -> None:
    stored = [b'{"seq":2,"text":"],[\\"\xc3\xa4"}', b'{"seq":3,"raw":{"list":[1,2]}}']
    page = b'{"data":{"next":null,"topics":["order","result"],"messages":[' + b",".join(stored)
    found = stored_messages(Message("response/results", page + b"]}}", retained=False, at=1.0))
    assert [(m.topic, m.payload) for m in found] == list(
        zip(["order", "result"], stored, strict=True)
    )
    assert missing(found, 4) == [1, 4]


def iso(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat()


def message(topic: str, **body: Any) -> Message:
    return Message(topic, json.dumps(body).encode(), retained=False, at=0.0)
