"""Commands: what is known of them, acceptance, rejection, replay, cancel (P8).

An order's row is never deleted: (order_id, delivery_id), trade_id and a hash of
the content are what tells a repetition from a conflict, for ever. Rejections
and answers to cancels are stored by their issued_at, in `answers`; a cancel of
an order that never came is its tombstone.
"""

from __future__ import annotations

import sqlite3
from functools import partial

from controller.dispensing.interfaces import (
    Cancellation,
    OrderBook,
    OrderFacts,
    Plan,
    Rejection,
    Standing,
    UnitJob,
)
from controller.errors import Refused
from controller.journal import lanes, service_mode, units
from controller.journal.outbox import arm, arm_order, enqueue
from controller.journal.technician import note
from controller.journal.transaction import Transaction, storable
from controller.model import (
    Code,
    Evidence,
    Executed,
    Finding,
    Order,
    OrderKey,
    OrderStatus,
    Outcome,
    Reason,
    UnitRef,
)

CANCELLED = Finding(Outcome.NOT_DELIVERED, Reason.CANCELLED, Evidence.NONE, left_home=False)


def look_up(tx: Transaction, order: Order) -> Standing:
    known = units.order_by_key(tx, order.key)
    if known is not None:
        same = bytes(known["content"]) == order.content_hash()
        return Standing.SAME if same else Standing.CONFLICT
    if tx.one(
        "SELECT 1 FROM orders WHERE trade_id = ? AND order_id <> ? LIMIT 1",
        order.trade_id,
        order.key.order_id,
    ):
        return Standing.CONFLICT
    if _answers(tx, order.key, "dispense", order.issued_at, order.trade_id):
        return Standing.REJECTED
    if _tombstone(tx, order.key):
        return Standing.TOMBSTONE
    return Standing.NEW


def _tombstone(tx: Transaction, key: OrderKey) -> bool:
    found = tx.one(
        "SELECT 1 FROM answers WHERE order_id = ? AND delivery_id = ? AND verb = 'cancel'"
        " AND code = ? LIMIT 1",
        key.order_id, key.delivery_id, Code.UNKNOWN_ORDER.value,
    )  # fmt: skip
    return found is not None


def _answers(
    tx: Transaction, key: OrderKey, verb: str, issued_at: int, trade_id: str
) -> list[sqlite3.Row]:
    return tx.all(
        "SELECT code, message, outbox_row FROM answers WHERE order_id = ? AND delivery_id = ?"
        " AND verb = ? AND issued_at = ? AND trade_id = ? ORDER BY outbox_row",
        key.order_id, key.delivery_id, verb, issued_at, storable(trade_id),
    )  # fmt: skip


# ------------------------------------------------------------------ dispense


BEFORE_ACCEPTING = {
    Standing.CONFLICT: Rejection(Code.CONFLICT, "this identity or trade_id is known otherwise"),
    Standing.TOMBSTONE: Rejection(Code.CANCELLED, "cancelled before it came"),
}


def accept(tx: Transaction, order: Order, plan: Plan) -> tuple[UnitJob, ...] | Rejection:
    """All of it or nothing. A command that was accepted meanwhile is replayed: no jobs."""
    if tx.counters.birth is None:
        return Rejection(Code.CLOCK_UNSET, "the machine's clock is not believed yet")
    if tx.counters.bound is not None and order.issued_at < tx.counters.bound:
        return Rejection(Code.JOURNAL_RESET, "issued before this journal began")
    standing = look_up(tx, order)
    if standing is Standing.SAME:
        replay(tx, order)
        return ()
    if standing in BEFORE_ACCEPTING:
        return BEFORE_ACCEPTING[standing]
    if standing is Standing.REJECTED:
        told = _answers(tx, order.key, "dispense", order.issued_at, order.trade_id)[0]
        return Rejection(Code(told["code"]), told["message"])
    if service_mode.current(tx) is not None:
        return Rejection(Code.SERVICE_MODE, "")
    placements = plan(order, lanes.lane_states(tx))
    if isinstance(placements, Rejection):
        return placements
    row = tx.insert(
        "INSERT INTO orders (order_id, delivery_id, trade_id, content, issued_at, expires_at,"
        " accepted_at, boot, units) VALUES (?,?,?,?,?,?,?,?,?)",
        order.key.order_id, order.key.delivery_id, order.trade_id, order.content_hash(),
        order.issued_at, order.expires_at, tx.at, tx.boot, len(placements),
    )  # fmt: skip
    for placed in placements:
        tx.run(
            "INSERT INTO units (order_row, number, product_id, record_id, channel, named)"
            " VALUES (?,?,?,?,?,?)",
            row, placed.number, placed.product_id, placed.record_id, placed.channel,
            int(placed.named),
        )  # fmt: skip
    tx.set(accepted=tx.counters.accepted + 1)
    units.tell_order(tx, row, OrderStatus.ACCEPTED, Executed.UNKNOWN)
    return tuple(
        UnitJob(
            ref=UnitRef(order.key, placed.number),
            units=len(placements),
            trade_id=order.trade_id,
            product_id=placed.product_id,
            channel=placed.channel,
            named=placed.named,
            record_id=placed.record_id,
            issued_at=order.issued_at,
            expires_at=order.expires_at,
            accepted_boot=tx.boot,
        )
        for placed in placements
    )


def replay(tx: Transaction, order: Order) -> None:
    """Arm the stored rows again; for pruned details, `finished` with what is still known."""
    known = units.order_by_key(tx, order.key)
    if known is None:
        for told in _answers(tx, order.key, "dispense", order.issued_at, order.trade_id):
            arm(tx, told["outbox_row"])
        return
    if arm_order(tx, known["id"]) == 0 and known["pruned"]:
        units.tell_order(
            tx,
            known["id"],
            OrderStatus.FINISHED,
            code=Code.RESULTS_PRUNED.value,
            message="its results are past the retention; these are the counts",
        )


def is_told(
    tx: Transaction, key: OrderKey, verb: str, issued_at: int, trade_id: str, code: Code
) -> int | None:
    """The outbox row of this very answer, when it was given before."""
    row = tx.one(
        "SELECT outbox_row FROM answers WHERE order_id = ? AND delivery_id = ? AND verb = ?"
        " AND issued_at = ? AND code = ? AND trade_id = ?",
        key.order_id, key.delivery_id, verb, issued_at, code.value, storable(trade_id),
    )  # fmt: skip
    return None if row is None else row["outbox_row"]


def reject(
    tx: Transaction,
    key: OrderKey,
    trade_id: str,
    issued_at: int,
    rejection: Rejection,
    *,
    executed: Executed,
    count: int,
) -> None:
    """Store and publish a rejection. `count` is how many units the command asked for."""
    facts = OrderFacts(
        key=key,
        trade_id=trade_id,
        status=OrderStatus.REJECTED,
        code=rejection.code.value,
        message=rejection.message,
        executed=executed,
        units=count,
        delivered=0,
        not_delivered=0,
        unknown=0,
        revision=0,
        at=tx.at,
    )
    _tell(tx, "dispense", issued_at, facts)
    tx.set(rejected=tx.counters.rejected + 1)


def _tell(tx: Transaction, verb: str, issued_at: int, facts: OrderFacts) -> None:
    row = enqueue(tx, "order", None, partial(tx.announcer.order, facts))
    _remember(tx, verb, issued_at, facts, row)


def _remember(tx: Transaction, verb: str, issued_at: int, facts: OrderFacts, row: int) -> None:
    tx.run(
        "INSERT OR IGNORE INTO answers (order_id, delivery_id, verb, issued_at, code, trade_id,"
        " message, outbox_row, at) VALUES (?,?,?,?,?,?,?,?,?)",
        facts.key.order_id, facts.key.delivery_id, verb, issued_at, facts.code or "",
        storable(facts.trade_id), storable(facts.message), row, tx.at,
    )  # fmt: skip


# ------------------------------------------------------------------ cancel


def cancel(
    tx: Transaction, asked: Cancellation, *, arm_again: bool = True
) -> tuple[Code, tuple[UnitRef, ...]]:
    """End the waiting units and answer. The same cancel again gets the same answer,
    sent again when `arm_again`.

    A person's cancel is answered to the platform as well, has its row in `audit`, and leaves
    no tombstone: a mistyped number must not bar an order. Refused: unknown_order.
    """
    if asked.who:
        return _cancel_here(tx, asked)
    told = _answers(tx, asked.key, "cancel", asked.issued_at, asked.trade_id)
    if told:
        if arm_again:
            arm(tx, told[0]["outbox_row"])
        return Code(told[0]["code"]), ()
    known = units.order_by_key(tx, asked.key)
    if known is None:
        return _bury(tx, asked), ()
    if asked.trade_id and asked.trade_id != known["trade_id"]:
        facts = _nothing(asked, OrderStatus.REJECTED, Code.CONFLICT, Executed.UNKNOWN, tx.at)
        _tell(tx, "cancel", asked.issued_at, facts)
        return Code.CONFLICT, ()
    code, ended, facts, row = _end_and_tell(tx, known)
    _remember(tx, "cancel", asked.issued_at, facts, row)
    return code, ended


def _cancel_here(tx: Transaction, asked: Cancellation) -> tuple[Code, tuple[UnitRef, ...]]:
    known = units.order_by_key(tx, asked.key)
    if known is None:
        raise Refused("unknown_order", "no order {order} was ever accepted here", order=asked.key)
    code, ended, _, _ = _end_and_tell(tx, known)
    detail = {
        "code": code.value,
        "units": [unit.number for unit in ended],
        "reason": storable(asked.reason),
    }
    note(tx, asked.who, "order_cancel", str(asked.key), detail)
    return code, ended


def _end_and_tell(
    tx: Transaction, known: sqlite3.Row
) -> tuple[Code, tuple[UnitRef, ...], OrderFacts, int]:
    """Code, ended units, and the answer with its row of the outbox."""
    ended = _end_waiting(tx, known)
    code = Code.OK if ended or _all_cancelled(tx, known["id"]) else Code.TOO_LATE
    order = units.order_by_row(tx, known["id"])
    done = units.executed(tx, order)
    facts = units.order_facts(order, OrderStatus.CANCELLED, done, tx.at, code=code.value)
    row = enqueue(tx, "order", known["id"], partial(tx.announcer.order, facts))
    if ended and order["finished_at"] is not None:
        units.tell_order(tx, known["id"], OrderStatus.FINISHED)
    return code, ended, facts, row


def _end_waiting(tx: Transaction, order: sqlite3.Row) -> tuple[UnitRef, ...]:
    waiting = tx.all(
        "SELECT number, channel FROM units WHERE order_row = ? AND outcome IS NULL AND running = 0",
        order["id"],
    )
    for unit in waiting:
        units.decide(tx, order["id"], unit["number"], unit["channel"], CANCELLED)
    key = units.key_of(order)
    return tuple(UnitRef(key, unit["number"]) for unit in waiting)


def _all_cancelled(tx: Transaction, order_row: int) -> bool:
    counts = tx.one(
        "SELECT COUNT(*) AS units, SUM(reason IS ?) AS cancelled FROM units WHERE order_row = ?",
        Reason.CANCELLED.value,
        order_row,
    )
    return counts is not None and counts["units"] > 0 and counts["units"] == counts["cancelled"]


def _bury(tx: Transaction, asked: Cancellation) -> Code:
    """A tombstone: the order is not known here, and must not be obeyed when it comes.

    Where the journal was ever lost or restored, nobody can say that it did not run.
    """
    done = Executed.UNKNOWN if tx.counters.doubted else Executed.NO
    facts = _nothing(asked, OrderStatus.CANCELLED, Code.UNKNOWN_ORDER, done, tx.at)
    _tell(tx, "cancel", asked.issued_at, facts)
    return Code.UNKNOWN_ORDER


def _nothing(
    asked: Cancellation, status: OrderStatus, code: Code, done: Executed, at: float
) -> OrderFacts:
    return OrderFacts(
        key=asked.key,
        trade_id=asked.trade_id,
        status=status,
        code=code.value,
        message="",
        executed=done,
        units=0,
        delivered=0,
        not_delivered=0,
        unknown=0,
        revision=0,
        at=at,
    )


# ------------------------------------------------------------------ reading


def book(tx: Transaction, key: OrderKey) -> OrderBook | None:
    """What is known of an accepted order; None when it never was."""
    order = units.order_by_key(tx, key)
    if order is None:
        return None
    (running,) = tx.all(
        "SELECT COUNT(*) FROM units WHERE order_row = ? AND running = 1", order["id"]
    )[0]
    decided = order["delivered"] + order["not_delivered"] + order["unknown"]
    finished = order["finished_at"] is not None
    return OrderBook(
        key=key,
        trade_id=order["trade_id"],
        status=OrderStatus.FINISHED if finished else OrderStatus.ACCEPTED,
        code="",
        executed=units.executed(tx, order),
        units=order["units"],
        delivered=order["delivered"],
        not_delivered=order["not_delivered"],
        unknown=order["unknown"],
        revision=order["revision"],
        pruned=bool(order["pruned"]),
        waiting=order["units"] - decided - running,
        running=running,
    )
