"""What a live view shows of the journal, in one read: what leaves, what happened, what is unknown.

Every part is keyed, so that a watcher can be told of what changed alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from controller.journal import cycles, queries
from controller.journal.doctor import LOOKED_BACK_ORDERS
from controller.journal.outbox import waiting
from controller.journal.transaction import Transaction
from controller.model import OrderKey

MESSAGES = 8
"""Newest results and order messages shown: more than a screen has lines for."""

EVENTS = 12

UNKNOWN = 50
"""Units of unknown outcome shown: beyond the first few a person counts the lanes instead."""


def at_hand(tx: Transaction) -> dict[str, Any]:
    """`totals` and `waiting` as the queries of those names; `messages`, `events`, `unknown`
    keyed by their row, their event_seq, and their cycle id, `stopped_by` by cabinet or lane."""
    return {
        "totals": queries.totals(tx),
        "waiting": waiting(tx),
        "messages": _messages(tx),
        "events": _events(tx),
        "unknown": _unknown(tx),
        "stopped_by": _stopped_by(tx),
    }


def _stopped_by(tx: Transaction) -> dict[str, str]:
    """Cabinets that are stopped and lanes that are disabled: by whom, where it is known yet."""
    rows = tx.all(
        "SELECT name, who FROM cabinets"
        " UNION ALL SELECT channel, (SELECT who FROM audit WHERE target = channel"
        " AND action = 'lane_disable' ORDER BY id DESC LIMIT 1)"
        " FROM lanes WHERE active = 1 AND health = 'disabled'"
    )
    return {row["name"]: row["who"] for row in rows if row["who"]}


def _messages(tx: Transaction) -> dict[str, dict[str, Any]]:
    rows = tx.all(
        "SELECT row, topic, seq, at, sent_at, payload FROM outbox ORDER BY row DESC LIMIT ?",
        MESSAGES,
    )
    return {
        str(row["row"]): {
            "topic": row["topic"],
            "seq": row["seq"],
            "at": row["at"],
            "sent_at": row["sent_at"],
            **_told(json.loads(row["payload"])),
        }
        for row in reversed(rows)
    }


def _told(message: Mapping[str, Any]) -> dict[str, Any]:
    """The few words of a message that a screen has room for."""
    what = message.get("outcome") or message.get("status")
    return {
        "order": str(OrderKey(message.get("order_id", 0), message.get("delivery_id") or "")),
        "unit": message.get("unit"),
        "what": what,
        "why": message.get("reason") or message.get("code"),
        "channel": message.get("channel"),
    }


def _events(tx: Transaction) -> dict[str, dict[str, Any]]:
    return {
        str(event["event_seq"]): {name: event[name] for name in ("at", "kind", "detail")}
        for event in queries.events(tx, EVENTS)
    }


def _unknown(tx: Transaction) -> dict[str, dict[str, Any]]:
    """What nobody knows the fate of. A test's item: until a count settles the goods. A customer's
    unit: until `resolve` or a later fact, for a count says nothing of their money.

    Of tests only lanes with an uncertain item are searched, in their cycles since the last count,
    of units the newest orders: so a long history costs nothing.
    """
    rows = tx.all(
        "SELECT c.n, c.high, c.channel, c.test_id, c.unit, c.closed_at, c.finding, c.quarantined,"
        " NULL AS order_id, NULL AS delivery_id, NULL AS reason, NULL AS revision"
        " FROM lanes l JOIN cycles c ON c.channel = l.channel AND c.n > l.counted_n"
        " WHERE l.uncertain > 0 AND l.active = 1 AND c.outcome = 'unknown'"
        " AND c.test_id IS NOT NULL"
        " UNION ALL"
        " SELECT c.n, c.high, c.channel, c.test_id, c.unit, c.closed_at, c.finding, c.quarantined,"
        " o.order_id, o.delivery_id, u.reason, u.revision"
        " FROM units u JOIN orders o ON o.id = u.order_row"
        " JOIN cycles c ON c.order_row = u.order_row AND c.unit = u.number"
        " WHERE u.order_row > (SELECT MAX(id) FROM orders) - ? AND u.outcome = 'unknown'"
        " AND c.outcome = 'unknown'"
        " ORDER BY c.n LIMIT ?",
        LOOKED_BACK_ORDERS,
        UNKNOWN,
    )
    return {
        str(row["high"] * cycles.LOW + row["n"]): {
            "channel": row["channel"],
            "order_id": row["order_id"],
            "delivery_id": row["delivery_id"],
            "unit": row["unit"],
            "revision": row["revision"],
            "test_id": row["test_id"],
            "reason": row["reason"] or _reason(row["finding"]),
            "at": row["closed_at"],
            "asked": bool(row["quarantined"]),
        }
        for row in rows
    }


def _reason(finding: str | None) -> str | None:
    return None if finding is None else json.loads(finding).get("reason")
