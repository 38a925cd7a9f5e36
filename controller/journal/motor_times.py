"""How long a lane's motor ran in its newest cycles: what a slow motor is compared with."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from controller.journal import cycles, findings
from controller.journal.transaction import Transaction
from controller.model import Outcome, Reason

FULL_TURNS = {(Outcome.DELIVERED, None), (Outcome.NOT_DELIVERED, Reason.NO_DROP)}
"""Outcomes of a motor that went once round, where its board does not say it in so many words."""


def motor_times(tx: Transaction, channel: str, limit: int) -> list[dict[str, Any]]:
    """The newest closed cycles of a lane, newest first: `cycle_id`, `run_ms` (None: nobody
    knows), `measured` (board or host), `full_turn`."""
    rows = tx.all(
        f"{cycles.SELECT} WHERE channel = ? AND closed_at IS NOT NULL ORDER BY n DESC LIMIT ?",
        channel,
        limit,
    )
    return [_time(row) for row in rows]


def _time(row: sqlite3.Row) -> dict[str, Any]:
    finding = findings.decode(row["finding"])
    board = finding.raw.get("run_ms")
    run_ms, measured = board, "board"
    if type(board) is not int:
        run_ms, measured = _seen(json.loads(row["trace"]) if row["trace"] else ()), "host"
    motor = finding.raw.get("motor")
    full_turn = (finding.outcome, finding.reason) in FULL_TURNS if motor is None else motor == 0
    return {
        "cycle_id": row["high"] * cycles.LOW + row["n"],
        "run_ms": run_ms,
        "measured": measured,
        "full_turn": full_turn,
    }


def _seen(trace: Sequence[Mapping[str, Any]]) -> int | None:
    """From the board's word that the motor turns to its last word, by our own clock."""
    at = {step["event"]: step["at"] for step in trace if "at" in step}
    if "moving" not in at or "ended" not in at or at["ended"] < at["moving"]:
        return None
    seconds: float = at["ended"] - at["moving"]
    return round(seconds * 1000)
