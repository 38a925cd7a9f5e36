"""What is said over MQTT: the commands that we make, and a tolerant reader of what machines say.

docs/mqtt.md is the contract. A reader takes what it needs and ignores the rest: a new field of a
machine must not stop the booking of an old one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LARGEST = 1 << 20
"""Bytes: a page of 100 stored messages stays far below; a larger message is no machine's."""
HALF_A_PAIR = b"\\ud"
"""How half a surrogate pair may stand in JSON; it is no character, and cannot be written."""
BIGGEST_NUMBER = (1 << 63) - 1


class NotOurs(Exception):
    """The message cannot be read as one of the contract."""


@dataclass(frozen=True)
class Line:
    product_id: int
    quantity: int
    channel: str
    record_id: int


def dispense(
    *,
    order_id: int,
    delivery_id: str,
    trade_id: str,
    machine_no: str,
    issued_at: int,
    expires_at: int,
    lines: Sequence[Line],
) -> bytes:
    products = [
        {
            "product_id": line.product_id,
            "quantity": line.quantity,
            **({"channel": line.channel} if line.channel else {}),
            "record_id": line.record_id,
        }
        for line in lines
    ]
    return _bytes(
        order_id=order_id,
        delivery_id=delivery_id,
        trade_id=trade_id,
        machine_no=machine_no,
        issued_at=issued_at,
        expires_at=expires_at,
        products=products,
    )


def cancel(*, order_id: int, delivery_id: str, trade_id: str, issued_at: int) -> bytes:
    return _bytes(
        order_id=order_id, delivery_id=delivery_id, trade_id=trade_id, issued_at=issued_at
    )


def ask_results(*, journal: int, seq: int, limit: int) -> bytes:
    """What came behind `seq` in that journal."""
    return _bytes(request_id=f"gap-{journal}-{seq}", journal=journal, seq=seq, limit=limit)


def lane_test(*, request_id: str, channel: str, issued_at: int, expires_at: int) -> bytes:
    return _bytes(
        request_id=request_id, channel=channel, issued_at=issued_at, expires_at=expires_at
    )


def _bytes(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


# ---------------------------------------------------------------------- what machines say


@dataclass(frozen=True)
class Place:
    """Where a `result` or `order` stands in the journal of its machine; seq None: past it."""

    journal: int
    seq: int


@dataclass(frozen=True)
class Result:
    place: Place | None
    order_id: int
    delivery_id: str
    unit: int
    revision: int
    outcome: str
    reason: str
    channel: str
    health: str
    raw: Mapping[str, Any]
    late: bool
    finished_at: str
    """ISO 8601 with milliseconds and Z, as all times of a machine: their texts compare."""


@dataclass(frozen=True)
class OrderWord:
    place: Place | None
    order_id: int
    delivery_id: str
    status: str
    code: str
    executed: str


def read(payload: bytes, machine_no: str) -> Mapping[str, Any]:
    """What a machine said on a topic of its own. Raises NotOurs."""
    if len(payload) > LARGEST:
        raise NotOurs(f"{len(payload)} bytes")
    try:
        # strictly: left to guess, json takes UTF-16 too, and halves of pairs in both
        value = json.loads(payload.decode())
        if HALF_A_PAIR in payload.lower():
            json.dumps(value, ensure_ascii=False).encode()  # else the store would choke on it
    except (ValueError, RecursionError) as error:
        raise NotOurs(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise NotOurs("no JSON object")
    if value.get("machine_no", machine_no) != machine_no:
        raise NotOurs("it came on another machine's topic")
    return value


def result(said: Mapping[str, Any]) -> Result:
    """Raises NotOurs."""
    return Result(
        place=place(said),
        order_id=number(said, "order_id"),
        delivery_id=text(said, "delivery_id"),
        unit=number(said, "unit"),
        revision=number(said, "revision"),
        outcome=one_of(said, "outcome", ("delivered", "not_delivered", "unknown")),
        reason=text(said, "reason"),
        channel=text(said, "channel"),
        health=text(said, "lane_health"),
        raw=mapping(said, "raw"),
        late=said.get("late") is True,
        finished_at=text(said, "finished_at"),
    )


def order_word(said: Mapping[str, Any]) -> OrderWord:
    """Raises NotOurs."""
    return OrderWord(
        place=place(said),
        order_id=number(said, "order_id"),
        delivery_id=text(said, "delivery_id"),
        status=one_of(said, "status", ("accepted", "rejected", "cancelled", "finished")),
        code=text(said, "code"),
        executed=one_of(said, "command_executed", ("no", "yes", "unknown")),
    )


def place(said: Mapping[str, Any]) -> Place | None:
    if said.get("seq") is None:
        return None
    return Place(number(said, "journal"), number(said, "seq"))


def number(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= BIGGEST_NUMBER:
        raise NotOurs(f"{name} is no positive number")
    return value


def text(said: Mapping[str, Any], name: str) -> str:
    """Absent and null are empty."""
    value = said.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 200:  # noqa: PLR2004
        raise NotOurs(f"{name} is no short text")
    return value


def mapping(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = said.get(name)
    return value if isinstance(value, dict) else {}


def listing(said: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = said.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def one_of(said: Mapping[str, Any], name: str, values: Sequence[str]) -> str:
    value = said.get(name)
    if value not in values:
        raise NotOurs(f"{name} is none of {', '.join(values)}")
    return str(value)
