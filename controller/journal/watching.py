"""What a live view shows of the journal, in one read: what leaves, what happened, what is unknown.

Every part is keyed, so that a watcher can be told of what changed alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from controller.journal import cycles, queries
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
    keyed by their row, their event_seq, and their cycle id."""
    return {
        "totals": queries.totals(tx),
        "waiting": waiting(tx),
        "messages": _messages(tx),
        "events": _events(tx),
        "unknown": _unknown(tx),
    }


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
    """What is uncertain in a lane until somebody looks: `resolve` or a count settles it.

    Only lanes with an uncertain item are searched, in their cycles since the last count, so
    a long history costs nothing.
    """
    rows = tx.all(
        "SELECT c.n, c.high, c.channel, c.test_id, c.unit, c.closed_at, c.finding,"
        " o.order_id, o.delivery_id, u.reason, u.revision"
        " FROM lanes l JOIN cycles c ON c.channel = l.channel AND c.n > l.counted_n"
        " LEFT JOIN orders o ON o.id = c.order_row"
        " LEFT JOIN units u ON u.order_row = c.order_row AND u.number = c.unit"
        " WHERE l.uncertain > 0 AND l.active = 1 AND c.outcome = 'unknown'"
        " ORDER BY c.n LIMIT ?",
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
        }
        for row in rows
    }


def _reason(finding: str | None) -> str | None:
    return None if finding is None else json.loads(finding).get("reason")
