"""Orders and their lines: made, paid, closed, void; and the stock that they hold.

Functions over one transaction. Stock is taken when an order is made and goes back for what will
not be given out: the order was cancelled, or not paid in time, or a unit failed. What may have
fallen is never put back.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from platform_sim import codes
from platform_sim.codes import ApiError


class Status(IntEnum):
    """Of an order, as a merchant uploads it; STATUS_NAMES has what a query shows."""

    NOTPAY = 0
    SUCCESS = 1
    REFUND = 2
    CLOSED = 3
    REVOKED = 4
    USERPAYING = 5
    PAYERROR = 6
    VOID = 9
    """Closed by timeout. No name is published; a query shows CLOSED."""


STATUS_NAMES = {
    Status.NOTPAY: "NOTPAY",
    Status.SUCCESS: "SUCCESS",
    Status.REFUND: "REFUND",
    Status.CLOSED: "CLOSED",
    Status.REVOKED: "REVOKED",
    Status.USERPAYING: "USERPAYING",
    Status.PAYERROR: "PAYERROR",
    Status.VOID: "CLOSED",
}
UNPAID = (Status.NOTPAY, Status.USERPAYING)
"""USERPAYING holds its stock although the endpoint's table calls any status but 1 a cancellation:
the payment code was shown, and SUCCESS follows."""


class Record:
    """The states of an order line."""

    WAITING = "WAITING_PICKED_UP"
    DELIVERING = "IS_DELIVERING"
    SUCCESS = "IS_SUCCESS"
    FAILED = "IS_FAILED"
    TIMEOUT = "IS_TIMEOUT"
    REFUND = "IS_REFUND"


@dataclass(frozen=True)
class Wanted:
    product_id: int
    quantity: int


@dataclass(frozen=True)
class NewOrder:
    machine_no: str
    trade_id: str
    notify_url: str
    products: Sequence[Wanted]


def create(tx: sqlite3.Connection, appid: str, new: NewOrder, *, now: float, debug: bool) -> int:
    """The order's id. Refused: trade id known, machine not there or not selling, product, stock."""
    if known(tx, appid, new.trade_id) is not None:
        raise ApiError(codes.TRADE_EXISTS, f"trade_id {new.trade_id}")
    ready_machine(tx, appid, new.machine_no, debug=debug)
    for wanted in new.products:
        _take(tx, new.machine_no, wanted)
    order_id = tx.execute(
        "INSERT INTO purchase (appid, machine_no, trade_id, notify_url, status, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (appid, new.machine_no, new.trade_id, new.notify_url, Status.NOTPAY, now),
    ).lastrowid
    assert order_id is not None  # noqa: S101  (SQLite gave it a number)
    tx.executemany(
        "INSERT INTO record (order_id, machine_no, product_id, quantity, status)"
        " VALUES (?, ?, ?, ?, ?)",
        [
            (order_id, new.machine_no, wanted.product_id, wanted.quantity, Record.WAITING)
            for wanted in new.products
        ],
    )
    return order_id


def known(tx: sqlite3.Connection, appid: str, trade_id: str) -> int | None:
    row = tx.execute(
        "SELECT order_id FROM purchase WHERE appid = ? AND trade_id = ?", (appid, trade_id)
    ).fetchone()
    return None if row is None else int(row["order_id"])


def machine(tx: sqlite3.Connection, appid: str, machine_no: str) -> sqlite3.Row:
    """Refused: no machine of this merchant has that number."""
    row: sqlite3.Row | None = tx.execute(
        "SELECT * FROM machine WHERE machine_no = ? AND appid = ?", (machine_no, appid)
    ).fetchone()
    if row is None:
        raise ApiError(codes.NO_MACHINE, f"machine_no {machine_no[:40]}")
    return row


def ready_machine(
    tx: sqlite3.Connection, appid: str, machine_no: str, *, debug: bool, testing: bool = False
) -> sqlite3.Row:
    """One that sells now. Refused: no machine, not in operation, offline.

    A test may also go to a machine that is under maintenance.
    """
    row = machine(tx, appid, machine_no)
    allowed = ("OPERATIONAL", "MAINTENANCE") if testing else ("OPERATIONAL",)
    if row["operating"] not in allowed:
        raise ApiError(codes.NOT_OPERATING, row["operating"])
    if not row["online"] and not debug:
        raise ApiError(codes.OFFLINE, f"machine_no {machine_no}")
    if row["mode"] in {"service", "out_of_service"} and not testing:
        raise ApiError(codes.NOT_OPERATING, f"the machine says: {row['mode']}")
    return row


def order(tx: sqlite3.Connection, appid: str, order_id: int, machine_no: str) -> sqlite3.Row:
    """Refused: none of this merchant and machine."""
    row: sqlite3.Row | None = tx.execute(
        "SELECT * FROM purchase WHERE order_id = ? AND appid = ? AND machine_no = ?",
        (order_id, appid, machine_no),
    ).fetchone()
    if row is None:
        raise ApiError(codes.NO_RECORD, f"order {order_id} of machine {machine_no[:40]}")
    return row


def update(tx: sqlite3.Connection, row: sqlite3.Row, status: Status, *, now: float) -> bool:
    """What the merchant uploads. Refused: paid again, void, or closed before.

    False: the same status once more changes nothing, so that an upload may be repeated.
    """
    was, order_id = Status(row["status"]), row["order_id"]
    if was is Status.VOID:
        raise ApiError(codes.ORDER_EXPIRED, f"order {order_id} was not paid in time")
    if was is status and status is not Status.SUCCESS:
        return False
    if was is Status.SUCCESS and status is Status.SUCCESS:
        raise ApiError(codes.PAID, f"order {order_id}")
    if was not in {*UNPAID, Status.SUCCESS} or (was is Status.SUCCESS and status in UNPAID):
        names = f"{STATUS_NAMES[was]} to {STATUS_NAMES[status]}"
        raise ApiError(codes.ORDER_STATUS, f"order {order_id}: {names}")
    paid_at = now if status is Status.SUCCESS else row["paid_at"]
    tx.execute(
        "UPDATE purchase SET status = ?, paid_at = ? WHERE order_id = ?",
        (status, paid_at, order_id),
    )
    return True


def records(tx: sqlite3.Connection, order_id: int) -> list[sqlite3.Row]:
    return tx.execute(
        "SELECT * FROM record WHERE order_id = ? ORDER BY record_id", (order_id,)
    ).fetchall()


def overdue(tx: sqlite3.Connection, created_before: float, limit: int) -> list[sqlite3.Row]:
    """Unpaid orders that are void now."""
    return tx.execute(
        "SELECT * FROM purchase WHERE status IN (0, 5) AND created_at <= ? ORDER BY created_at"
        " LIMIT ?",
        (created_before, limit),
    ).fetchall()


def make_void(tx: sqlite3.Connection, order_id: int) -> None:
    tx.execute("UPDATE purchase SET status = ? WHERE order_id = ?", (Status.VOID, order_id))


# ---------------------------------------------------------------------- stock


def _take(tx: sqlite3.Connection, machine_no: str, wanted: Wanted) -> None:
    row = tx.execute(
        "SELECT stock, on_sale FROM product WHERE machine_no = ? AND product_id = ?",
        (machine_no, wanted.product_id),
    ).fetchone()
    if row is None:
        raise ApiError(codes.NO_PRODUCT, f"product_id {wanted.product_id}")
    if not row["on_sale"]:
        raise ApiError(codes.OFF_SALE, f"product_id {wanted.product_id}")
    if row["stock"] < wanted.quantity:
        detail = f"product_id {wanted.product_id}: {row['stock']} left, {wanted.quantity} wanted"
        raise ApiError(codes.NO_STOCK, detail)
    move_stock(tx, machine_no, wanted.product_id, -wanted.quantity)


def move_stock(tx: sqlite3.Connection, machine_no: str, product_id: int, by: int) -> None:
    """Never below nothing and never above the capacity: the machine's own count is the truth."""
    tx.execute(
        "UPDATE product SET stock = min(capacity, max(0, stock + ?))"
        " WHERE machine_no = ? AND product_id = ?",
        (by, machine_no, product_id),
    )


def give_back(tx: sqlite3.Connection, record: sqlite3.Row, units: int) -> None:
    """So many of a line will not be given out: they are for sale again."""
    if units <= 0:
        return
    tx.execute(
        "UPDATE record SET returned = returned + ? WHERE record_id = ?",
        (units, record["record_id"]),
    )
    move_stock(tx, record["machine_no"], record["product_id"], units)


# ---------------------------------------------------------------------- what a merchant is told


def queue_callback(
    tx: sqlite3.Connection, order_id: int, url: str, body: Mapping[str, Any], *, now: float
) -> None:
    """Durable with the fact that it tells."""
    if not url:
        return
    tx.execute(
        "INSERT INTO callback (order_id, url, body, made_at, again_at) VALUES (?, ?, ?, ?, ?)",
        (order_id, url, json.dumps(body, ensure_ascii=False).encode(), now, now),
    )


def view(tx: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    """An order as a query answers it."""
    lines = []
    for record in records(tx, row["order_id"]):
        line = {
            "id": record["record_id"],
            "product_id": record["product_id"],
            "quantity": record["quantity"],
        }
        if row["status"] in {Status.SUCCESS, Status.REFUND}:
            line["status"] = record["status"]  # documented: shown for paid orders only
        line["notify_sent"] = "1" if row["notified"] else "0"
        lines.append(line)
    return {
        "order_id": row["order_id"],
        "trade_id": row["trade_id"],
        "machine_no": row["machine_no"],
        "status": STATUS_NAMES[Status(row["status"])],
        "notify_send_count": row["notified"],
        "records": lines,
    }
