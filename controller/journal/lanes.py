"""Lanes and cabinets: stock, reservations, health, and who may sell.

A reservation is not stored: every undecided unit, and every open test vend,
holds one item of its lane. So it cannot outlive its order (P10).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from controller.dispensing.interfaces import LaneState
from controller.errors import Refused
from controller.journal.events import raise_event
from controller.journal.tally import Tally, booked, more_dropped, rebooked
from controller.journal.transaction import Transaction
from controller.model import Cabinet, Finding, Lane, LaneHealth, Outcome, Reason

STATE = (
    "SELECT channel, number, product_id, capacity, cabinet, initial_stock, stock, gone,"
    " uncertain, adjusted, loaded, health, health_reason, failures, cycles, last_cycle_at"
    " FROM lanes"
)


@lru_cache(maxsize=1_024)
def _lane(*settings: Any) -> Lane:
    """The same settings are the same value: an order looks at every lane of the machine."""
    return Lane(*settings)


def lane_state(row: sqlite3.Row, reserved: int) -> LaneState:
    """From a row of STATE, read by place: names would take half of an order's time."""
    *settings, stock, gone, uncertain, adjusted, loaded = row[:11]
    stored, reason, failures, cycles, last_cycle_at = row[11:]
    health = HEALTH[stored]
    if uncertain > 0 and health is LaneHealth.OK:
        health = LaneHealth.UNRESOLVED
    return LaneState(
        _lane(*settings), stock, reserved, gone, uncertain, adjusted, loaded,
        health, reason, failures, cycles, last_cycle_at,
    )  # fmt: skip


HEALTH = {health.value: health for health in LaneHealth}


def lane_states(tx: Transaction) -> Sequence[LaneState]:
    """Every lane of the settings, in the order of cabinet and the board's number."""
    reserved: dict[str, int] = {}
    for channel, count in tx.all(
        "SELECT channel, COUNT(*) FROM units WHERE outcome IS NULL GROUP BY channel"
    ) + tx.all(
        "SELECT channel, COUNT(*) FROM cycles INDEXED BY cycles_open"
        " WHERE closed_at IS NULL AND test_id IS NOT NULL GROUP BY channel"
    ):
        reserved[channel] = reserved.get(channel, 0) + count
    rows = tx.all(f"{STATE} WHERE active = 1 ORDER BY cabinet, number")
    return [lane_state(row, reserved.get(row["channel"], 0)) for row in rows]


def find(tx: Transaction, channel: str) -> sqlite3.Row:
    """Raises Refused (`unknown_channel`); lanes that the settings dropped are still known."""
    row = tx.one("SELECT * FROM lanes WHERE channel = ?", channel)
    if row is None:
        raise Refused("unknown_channel", "no lane {lane!r}: see `vendctl lanes`", lane=channel[:20])
    return row


def state_of(tx: Transaction, channel: str) -> LaneState:
    find(tx, channel)
    row = tx.all(f"{STATE} WHERE channel = ?", channel)[0]
    found = tx.one(
        "SELECT (SELECT COUNT(*) FROM units WHERE channel = ?1 AND outcome IS NULL)"
        " + (SELECT COUNT(*) FROM cycles INDEXED BY cycles_open"
        "    WHERE channel = ?1 AND closed_at IS NULL AND test_id IS NOT NULL)",
        channel,
    )
    return lane_state(row, 0 if found is None else found[0])


def tally_of(row: sqlite3.Row) -> Tally:
    return Tally(row["stock"], row["gone"], row["uncertain"], row["adjusted"], row["loaded"])


def write_tally(tx: Transaction, channel: str, tally: Tally) -> None:
    tx.run(
        "UPDATE lanes SET stock = ?, gone = ?, uncertain = ?, adjusted = ?, loaded = ?"
        " WHERE channel = ?",
        tally.stock,
        tally.gone,
        tally.uncertain,
        tally.adjusted,
        tally.loaded,
        channel,
    )


# ------------------------------------------------------------------ what a cycle does to a lane


def book_cycle(tx: Transaction, channel: str, finding: Finding, failure_limit: int) -> None:
    """Stock, counters and health of the lane whose cycle just ended."""
    row = find(tx, channel)
    write_tally(tx, channel, booked(tally_of(row), finding.outcome, finding.drops))
    tx.run(
        "UPDATE lanes SET cycles = cycles + 1, last_cycle_at = ? WHERE channel = ?",
        tx.at,
        channel,
    )
    judge(tx, row, finding, failure_limit)


def rebook_cycle(tx: Transaction, cycle: sqlite3.Row, old: Finding, new: Finding) -> None:
    """A later fact replaced a cycle's outcome; failures in a row suspend only at a closing."""
    row = find(tx, cycle["channel"])
    counted = cycle["n"] <= row["counted_n"]
    tally = rebooked(tally_of(row), old.outcome, new.outcome, new.drops, counted=counted)
    write_tally(tx, row["channel"], tally)
    judge(tx, row, new, failure_limit=None)


def book_further_drops(tx: Transaction, cycle: sqlite3.Row, finding: Finding, more: int) -> None:
    """The eye saw `more` items than the delivered cycle was known to have given."""
    row = find(tx, cycle["channel"])
    counted = cycle["n"] <= row["counted_n"]
    write_tally(tx, row["channel"], more_dropped(tally_of(row), more, counted=counted))
    judge(tx, row, finding, failure_limit=None)


def judge(tx: Transaction, row: sqlite3.Row, finding: Finding, failure_limit: int | None) -> None:
    """Failures in a row, suspension, and a cabinet whose motor may still turn."""
    channel = row["channel"]
    failures = row["failures"]
    if finding.outcome is Outcome.DELIVERED:
        failures = 0
    elif finding.counts_as_failure:
        failures += 1
    if failures != row["failures"]:
        tx.run("UPDATE lanes SET failures = ? WHERE channel = ?", failures, channel)
    if finding.reason is Reason.JAMMED:
        raise_event(tx, "jam", {"channel": channel, "outcome": finding.outcome.value})
    if finding.outcome is Outcome.DELIVERED and finding.drops > 1:
        raise_event(tx, "double_drop", {"channel": channel, "drops": finding.drops})
        suspend(tx, channel, "double_drop")
    elif finding.suspend_lane:
        suspend(tx, channel, str(finding.reason or "board"))
    elif failure_limit is not None and failures >= failure_limit > 0:
        suspend(tx, channel, "failures")
    if finding.cabinet_fault:
        stop_cabinet(tx, row["cabinet"], "motor_may_turn", "daemon")


def suspend(tx: Transaction, channel: str, reason: str) -> None:
    """Durable until a technician enables the lane; a disabled lane stays disabled."""
    changed = tx.run(
        "UPDATE lanes SET health = 'suspended', health_reason = ? WHERE channel = ?"
        " AND health = 'ok'",
        reason,
        channel,
    )
    if changed:
        raise_event(tx, "lane_suspended", {"channel": channel, "reason": reason})


# ------------------------------------------------------------------ cabinets


def stop_cabinet(tx: Transaction, cabinet: str, reason: str, who: str) -> None:
    """It waits for a technician from now on; the newest reason is the one that is shown."""
    known = tx.one("SELECT reason FROM cabinets WHERE name = ?", cabinet)
    tx.run(
        "INSERT INTO cabinets (name, reason, who, at) VALUES (?,?,?,?)"
        " ON CONFLICT (name) DO UPDATE SET reason = excluded.reason, who = excluded.who,"
        " at = excluded.at",
        cabinet, reason, who, tx.at,
    )  # fmt: skip
    if known is None or known["reason"] != reason:
        detail = {"cabinet": cabinet, "reason": reason, "who": who}
        raise_event(tx, "cabinet_stopped", detail)


def stopped_cabinets(tx: Transaction) -> dict[str, str]:
    return {row["name"]: row["reason"] for row in tx.all("SELECT name, reason FROM cabinets")}


def unconfirm(tx: Transaction) -> None:
    """P13: the memory was lost or is old; each lane wants a count before its cabinet sells."""
    tx.run("UPDATE lanes SET confirmed = 0")
    for row in tx.all("SELECT DISTINCT cabinet FROM lanes WHERE active = 1"):
        stop_cabinet(tx, row["cabinet"], "stock_unconfirmed", "daemon")


def sync_lanes(tx: Transaction, cabinets: Sequence[Cabinet]) -> None:
    """Make the lanes those of the settings. Stock is kept; a lane that goes is only inactive."""
    confirmed = 0 if tx.counters.unconfirmed else 1
    known = {row["channel"]: row for row in tx.all("SELECT * FROM lanes")}
    for cabinet in cabinets:
        for lane in cabinet.lanes:
            row = known.pop(lane.channel, None)
            if row is None:
                tx.run(
                    "INSERT INTO lanes (channel, cabinet, number, product_id, capacity,"
                    " initial_stock, stock, loaded, confirmed) VALUES (?,?,?,?,?,?,?,?,?)",
                    lane.channel, cabinet.name, lane.number, lane.product_id, lane.capacity,
                    lane.initial_stock, lane.initial_stock, lane.initial_stock, confirmed,
                )  # fmt: skip
                continue
            told = (cabinet.name, lane.number, lane.product_id, lane.capacity, lane.initial_stock)
            stored = tuple(
                row[name]
                for name in ("cabinet", "number", "product_id", "capacity", "initial_stock")
            )
            if told != stored or not row["active"]:
                tx.run(
                    "UPDATE lanes SET cabinet = ?, number = ?, product_id = ?, capacity = ?,"
                    " initial_stock = ?, active = 1 WHERE channel = ?",
                    *told,
                    lane.channel,
                )
    for channel in known:
        tx.run("UPDATE lanes SET active = 0 WHERE channel = ?", channel)
    if tx.counters.unconfirmed:
        unconfirm(tx)
        tx.set(unconfirmed=0)
