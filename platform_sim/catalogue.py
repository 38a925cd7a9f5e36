"""Machines and what they hold: from the settings into the store, and as the API lists them."""

from __future__ import annotations

import sqlite3
from typing import Any

from platform_sim import codes, orders
from platform_sim.codes import ApiError
from platform_sim.settings import MachinePlan, Settings

PER_PAGE = 10
MOST_PER_PAGE = 100
LONGEST_NAME = 10
"""Characters of a channel's name; of five thousand digits Python makes no number."""


def take_over(tx: sqlite3.Connection, settings: Settings, *, now: float) -> None:
    """The settings say what there is; what happened to it (stock, state) the store keeps."""
    # One that the settings name no more sells nothing: as one that changes its owner.
    tx.execute("UPDATE machine SET operating = 'TRANSFER'")
    for plan in settings.machines:
        tx.execute(
            "INSERT INTO machine (machine_no, appid, name, address, operating, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (machine_no) DO UPDATE SET"
            " appid = excluded.appid, name = excluded.name, address = excluded.address,"
            " operating = excluded.operating",
            (plan.machine_no, plan.appid, plan.name, plan.address, plan.operating, now),
        )
        for cabinet in plan.cabinets:
            tx.execute(
                "INSERT INTO cabinet VALUES (?, ?, ?, ?) ON CONFLICT (machine_no, name)"
                " DO UPDATE SET kind = excluded.kind, light_eye = excluded.light_eye",
                (plan.machine_no, cabinet.name, cabinet.kind, cabinet.light_eye),
            )
        _take_products(tx, plan)


def _take_products(tx: sqlite3.Connection, plan: MachinePlan) -> None:
    tx.execute("UPDATE product SET on_sale = 0 WHERE machine_no = ?", (plan.machine_no,))
    addresses = {cabinet.name: at for at, cabinet in enumerate(plan.cabinets, start=1)}
    for product in plan.products:
        motor = int(product.channel[1:]) - 1
        tx.execute(
            "INSERT INTO product (machine_no, product_id, title, price, category_id, cabinet,"
            " channel, addr, code, x, y, capacity, stock, on_sale)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (machine_no, product_id) DO UPDATE SET title = excluded.title,"
            " price = excluded.price, category_id = excluded.category_id,"
            " cabinet = excluded.cabinet, channel = excluded.channel, addr = excluded.addr,"
            " code = excluded.code, x = excluded.x, y = excluded.y, capacity = excluded.capacity,"
            " stock = min(stock, excluded.capacity), on_sale = excluded.on_sale",
            (plan.machine_no, product.product_id, product.title, product.price,
             product.category_id, product.channel[0], product.channel,
             addresses[product.channel[0]], f"{motor:03d}", str(motor // 10), str(motor % 10),
             product.capacity, product.stock, product.on_sale),
        )  # fmt: skip


# ---------------------------------------------------------------------- as the API lists them


def machines(tx: sqlite3.Connection, appid: str) -> list[dict[str, Any]]:
    rows = tx.execute("SELECT * FROM machine WHERE appid = ? ORDER BY machine_no", (appid,))
    return [_machine(row) for row in rows]


def machine_detail(tx: sqlite3.Connection, appid: str, machine_no: str) -> dict[str, Any]:
    row = orders.machine(tx, appid, machine_no)
    names = [
        cabinet["name"]
        for cabinet in tx.execute(
            "SELECT name FROM cabinet WHERE machine_no = ? ORDER BY name", (machine_no,)
        )
    ]
    categories = tx.execute(
        "SELECT DISTINCT category_id FROM product WHERE machine_no = ? ORDER BY 1", (machine_no,)
    )
    return _machine(row) | {
        "model": {"id": 1, "cabinet_names": names},
        "machine_type": 1,
        "categories": [{"id": c[0], "title": f"category {c[0]}"} for c in categories],
        "currency": {"id": 1, "name": "人民币", "code": "CNY", "symbol": "¥"},
    }


def _machine(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "machine_name": row["name"],
        "machine_no": row["machine_no"],
        "is_online": bool(row["online"]),
        "status": row["operating"] == "OPERATIONAL",
        "address": row["address"],
        "created_at": int(row["created_at"]),
    }


def products(
    tx: sqlite3.Connection,
    appid: str,
    machine_no: str,
    *,
    page: int,
    per_page: int,
    category_id: int,
    cabinet: str,
    addr: int | None,
    everything: bool,
) -> list[dict[str, Any]]:
    """One page, by motor number. By `addr` or by `cabinet`, not both: the caller has seen to it."""
    orders.machine(tx, appid, machine_no)
    rows = tx.execute(
        "SELECT * FROM product WHERE machine_no = ? AND (? OR (on_sale AND stock > 0))"
        " AND (? = 0 OR category_id = ?) AND (? = '' OR cabinet = ?) AND (? IS NULL OR addr = ?)"
        " ORDER BY addr, code LIMIT ? OFFSET ?",
        (machine_no, everything, category_id, category_id, cabinet, cabinet, addr, addr, per_page,
         (page - 1) * per_page),
    )  # fmt: skip
    return [_product(row) for row in rows]


def _product(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["product_id"],
        "category": {"id": row["category_id"], "title": f"category {row['category_id']}"},
        "good": {
            "name": row["title"] or f"product {row['product_id']}",
            "price": row["price"],
            "original_price": row["price"],
        },
        "channel": _channel(row),
        "current_inventory": row["stock"],
        "inventory": row["capacity"],
    }


def _channel(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "name": row["channel"],
        "cabinet_name": row["cabinet"],
        "code": row["code"],
        "x": row["x"],
        "y": row["y"],
        "addr": row["addr"],
    }


def floors(tx: sqlite3.Connection, appid: str, machine_no: str) -> list[dict[str, Any]]:
    """Each channel with its state."""
    orders.machine(tx, appid, machine_no)
    rows = tx.execute(
        "SELECT * FROM product WHERE machine_no = ? ORDER BY addr, code", (machine_no,)
    )
    return [
        _channel(row)
        | {
            "product_id": row["product_id"],
            "floor_status": row["floor_status"],
            "current_inventory": row["stock"],
            "inventory": row["capacity"],
        }
        for row in rows
    ]


def categories(tx: sqlite3.Connection, appid: str, machine_no: str) -> list[dict[str, Any]]:
    orders.machine(tx, appid, machine_no)
    rows = tx.execute(
        "SELECT DISTINCT category_id FROM product WHERE machine_no = ? ORDER BY 1", (machine_no,)
    )
    return [{"id": row[0], "title": f"category {row[0]}"} for row in rows]


def channel_of(tx: sqlite3.Connection, machine_no: str, name: str) -> str:
    """`A01` is `A1`. Refused: no such channel."""
    letter, digits = name[:1].upper(), name[1:]
    number = len(digits) < LONGEST_NAME and digits.isascii() and digits.isdigit()
    plain = f"{letter}{int(digits)}" if number else ""
    row = tx.execute(
        "SELECT channel FROM product WHERE machine_no = ? AND channel = ?", (machine_no, plain)
    ).fetchone()
    if row is None:
        raise ApiError(codes.NO_RECORD, f"channel {name[:10]!r} of machine {machine_no}")
    return str(row["channel"])
