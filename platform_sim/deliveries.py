"""Deliveries: what a paid order's line becomes on a machine, one command each.

One delivery holds a machine's lock from its command to its end; others wait their turn. The lock
ends at a ceiling of its cabinet's kind, a delivery without an answer at the backstop. On a cabinet
with a light eye a delivery is one item, for an item in the eye hides the next; elsewhere it is the
whole line.

Functions over one transaction. Nothing here ever sends a second command for a unit: what a command
became is for the machine to say.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from platform_sim import codes, contract, merchant_words, orders
from platform_sim.codes import ApiError
from platform_sim.orders import Record, Status
from platform_sim.settings import Rules


class UnitStatus(IntEnum):
    """The finest grain that the platform publishes: its delivery log's."""

    WAITING = -1
    FAILED = 0
    DONE = 1
    CANCELLED = 2
    DISPENSING = 3
    TAKEN = 4
    TIMED_OUT = 5


OPEN = frozenset({UnitStatus.WAITING, UnitStatus.DISPENSING})
BACK_IN_STOCK = frozenset({UnitStatus.FAILED, UnitStatus.CANCELLED})
"""A unit that timed out may have fallen: it is for nobody to sell again."""

TOLD_AS = {UnitStatus.DONE: "1", UnitStatus.TIMED_OUT: "5"}
"""deliver_status; the rest is 0. The documents have 0 and 1 only, and show no body for a timeout:
a merchant that reads a timeout as a failure refunds what may have fallen."""

STATUS_TEXT = {
    Record.WAITING: "未取货或正在出货",
    Record.DELIVERING: "未取货或正在出货",
    Record.SUCCESS: "出货完成",
    Record.FAILED: "出货失败",
    Record.TIMEOUT: "出货超时",
    Record.REFUND: "订单取消",
}

TEST_TTL_S = 30.0
"""A lane's test is for somebody who stands there and watches; the contract allows 60."""


@dataclass(frozen=True)
class Terms:
    """What the rules need of the world."""

    rules: Rules
    now: float
    debug: bool = False

    def ceiling(self, kind: str) -> float:
        return {
            "belt": self.rules.lock_belt_s,
            "motor": self.rules.lock_motor_s,
            "lock": self.rules.lock_lock_s,
        }.get(kind, self.rules.lock_other_s)


def ask(
    tx: sqlite3.Connection,
    terms: Terms,
    appid: str,
    order_row: sqlite3.Row,
    record_id: int,
    sign: str,
) -> str:
    """POST /deliveries: the delivery's id. Refused: unpaid, expired, closed, delivered, offline.

    `sign` is the request's: sent again, it asks for nothing new and is refused as delivered.
    """
    if _seen(tx, sign):
        raise ApiError(codes.DELIVERED, "this very request was taken before")
    status = Status(order_row["status"])
    if status is Status.VOID:
        raise ApiError(codes.ORDER_EXPIRED, f"order {order_row['order_id']} was not paid in time")
    if status in orders.UNPAID:
        raise ApiError(codes.UNPAID, f"order {order_row['order_id']}")
    if status is not Status.SUCCESS:
        raise ApiError(codes.ORDER_STATUS, orders.STATUS_NAMES[status])
    record = tx.execute(
        "SELECT * FROM record WHERE record_id = ? AND order_id = ?",
        (record_id, order_row["order_id"]),
    ).fetchone()
    if record is None:
        raise ApiError(codes.NO_RECORD, f"record {record_id}")
    left = record["quantity"] - record["returned"] - _given(tx, record_id)
    if left <= 0:
        raise ApiError(codes.DELIVERED, f"record {record_id}: each unit has its delivery")
    machine_no = order_row["machine_no"]
    orders.ready_machine(tx, appid, machine_no, debug=terms.debug)
    product = tx.execute(
        "SELECT product.channel, cabinet.kind, cabinet.light_eye FROM product"
        " JOIN cabinet ON cabinet.machine_no = product.machine_no AND name = product.cabinet"
        " WHERE product.machine_no = ? AND product.product_id = ?",
        (machine_no, record["product_id"]),
    ).fetchone()
    delivery_id = _queue(
        tx,
        terms,
        machine_no=machine_no,
        order_id=order_row["order_id"],
        record_id=record_id,
        product_id=record["product_id"],
        channel=product["channel"],
        kind=product["kind"],
        quantity=1 if product["light_eye"] else left,
        notify_url=order_row["notify_url"],
        sign=sign,
    )
    tx.execute("UPDATE record SET status = ? WHERE record_id = ?", (Record.DELIVERING, record_id))
    dispatch(tx, terms, machine_no)
    return delivery_id


def ask_test(
    tx: sqlite3.Connection,
    terms: Terms,
    appid: str,
    machine_no: str,
    channel: str,
    url: str,
    sign: str,
) -> str:
    """POST /deliveries/debug: one lane. Refused: no machine, no channel, offline, repeated."""
    if _seen(tx, sign):
        raise ApiError(codes.BAD_SIGNATURE, "this very request was taken before")
    orders.ready_machine(tx, appid, machine_no, debug=terms.debug, testing=True)
    cabinet = tx.execute(
        "SELECT cabinet.kind FROM product JOIN cabinet ON cabinet.machine_no = product.machine_no"
        " AND cabinet.name = product.cabinet WHERE product.machine_no = ? AND channel = ?",
        (machine_no, channel),
    ).fetchone()
    if cabinet is None:
        raise ApiError(codes.NO_RECORD, f"channel {channel[:10]} of machine {machine_no}")
    delivery_id = _queue(
        tx,
        terms,
        machine_no=machine_no,
        order_id=None,
        record_id=None,
        product_id=None,
        channel=channel,
        kind=cabinet["kind"],
        quantity=1,
        notify_url=url,
        sign=sign,
    )
    dispatch(tx, terms, machine_no)
    return delivery_id


def _seen(tx: sqlite3.Connection, sign: str) -> bool:
    found = tx.execute("SELECT 1 FROM delivery WHERE sign = ?", (sign,)).fetchone()
    return found is not None


def _given(tx: sqlite3.Connection, record_id: int) -> int:
    row = tx.execute(
        "SELECT coalesce(sum(quantity), 0) FROM delivery WHERE record_id = ?", (record_id,)
    ).fetchone()
    return int(row[0])


def _queue(
    tx: sqlite3.Connection, terms: Terms, *, machine_no: str, order_id: int | None,
    record_id: int | None, product_id: int | None, channel: str, kind: str, quantity: int,
    notify_url: str, sign: str,
) -> str:  # fmt: skip
    waiting = tx.execute(
        "SELECT count(*) FROM delivery WHERE machine_no = ? AND state = 'queued'", (machine_no,)
    ).fetchone()[0]
    if waiting >= terms.rules.queue:
        raise ApiError(codes.BUSY, f"{waiting} deliveries wait for machine {machine_no}")
    number = tx.execute(
        "INSERT INTO delivery (delivery_id, machine_no, order_id, record_id, product_id, channel,"
        " kind, quantity, notify_url, state, asked_at, sign)"
        " VALUES ('', ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?)",
        (machine_no, order_id, record_id, product_id, channel, kind, quantity, notify_url,
         terms.now, sign),
    ).lastrowid  # fmt: skip
    delivery_id = f"{number:016d}"
    tx.execute("UPDATE delivery SET delivery_id = ? WHERE number = ?", (delivery_id, number))
    tx.executemany(
        "INSERT INTO unit (delivery_id, unit, status, channel) VALUES (?, ?, ?, ?)",
        [(delivery_id, unit, UnitStatus.WAITING, channel) for unit in range(1, quantity + 1)],
    )
    return delivery_id


# ---------------------------------------------------------------------- the lock, and the command


def dispatch(tx: sqlite3.Connection, terms: Terms, machine_no: str) -> None:
    """Where nothing holds the machine's lock, the oldest that waits takes it and goes out. One that
    has waited for as long as an answer may take is left for the rules of time to end."""
    locked = tx.execute(
        "SELECT 1 FROM delivery WHERE machine_no = ? AND lock_until IS NOT NULL", (machine_no,)
    ).fetchone()
    if locked is not None:
        return
    row = tx.execute(
        "SELECT * FROM delivery WHERE machine_no = ? AND state = 'queued' AND asked_at > ?"
        " ORDER BY number LIMIT 1",
        (machine_no, terms.now - terms.rules.backstop_s),
    ).fetchone()
    if row is None:
        return
    now = terms.now
    tx.execute(
        "UPDATE delivery SET state = 'sent', sent_at = ?, lock_until = ? WHERE number = ?",
        (now, now + terms.ceiling(row["kind"]), row["number"]),
    )
    if row["order_id"] is None:
        expires_at = int(now + TEST_TTL_S)
        payload = contract.lane_test(
            request_id=row["delivery_id"],
            channel=row["channel"],
            issued_at=int(now),
            expires_at=expires_at,
        )
        send(tx, machine_no, "request/lane.test", payload, drop_at=expires_at)
        return
    expires_at = int(now + terms.rules.command_ttl_s)
    line = contract.Line(row["product_id"], row["quantity"], row["channel"], row["record_id"])
    payload = contract.dispense(
        order_id=row["order_id"],
        delivery_id=row["delivery_id"],
        trade_id=_trade_id(tx, row["order_id"]),
        machine_no=machine_no,
        issued_at=int(now),
        expires_at=expires_at,
        lines=[line],
    )
    send(tx, machine_no, "dispense", payload, drop_at=expires_at)


def _trade_id(tx: sqlite3.Connection, order_id: int) -> str:
    row = tx.execute("SELECT trade_id FROM purchase WHERE order_id = ?", (order_id,)).fetchone()
    return str(row["trade_id"])


def send(
    tx: sqlite3.Connection, machine_no: str, leaf: str, payload: bytes, *, drop_at: float
) -> None:
    """Into the outbox; the broker gets it after the commit, in this order."""
    tx.execute(
        "INSERT INTO command (machine_no, leaf, payload, drop_at) VALUES (?, ?, ?, ?)",
        (machine_no, leaf, payload, drop_at),
    )


# ---------------------------------------------------------------------- units, and the end


def set_unit(
    tx: sqlite3.Connection, delivery: sqlite3.Row, unit: int, status: UnitStatus, *,
    revision: int = 0, reason: str = "", channel: str = "", late: bool = False,
    finished_at: str = "",
) -> None:  # fmt: skip
    """One unit's newest state, and the stock that goes with it. Older revisions change nothing."""
    row = tx.execute(
        "SELECT status, revision FROM unit WHERE delivery_id = ? AND unit = ?",
        (delivery["delivery_id"], unit),
    ).fetchone()
    if row is None or row["revision"] >= max(revision, 1):
        return
    words = merchant_words.of(reason) if reason else merchant_words.Words(merchant_words.OK, "")
    tx.execute(
        "UPDATE unit SET status = ?, revision = ?, reason = ?, words = ?, floor = ?, late = ?,"
        " channel = CASE WHEN ? = '' THEN channel ELSE ? END WHERE delivery_id = ? AND unit = ?",
        (status, revision, reason, words.text, words.floor, late, channel, channel,
         delivery["delivery_id"], unit),
    )  # fmt: skip
    if delivery["product_id"] is None:
        return
    if finished_at and finished_at <= _counted_at(tx, delivery):
        by = int(row["status"] in OPEN)  # the machine's count has it; only the hold ends
    else:
        by = (status in BACK_IN_STOCK) - (row["status"] in BACK_IN_STOCK)
    if by:
        orders.move_stock(tx, delivery["machine_no"], delivery["product_id"], by)
    if words.floor:
        tx.execute(
            "UPDATE product SET floor_status = ? WHERE machine_no = ? AND channel = ?",
            (words.floor, delivery["machine_no"], channel or delivery["channel"]),
        )


def _counted_at(tx: sqlite3.Connection, delivery: sqlite3.Row) -> str:
    """Of the product's newest inventory. After an outage that comes before the results."""
    row = tx.execute(
        "SELECT counted_at FROM product WHERE machine_no = ? AND product_id = ?",
        (delivery["machine_no"], delivery["product_id"]),
    ).fetchone()
    return "" if row is None else str(row["counted_at"])


def units(tx: sqlite3.Connection, delivery_id: str) -> list[sqlite3.Row]:
    return tx.execute(
        "SELECT * FROM unit WHERE delivery_id = ? ORDER BY unit", (delivery_id,)
    ).fetchall()


def find(tx: sqlite3.Connection, delivery_id: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = tx.execute(
        "SELECT * FROM delivery WHERE delivery_id = ?", (delivery_id,)
    ).fetchone()
    return row


def view(tx: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    """A delivery as a query answers it, in the platform's own free text."""
    all_units = units(tx, row["delivery_id"])
    if any(unit["status"] in OPEN for unit in all_units):
        status = Record.DELIVERING
    else:
        status = _of_worst(unit["status"] for unit in all_units)
    done = status == Record.SUCCESS
    words = next((unit["words"] for unit in all_units if unit["words"]), "")
    return {
        "delivery_id": row["delivery_id"],
        "order_id": row["order_id"],
        "record_id": row["record_id"],
        "channel_name": row["channel"],
        "status": STATUS_TEXT[status],
        "delivered_at": int(row["ended_at"]) if done and row["ended_at"] else None,
        "fail_reason": words,
        "delivery_logs": [
            {"unit": unit["unit"], "status": str(unit["status"])} for unit in all_units
        ],
    }


def settle(tx: sqlite3.Connection, terms: Terms, delivery: sqlite3.Row) -> None:
    """Where no unit is open any more: the lock goes, the line has its state, the merchant is told.

    Called behind each change; tells only what differs from what was told last.
    """
    all_units = units(tx, delivery["delivery_id"])
    if any(unit["status"] in OPEN for unit in all_units):
        return
    state = "ended" if all(unit["revision"] for unit in all_units) else delivery["state"]
    tx.execute(
        "UPDATE delivery SET state = ?, lock_until = NULL, ended_at = coalesce(ended_at, ?)"
        " WHERE number = ?",
        ("ended" if state in {"queued", "sent"} else state, terms.now, delivery["number"]),
    )
    if delivery["record_id"] is not None:
        _settle_record(tx, delivery["record_id"])
    body = callback_body(delivery, all_units)
    told = json.dumps(body, sort_keys=True)
    if told != delivery["told"]:
        tx.execute("UPDATE delivery SET told = ? WHERE number = ?", (told, delivery["number"]))
        key = -delivery["number"] if delivery["order_id"] is None else delivery["order_id"]
        orders.queue_callback(tx, key, delivery["notify_url"], body, now=terms.now)
    dispatch(tx, terms, delivery["machine_no"])


def callback_body(delivery: sqlite3.Row, all_units: Iterable[sqlite3.Row]) -> dict[str, Any]:
    """The documented fields, and beside them what a merchant needs to pay back to the cent."""
    all_units = list(all_units)
    status = _worst(UnitStatus(unit["status"]) for unit in all_units)
    spoiled = next((unit for unit in all_units if unit["status"] != UnitStatus.DONE), None)
    words = "" if spoiled is None else spoiled["words"]
    body: dict[str, Any] = {"method": "device.delivery.response"}
    if delivery["order_id"] is not None:
        body |= {"order_id": delivery["order_id"], "record_id": delivery["record_id"]}
    return body | {
        "deliver_status": TOLD_AS.get(status, "0"),
        "floor_status": (spoiled["floor"] if spoiled is not None else "") or merchant_words.OK,
        "error_msg": words,
        "fail_reason": words,
        "delivery_id": delivery["delivery_id"],
        "channel_name": delivery["channel"],
        "quantity": len(all_units),
        "delivered": sum(unit["status"] == UnitStatus.DONE for unit in all_units),
        "timed_out": sum(unit["status"] == UnitStatus.TIMED_OUT for unit in all_units),
    }


def _worst(states: Iterable[UnitStatus]) -> UnitStatus:
    """Of a delivery: a timeout is told before a failure, for nobody may pay it back blindly."""
    found = set(states)
    for state in (UnitStatus.TIMED_OUT, UnitStatus.FAILED, UnitStatus.CANCELLED):
        if state in found:
            return state
    return UnitStatus.DONE


def _of_worst(states: Iterable[int]) -> str:
    return {
        UnitStatus.DONE: Record.SUCCESS,
        UnitStatus.TIMED_OUT: Record.TIMEOUT,
        UnitStatus.CANCELLED: Record.REFUND,
    }.get(_worst(UnitStatus(state) for state in states), Record.FAILED)


def _settle_record(tx: sqlite3.Connection, record_id: int) -> None:
    record = tx.execute("SELECT * FROM record WHERE record_id = ?", (record_id,)).fetchone()
    states = [
        UnitStatus(row["status"])
        for row in tx.execute(
            "SELECT unit.status FROM unit JOIN delivery USING (delivery_id) WHERE record_id = ?",
            (record_id,),
        )
    ]
    if any(state in OPEN for state in states):
        return
    left = record["quantity"] - record["returned"] - len(states)
    if left > 0:
        status = Record.WAITING
    elif record["returned"] and not any(state is not UnitStatus.CANCELLED for state in states):
        status = Record.REFUND
    else:
        status = _of_worst(states)
    tx.execute("UPDATE record SET status = ? WHERE record_id = ?", (status, record_id))


# ---------------------------------------------------------------------- ends that no machine told


def time_out(tx: sqlite3.Connection, terms: Terms, delivery: sqlite3.Row) -> None:
    """The backstop: what the machine has not told by now has timed out; it may still tell."""
    tx.execute("UPDATE delivery SET state = 'timeout' WHERE number = ?", (delivery["number"],))
    tx.execute(
        "UPDATE unit SET status = ?, reason = 'timeout', words = ? WHERE delivery_id = ?"
        " AND status IN (?, ?)",
        (UnitStatus.TIMED_OUT, merchant_words.of("timeout").text, delivery["delivery_id"],
         UnitStatus.WAITING, UnitStatus.DISPENSING),
    )  # fmt: skip
    again = find(tx, delivery["delivery_id"])
    assert again is not None  # noqa: S101  (it was there)
    settle(tx, terms, again)


def give_up(tx: sqlite3.Connection, terms: Terms, delivery: sqlite3.Row) -> None:
    """It waited for the machine too long, and goes out no more: a failure that is certain."""
    for unit in units(tx, delivery["delivery_id"]):
        set_unit(tx, delivery, unit["unit"], UnitStatus.FAILED, revision=1, reason="expired")
    settle(tx, terms, delivery)


def drop_lock(tx: sqlite3.Connection, terms: Terms, delivery: sqlite3.Row) -> None:
    """The ceiling: the machine takes the next command; the answer to this one may still come."""
    tx.execute("UPDATE delivery SET lock_until = NULL WHERE number = ?", (delivery["number"],))
    dispatch(tx, terms, delivery["machine_no"])


def _take_back(tx: sqlite3.Connection, delivery: sqlite3.Row) -> None:
    """A command that waits for the broker must not go out in front of its cancel: the motor would
    be the faster. Whether it is on its way already only the machine knows, which is asked."""
    for row in tx.execute(
        "SELECT id, payload FROM command WHERE machine_no = ? AND leaf = 'dispense'",
        (delivery["machine_no"],),
    ).fetchall():
        if json.loads(row["payload"])["delivery_id"] == delivery["delivery_id"]:
            tx.execute("DELETE FROM command WHERE id = ?", (row["id"],))


def close_order(tx: sqlite3.Connection, terms: Terms, order_row: sqlite3.Row) -> None:
    """The merchant closed it, or nobody paid: what has not gone out goes back, what has gone out is
    cancelled on the machine, which says what became of it."""
    order_id, machine_no = order_row["order_id"], order_row["machine_no"]
    for row in tx.execute("SELECT * FROM delivery WHERE order_id = ?", (order_id,)).fetchall():
        if row["state"] == "queued":
            tx.execute(
                "UPDATE delivery SET state = 'ended', ended_at = ? WHERE number = ?",
                (terms.now, row["number"]),
            )
            for unit in units(tx, row["delivery_id"]):
                set_unit(
                    tx, row, unit["unit"], UnitStatus.CANCELLED, revision=1, reason="cancelled"
                )
        elif row["state"] == "sent":
            _take_back(tx, row)
            payload = contract.cancel(
                order_id=order_id,
                delivery_id=row["delivery_id"],
                trade_id=order_row["trade_id"],
                issued_at=int(terms.now),
            )
            send(tx, machine_no, "cancel", payload, drop_at=terms.now + terms.rules.backstop_s)
    for record in orders.records(tx, order_id):
        left = record["quantity"] - record["returned"] - _given(tx, record["record_id"])
        orders.give_back(tx, record, left)
        if _given(tx, record["record_id"]) == 0:
            tx.execute(
                "UPDATE record SET status = ? WHERE record_id = ?",
                (Record.REFUND, record["record_id"]),
            )
        else:
            _settle_record(tx, record["record_id"])
