"""A journal as after years: 200,000 finished orders, written by SQL into the real schema.

One order is taken as a pattern, a real one that the daemon wrote, and its rows are
copied with other numbers: order, unit, cycle, result and both order messages, with all
their details, as if the retention had pruned nothing. Counters and lanes are moved along,
so that the daemon finds a journal that it could have written itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.model import Order, OrderKey, OrderLine

ORDERS = 200_000
FIRST_ORDER_ID = 10_000_000
SPACING_S = 170.0
"""200,000 orders in 394 days: inside the retention of 400, the most that is ever kept."""

TOOK_S = 5.0
"""From an order's acceptance to its end."""

Row = dict[str, Any]


def order_of(number: int, product_id: int, issued_at: int) -> Order:
    """The command that the grown journal remembers under this number, 0..ORDERS-1."""
    order_id = FIRST_ORDER_ID + number
    line = OrderLine(product_id, 1)
    return Order(OrderKey(order_id), f"{order_id:020d}", issued_at, issued_at + 90, (line,))


@dataclass(frozen=True, slots=True)
class Pattern:
    """The rows of the one order that the daemon itself wrote."""

    order: Row
    unit: Row
    cycle: Row
    messages: tuple[Row, ...]
    product_id: int

    def row(self, number: int) -> int:
        """The row of the copy in `orders`."""
        return int(self.order["id"]) + 1 + number

    def at(self, number: int, orders: int) -> float:
        """When the copy was issued: Unix seconds, whole ones."""
        return float(int(self.order["accepted_at"] - (orders - number) * SPACING_S))


def grow(database: Path, product_id: int, orders: int = ORDERS) -> None:
    """Add so many orders to a journal that is closed and holds exactly one, of one unit."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.row_factory = sqlite3.Row
    for pragma in ("synchronous = OFF", "cache_size = -200000", "foreign_keys = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN IMMEDIATE")
    pattern = _pattern(connection, product_id)
    for table, copies in COPIES.items():
        rows = copies(pattern, orders)
        first = next(rows)
        names, marks = ", ".join(first), ", ".join("?" * len(first))
        sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608  names of our schema
        connection.execute(sql, tuple(first.values()))
        connection.executemany(sql, (tuple(row.values()) for row in rows))
    _move_along(connection, pattern, orders)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def _pattern(connection: sqlite3.Connection, product_id: int) -> Pattern:
    def rows(sql: str) -> list[Row]:
        return [dict(row) for row in connection.execute(sql)]

    (order,) = rows("SELECT * FROM orders")
    (unit,) = rows("SELECT * FROM units")
    (cycle,) = rows("SELECT * FROM cycles")
    messages = rows("SELECT * FROM outbox WHERE order_row IS NOT NULL ORDER BY row")
    return Pattern(order, unit, cycle, tuple(messages), product_id)


def _orders(pattern: Pattern, orders: int) -> Iterator[Row]:
    for number in range(orders):
        at = pattern.at(number, orders)
        known = order_of(number, pattern.product_id, int(at))
        yield {
            **pattern.order,
            "id": pattern.row(number),
            "order_id": known.key.order_id,
            "trade_id": known.trade_id,
            "content": known.content_hash(),
            "issued_at": known.issued_at,
            "expires_at": known.expires_at,
            "accepted_at": at,
            "finished_at": at + TOOK_S,
        }


def _units(pattern: Pattern, orders: int) -> Iterator[Row]:
    for number in range(orders):
        at = pattern.at(number, orders)
        times = {"started_at": at, "finished_at": at + TOOK_S}
        yield {**pattern.unit, "order_row": pattern.row(number), **times}


def _cycles(pattern: Pattern, orders: int) -> Iterator[Row]:
    for number in range(orders):
        at = pattern.at(number, orders)
        names = {"n": pattern.cycle["n"] + 1 + number, "order_row": pattern.row(number)}
        yield {**pattern.cycle, **names, "opened_at": at, "closed_at": at + TOOK_S}


def _outbox(pattern: Pattern, orders: int) -> Iterator[Row]:
    bodies = [(row, json.loads(row["payload"])) for row in pattern.messages]
    row_number, seq = pattern.messages[-1]["row"], pattern.messages[-1]["seq"]
    for number in range(orders):
        order_id = FIRST_ORDER_ID + number
        at = pattern.at(number, orders)
        for row, body in bodies:
            row_number, seq = row_number + 1, seq + 1
            told = {**body, "order_id": order_id, "trade_id": f"{order_id:020d}", "seq": seq}
            yield {
                **row,
                "row": row_number,
                "seq": seq,
                "order_row": pattern.row(number),
                "payload": json.dumps(told, separators=(",", ":")).encode(),
                "at": at,
                "sent_at": at + TOOK_S,
            }


COPIES: dict[str, Callable[[Pattern, int], Iterator[Row]]] = {
    "orders": _orders,
    "units": _units,
    "cycles": _cycles,
    "outbox": _outbox,
}


def _move_along(connection: sqlite3.Connection, pattern: Pattern, orders: int) -> None:
    messages = len(pattern.messages) * orders
    connection.execute(
        "UPDATE journal SET seq = seq + ?, cycle = cycle + ?, accepted = accepted + ?,"
        " delivered = delivered + ?",
        (messages, orders, orders, orders),
    )
    connection.execute(
        "UPDATE lanes SET gone = gone + ?, loaded = loaded + ?, cycles = cycles + ?"
        " WHERE channel = ?",
        (orders, orders, orders, pattern.unit["channel"]),
    )
