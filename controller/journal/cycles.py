"""Cycles: opened before the drive frame, closed with everything that follows from them (P7).

A cycle id is the journal's birth (or the board's own high half after a
collision) in the high 32 bits and a counter over the whole journal in the low
32: ids of one board only grow, over rebirths and restored copies too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller.dispensing.interfaces import (
    ClosedUnit,
    CycleEnd,
    CycleIntent,
    OpenCycle,
    Ticket,
)
from controller.errors import InServiceMode, Refused, UnitDecided
from controller.journal import begun_tests, findings, lanes, service_mode, units
from controller.journal.boards import high_half, raise_high_half
from controller.journal.events import raise_event
from controller.journal.transaction import Transaction, storable, to_json
from controller.journal.undo_tests import note_test
from controller.model import (
    Finding,
    OrderKey,
    OrderStatus,
    Outcome,
    UnitRef,
    may_replace,
)

LOW = 1 << 32

TRACE_STEPS = 200
"""Steps kept of one cycle: its first and its last hundred tell what happened."""

COLUMNS = "SELECT cycles.*, orders.order_id, orders.delivery_id FROM cycles"
ORDER = "LEFT JOIN orders ON orders.id = cycles.order_row"
SELECT = f"{COLUMNS} {ORDER}"


def _open_cycle(row: sqlite3.Row) -> OpenCycle:
    unit = None
    if row["order_row"] is not None:
        unit = UnitRef(OrderKey(row["order_id"], row["delivery_id"]), row["unit"])
    return OpenCycle(
        cycle_id=row["high"] * LOW + row["n"],
        unit=unit,
        test_id=row["test_id"],
        channel=row["channel"],
        board=row["board"],
        lane=row["lane"],
        ticket=json.loads(row["ticket"]),
        cycle_timeout_s=row["timeout_s"],
        boot=row["boot"],
        closed=row["closed_at"] is not None,
        opened_at=row["opened_at"],
        trace=json.loads(row["trace"]) if row["trace"] else (),
        finding=findings.decode(row["finding"]) if row["finding"] else None,
    )


def find(tx: Transaction, cycle_id: int) -> sqlite3.Row | None:
    """None for an id that is not ours, whatever a board says (its ids have 64 bits)."""
    high, n = divmod(cycle_id, LOW)
    row = tx.one(f"{SELECT} WHERE n = ?", n)
    return row if row is not None and row["high"] == high else None


def known(tx: Transaction, cycle_id: int) -> sqlite3.Row:
    row = find(tx, cycle_id)
    if row is None:
        raise Refused("unknown_cycle", "no cycle {cycle} in the journal", cycle=cycle_id)
    return row


def _still_open(tx: Transaction, cycle_id: int) -> sqlite3.Row:
    row = known(tx, cycle_id)
    if row["closed_at"] is not None:
        raise Refused("cycle_closed", "cycle {cycle} has its outcome already", cycle=cycle_id)
    return row


def cycle(tx: Transaction, cycle_id: int) -> OpenCycle | None:
    row = find(tx, cycle_id)
    return None if row is None else _open_cycle(row)


def open_cycles(tx: Transaction) -> Sequence[OpenCycle]:
    """Without outcome, or with a quarantine that was not lifted; oldest first."""
    rows = tx.all(f"{COLUMNS} INDEXED BY cycles_open {ORDER} WHERE closed_at IS NULL") + tx.all(
        f"{COLUMNS} INDEXED BY cycles_quarantined {ORDER}"
        " WHERE quarantined = 1 AND closed_at IS NOT NULL"
    )
    return sorted((_open_cycle(row) for row in rows), key=lambda found: found.cycle_id % LOW)


def newest_cycle(tx: Transaction, board: str) -> OpenCycle | None:
    row = tx.one(f"{SELECT} WHERE board = ? ORDER BY n DESC LIMIT 1", board)
    return None if row is None else _open_cycle(row)


def last_ticket(tx: Transaction, board: str) -> Ticket | None:
    row = tx.one("SELECT ticket FROM cycles WHERE board = ? ORDER BY n DESC LIMIT 1", board)
    return None if row is None else dict(json.loads(row["ticket"]))


# ------------------------------------------------------------------ before the motor


def open_cycle(tx: Transaction, intent: CycleIntent) -> OpenCycle:
    """Raises UnitDecided; InServiceMode for a customer's unit while a technician has the machine;
    Refused `board_busy` where the board has an open cycle already."""
    high = high_half(tx, intent.board)
    lanes.find(tx, intent.channel)
    if tx.one(
        "SELECT 1 FROM cycles WHERE board = ? AND closed_at IS NULL", intent.board
    ) is not None:  # fmt: skip
        raise Refused("board_busy", "board {board} has an open cycle already", board=intent.board)
    if intent.unit is not None and service_mode.current(tx) is not None:
        raise InServiceMode
    order_row = _begin_unit(tx, intent) if intent.unit is not None else None
    n = tx.counters.cycle + 1
    tx.set(cycle=n)
    tx.run(
        "INSERT INTO cycles (n, high, order_row, unit, test_id, channel, board, lane, boot,"
        " ticket, timeout_s, opened_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        n, high, order_row, intent.unit.number if intent.unit else None, intent.test_id,
        intent.channel, intent.board, intent.lane, tx.boot, to_json(dict(intent.ticket)),
        intent.cycle_timeout_s, tx.at,
    )  # fmt: skip
    if intent.test_id is not None and intent.who:
        note_test(tx, intent.channel, intent.test_id, intent.who)
    return OpenCycle(
        cycle_id=high * LOW + n,
        unit=intent.unit,
        test_id=intent.test_id,
        channel=intent.channel,
        board=intent.board,
        lane=intent.lane,
        ticket=intent.ticket,
        cycle_timeout_s=intent.cycle_timeout_s,
        boot=tx.boot,
        closed=False,
        opened_at=tx.at,
    )


def _begin_unit(tx: Transaction, intent: CycleIntent) -> int:
    """The unit runs now, on the intent's lane. Its order's row."""
    assert intent.unit is not None  # noqa: S101 - the caller's condition, for the type checker
    order, unit = units.unit_by_ref(tx, intent.unit)
    if unit["outcome"] is not None:
        raise UnitDecided(f"unit {intent.unit} is {unit['outcome']} already")
    if unit["running"]:
        raise Refused("cycle_open", "unit {unit} has an open cycle already", unit=intent.unit)
    tx.run(
        "UPDATE units SET running = 1, cycles = cycles + 1, channel = ?,"
        " started_at = coalesce(started_at, ?) WHERE order_row = ? AND number = ?",
        intent.channel, tx.at, order["id"], unit["number"],
    )  # fmt: skip
    return int(order["id"])


def renumber(tx: Transaction, cycle_id: int, board: str) -> OpenCycle:
    """The board gets its own high half, and the open cycle a new id from it (VBP rule 1)."""
    row = _still_open(tx, cycle_id)
    high = raise_high_half(tx, board, above=max(row["high"], high_half(tx, board)))
    tx.run("UPDATE cycles SET high = ? WHERE n = ?", high, row["n"])
    return _open_cycle(known(tx, high * LOW + row["n"]))


def withdraw_cycle(tx: Transaction, cycle_id: int, *, written: bool) -> None:
    """As if never opened; its number is not used again. `written`: its frame left, and the
    board refused it before motion."""
    row = _still_open(tx, cycle_id)
    tx.run("DELETE FROM cycles WHERE n = ?", row["n"])
    if row["order_row"] is not None:
        if written:
            tx.run("UPDATE orders SET started = 1 WHERE id = ?", row["order_row"])
        tx.run(
            "UPDATE units SET running = 0, cycles = cycles - 1,"
            " started_at = CASE WHEN cycles > 1 THEN started_at END"
            " WHERE order_row = ? AND number = ?",
            row["order_row"],
            row["unit"],
        )
        fell = _cycle_that_fell(tx, row)
        if fell is not None:
            _decide(tx, row, fell["channel"], findings.decode(fell["finding"]))


# ------------------------------------------------------------------ after it


def close_cycle(tx: Transaction, cycle_id: int, end: CycleEnd) -> ClosedUnit:
    """Outcome, trace, stock, lane health, the unit's outcome and its messages."""
    row = _still_open(tx, cycle_id)
    finding = end.finding
    tx.run(
        "UPDATE cycles SET closed_at = ?, outcome = ?, finding = ?, trace = ?, quarantined = ?"
        " WHERE n = ?",
        tx.at, finding.outcome.value, findings.encode(finding), to_json(_shortened(end.trace)),
        int(end.quarantined), row["n"],
    )  # fmt: skip
    lanes.book_cycle(tx, row["channel"], finding, end.failure_limit)
    if row["order_row"] is None:
        begun_tests.tell(tx, row["test_id"], row["channel"], finding, cycle_id)
        lane = lanes.state_of(tx, row["channel"])
        return ClosedUnit(None, finding.outcome, order_finished=False, lane=lane)
    finished, outcome = _unit_after(tx, row, end)
    ref = UnitRef(OrderKey(row["order_id"], row["delivery_id"]), row["unit"])
    return ClosedUnit(ref, outcome, finished, lanes.state_of(tx, row["channel"]))


def _unit_after(tx: Transaction, row: sqlite3.Row, end: CycleEnd) -> tuple[bool, Outcome]:
    """P2: only a certain `not_delivered` lets a unit go on waiting.

    An earlier cycle of the unit that turned out delivered meanwhile decides it.
    """
    order_row, number = row["order_row"], row["unit"]
    fell = _cycle_that_fell(tx, row)
    finding = end.finding if fell is None else findings.decode(fell["finding"])
    channel = row["channel"] if fell is None else fell["channel"]
    if not end.final and finding.outcome is Outcome.NOT_DELIVERED:
        tx.run("UPDATE units SET running = 0 WHERE order_row = ? AND number = ?", order_row, number)
        return False, finding.outcome
    return _decide(tx, row, channel, finding), finding.outcome


def _cycle_that_fell(tx: Transaction, row: sqlite3.Row) -> sqlite3.Row | None:
    """The first cycle of the same unit that is known to have delivered, however late."""
    return tx.one(
        "SELECT channel, finding FROM cycles WHERE order_row = ? AND unit = ?"
        " AND outcome = 'delivered' ORDER BY n LIMIT 1",
        row["order_row"],
        row["unit"],
    )


def _decide(tx: Transaction, row: sqlite3.Row, channel: str, finding: Finding) -> bool:
    """The outcome of the cycle's unit; whether its order is finished by it."""
    finished = units.decide(tx, row["order_row"], row["unit"], channel, finding)
    if finished:
        units.tell_order(tx, row["order_row"], OrderStatus.FINISHED)
    return finished


def finish_unit(tx: Transaction, ref: UnitRef, finding: Finding) -> ClosedUnit:
    """An outcome without a (further) cycle: always `not_delivered`. Raises UnitDecided."""
    if finding.outcome is not Outcome.NOT_DELIVERED:
        raise Refused(
            "cycle_needed",
            "unit {unit}: only a cycle can end {outcome}",
            unit=ref,
            outcome=finding.outcome,
        )
    order, unit = units.unit_by_ref(tx, ref)
    if unit["outcome"] is not None:
        raise UnitDecided(f"unit {ref} is {unit['outcome']} already")
    if unit["running"]:
        raise Refused("cycle_open", "unit {unit} has an open cycle: that decides it", unit=ref)
    if finding.suspend_lane and not unit["cycles"]:
        lanes.suspend(tx, unit["channel"], str(finding.reason or "board"))
    finished = units.decide(tx, order["id"], unit["number"], unit["channel"], finding)
    if finished:
        units.tell_order(tx, order["id"], OrderStatus.FINISHED)
    lane = lanes.state_of(tx, unit["channel"])
    return ClosedUnit(ref, finding.outcome, finished, lane)


def reassign(tx: Transaction, ref: UnitRef, channel: str, *, free: bool = False) -> bool:
    """Another lane for a waiting unit; its reservation goes with it. Raises UnitDecided.

    False: an item was wanted that is `free`, and nobody's reservation left one.
    """
    order, unit = units.unit_by_ref(tx, ref)
    if unit["outcome"] is not None:
        raise UnitDecided(f"unit {ref} is {unit['outcome']} already")
    if unit["running"]:
        raise Refused(
            "cycle_open",
            "unit {unit} has an open cycle on lane {lane}",
            unit=ref,
            lane=unit["channel"],
        )
    if free and lanes.state_of(tx, channel).free < 1:
        return False
    lanes.find(tx, channel)
    tx.run(
        "UPDATE units SET channel = ? WHERE order_row = ? AND number = ?",
        channel,
        order["id"],
        unit["number"],
    )
    return True


def lift_quarantine(tx: Transaction, cycle_id: int) -> None:
    row = known(tx, cycle_id)
    tx.run("UPDATE cycles SET quarantined = 0 WHERE n = ?", row["n"])


def revise(
    tx: Transaction, cycle_id: int, finding: Finding, raw: Mapping[str, Any], *, lift: bool
) -> bool:
    """A later fact about a closed cycle: True when it changed the outcome.

    The same outcome again changes nothing and is no event, but what the board says
    of it is kept, and further drops of a delivered cycle are booked.
    `finding.drops` is the cycle's total.
    """
    row = find(tx, cycle_id)
    if row is None or row["closed_at"] is None:
        return False
    if lift:
        tx.run("UPDATE cycles SET quarantined = 0 WHERE n = ?", row["n"])
    old = findings.decode(row["finding"])
    new = replace(finding, raw={**finding.raw, **raw})
    if new.outcome is old.outcome:
        more = max(1, new.drops) - max(1, old.drops)
        if new.outcome is Outcome.DELIVERED and more > 0:
            _store_finding(tx, row, new)
            lanes.book_further_drops(tx, row, new, more)
        elif new.raw != old.raw:
            # It changes nothing, and is what the board's record says: durable before it is
            # forgotten there (P7).
            _store_finding(tx, row, replace(old, raw={**old.raw, **new.raw}))
        return False
    if not may_replace((old.outcome, old.evidence), (new.outcome, new.evidence)):
        _tell_late(tx, "late_evidence", cycle_id, row, old, new)
        return False
    _store_finding(tx, row, new)
    lanes.rebook_cycle(tx, row, old, new)
    if row["order_row"] is None:
        begun_tests.tell(tx, row["test_id"], row["channel"], new, cycle_id)
        return True
    revised = _revise_unit(tx, row, new)
    _tell_late(tx, "outcome_revised" if revised else "late_evidence", cycle_id, row, old, new)
    return revised


def _store_finding(tx: Transaction, row: sqlite3.Row, finding: Finding) -> None:
    tx.run(
        "UPDATE cycles SET outcome = ?, finding = ? WHERE n = ?",
        finding.outcome.value,
        findings.encode(finding),
        row["n"],
    )


def _revise_unit(tx: Transaction, row: sqlite3.Row, finding: Finding) -> bool:
    """The unit of a revised cycle: a new revision, or its outcome when it waited for a cycle.

    While another cycle of it runs, that one's closing or withdrawal finds the fact.
    """
    unit = units.unit_row(tx, row["order_row"], row["unit"])
    if unit is None or unit["running"]:
        return False
    if unit["outcome"] is None:
        if finding.outcome is not Outcome.DELIVERED:
            return False
        _decide(tx, row, row["channel"], finding)
        return True
    if not may_replace(units.verdict(unit), (finding.outcome, finding.evidence)):
        return False
    order = units.order_by_row(tx, row["order_row"])
    units.revise(tx, order, unit, row["channel"], finding)
    return True


def _tell_late(
    tx: Transaction, kind: str, cycle_id: int, row: sqlite3.Row, old: Finding, new: Finding
) -> None:
    detail = {
        "order_id": row["order_id"],
        "delivery_id": row["delivery_id"],
        "unit": row["unit"],
        "test_id": row["test_id"],
        "channel": row["channel"],
        "cycle_id": cycle_id,
        "was": {"outcome": old.outcome.value, "evidence": old.evidence.value},
        "is": {"outcome": new.outcome.value, "evidence": new.evidence.value},
        "raw": dict(new.raw),
    }
    raise_event(tx, kind, detail)


def _shortened(trace: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    steps = [dict(step) for step in trace]
    if len(steps) <= TRACE_STEPS:
        return steps
    left = len(steps) - TRACE_STEPS
    half = TRACE_STEPS // 2
    return [*steps[:half], {"event": storable(f"{left} steps left out")}, *steps[-half:]]
