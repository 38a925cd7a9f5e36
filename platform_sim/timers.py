"""What happens because time passed: one look a second, in one transaction.

Each rule is a query for what is due by now, so that a platform that was away does at its start what
it missed meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time

from platform_sim import booking, deliveries, orders
from platform_sim.deliveries import Terms
from platform_sim.settings import Rules
from platform_sim.store import Store

log = logging.getLogger("platform.timers")

EVERY_S = 1.0
"""The shortest time that a rule knows is 15 s."""
AT_ONCE = 200
"""Of each kind in one transaction; the rest a second later."""
DAY_S = 86_400.0


async def run(store: Store, rules: Rules) -> None:
    """For ever. What cannot be written now is due again a second later."""
    while True:
        try:
            await store.write(lambda tx: tick(tx, Terms(rules, time.time())))
        except sqlite3.Error as error:
            log.warning("the rules of time wait: %s", error)
        await asyncio.sleep(EVERY_S)


def tick(tx: sqlite3.Connection, terms: Terms) -> None:
    _void_unpaid(tx, terms)
    _waited(tx, terms)  # before an end below lets the next one out
    _backstop(tx, terms)
    _ceilings(tx, terms)
    booking.ask_for_gaps(tx, terms, AT_ONCE)
    _forget(tx, terms)


def _void_unpaid(tx: sqlite3.Connection, terms: Terms) -> None:
    for row in orders.overdue(tx, terms.now - terms.rules.unpaid_s, AT_ONCE):
        orders.make_void(tx, row["order_id"])
        deliveries.close_order(tx, terms, row)
        for record in orders.records(tx, row["order_id"]):
            body = {
                "method": "device.delivery.response",
                "order_id": row["order_id"],
                "record_id": record["record_id"],
                "deliver_status": "0",
                "floor_status": "1",
                "error_msg": "Order Expired",
                "fail_reason": "Order Expired",
                "quantity": record["quantity"],
            }
            orders.queue_callback(tx, row["order_id"], row["notify_url"], body, now=terms.now)


def _backstop(tx: sqlite3.Connection, terms: Terms) -> None:
    due = tx.execute(
        "SELECT * FROM delivery WHERE state = 'sent' AND sent_at <= ? ORDER BY sent_at LIMIT ?",
        (terms.now - terms.rules.backstop_s, AT_ONCE),
    ).fetchall()
    for row in due:
        deliveries.time_out(tx, terms, row)


def _waited(tx: sqlite3.Connection, terms: Terms) -> None:
    """Asked for so long ago that whoever stood there has gone: it never went out, nothing moved."""
    due = tx.execute(
        "SELECT * FROM delivery WHERE state = 'queued' AND asked_at <= ? LIMIT ?",
        (terms.now - terms.rules.backstop_s, AT_ONCE),
    ).fetchall()
    for row in due:
        deliveries.give_up(tx, terms, row)


def _ceilings(tx: sqlite3.Connection, terms: Terms) -> None:
    due = tx.execute(
        "SELECT * FROM delivery WHERE lock_until <= ? LIMIT ?", (terms.now, AT_ONCE)
    ).fetchall()
    for row in due:
        deliveries.drop_lock(tx, terms, row)


def _forget(tx: sqlite3.Connection, terms: Terms) -> None:
    """Commands that no machine would obey any more, and what is older than the retention."""
    tx.execute("DELETE FROM command WHERE drop_at < ?", (terms.now,))
    before = terms.now - terms.rules.retention_days * DAY_S
    old = tx.execute(
        "SELECT order_id FROM purchase WHERE created_at < ? AND NOT EXISTS (SELECT 1 FROM delivery"
        " WHERE delivery.order_id = purchase.order_id AND state IN ('queued', 'sent'))"
        " ORDER BY created_at LIMIT ?",
        (before, AT_ONCE),
    ).fetchall()
    tx.execute(
        "DELETE FROM unit WHERE delivery_id IN (SELECT delivery_id FROM delivery"
        " WHERE order_id IS NULL AND asked_at < ? AND state NOT IN ('queued', 'sent'))",
        (before,),
    )
    tx.execute(
        "DELETE FROM delivery WHERE order_id IS NULL AND asked_at < ?"
        " AND state NOT IN ('queued', 'sent')",
        (before,),
    )
    tx.execute("DELETE FROM callback WHERE order_id < 0 AND made_at < ?", (before,))
    for row in old:
        key = (row["order_id"],)
        tx.execute(
            "DELETE FROM unit WHERE delivery_id IN"
            " (SELECT delivery_id FROM delivery WHERE order_id = ?)",
            key,
        )
        for table in ("delivery", "record", "callback", "purchase"):
            tx.execute(f"DELETE FROM {table} WHERE order_id = ?", key)  # noqa: S608
