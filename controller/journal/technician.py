"""What a person does to lanes, cabinets and boards. Each act has its row in `audit`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from controller.dispensing.interfaces import LaneState
from controller.errors import Refused
from controller.journal import begun_tests, lanes
from controller.journal.boards import board_memory, remember_board
from controller.journal.events import raise_event
from controller.journal.tally import recounted
from controller.journal.transaction import Transaction, bounded_json, storable


def note(tx: Transaction, who: str, action: str, target: str, detail: Mapping[str, Any]) -> None:
    """One row of the audit: who did what to which part of the machine."""
    tx.run(
        "INSERT INTO audit (at, who, action, target, detail) VALUES (?,?,?,?,?)",
        tx.at, storable(who), action, storable(target), bounded_json(detail),
    )  # fmt: skip
    tx.acted = True


def refuse_while_running(tx: Transaction, channel: str) -> None:
    running = tx.one(
        "SELECT 1 FROM cycles INDEXED BY cycles_open WHERE channel = ? AND closed_at IS NULL",
        channel,
    )
    if running is not None:
        raise Refused(
            "cycle_open", "lane {lane} runs now: count it when its cycle has ended", lane=channel
        )


def _count(tx: Transaction, channel: str, stock: int) -> None:
    row = lanes.find(tx, channel)
    refuse_while_running(tx, channel)
    if not 0 <= stock <= row["capacity"]:
        raise Refused(
            "over_capacity",
            "{stock} items in lane {lane}: it holds 0 to {capacity} by the settings; "
            "count again, or change its capacity there",
            stock=stock,
            lane=channel,
            capacity=row["capacity"],
        )
    lanes.write_tally(tx, channel, recounted(lanes.tally_of(row), stock))
    tx.run(
        "UPDATE lanes SET confirmed = 1, counted_n = ? WHERE channel = ?",
        tx.counters.cycle,
        channel,
    )


def set_stock(tx: Transaction, channel: str, stock: int, who: str) -> LaneState:
    """A count: settles what was uncertain. Refused: unknown_channel, cycle_open, over_capacity."""
    was = lanes.find(tx, channel)
    _count(tx, channel, stock)
    detail = {"was": was["stock"], "uncertain": was["uncertain"], "is": stock}
    note(tx, who, "stock_set", channel, detail)
    return lanes.state_of(tx, channel)


def fill(tx: Transaction, cabinet: str | None, who: str) -> Sequence[LaneState]:
    """Every lane of the cabinet (None: of the machine) holds its capacity; all or none.

    Refused: unknown_cabinet, cycle_open.
    """
    rows = tx.all(
        "SELECT channel, capacity FROM lanes WHERE active = 1 AND (?1 IS NULL OR cabinet = ?1)"
        " ORDER BY cabinet, number",
        cabinet,
    )
    if not rows:
        raise Refused(
            "unknown_cabinet",
            "no cabinet {cabinet!r} with lanes: see `vendctl lanes`",
            cabinet=cabinet,
        )
    for row in rows:
        _count(tx, row["channel"], row["capacity"])
    note(tx, who, "stock_fill", cabinet or "*", {"lanes": len(rows)})
    return [lanes.state_of(tx, row["channel"]) for row in rows]


def enable_lane(tx: Transaction, channel: str, reason: str, who: str) -> LaneState:
    """Ends a suspension and a disabling. What is uncertain stays so: only a count settles it."""
    was = lanes.find(tx, channel)
    tx.run(
        "UPDATE lanes SET health = 'ok', health_reason = '', failures = 0 WHERE channel = ?",
        channel,
    )
    note(tx, who, "lane_enable", channel, {"was": was["health"], "reason": storable(reason)})
    return lanes.state_of(tx, channel)


def disable_lane(tx: Transaction, channel: str, reason: str, who: str) -> LaneState:
    lanes.find(tx, channel)
    tx.run(
        "UPDATE lanes SET health = 'disabled', health_reason = ? WHERE channel = ?",
        storable(reason),
        channel,
    )
    note(tx, who, "lane_disable", channel, {"reason": storable(reason)})
    return lanes.state_of(tx, channel)


def note_test(tx: Transaction, channel: str, test_id: str, who: str, action: str) -> None:
    """`action`: lane_test or test_stop. The outcome is its cycle's, and an event."""
    note(tx, who, action, channel, {"test_id": storable(test_id)})
    if action == begun_tests.TESTED:
        begun_tests.begin(tx, test_id, channel)


def _known_cabinet(tx: Transaction, cabinet: str) -> None:
    if tx.one("SELECT 1 FROM lanes WHERE cabinet = ? AND active = 1", cabinet) is None:
        raise Refused(
            "unknown_cabinet", "no cabinet {cabinet!r}: see `vendctl status`", cabinet=cabinet[:20]
        )


def stop_cabinet(tx: Transaction, cabinet: str, reason: str, who: str) -> None:
    """Durable before a hand reaches in. Refused: unknown_cabinet."""
    _known_cabinet(tx, cabinet)
    lanes.stop_cabinet(tx, cabinet, storable(reason), storable(who))
    note(tx, who, "cabinet_stop", cabinet, {"reason": storable(reason)})


def start_cabinet(tx: Transaction, cabinet: str, who: str) -> None:
    """Ends every wait for a technician. Refused: unknown_cabinet, stock_unconfirmed (P13)."""
    _known_cabinet(tx, cabinet)
    uncounted = tx.all(
        "SELECT channel FROM lanes WHERE cabinet = ? AND active = 1 AND confirmed = 0"
        " ORDER BY number",
        cabinet,
    )
    if uncounted:
        names = ", ".join(row["channel"] for row in uncounted)
        raise Refused(
            "stock_unconfirmed",
            "cabinet {cabinet}: the journal was lost or restored, and nobody counted {lanes} "
            "since; `vendctl stock set` or `vendctl stock fill` first",
            cabinet=cabinet,
            lanes=names,
        )
    was = tx.one("SELECT reason FROM cabinets WHERE name = ?", cabinet)
    tx.run("DELETE FROM cabinets WHERE name = ?", cabinet)
    note(tx, who, "cabinet_start", cabinet, {"was": was["reason"] if was else ""})
    if was is not None:
        detail = {"cabinet": cabinet, "was": was["reason"], "who": storable(who)}
        raise_event(tx, "cabinet_started", detail)


def accept_clock(tx: Transaction, who: str, skew_s: float) -> None:
    """The clock is right, although it is behind what was written under a later one.

    The birth stays, for cycle ids only grow; where it lies in the future, what is asked of
    commands is that they were issued after this moment.
    """
    detail = {"newest": tx.counters.newest_time, "is": tx.at, "birth": tx.counters.birth}
    tx.set(newest_time=tx.at)
    now = math.ceil(tx.at + skew_s)
    if tx.counters.bound is not None and tx.counters.bound > now:
        tx.set(bound=now)
    note(tx, who, "clock_accept", "", detail)


def accept_board(tx: Transaction, board: str, who: str, memory_id: int | None) -> None:
    """The board that answers now is this machine's. Refused: unknown_board."""
    was = board_memory(tx, board)
    if not was:
        raise Refused("unknown_board", "no board {board!r} was ever seen", board=board[:40])
    memory: dict[str, Any] = {"out_of_service": ""}
    if memory_id is not None:
        memory["memory_id"] = memory_id
    remember_board(tx, board, memory)
    note(tx, who, "board_accept", board, {"was": json.loads(json.dumps(dict(was), default=str))})
