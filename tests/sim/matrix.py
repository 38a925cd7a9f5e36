"""What went wrong where: journal boundaries x kinds of trouble x protocols.

A boundary is a write of the journal that has just become durable; trouble falls behind it and
before the next. An empty cell would be a place where nothing was ever tried.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

BOUNDARIES: Mapping[str, str] = {
    "start": "a start opened the journal",
    "accept": "an order accepted",
    "reject": "an order rejected",
    "cancel": "an order cancelled",
    "open_cycle": "a cycle opened",
    "close_cycle": "a cycle closed",
    "withdraw_cycle": "a cycle withdrawn, nothing had moved",
    "finish_unit": "a unit ended without a cycle",
    "revise": "a result revised",
    "reassign": "a unit given another lane",
    "sent": "messages marked as sent",
    "remember_board": "a board's memory noted",
    "event": "an event told",
    "enable_lane": "a lane put in order by hand",
    "fill": "the stock counted",
}
"""Method of the journal -> what has become durable with it."""

ACTS: Mapping[str, str] = {
    "resolve": "a verdict given by hand",
    "undo_tests": "test vends undone",
}
"""The same of acts on the books, behind which trouble is laid where they are (`visits`)."""

NO_SUCH_WRITE = frozenset({("xy", "remember_board")})
"""An XY board has no memory that could be noted."""

READS = frozenset(
    ("waiting_units", "open_cycles", "cycle", "lane_states", "stopped_cabinets", "board_memory",
     "service_mode", "last_ticket", "newest_cycle", "look_up", "oldest", "waiting", "has_room",
     "background_check", "order_book", "orders", "order", "lanes", "lane", "events", "totals",
     "messages_of", "messages_since", "close")
)  # fmt: skip
"""Methods that write nothing."""

CYCLE = "motor, drop"
LINE = "line"
EYE = "eye, door, cable"
RESET = "board reset"
SWAPPED = "board swapped"
FAULT_GROUPS: Mapping[str, str] = {
    **dict.fromkeys(
        ("jam", "no_drop", "late_drop", "double_drop", "item_on_eye", "motor_open", "motor_stuck",
         "motor_overcurrent", "motor_runs_on"), CYCLE),
    **dict.fromkeys(
        ("lose_command", "dont_answer", "answer_late", "corrupt", "truncate", "duplicate", "noise",
         "split_writes", "merge_frames", "no_ack", "ack_no_status", "repeat_status", "wrong_lane",
         "sel_zero", "error_then_ff", "success_without_start", "data_before_ack", "status_storm",
         "poll_gap", "ack_length_one"), LINE),
    **dict.fromkeys(
        ("eye_stuck_blocked", "eye_faulty", "door_open", "go_silent", "unplug"), EYE),
    **dict.fromkeys(("power_cut", "reset_mid_cycle"), RESET),
    **dict.fromkeys(("forget_memory", "swap"), SWAPPED),
}  # fmt: skip
"""Fault of the emulator -> its column."""

KILL, KILL_IN_WRITE = "kill", "kill in a write"
POWER, POWER_ALL = "power cut", "power cut with boards"
DISK_FAILS, DISK_FULL = "disk fails", "disk full"
BROKER, FORGOT = "broker away", "broker forgot"
CLOCK = "clock moved"
JOURNAL = "journal lost"
COLUMNS = (
    KILL, KILL_IN_WRITE, POWER, POWER_ALL, DISK_FAILS, DISK_FULL, BROKER, FORGOT,
    CYCLE, LINE, EYE, RESET, SWAPPED, CLOCK, JOURNAL,
)  # fmt: skip

GAP = "another write"
"""Behind a write that is no boundary: a lane taken out by hand, the end of an order in order."""

Cell = tuple[str, str, str]
"""Protocol, boundary, trouble."""


@dataclass
class Matrix:
    """Of one world. `protocol` is "" where boards of several live in it: nothing is counted."""

    protocol: str
    passed: Callable[[str], None]
    """Told of each write, before anything follows from it."""
    behind: str = "start"
    troubles: int = 0
    seen: Counter[Cell] = field(default_factory=Counter)

    def watch(self, journal: Any) -> None:
        """See which write becomes durable: from a start on."""
        self._durable("start")
        for name in _writes(type(journal)):
            call = getattr(journal, name)
            setattr(
                journal, name, self._seen(call, name if name in {**BOUNDARIES, **ACTS} else GAP)
            )

    def _seen(self, call: Callable[..., Any], boundary: str) -> Callable[..., Any]:
        async def watched(*args: Any, **more: Any) -> Any:
            value = await call(*args, **more)
            self._durable(boundary)
            return value

        return watched

    def _durable(self, boundary: str) -> None:
        self.behind = boundary
        self.passed(boundary)

    def trouble(self, column: str) -> None:
        self.troubles += 1
        if self.protocol:
            self.seen[self.protocol, self.behind, column] += 1


@cache
def _writes(journal: type[Any]) -> tuple[str, ...]:
    """Names of its methods that write."""
    methods = inspect.getmembers(journal, inspect.iscoroutinefunction)
    return tuple(name for name, _ in methods if not name.startswith("_") and name not in READS)


def empty_cells(seen: Counter[Cell], protocols: tuple[str, ...]) -> list[Cell]:
    return [
        (protocol, boundary, column)
        for protocol in protocols
        for boundary in (*BOUNDARIES, *ACTS)
        for column in COLUMNS
        if (protocol, boundary) not in NO_SUCH_WRITE and not seen[protocol, boundary, column]
    ]


def table(seen: Counter[Cell], protocol: str) -> str:
    """As Markdown."""
    lines = [
        f"| {protocol}: behind | " + " | ".join(COLUMNS) + " |",
        "| --- |" + " ---: |" * len(COLUMNS),
    ]
    for boundary, what in {**BOUNDARIES, **ACTS}.items():
        counts = (str(seen[protocol, boundary, column]) for column in COLUMNS)
        lines.append(f"| {what} | " + " | ".join(counts) + " |")
    return "\n".join(lines)
