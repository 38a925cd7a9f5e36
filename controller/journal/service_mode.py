"""Service mode: whether a technician has the machine, and since when.

It is one row, so it holds over every crash and restart. Each change has its row in
`audit` and its event in the same transaction. While the row is there no order is
accepted (`orders.accept`) and no customer's cycle opened (`cycles.open_cycle`),
whatever the heart knew when it asked.
"""

from __future__ import annotations

from controller.dispensing.interfaces import ServiceMode
from controller.journal.events import raise_event
from controller.journal.technician import note
from controller.journal.transaction import Transaction, storable


def current(tx: Transaction) -> ServiceMode | None:
    row = tx.one("SELECT who, since FROM service_mode")
    return None if row is None else ServiceMode(row["who"], row["since"])


def turn_on(tx: Transaction, who: str) -> ServiceMode:
    """Asked for again it goes on since it began, and the newest technician has it."""
    was = current(tx)
    tx.run(
        "INSERT INTO service_mode (id, who, since) VALUES (1,?,?)"
        " ON CONFLICT (id) DO UPDATE SET who = excluded.who",
        storable(who), tx.at,
    )  # fmt: skip
    note(tx, who, "service_on", "", {"was": was.who if was else ""})
    if was is None:
        raise_event(tx, "service_mode", {"on": True, "who": storable(who), "why": "asked"})
    return ServiceMode(storable(who), was.since if was else tx.at)


def turn_off(tx: Transaction, who: str, why: str) -> None:
    """`why`: `asked`, or `idle` where it left by itself. Once it is off, only the audit grows."""
    was = current(tx)
    tx.run("DELETE FROM service_mode")
    note(tx, who, "service_off", "", {"was": was.who if was else "", "why": why})
    if was is not None:
        raise_event(tx, "service_mode", {"on": False, "who": storable(who), "why": why})
