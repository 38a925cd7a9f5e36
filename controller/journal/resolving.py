"""A person's verdict on a unit of which nobody can say what became (promises, *Revisions*).

It is one more late fact about the unit's last cycle: a new revision of the result, the
order's `finished` again, and the lane's uncertain item settled (P10). It ranks below a drop
that was seen: what the eye or a board's record tells later may still replace it, a record
that saw nothing may not.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from controller.errors import Refused
from controller.journal import cycles, findings, units
from controller.journal.technician import note
from controller.journal.transaction import Transaction, storable
from controller.model import Evidence, Outcome, Reason, UnitRef

REASONS = {Outcome.DELIVERED: None, Outcome.NOT_DELIVERED: Reason.NO_DROP}
"""What the result says besides the outcome."""


def resolve(
    tx: Transaction, ref: UnitRef, outcome: Outcome, seen: int, reason: str, who: str
) -> None:
    """The verdict of `who`, who saw revision `seen` of the unit.

    Refused: unknown_order, results_pruned, unknown_unit, being_settled, not_unknown, changed.
    """
    order, unit = _found(tx, ref)
    last = _last_cycle(tx, order, unit)
    _refuse_unless_it_rests(ref, unit, last, seen)
    assert last is not None  # noqa: S101 - only a cycle ends `unknown`
    verdict = replace(
        findings.decode(last["finding"]),
        outcome=outcome,
        reason=REASONS[outcome],
        evidence=Evidence.TECHNICIAN,
        # What the cycle itself did to lane and cabinet was done when it ended.
        counts_as_failure=False,
        suspend_lane=False,
        cabinet_fault=False,
    )
    # It leaves the machine with the result: the name and the words are in the audit row alone.
    said = {"resolved": outcome.value}
    cycles.revise(tx, last["high"] * cycles.LOW + last["n"], verdict, said, lift=False)
    detail = {
        "outcome": outcome.value,
        "seen": seen,
        "was": unit["reason"],
        "reason": storable(reason),
    }
    note(tx, who, "resolve", str(ref), detail)


def _found(tx: Transaction, ref: UnitRef) -> tuple[sqlite3.Row, sqlite3.Row]:
    order = units.order_by_key(tx, ref.key)
    if order is None:
        raise Refused("unknown_order", "no order {order} was ever accepted here", order=ref.key)
    if order["pruned"]:
        raise Refused(
            "results_pruned",
            "order {order} is past the retention: only its counts are left",
            order=ref.key,
        )
    unit = units.unit_row(tx, order["id"], ref.number)
    if unit is None:
        raise Refused(
            "unknown_unit",
            "order {order} has units 1 to {units}",
            order=ref.key,
            units=order["units"],
        )
    return order, unit


def _last_cycle(tx: Transaction, order: sqlite3.Row, unit: sqlite3.Row) -> sqlite3.Row | None:
    """The one that left it unknown: after `unknown` a unit gets no other (P2)."""
    return tx.one(
        "SELECT * FROM cycles WHERE order_row = ? AND unit = ? ORDER BY n DESC LIMIT 1",
        order["id"],
        unit["number"],
    )


def _refuse_unless_it_rests(
    ref: UnitRef, unit: sqlite3.Row, last: sqlite3.Row | None, seen: int
) -> None:
    if last is not None and (last["closed_at"] is None or last["quarantined"]):
        raise Refused(
            "being_settled",
            "board {board} is still asked what became of unit {unit}: wait until "
            "`vendctl status` shows no quarantine there, then look at the unit again",
            board=last["board"],
            unit=ref,
        )
    if unit["outcome"] is None:
        raise Refused(
            "not_unknown",
            "unit {unit} still waits for its cycle: nothing is unknown of it",
            unit=ref,
        )
    now = {name: unit[name] for name in ("outcome", "evidence", "revision")}
    if unit["revision"] != seen:
        raise Refused(
            "changed",
            "unit {unit} is {outcome} ({evidence}), revision {revision}: it changed since you "
            "looked (revision {seen}). Look again",
            unit=ref,
            seen=seen,
            **now,
        )
    if unit["outcome"] != Outcome.UNKNOWN.value:
        raise Refused(
            "not_unknown",
            "unit {unit} is {outcome} ({evidence}), revision {revision}: a verdict is only for "
            "a unit that is unknown",
            unit=ref,
            **now,
        )
