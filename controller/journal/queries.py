"""Questions that change nothing; JSON-able answers, for the service and the uplink."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import Any

from controller.dispensing.interfaces import LaneState
from controller.errors import Refused
from controller.journal import cycles, findings
from controller.journal import lanes as lane_rows
from controller.journal.outbox import waiting
from controller.journal.transaction import Transaction
from controller.journal.units import executed, order_by_key, unit_by_ref
from controller.model import Evidence, OrderKey, OrderStatus, UnitRef

PAGE = 500
"""Most rows of one answer."""

ANSWERS_TOLD = 3
"""Of a command that was never accepted: the newest are what somebody asks for."""


def channel_of(tx: Transaction, ref: UnitRef) -> str:
    """The lane of a unit, as the result says it."""
    return str(unit_by_ref(tx, ref)[1]["channel"])


def _summary(tx: Transaction, order: sqlite3.Row) -> dict[str, Any]:
    (running,) = tx.all(
        "SELECT COUNT(*) FROM units WHERE order_row = ? AND running = 1", order["id"]
    )[0]
    decided = order["delivered"] + order["not_delivered"] + order["unknown"]
    finished = order["finished_at"] is not None
    return {
        "row": order["id"],
        "order_id": order["order_id"],
        "delivery_id": order["delivery_id"],
        "trade_id": order["trade_id"],
        "status": (OrderStatus.FINISHED if finished else OrderStatus.ACCEPTED).value,
        "code": "",
        "units": order["units"],
        "delivered": order["delivered"],
        "not_delivered": order["not_delivered"],
        "unknown": order["unknown"],
        "waiting": order["units"] - decided - running,
        "running": running,
        "at": order["accepted_at"],
    }


def orders(tx: Transaction, limit: int, before: int | None) -> dict[str, Any]:
    """The newest accepted orders, newest first; `next_before` is the cursor of the next page."""
    limit = _page(limit)
    rows = tx.all(
        "SELECT * FROM orders WHERE id < ? ORDER BY id DESC LIMIT ?",
        (1 << 62) if before is None else before,
        limit,
    )
    return {
        "orders": [_summary(tx, row) for row in rows],
        "next_before": rows[-1]["id"] if len(rows) == limit else None,
    }


def order(tx: Transaction, order_id: int, delivery_id: str | None) -> list[dict[str, Any]]:
    """Every unit, cycle and message of an order; without a delivery, of all its deliveries.

    Raises Refused (`unknown_order`).
    """
    rows = tx.all(
        "SELECT * FROM orders WHERE order_id = ?1 AND (?2 IS NULL OR delivery_id = ?2)"
        " ORDER BY delivery_id LIMIT ?3",
        order_id,
        delivery_id,
        PAGE,
    )
    if not rows:
        answers = _answers(tx, order_id)
        if answers:
            raise Refused(
                "unknown_order",
                "order {order} was never accepted here; {answers}",
                order=order_id,
                answers=answers,
            )
        raise Refused("unknown_order", "order {order} was never accepted here", order=order_id)
    return [_detail(tx, row) for row in rows]


def _answers(tx: Transaction, order_id: int) -> str:
    """Its newest answers, where it was answered at all."""
    answers = tx.all(
        "SELECT verb, code, message, at FROM answers WHERE order_id = ? ORDER BY at DESC LIMIT ?",
        order_id,
        ANSWERS_TOLD,
    )
    told: list[str] = []
    for row in answers:
        at = datetime.fromtimestamp(row["at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        what = "rejected" if row["verb"] == "dispense" else "cancelled"
        told.append(f"{at}: {what}, {row['code']}. {row['message']}".rstrip(" ."))
    return "; ".join(told)


def _detail(tx: Transaction, row: sqlite3.Row) -> dict[str, Any]:
    unit_rows = tx.all("SELECT * FROM units WHERE order_row = ? ORDER BY number", row["id"])
    return {
        **_summary(tx, row),
        "executed": executed(tx, row).value,
        "revision": row["revision"],
        "issued_at": row["issued_at"],
        "expires_at": row["expires_at"],
        "pruned": bool(row["pruned"]),
        "unit_list": [_unit(tx, row, unit) for unit in unit_rows],
        "messages": [
            dict(message)
            for message in tx.all(
                "SELECT topic, journal, seq, sent_at FROM outbox WHERE order_row = ? ORDER BY row",
                row["id"],
            )
        ],
    }


def _unit(tx: Transaction, order_row: sqlite3.Row, unit: sqlite3.Row) -> dict[str, Any]:
    state = "running" if unit["running"] else "waiting" if unit["outcome"] is None else "decided"
    return {
        "unit": unit["number"],
        "product_id": unit["product_id"],
        "channel": unit["channel"],
        "record_id": unit["record_id"],
        "state": state,
        "outcome": unit["outcome"],
        "reason": unit["reason"],
        "evidence": unit["evidence"],
        "revision": unit["revision"],
        "resolved_at": _resolved_at(tx, order_row, unit),
        "started_at": unit["started_at"],
        "finished_at": unit["finished_at"],
        "cycles": [
            _cycle(row)
            for row in tx.all(
                f"{cycles.SELECT} WHERE order_row = ? AND unit = ? ORDER BY n",
                order_row["id"],
                unit["number"],
            )
        ],
    }


def _resolved_at(tx: Transaction, order_row: sqlite3.Row, unit: sqlite3.Row) -> float | None:
    """When a person said what became of it, where that is what is known."""
    if unit["evidence"] != Evidence.TECHNICIAN.value:
        return None
    ref = UnitRef(OrderKey(order_row["order_id"], order_row["delivery_id"]), unit["number"])
    row = tx.one(
        "SELECT at FROM audit WHERE target = ? AND action = 'resolve' ORDER BY id DESC LIMIT 1",
        str(ref),
    )
    return None if row is None else float(row["at"])


def _cycle(row: sqlite3.Row, *, traced: bool = True) -> dict[str, Any]:
    finding = findings.decode(row["finding"]) if row["finding"] else None
    if row["test_id"] is not None:
        purpose = f"test {row['test_id']}"
    else:
        purpose = f"{OrderKey(row['order_id'], row['delivery_id'])}#{row['unit']}"
    return {
        "cycle_id": row["high"] * cycles.LOW + row["n"],
        "board": row["board"],
        "lane": row["lane"],
        "channel": row["channel"],
        "purpose": purpose,
        "opened_at": row["opened_at"],
        "closed_at": row["closed_at"],
        "outcome": row["outcome"],
        "reason": finding.reason if finding else None,
        "evidence": finding.evidence.value if finding else None,
        "drops": finding.drops if finding else 0,
        "raw": dict(finding.raw) if finding else {},
        "quarantined": bool(row["quarantined"]),
        "ticket": json.loads(row["ticket"]),
        "trace": json.loads(row["trace"]) if traced and row["trace"] else [],
    }


def _lane(state: LaneState) -> dict[str, Any]:
    return {
        "channel": state.lane.channel,
        "cabinet": state.lane.cabinet,
        "number": state.lane.number,
        "product_id": state.lane.product_id,
        "capacity": state.lane.capacity,
        "stock": state.stock,
        "reserved": state.reserved,
        "free": state.free,
        "gone": state.gone,
        "uncertain": state.uncertain,
        "adjusted": state.adjusted,
        "loaded": state.loaded,
        "health": state.health.value,
        "health_reason": state.health_reason,
        "failures": state.failures,
        "cycles": state.cycles,
        "last_cycle_at": state.last_cycle_at,
    }


def lanes(tx: Transaction) -> list[dict[str, Any]]:
    return [_lane(state) for state in lane_rows.lane_states(tx)]


def lane(tx: Transaction, channel: str, limit: int) -> dict[str, Any]:
    """A lane with its newest cycles and what people did to it. Refused: unknown_channel."""
    limit = _page(limit)
    history = tx.all(f"{cycles.SELECT} WHERE channel = ? ORDER BY n DESC LIMIT ?", channel, limit)
    audit = tx.all(
        "SELECT at, who, action, detail FROM audit WHERE target = ? ORDER BY id DESC LIMIT ?",
        channel,
        limit,
    )
    return {
        "lane": _lane(lane_rows.state_of(tx, channel)),
        "history": [_cycle(row, traced=False) for row in history],
        "audit": [{**dict(row), "detail": json.loads(row["detail"])} for row in audit],
    }


def events(tx: Transaction, limit: int) -> list[dict[str, Any]]:
    """The newest events, oldest of them first."""
    rows = tx.all(
        "SELECT event_seq, at, kind, detail, sent_at, lost FROM events"
        " ORDER BY event_seq DESC LIMIT ?",
        _page(limit),
    )
    return [
        {
            "event_seq": row["event_seq"],
            "at": row["at"],
            "kind": row["kind"],
            "detail": json.loads(row["detail"]),
            "sent": row["sent_at"] is not None,
            "lost": bool(row["lost"]),
        }
        for row in reversed(rows)
    ]


def totals(tx: Transaction) -> dict[str, int]:
    """Counters over the journal's life, and what is open now."""
    counters = tx.counters
    (open_orders,) = tx.all("SELECT COUNT(*) FROM orders WHERE finished_at IS NULL")[0]
    (open_units,) = tx.all("SELECT COUNT(*) FROM units WHERE outcome IS NULL")[0]
    return {
        "accepted": counters.accepted,
        "rejected": counters.rejected,
        "delivered": counters.delivered,
        "not_delivered": counters.not_delivered,
        "unknown": counters.unknown,
        "cycles": counters.cycle,
        "events_lost": counters.events_lost,
        "open_orders": open_orders,
        "open_units": open_units,
        **{f"unsent_{topic}": count for topic, count in waiting(tx).items()},
    }


Message = tuple[str, int, int, bytes]
"""Topic, journal, seq and payload of a stored result or order message."""


def messages_of(
    tx: Transaction, key: OrderKey, after: tuple[int, int], limit: int
) -> list[Message] | None:
    """Stored messages about a command behind (journal, seq), byte for byte, in that order.

    None for a command that was neither accepted, nor rejected, nor cancelled here.
    """
    rows = tx.all(
        "SELECT topic, journal, seq, payload FROM outbox WHERE row IN ("
        " SELECT row FROM outbox WHERE order_row ="
        " (SELECT id FROM orders WHERE order_id = ?1 AND delivery_id = ?2)"
        " UNION SELECT outbox_row FROM answers WHERE order_id = ?1 AND delivery_id = ?2)"
        " AND (journal, seq) > (?3, ?4) ORDER BY journal, seq LIMIT ?5",
        key.order_id,
        key.delivery_id,
        *after,
        _page(limit),
    )
    if not rows and not _ever_heard_of(tx, key):
        return None
    return [_message(row) for row in rows]


def _ever_heard_of(tx: Transaction, key: OrderKey) -> bool:
    answered = tx.one(
        "SELECT 1 FROM answers WHERE order_id = ? AND delivery_id = ? LIMIT 1",
        key.order_id,
        key.delivery_id,
    )
    return answered is not None or order_by_key(tx, key) is not None


def messages_since(tx: Transaction, after: tuple[int, int], limit: int) -> list[Message]:
    """All stored messages behind (journal, seq), ordered by that pair, over later births."""
    rows = tx.all(
        "SELECT topic, journal, seq, payload FROM outbox WHERE (journal, seq) > (?, ?)"
        " ORDER BY journal, seq LIMIT ?",
        *after,
        _page(limit),
    )
    return [_message(row) for row in rows]


def _message(row: sqlite3.Row) -> Message:
    return row["topic"], row["journal"], row["seq"], bytes(row["payload"])


def _page(limit: int) -> int:
    return max(1, min(limit, PAGE))
