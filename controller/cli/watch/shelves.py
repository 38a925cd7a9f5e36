"""A cabinet's lanes as it stands in the shop: shelves of lanes, each with its stock and health.

The shelf of a lane is derived from its channel's number. Machines count either by tens
(A10 to A18 is one shelf, A20 to A28 the next) or through (A1 to A10, A11 to A20): of the two
readings the one with fewer shelves is taken, and tens when they are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TENS = 10

Lane = Mapping[str, Any]
Shelf = list[Lane | None]
"""Lanes by column; None where the shelf has no lane."""

Span = tuple[str, str]
"""Text, and its style: empty, good, bad, loud, faint or chosen."""
Line = list[Span]


@dataclass(frozen=True, slots=True)
class Signs:
    """What a terminal can show. Health has a shape of its own in each, so that colour says
    nothing that is not said without it."""

    health: Mapping[str, str]
    full: str
    bare: str
    levels: str
    """Of one sign, from empty to full; empty where a digit must do."""
    reached: str
    not_reached: str
    clear: str
    blocked: str
    left: str
    waits: str
    happened: str
    into: str
    out_of: str


UTF8 = Signs(
    health={"ok": "✓", "suspended": "!", "disabled": "✗", "unresolved": "?", "empty": "○"},
    full="█",
    bare="░",
    levels="▁▂▃▄▅▆▇█",
    reached="●",
    not_reached="○",
    clear="▁",
    blocked="█",
    left="→",
    waits="…",
    happened="·",
    into="←",
    out_of="→",
)
ASCII = Signs(
    health={"ok": "+", "suspended": "!", "disabled": "x", "unresolved": "?", "empty": "o"},
    full="#",
    bare=".",
    levels="",
    reached="*",
    not_reached="o",
    clear="_",
    blocked="#",
    left=">",
    waits="~",
    happened="-",
    into="<",
    out_of=">",
)

STYLE_OF_HEALTH = {"ok": "good", "empty": "", "unresolved": "loud"}
"""Everything else is bad."""


def shelves(lanes: Sequence[Lane]) -> list[Shelf]:
    """The shelves of one cabinet's lanes, top first, all equally wide."""
    if not lanes:
        return []
    by_tens = {number_of(lane) // TENS for lane in lanes}
    through = {(number_of(lane) - 1) // TENS for lane in lanes}
    first = 1 if len(through) < len(by_tens) else 0
    places = {divmod(number_of(lane) - first, TENS): lane for lane in lanes}
    left = min(column for _, column in places)
    right = max(column for _, column in places)
    return [
        [places.get((shelf, column)) for column in range(left, right + 1)]
        for shelf in sorted({shelf for shelf, _ in places})
    ]


def number_of(lane: Lane) -> int:
    digits = str(lane.get("channel", ""))[1:]
    return int(digits[:6]) if digits.isascii() and digits.isdigit() else 0


def narrowed(rows: Sequence[Shelf], most: int) -> list[Shelf]:
    """Shelves of at most so many lanes: a wide one goes on in the next line."""
    return [row[at : at + most] for row in rows for at in range(0, len(row), most)]


def health_of(lane: Lane) -> str:
    health = str(lane.get("health", "?"))
    return "empty" if health == "ok" and lane.get("stock") == 0 else health


def cell_width(rows: Sequence[Shelf], width: int) -> int:
    """Columns of a cell with the one before it, which shows what is chosen."""
    columns = max((len(row) for row in rows), default=1)
    return max(6, min(12, width // max(columns, 1)))


def top(lane: Lane | None, room: int, signs: Signs, *, chosen: bool) -> Span:
    """`✓A20`: how the lane is, and which it is."""
    if lane is None:
        return " " * room, ""
    health = health_of(lane)
    sign = signs.health.get(health, "?")
    text = f"{'>' if chosen else ' '}{sign}{lane.get('channel', '?')}"
    style = "chosen" if chosen else STYLE_OF_HEALTH.get(health, "bad")
    return text[:room].ljust(room), style


def bar(lane: Lane | None, room: int, signs: Signs) -> Span:
    """`██░ 5`: its stock against its capacity, and in a number."""
    if lane is None:
        return " " * room, ""
    stock, capacity = _counts(lane)
    count = str(stock)
    length = max(room - 2 - len(count), 1)
    full = -(-length * stock // capacity) if stock else 0  # one that is left is seen
    drawn = signs.full * min(full, length) + signs.bare * (length - min(full, length))
    return f" {drawn} {count}"[:room].ljust(room), ""


def in_one(lane: Lane | None, room: int, signs: Signs, *, chosen: bool) -> Span:
    """`A20✓▅`: both in one line, where there is no room for two."""
    if lane is None:
        return " " * room, ""
    _, style = top(lane, room, signs, chosen=chosen)
    stock, capacity = _counts(lane)
    level = signs.levels[min(stock * 8 // capacity, 7)] if signs.levels else str(min(stock, 9))
    sign = signs.health.get(health_of(lane), "?")
    text = f"{'>' if chosen else ' '}{lane.get('channel', '?')}{sign}{level}"
    return text[:room].ljust(room), style


def _counts(lane: Lane) -> tuple[int, int]:
    stock, capacity = lane.get("stock"), lane.get("capacity")
    if not isinstance(stock, int) or not isinstance(capacity, int):
        return 0, 1
    return max(stock, 0), max(capacity, 1)
