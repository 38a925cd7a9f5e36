"""Units get their outcome here, and only here: the result is written in the same transaction.

One unit has one result per revision; when the last unit of an order is decided
its `finished` follows, and again with each later revision.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial

from controller.dispensing.interfaces import OrderFacts, ResultFacts, UnitJob
from controller.errors import Refused
from controller.journal import findings, lanes
from controller.journal.outbox import enqueue
from controller.journal.transaction import Transaction
from controller.model import (
    Evidence,
    Executed,
    Finding,
    OrderKey,
    OrderStatus,
    Outcome,
    Reason,
    UnitRef,
)

BACKSTOP_S = 120
"""The platform gives an order up after so long: a result later than this is `late`."""


def key_of(order: sqlite3.Row) -> OrderKey:
    return OrderKey(order["order_id"], order["delivery_id"])


def order_by_row(tx: Transaction, row: int) -> sqlite3.Row:
    found = tx.one("SELECT * FROM orders WHERE id = ?", row)
    if found is None:
        raise Refused("unknown_order", "no order in row {row} of the journal", row=row)
    return found


def order_by_key(tx: Transaction, key: OrderKey) -> sqlite3.Row | None:
    return tx.one(
        "SELECT * FROM orders WHERE order_id = ? AND delivery_id = ?",
        key.order_id,
        key.delivery_id,
    )


def unit_row(tx: Transaction, order_row: int, number: int) -> sqlite3.Row | None:
    return tx.one("SELECT * FROM units WHERE order_row = ? AND number = ?", order_row, number)


def unit_by_ref(tx: Transaction, ref: UnitRef) -> tuple[sqlite3.Row, sqlite3.Row]:
    """The rows of its order and of the unit. Raises Refused (`unknown_order`)."""
    order = order_by_key(tx, ref.key)
    unit = None if order is None else unit_row(tx, order["id"], ref.number)
    if order is None or unit is None:
        raise Refused("unknown_order", "no unit {unit} in the journal", unit=ref)
    return order, unit


WAITING = """
    SELECT units.*, orders.order_id, orders.delivery_id, orders.trade_id, orders.units,
        orders.issued_at, orders.expires_at, orders.boot,
        (SELECT MAX(closed_at) FROM cycles WHERE cycles.order_row = orders.id
            AND json_extract(finding, '$.left_home')) AS active_at
    FROM units INDEXED BY units_open JOIN orders ON orders.id = units.order_row
    WHERE units.outcome IS NULL AND units.running = 0
    ORDER BY units.order_row, units.number
"""


def waiting_units(tx: Transaction) -> Sequence[UnitJob]:
    """Undecided units without an open cycle, oldest order first."""
    return [
        UnitJob(
            ref=UnitRef(key_of(row), row["number"]),
            units=row["units"],
            trade_id=row["trade_id"],
            product_id=row["product_id"],
            channel=row["channel"],
            named=bool(row["named"]),
            record_id=row["record_id"],
            issued_at=row["issued_at"],
            expires_at=row["expires_at"],
            cycles=row["cycles"],
            last_finding=last_finding(tx, row) if row["cycles"] else None,
            accepted_boot=row["boot"],
            order_active_at=row["active_at"],
        )
        for row in tx.all(WAITING)
    ]


def last_finding(tx: Transaction, unit: sqlite3.Row) -> Finding | None:
    row = tx.one(
        "SELECT finding FROM cycles WHERE order_row = ? AND unit = ? AND finding IS NOT NULL"
        " ORDER BY n DESC LIMIT 1",
        unit["order_row"],
        unit["number"],
    )
    return None if row is None else findings.decode(row["finding"])


def verdict(unit: sqlite3.Row) -> tuple[Outcome, Evidence]:
    return Outcome(unit["outcome"]), Evidence(unit["evidence"])


# ------------------------------------------------------------------ what is said of an order


def executed(tx: Transaction, order: sqlite3.Row) -> Executed:
    """`command_executed`: yes once a cycle ended, no when none ever began and none will."""
    if order["pruned"] or order["finished_at"] is not None:
        return Executed.YES if order["started"] else Executed.NO
    ended = tx.one(
        "SELECT 1 FROM cycles WHERE order_row = ? AND closed_at IS NOT NULL LIMIT 1", order["id"]
    )
    return Executed.UNKNOWN if ended is None else Executed.YES


def order_facts(
    order: sqlite3.Row,
    status: OrderStatus,
    done: Executed,
    at: float,
    *,
    code: str | None = None,
    message: str = "",
) -> OrderFacts:
    return OrderFacts(
        key=key_of(order),
        trade_id=order["trade_id"],
        status=status,
        code=code,
        message=message,
        executed=done,
        units=order["units"],
        delivered=order["delivered"],
        not_delivered=order["not_delivered"],
        unknown=order["unknown"],
        revision=order["revision"],
        at=at,
    )


def tell_order(
    tx: Transaction,
    order_row: int,
    status: OrderStatus,
    done: Executed | None = None,
    *,
    code: str | None = None,
    message: str = "",
) -> int:
    """Put an `order` message about a known order in the outbox; its row."""
    order = order_by_row(tx, order_row)
    done = executed(tx, order) if done is None else done
    facts = order_facts(order, status, done, tx.at, code=code, message=message)
    return enqueue(tx, "order", order_row, partial(tx.announcer.order, facts))


def _tell_result(tx: Transaction, order: sqlite3.Row, number: int, finding: Finding) -> None:
    unit = unit_row(tx, order["id"], number)
    if unit is None:
        raise Refused(
            "unknown_order", "no unit {unit} of order {order}", unit=number, order=key_of(order)
        )
    facts = ResultFacts(
        key=key_of(order),
        trade_id=order["trade_id"],
        record_id=unit["record_id"],
        unit=number,
        units=order["units"],
        revision=unit["revision"],
        product_id=unit["product_id"],
        channel=unit["channel"],
        outcome=finding.outcome,
        reason=finding.reason,
        evidence=finding.evidence,
        lane_health=lanes.state_of(tx, unit["channel"]).health,
        raw=finding.raw,
        late=unit["revision"] > 1 or tx.at > order["issued_at"] + BACKSTOP_S,
        cycles=unit["cycles"],
        started_at=unit["started_at"],
        finished_at=tx.at,
    )
    enqueue(tx, "result", order["id"], partial(tx.announcer.result, facts))


# ------------------------------------------------------------------ outcomes


COUNTED = {
    Outcome.DELIVERED: "delivered",
    Outcome.NOT_DELIVERED: "not_delivered",
    Outcome.UNKNOWN: "unknown",
}


def decide(tx: Transaction, order_row: int, number: int, channel: str, finding: Finding) -> bool:
    """The unit's outcome, revision 1, and its result; True when its order is now finished.

    The caller says `finished` then, after what else it has to say.
    """
    reason = _reason(finding)
    tx.run(
        "UPDATE units SET outcome = ?, reason = ?, evidence = ?, revision = 1, running = 0,"
        " channel = ?, finished_at = ? WHERE order_row = ? AND number = ?",
        finding.outcome.value, reason, finding.evidence.value, channel, tx.at, order_row, number,
    )  # fmt: skip
    tx.run(
        f"UPDATE orders SET {COUNTED[finding.outcome]} = {COUNTED[finding.outcome]} + 1,"  # noqa: S608 - a name of ours
        " finished_at = CASE WHEN delivered + not_delivered + unknown + 1 = units THEN ?1 END,"
        " revision = CASE WHEN delivered + not_delivered + unknown + 1 = units THEN 1 ELSE 0 END,"
        " started = started OR EXISTS (SELECT 1 FROM cycles WHERE order_row = ?2) WHERE id = ?2",
        tx.at,
        order_row,
    )
    _count(tx, finding.outcome, 1)
    order = order_by_row(tx, order_row)
    _tell_result(tx, order, number, finding)
    return order["finished_at"] is not None


def revise(
    tx: Transaction, order: sqlite3.Row, unit: sqlite3.Row, channel: str, finding: Finding
) -> None:
    """A new revision of a decided unit's result, and of its order's `finished`."""
    old = Outcome(unit["outcome"])
    tx.run(
        "UPDATE units SET outcome = ?, reason = ?, evidence = ?, revision = revision + 1,"
        " channel = ?, finished_at = ? WHERE order_row = ? AND number = ?",
        finding.outcome.value, _reason(finding), finding.evidence.value, channel, tx.at,
        order["id"], unit["number"],
    )  # fmt: skip
    down, up = COUNTED[old], COUNTED[finding.outcome]
    tx.run(
        f"UPDATE orders SET {down} = {down} - 1, {up} = {up} + 1,"  # noqa: S608 - names of ours
        " revision = CASE WHEN finished_at IS NULL THEN 0 ELSE revision + 1 END WHERE id = ?",
        order["id"],
    )
    _count(tx, old, -1)
    _count(tx, finding.outcome, 1)
    _tell_result(tx, order, unit["number"], finding)
    if order["finished_at"] is not None:
        tell_order(tx, order["id"], OrderStatus.FINISHED)


def _reason(finding: Finding) -> Reason | None:
    return None if finding.reason is None else Reason(finding.reason)


def _count(tx: Transaction, outcome: Outcome, step: int) -> None:
    name = COUNTED[outcome]
    tx.set(**{name: getattr(tx.counters, name) + step})
