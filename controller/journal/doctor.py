"""What the journal alone knows of a machine in trouble; and an extract of it for support.

Both are bounded whatever the journal holds: a doctor that makes a customer wait is
no doctor.
"""

from __future__ import annotations

from typing import Any

from controller.journal.transaction import Transaction

LOOKED_BACK_ORDERS = 5_000
"""A month of a busy machine: a unit that is unknown for longer than that is bookkeeping."""

LOOKED_BACK_EVENTS = 5_000
"""At the hundred a day of a machine in trouble, seven weeks."""

LISTED = 50
"""Rows of one list that are told: a technician mends the first few."""

TEXT_CHARACTERS = 2_000
"""Of one text of the extract: a whole trace of a cycle in most cases."""

EXTRACT_ROWS = 500

UNKNOWN = """
SELECT o.order_id, o.delivery_id, u.number AS unit, u.channel, u.reason, u.revision, u.finished_at,
    EXISTS (SELECT 1 FROM cycles AS c WHERE c.order_row = u.order_row AND c.unit = u.number
            AND c.quarantined = 1) AS asked
FROM units AS u JOIN orders AS o ON o.id = u.order_row
WHERE u.order_row > (SELECT MAX(id) FROM orders) - ? AND u.outcome = 'unknown'
ORDER BY u.order_row DESC, u.number LIMIT ?
"""

STOPS = """
SELECT at, json_extract(detail, '$.last_stop') AS last_stop FROM events
WHERE kind = 'restart' AND event_seq > (SELECT MAX(event_seq) FROM events) - ?
ORDER BY event_seq DESC LIMIT ?
"""

NEWEST_CYCLES = """
SELECT c.channel, c.board, c.outcome, json_extract(c.finding, '$.reason') AS reason, c.closed_at
FROM lanes AS l JOIN cycles AS c ON c.n = (
    SELECT MAX(n) FROM cycles WHERE channel = l.channel AND closed_at IS NOT NULL)
WHERE l.active = 1 ORDER BY c.channel
"""

MEMORY_LOST = """
SELECT kind FROM events WHERE kind IN ('journal_lost', 'journal_restored')
    AND event_seq > (SELECT MAX(event_seq) FROM events) - ?
ORDER BY event_seq DESC LIMIT 1
"""

EXTRACT: dict[str, tuple[str, str]] = {
    "journal": (
        "id",
        (
            "birth, bound, doubted, unconfirmed, seq, event_seq, cycle, newest_time, clean,"
            " accepted, rejected, delivered, not_delivered, unknown, events_lost"
        ),
    ),
    "orders": (
        "id",
        (
            "id, order_id, delivery_id, issued_at, expires_at, accepted_at, units, delivered,"
            " not_delivered, unknown, revision, started, finished_at, pruned"
        ),
    ),
    "units": (
        "order_row",
        (
            "order_row, number, product_id, channel, running, cycles, outcome, reason, evidence,"
            " revision, started_at, finished_at"
        ),
    ),
    "cycles": (
        "n",
        (
            "n, high, order_row, unit, test_id, channel, board, lane, timeout_s, opened_at,"
            " closed_at, outcome, finding, trace, quarantined"
        ),
    ),
    "lanes": (
        "channel",
        (
            "channel, cabinet, number, product_id, capacity, active, confirmed, stock, gone,"
            " uncertain, adjusted, loaded, counted_n, health, health_reason, failures,"
            " cycles, last_cycle_at"
        ),
    ),
    "cabinets": ("name", "name, reason, who, at"),
    "boards": ("name", "name, memory, high"),
    "outbox": ("row", "row, topic, journal, seq, order_row, length(payload) AS bytes, at, sent_at"),
    "answers": ("outbox_row", "order_id, delivery_id, verb, issued_at, code, outbox_row, at"),
    "events": ("event_seq", "event_seq, kind, at, detail, sent_at, lost"),
    "audit": ("id", "id, at, who, action, target, detail"),
}
"""Table -> the column that its newest rows are found by, and the columns that are told. Not told:
whole messages, and what a platform said in its own words (`answers.message`)."""


def unknown_units(tx: Transaction) -> list[dict[str, Any]]:
    """Units that nobody can tell the fate of, newest order first. `asked`: its board may still
    be heard about it."""
    rows = tx.all(UNKNOWN, LOOKED_BACK_ORDERS, LISTED)
    return [{**dict(row), "asked": bool(row["asked"])} for row in rows]


def stops(tx: Transaction) -> list[dict[str, Any]]:
    """The newest starts, and how the life before each ended; newest first."""
    return [dict(row) for row in tx.all(STOPS, LOOKED_BACK_EVENTS, LISTED)]


def newest_cycles(tx: Transaction) -> list[dict[str, Any]]:
    """The last closed cycle of each lane."""
    return [dict(row) for row in tx.all(NEWEST_CYCLES)]


def oldest_unsent(tx: Transaction) -> dict[str, float]:
    """Topic -> when its oldest message that the broker does not have was written."""
    found: dict[str, float] = {}
    for topic in ("result", "order"):
        row = tx.one(
            "SELECT at FROM outbox WHERE topic = ? AND sent_at IS NULL ORDER BY row LIMIT 1", topic
        )
        if row is not None:
            found[topic] = row["at"]
    row = tx.one(
        "SELECT at FROM events WHERE sent_at IS NULL AND lost = 0 ORDER BY event_seq LIMIT 1"
    )
    if row is not None:
        found["event"] = row["at"]
    return found


def memory_lost_by(tx: Transaction) -> str:
    """The newest event of its kind: journal_lost, journal_restored; empty for neither."""
    row = tx.one(MEMORY_LOST, LOOKED_BACK_EVENTS)
    return "" if row is None else str(row["kind"])


def checkup(tx: Transaction) -> dict[str, Any]:
    return {
        "unknown_units": unknown_units(tx),
        "stops": stops(tx),
        "newest_cycles": newest_cycles(tx),
        "oldest_unsent": oldest_unsent(tx),
        "memory_lost_by": memory_lost_by(tx),
    }


def extract(tx: Transaction, rows: int) -> dict[str, list[dict[str, Any]]]:
    """The newest rows of each table, newest first; long texts are cut."""
    limit = max(1, min(rows, EXTRACT_ROWS))
    return {
        table: [
            {name: _cut(row[name]) for name in row.keys()}  # noqa: SIM118 - sqlite3.Row iterates values
            for row in tx.all(
                f"SELECT {columns} FROM {table} ORDER BY {newest} DESC LIMIT ?",  # noqa: S608 - ours
                limit,
            )
        ]
        for table, (newest, columns) in EXTRACT.items()
    }


def _cut(value: Any) -> Any:
    return value[:TEXT_CHARACTERS] if isinstance(value, str) else value
