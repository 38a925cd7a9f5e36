"""What the platform asks its database often must not walk a table that grows with its sales."""

from __future__ import annotations

import sqlite3
import time

from tests.platform.conftest import Platform

GROW = {"purchase", "record", "delivery", "unit", "callback", "journal", "ahead"}
BOUNDED = {"delivery_lock"}
"""Partial indexes whose rows are under way now: as many as machines dispense."""


async def test_no_statement_walks_what_grows(platform: Platform) -> None:
    """Two sales, one of them cancelled, a jam, stock, a test, a gap; and the rules of time."""
    said: set[str] = set()
    merchant = platform.merchant
    await platform.store.read(lambda tx: tx.set_trace_callback(said.add))
    order_id, (record,) = await merchant.paid_order("plan-1", (121, 2))
    for outcome, reason in (("delivered", None), ("not_delivered", "jammed")):
        await merchant.deliver(order_id, record)
        (command,) = await platform.commands()
        await platform.order_word(command, "accepted", None, "unknown")
        await platform.result(command, 1, outcome, reason)
        await platform.order_word(command, "finished", None, "yes")
    await platform.says("inventory", lanes=[{"channel": "A1", "stock": 6, "health": "ok"}])
    platform.seq += 1  # a message that is missing
    cancelled, (record,) = await merchant.paid_order("plan-2", (221, 2))
    await merchant.deliver(cancelled, record)
    (command,) = await platform.commands()
    await platform.order_word(command, "accepted", None, "unknown")
    await merchant.update(cancelled, 3)
    await merchant.signed(
        "/deliveries/debug",
        method="device.delivery.put",
        channel_name="B1",
        notify_url=merchant.notify_url,
    )
    await platform.callbacks()
    callback = (await platform.sql("SELECT max(id) AS id FROM callback"))[0]["id"]
    await platform.books.not_told(callback, "HTTP 500", time.time())
    await platform.after(5)
    await platform.after(2000)
    await platform.store.read(lambda tx: tx.set_trace_callback(None))

    def walked(tx: sqlite3.Connection) -> set[str]:
        return {
            f"{plan[3]}: {sql}"
            for sql in said
            if sql.split()[0] in {"SELECT", "UPDATE", "INSERT", "DELETE"}
            for plan in tx.execute(f"EXPLAIN QUERY PLAN {sql}")
            if plan[3].startswith("SCAN") and plan[3].split()[1] in GROW
            if not BOUNDED & set(plan[3].split())
        }

    assert len(said) > 100
    found = await platform.store.read(walked)
    assert not found, "\n".join(sorted(found))
