"""A journal as after years: 200,000 finished orders, written by SQL into the real schema.

One order is taken as a pattern, a real one that the daemon wrote, and its rows are
copied with other numbers: order, unit, cycle, result and both order messages, with all
their details, as if the retention had pruned nothing. Counters and lanes are moved along,
so that the daemon finds a journal that it could have written itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from controller.model import Order, OrderKey, OrderLine

ORDERS = 200_000
FIRST_ORDER_ID = 10_000_000
SPACING_S = 170.0
"""200,000 orders in 394 days: inside the retention of 400, the most that is ever kept."""

Rows = dict[str, list[dict[str, Any]]]


def order_of(number: int, product_id: int, issued_at: int) -> Order:
    """The command that the grown journal remembers under this number, 0..ORDERS-1."""
    order_id = FIRST_ORDER_ID + number
    line = OrderLine(product_id, 1)
    return Order(OrderKey(order_id), f"{order_id:020d}", issued_at, issued_at + 90, (line,))


def grow(database: Path, product_id: int, orders: int = ORDERS) -> None:
    """Add so many orders to a journal that is closed and holds exactly one, of one unit."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.row_factory = sqlite3.Row
    for pragma in ("synchronous = OFF", "cache_size = -200000", "foreign_keys = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN IMMEDIATE")
    pattern = _pattern(connection)
    for table, rows in _copies(pattern, product_id, orders).items():
        first = next(rows)
        names = ", ".join(first)
        marks = ", ".join("?" * len(first))
        sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608  names of our schema
        connection.execute(sql, tuple(first.values()))
        connection.executemany(sql, (tuple(row.values()) for row in rows))
    _move_along(connection, pattern, orders)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def _pattern(connection: sqlite3.Connection) -> Rows:
    tables = ("orders", "units", "cycles", "outbox")
    rows = {
        table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]  # noqa: S608
        for table in tables
    }
    assert len(rows["orders"]) == 1, "the pattern journal holds one order"  # noqa: S101
    return rows


def _copies(pattern: Rows, product_id: int, orders: int) -> Mapping[str, Iterator[dict[str, Any]]]:
    """Table -> its new rows. Row numbers, seq and cycle numbers go on from the pattern's."""
    (order,) = pattern["orders"]
    (unit,) = pattern["units"]
    (cycle,) = pattern["cycles"]
    newest = order["accepted_at"]

    def issued(number: int) -> int:
        return int(newest - (orders - number) * SPACING_S)

    def order_rows() -> Iterator[dict[str, Any]]:
        for number in range(orders):
            known = order_of(number, product_id, issued(number))
            at = float(issued(number))
            yield {
                **order,
                "id": order["id"] + 1 + number,
                "order_id": known.key.order_id,
                "trade_id": known.trade_id,
                "content": known.content_hash(),
                "issued_at": known.issued_at,
                "expires_at": known.expires_at,
                "accepted_at": at,
                "finished_at": at + 5,
            }

    def unit_rows() -> Iterator[dict[str, Any]]:
        for number in range(orders):
            at = float(issued(number))
            row = order["id"] + 1 + number
            yield {**unit, "order_row": row, "started_at": at, "finished_at": at + 5}

    def cycle_rows() -> Iterator[dict[str, Any]]:
        for number in range(orders):
            at = float(issued(number))
            changed = {"n": cycle["n"] + 1 + number, "order_row": order["id"] + 1 + number}
            yield {**cycle, **changed, "opened_at": at, "closed_at": at + 5}

    def outbox_rows() -> Iterator[dict[str, Any]]:
        templates = [(row, json.loads(row["payload"])) for row in pattern["outbox"]]
        row_number, seq = templates[-1][0]["row"], templates[-1][0]["seq"]
        for number in range(orders):
            order_id = FIRST_ORDER_ID + number
            at = float(issued(number))
            for row, body in templates:
                row_number, seq = row_number + 1, seq + 1
                told = {**body, "order_id": order_id, "trade_id": f"{order_id:020d}", "seq": seq}
                payload = json.dumps(told, separators=(",", ":")).encode()
                changed = {"row": row_number, "seq": seq, "order_row": order["id"] + 1 + number}
                yield {**row, **changed, "payload": payload, "at": at, "sent_at": at + 5}

    return {
        "orders": order_rows(),
        "units": unit_rows(),
        "cycles": cycle_rows(),
        "outbox": outbox_rows(),
    }


def _move_along(connection: sqlite3.Connection, pattern: Rows, orders: int) -> None:
    messages = len(pattern["outbox"]) * orders
    connection.execute(
        "UPDATE journal SET seq = seq + ?, cycle = cycle + ?, accepted = accepted + ?,"
        " delivered = delivered + ?",
        (messages, orders, orders, orders),
    )
    connection.execute(
        "UPDATE lanes SET gone = gone + ?, loaded = loaded + ?, cycles = cycles + ?"
        " WHERE channel = ?",
        (orders, orders, orders, pattern["units"][0]["channel"]),
    )
