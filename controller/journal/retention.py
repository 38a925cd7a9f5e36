"""Bounded growth: old details go, the identity of every order stays for ever (P8).

Pruned of an order are its units, cycles and sent messages, once it has been
finished for the retention; never of an undecided order, and never a message
that the broker does not have (P9). Answers (rejections, tombstones), events and
the audit go by age, and beyond a bound of their number, oldest first.
"""

from __future__ import annotations

from collections.abc import Callable

from controller.journal.transaction import Transaction

SLICE = 20
"""Orders in one transaction: about as long as a commit, so that a customer never waits for it."""

SLICE_ROWS = 200

KEPT_ANSWERS = 50_000
"""Rejections and cancels kept at most: a peer that invents orders must not fill the disk."""

KEPT_EVENTS = 20_000
"""Some 10 MiB. Their keys go with them; boards repeat an event only until it is acknowledged."""

KEPT_AUDIT = 20_000

OLD_ORDERS = """
    SELECT id FROM orders INDEXED BY orders_unpruned
    WHERE pruned = 0 AND finished_at IS NOT NULL AND finished_at < ?1 AND accepted_at < ?1
        AND NOT EXISTS (
            SELECT 1 FROM outbox WHERE order_row = orders.id AND sent_at IS NULL)
        AND NOT EXISTS (
            SELECT 1 FROM cycles WHERE order_row = orders.id AND quarantined = 1)
    ORDER BY finished_at LIMIT ?2
"""
"""The end may bear the label of a clock that nobody believed and that stood years back; the
acceptance never does."""

NEWEST_OF_BOARD = """
    n < (SELECT MAX(n) FROM cycles AS newer WHERE newer.board = cycles.board)
"""
"""A board's newest cycle stays: its ticket says how the conversation with the board goes on."""


def prune_orders(tx: Transaction, cutoff: float) -> int:
    rows = tx.all(OLD_ORDERS, cutoff, SLICE)
    for (row,) in rows:
        tx.run(f"DELETE FROM cycles WHERE order_row = ? AND {NEWEST_OF_BOARD}", row)  # noqa: S608 - ours
        tx.run("DELETE FROM units WHERE order_row = ?", row)
        tx.run("DELETE FROM outbox WHERE order_row = ?", row)
        tx.run("UPDATE orders SET pruned = 1, boot = '' WHERE id = ?", row)
    return len(rows)


def prune_leavings(tx: Transaction, cutoff: float) -> int:
    """Sent messages whose order is pruned already: `results_pruned` answers, late cancels."""
    return tx.run(
        "DELETE FROM outbox WHERE row IN (SELECT first.row FROM"
        " (SELECT row, order_row, at, sent_at FROM outbox ORDER BY row LIMIT ?) AS first"
        " JOIN orders ON orders.id = first.order_row"
        " WHERE first.at < ? AND orders.pruned = 1 AND first.sent_at IS NOT NULL)",
        SLICE_ROWS,
        cutoff,
    )


def prune_tests(tx: Transaction, cutoff: float) -> int:
    return tx.run(
        "DELETE FROM cycles WHERE n IN (SELECT n FROM cycles INDEXED BY cycles_tests"  # noqa: S608 - ours
        f" WHERE test_id IS NOT NULL ORDER BY n LIMIT ?) AND {NEWEST_OF_BOARD}"
        " AND closed_at < ? AND quarantined = 0",
        SLICE_ROWS,
        cutoff,
    )


def prune_answers(tx: Transaction, cutoff: float) -> int:
    over = _count(tx, "answers") - KEPT_ANSWERS
    rows = tx.all(
        "SELECT answers.*, outbox.order_row, outbox.row AS stored, outbox.sent_at FROM answers"
        " LEFT JOIN outbox ON outbox.row = answers.outbox_row"
        " ORDER BY answers.outbox_row LIMIT ?",
        SLICE_ROWS,
    )
    old = [
        row
        for rank, row in enumerate(rows)
        # A cancel is taken under any clock; its own time, where it can be one, tells its age too.
        if ((row["at"] < cutoff and not cutoff <= row["issued_at"] <= tx.at) or rank < over)
        and (row["stored"] is None or row["sent_at"] is not None)
    ]
    for row in old:
        tx.run(
            "DELETE FROM answers WHERE order_id = ? AND delivery_id = ? AND verb = ?"
            " AND issued_at = ? AND code = ? AND trade_id = ?",
            row["order_id"], row["delivery_id"], row["verb"], row["issued_at"], row["code"],
            row["trade_id"],
        )  # fmt: skip
        if row["order_row"] is None:
            tx.run("DELETE FROM outbox WHERE row = ?", row["outbox_row"])
    return len(old)


def prune_events(tx: Transaction, cutoff: float) -> int:
    return tx.run(
        "DELETE FROM events WHERE event_seq IN"
        " (SELECT event_seq FROM events ORDER BY event_seq LIMIT ?)"
        " AND (at < ? OR event_seq <= ?) AND (sent_at IS NOT NULL OR lost = 1)",
        SLICE_ROWS, cutoff, tx.counters.event_seq - KEPT_EVENTS,
    )  # fmt: skip


def prune_audit(tx: Transaction, cutoff: float) -> int:
    return tx.run(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?)"
        " AND (at < ? OR id <= (SELECT MAX(id) FROM audit) - ?)",
        SLICE_ROWS, cutoff, KEPT_AUDIT,
    )  # fmt: skip


def _count(tx: Transaction, table: str) -> int:
    return int(tx.all(f"SELECT COUNT(*) FROM {table}")[0][0])  # noqa: S608 - a name of ours


STEPS: tuple[Callable[[Transaction, float], int], ...] = (
    prune_orders,
    prune_leavings,
    prune_tests,
    prune_answers,
    prune_events,
    prune_audit,
)
"""Each removes at most one slice and says how many rows that were; 0 means nothing is left."""


# ------------------------------------------------------------------ what they would remove


def count_orders(tx: Transaction, cutoff: float) -> int:
    return int(tx.all(f"SELECT COUNT(*) FROM ({OLD_ORDERS})", cutoff, -1)[0][0])  # noqa: S608 - ours


def count_leavings(tx: Transaction, cutoff: float) -> int:
    return int(
        tx.all(
            "SELECT COUNT(*) FROM outbox JOIN orders ON orders.id = outbox.order_row"
            " WHERE outbox.at < ? AND orders.pruned = 1 AND outbox.sent_at IS NOT NULL",
            cutoff,
        )[0][0]
    )


def count_tests(tx: Transaction, cutoff: float) -> int:
    return int(
        tx.all(
            "SELECT COUNT(*) FROM cycles INDEXED BY cycles_tests WHERE test_id IS NOT NULL"  # noqa: S608 - ours
            f" AND {NEWEST_OF_BOARD} AND closed_at < ? AND quarantined = 0",
            cutoff,
        )[0][0]
    )


def count_answers(tx: Transaction, cutoff: float) -> int:
    over = max(0, _count(tx, "answers") - KEPT_ANSWERS)
    return int(
        tx.all(
            "SELECT COUNT(*) FROM answers LEFT JOIN outbox ON outbox.row = answers.outbox_row"
            " WHERE (outbox.row IS NULL OR outbox.sent_at IS NOT NULL)"
            " AND ((answers.at < ?1 AND NOT answers.issued_at BETWEEN ?1 AND ?2) OR outbox_row <"
            " coalesce((SELECT outbox_row FROM answers ORDER BY outbox_row LIMIT 1 OFFSET ?3), 0))",
            cutoff, tx.at, over,
        )[0][0]
    )  # fmt: skip


def count_events(tx: Transaction, cutoff: float) -> int:
    return int(
        tx.all(
            "SELECT COUNT(*) FROM events WHERE (at < ? OR event_seq <= ?)"
            " AND (sent_at IS NOT NULL OR lost = 1)",
            cutoff, tx.counters.event_seq - KEPT_EVENTS,
        )[0][0]
    )  # fmt: skip


def count_audit(tx: Transaction, cutoff: float) -> int:
    return int(
        tx.all(
            "SELECT COUNT(*) FROM audit WHERE at < ? OR id <= (SELECT MAX(id) FROM audit) - ?",
            cutoff,
            KEPT_AUDIT,
        )[0][0]
    )


COUNTS: dict[str, Callable[[Transaction, float], int]] = {
    "orders": count_orders,
    "leavings": count_leavings,
    "tests": count_tests,
    "answers": count_answers,
    "events": count_events,
    "audit": count_audit,
}
"""Kind -> how many the step `prune_<kind>` would remove now, at most: it stops where the oldest
that is left must stay. An order counts as one, whatever hangs on it."""
