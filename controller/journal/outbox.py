"""Results and order messages: the bytes that leave, and whether the broker has them (P9).

A row is written in the transaction of the fact that it tells, with the next
seq of this journal. It is armed while `sent_at` is NULL. A replay arms stored
rows again: the same bytes, the same seq (P8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from controller.dispensing.interfaces import OutboxRow
from controller.journal.transaction import Transaction

TOPICS = ("result", "order", "event")


def enqueue(
    tx: Transaction, topic: str, order_row: int | None, build: Callable[[int, int], bytes]
) -> int:
    """Store what `build(journal, seq)` makes; its row. Raises ClockUnset without a birth."""
    birth = tx.born()
    seq = tx.counters.seq + 1
    tx.set(seq=seq)
    tx.topics.add(topic)
    return tx.insert(
        "INSERT INTO outbox (topic, journal, seq, order_row, payload, at) VALUES (?,?,?,?,?,?)",
        topic, birth, seq, order_row, build(birth, seq), tx.at,
    )  # fmt: skip


def arm_order(tx: Transaction, order_row: int) -> int:
    """Arm every stored row of an order again; how many there are."""
    tx.topics |= {"result", "order"}
    return tx.run("UPDATE outbox SET sent_at = NULL WHERE order_row = ?", order_row)


def arm(tx: Transaction, row: int) -> None:
    tx.topics.add("order")
    tx.run("UPDATE outbox SET sent_at = NULL WHERE row = ?", row)


def oldest(tx: Transaction, topic: str, limit: int) -> Sequence[OutboxRow]:
    if topic == "event":
        rows = tx.all(
            "SELECT event_seq AS row, payload FROM events"
            " WHERE sent_at IS NULL AND lost = 0 ORDER BY event_seq LIMIT ?",
            limit,
        )
    else:
        rows = tx.all(
            "SELECT row, payload FROM outbox WHERE topic = ? AND sent_at IS NULL"
            " ORDER BY row LIMIT ?",
            topic, limit,
        )  # fmt: skip
    return [OutboxRow(found["row"], topic, bytes(found["payload"])) for found in rows]


def sent(tx: Transaction, rows: Sequence[OutboxRow]) -> None:
    for row in rows:
        if row.topic == "event":
            tx.run("UPDATE events SET sent_at = ? WHERE event_seq = ?", tx.at, row.row)
        else:
            tx.run(
                "UPDATE outbox SET sent_at = ? WHERE row = ? AND topic = ?",
                tx.at, row.row, row.topic,
            )  # fmt: skip


def backlog(tx: Transaction) -> list[dict[str, Any]]:
    """Per topic: how many rows the broker does not have, and the oldest of them."""
    counts = waiting(tx)
    found = []
    for topic in TOPICS:
        if topic == "event":
            oldest_row = tx.one(
                "SELECT event_seq AS seq, at FROM events WHERE sent_at IS NULL AND lost = 0"
                " ORDER BY event_seq LIMIT 1"
            )
        else:
            oldest_row = tx.one(
                "SELECT seq, at FROM outbox WHERE topic = ? AND sent_at IS NULL"
                " ORDER BY row LIMIT 1",
                topic,
            )
        oldest_told = {"oldest_seq": None, "oldest_at": None}
        if oldest_row is not None:
            oldest_told = {"oldest_seq": oldest_row["seq"], "oldest_at": oldest_row["at"]}
        found.append({"topic": topic, "count": counts[topic], **oldest_told})
    return found


def waiting(tx: Transaction) -> dict[str, int]:
    counts = dict.fromkeys(TOPICS, 0)
    for topic, count in tx.all(
        "SELECT topic, COUNT(*) FROM outbox WHERE sent_at IS NULL GROUP BY topic"
    ):
        counts[topic] = count
    (counts["event"],) = tx.all("SELECT COUNT(*) FROM events WHERE sent_at IS NULL AND lost = 0")[0]
    return counts
