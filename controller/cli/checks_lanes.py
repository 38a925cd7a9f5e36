"""Facts -> findings: cabinets and their lanes, with the rules that save a technician's hours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controller.cli import screen
from controller.cli.checks_facts import Facts
from controller.cli.checks_words import ANY_LANE_HINT, LANE_HINTS, Finding
from controller.cli.meanings import meaning_of_reason
from controller.cli.status import no_reason
from controller.cli.words import later, say

OPEN_CIRCUIT = "motor_missing"

HARNESS_LANES = 2
"""One motor may be unplugged; two at once, and no other that works, have a common cause."""

SUSPENDED_FOR: Mapping[str, str] = {
    "failures": later("It failed several times in a row."),
    "double_drop": later("Two items fell at once."),
    "board": later("Its board wants it so."),
}
"""Words of the journal that are no reason of a result."""

WAIT_FIRST = later(
    "Wait: its board is still asked what became of it. Then vendctl doctor again, before you count"
)
RESOLVE_FIRST = later(
    "vendctl resolve {order} {unit} first: it tells the customer's result and settles the goods. "
    "If the number is wrong then: vendctl stock set {lane} N"
)
COUNT_IT = later("Count it: vendctl stock set {lane} N")

RESTORED = "journal_restored"

EYE_SHUT = ("blocked", "faulty")

BY_ITSELF: Mapping[str, str] = {
    "motor_may_turn": "motor_may_turn",
    "stock_unconfirmed": "journal_lost",
}
"""Why the daemon itself stopped a cabinet -> the finding; other words are a person's."""


def harness(facts: Facts) -> Iterator[Finding]:
    """Stop rule: where every lane tried has no motor, the motors are not at fault."""
    for board, channels in sorted(_open_boards(facts).items()):
        yield Finding("harness_open", board, {"count": len(channels), "lanes": channels})


def _open_boards(facts: Facts) -> dict[str, list[str]]:
    newest: dict[str, dict[str, str | None]] = {}
    for cycle in facts.checkup.get("newest_cycles", ()):
        newest.setdefault(cycle["board"], {})[cycle["channel"]] = cycle["reason"]
    return {
        board: sorted(reasons)
        for board, reasons in newest.items()
        if len(reasons) >= HARNESS_LANES and set(reasons.values()) == {OPEN_CIRCUIT}
    }


def lanes(facts: Facts) -> Iterator[Finding]:
    if not facts.reached or not facts.lanes:
        return
    explained = {channel for channels in _open_boards(facts).values() for channel in channels}
    healthy = True
    for lane in facts.lanes:
        name, health, why = (
            str(lane.get(key, "")) for key in ("channel", "health", "health_reason")
        )
        healthy = healthy and health == "ok"
        if health == "suspended" and name not in explained:
            told = {
                "why": _why(why),
                "reason": why,
                "hint": say(_hint(lane, facts)),
                "board": lane.get("board"),
            }
            yield Finding("lane_suspended", name, told)
        elif health == "disabled":
            yield Finding("lane_disabled", name, {"why": why or no_reason(facts.status, name)})
        elif health == "unresolved":
            yield Finding("lane_unresolved", name, {"hint": _unresolved(name, facts)})
    empty = [str(lane.get("channel")) for lane in facts.lanes if lane.get("stock") == 0]
    if empty:
        yield Finding("lanes_empty", facts={"count": len(empty), "lanes": ", ".join(empty)})
    if healthy:
        yield Finding("lanes_fine", facts={"count": len(facts.lanes)})


def _why(reason: str) -> str:
    """A suspended lane's reason, in words."""
    known = SUSPENDED_FOR.get(reason)
    return say(known) if known else meaning_of_reason(reason) or reason or say("no reason known")


def _unresolved(lane: str, facts: Facts) -> str:
    """A customer's money first: a count would settle the goods and leave their unit open."""
    units = [unit for unit in facts.checkup.get("unknown_units", ()) if unit.get("channel") == lane]
    if any(unit.get("asked") for unit in units):
        return say(WAIT_FIRST, lane=lane)
    if units:
        order, unit = screen.order_key(units[0]), units[0]["unit"]
        return say(RESOLVE_FIRST, lane=lane, order=order, unit=unit)
    return say(COUNT_IT, lane=lane)


def _hint(lane: Mapping[str, Any], facts: Facts) -> str:
    """By its own reason; for failures in a row by the newest one's."""
    reason = str(lane.get("health_reason", ""))
    newest = next(
        (
            str(cycle["reason"])
            for cycle in facts.checkup.get("newest_cycles", ())
            if cycle["channel"] == lane.get("channel")
        ),
        "",
    )
    for each in (newest, reason) if reason == "failures" else (reason,):
        if each in LANE_HINTS:
            return LANE_HINTS[each]
    return ANY_LANE_HINT


def cabinets(facts: Facts) -> Iterator[Finding]:
    """What its board explains is the board's finding, not a second one here."""
    service = facts.status.get("service_mode")
    if service:
        yield Finding("service_mode", facts={"who": service.get("who", "?")})
    for name, cabinet in (facts.status.get("cabinets") or {}).items():
        state, why = cabinet.get("state"), str(cabinet.get("reason", ""))
        if state == "running" or (state == "ready" and not _shut(cabinet, facts)):
            yield Finding(
                "cabinet_fine",
                name,
                {"lanes": cabinet.get("lanes", "?"), "lanes_ok": cabinet.get("lanes_ok", "?")},
            )
        elif state == "stopped":
            yield _stopped(name, why, facts)


def _shut(cabinet: Mapping[str, Any], facts: Facts) -> bool:
    """Ready, and still it would not dispense: what its board says of eye and door is told there."""
    board = (facts.status.get("boards") or {}).get(str(cabinet.get("board"))) or {}
    return cabinet.get("eye") in EYE_SHUT or board.get("door") == "open"


def _stopped(name: str, why: str, facts: Facts) -> Finding:
    code = BY_ITSELF.get(why, "cabinet_stopped")
    if code == "journal_lost" and facts.checkup.get("memory_lost_by") == RESTORED:
        code = RESTORED
    return Finding(code, name, {"why": why or no_reason(facts.status, name)})


CHECKS = (harness, cabinets, lanes)
