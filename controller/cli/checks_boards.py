"""Facts -> findings: serial ports, the boards behind them, light eyes and doors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from typing import Any

from controller.cli.checks_facts import Facts
from controller.cli.checks_ports import PortFacts, may_open
from controller.cli.checks_words import Finding
from controller.cli.words import joined, say

DAY_S = 86_400.0

RESTARTS_A_DAY = 3
"""A board that somebody services restarts once or twice."""

NOISY_FRAMES = 20
NOISY_SHARE = 0.01
"""A sound line damages none in a day: one of a hundred is a cable that will get worse."""

SWAPPED = "board_swapped"
NEVER_SEEN = "-"

DAEMON = "vendingd"
"""The program that is to hold the ports; this user may be one whom it does not answer, and
nobody should be told to end it."""

ERRORS: Mapping[str, tuple[int, ...]] = {
    "port_missing": (errno.ENOENT, errno.ENODEV, errno.ENXIO),
    "port_denied": (errno.EACCES, errno.EPERM),
    "port_busy": (errno.EBUSY, errno.EAGAIN),
    "port_unreachable": (
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ETIMEDOUT,
    ),
    "port_trouble": (errno.EIO, errno.EINVAL, errno.ENOTTY),
}
"""Finding -> the operating system's errors at opening, whose words stand in a port's `problem`."""


def boards(facts: Facts) -> Iterator[Finding]:
    later = {str(port.get("board")): port for port in facts.link_later}
    for port in facts.link:
        name = str(port.get("board", "?"))
        view = (facts.status.get("boards") or {}).get(name) or {}
        if port.get("up"):
            yield from _up(name, port, view, facts.now)
        else:
            yield _down(name, port, later.get(name, port), facts)
        yield from _closed(name, view)


def _up(
    name: str, port: Mapping[str, Any], view: Mapping[str, Any], now: float
) -> Iterator[Finding]:
    counters = port.get("counters") or {}
    good, bad = counters.get("frames_in", 0), counters.get("frames_bad", 0)
    resets = [each for each in port.get("resets") or () if now - each["at"] < DAY_S]
    if len(resets) >= RESTARTS_A_DAY:
        yield Finding(
            "board_restarts",
            name,
            {"count": len(resets), "why": resets[-1].get("cause") or say("no reason known")},
        )
    if bad >= NOISY_FRAMES and bad > NOISY_SHARE * (good + bad):
        yield Finding("line_noisy", name, {"bad": bad, "all": good + bad})
    told = {"protocol": port.get("protocol", "?"), "text": view.get("text") or NEVER_SEEN}
    yield Finding("port_fine", name, {"port": port.get("port", "?")})
    yield Finding("board_fine", name, told)


def _down(name: str, port: Mapping[str, Any], later: Mapping[str, Any], facts: Facts) -> Finding:
    """The first of the causes that fits, from the port outwards."""
    path, why = str(port.get("port", "?")), str(port.get("problem", ""))
    here = facts.ports.get(name) or PortFacts(path, exists=True)
    code = _by_error(why)
    told: dict[str, Any] = {
        "port": path,
        "why": why or say("no reason known"),
        **_shown(here),
        "user": facts.daemon_user,
    }
    if not here.exists:
        return Finding("port_missing", name, told)
    if code is not None:
        return Finding(code, name, told)
    first, second = port.get("counters") or {}, later.get("counters") or {}
    grew = {key: second.get(key, 0) - first.get(key, 0) for key in ("bytes_in", "frames_in")}
    never = not first.get("frames_in")
    came = first.get("bytes_in", 0) if never else grew["bytes_in"]
    if came and not (first.get("frames_in") if never else grew["frames_in"]):
        board = _settings_of(name, facts)
        told |= {
            "bytes_in": came,
            "protocol": port.get("protocol", "?"),
            "baudrate": board.get("baudrate", "?"),
        }
        return Finding("board_not_understood", name, told)
    return Finding("board_silent" if never else "board_lost", name, told)


def _by_error(why: str) -> str | None:
    for code, numbers in ERRORS.items():
        if any(os.strerror(number) in why for number in numbers):
            return code
    return None


def _shown(port: PortFacts) -> dict[str, Any]:
    holders = joined(
        [say("{name} (process {pid})", name=each.name, pid=each.pid) for each in port.holders]
    )
    return {
        "owner": port.owner,
        "group": port.group,
        "mode": f"{port.mode:04o}",
        "holder": holders or say("another program (who: sudo fuser -v {port})", port=port.path),
    }


def _settings_of(name: str, facts: Facts) -> Mapping[str, Any]:
    for board in facts.settings.get("board") or ():
        if board.get("name") == name:
            found: Mapping[str, Any] = board
            return found
    return {}


def _closed(name: str, view: Mapping[str, Any]) -> Iterator[Finding]:
    """Why a board that may well answer takes no drive; its eye and its door."""
    out = view.get("out_of_service")
    if out == SWAPPED:
        yield Finding("board_swapped", name)
    elif out:
        yield Finding("board_out_of_service", name, {"why": out})
    left = view.get("quarantined_until_s")
    if isinstance(left, int | float):
        yield Finding("board_quarantined", name, {"seconds": round(left)})
    if view.get("door") == "open":
        yield Finding("door_open", name)
    elif view.get("door") == "closed":
        yield Finding("door_fine", name)


def eyes(facts: Facts) -> Iterator[Finding]:
    """Only where a cabinet has one; and not while an item may be falling through it."""
    moving = {lane.get("board") for lane in facts.status.get("moving_lanes") or ()}
    for name, cabinet in (facts.status.get("cabinets") or {}).items():
        board, level = str(cabinet.get("board", "?")), cabinet.get("eye")
        up = ((facts.status.get("boards") or {}).get(board) or {}).get("up")
        if not up or level == "absent":
            continue
        if level == "faulty":
            yield Finding("eye_faulty", board)
        elif level == "blocked":
            if board not in moving:
                yield Finding("eye_blocked", board, _reach_in(board, facts))
        elif level == "unverified":
            yield Finding("eye_unverified", name)
        elif level == "watched" and _refuses(board, facts):
            yield Finding("eye_refuses", board)
        else:
            yield Finding("eye_fine", board, {"level": level})


def _reach_in(board: str, facts: Facts) -> Mapping[str, str]:
    """The commands before and after a hand in the eye of this board: a unit may wait, and its
    motor starts the moment that the eye is clear."""
    names = [
        name
        for name, cabinet in (facts.status.get("cabinets") or {}).items()
        if str(cabinet.get("board")) == board and cabinet.get("eye") != "absent"
    ]
    return {
        each: joined([f"vendctl cabinet {each} {name}" for name in names])
        for each in ("stop", "start")
    }


def _refuses(board: str, facts: Facts) -> bool:
    """A board that only looks itself tells of a blocked eye by refusing, and by nothing else."""
    newest = [
        cycle.get("reason")
        for cycle in facts.checkup.get("newest_cycles", ())
        if cycle.get("board") == board
    ]
    return bool(newest) and set(newest) == {"board_refused"}


def ports_alone(facts: Facts) -> Iterator[Finding]:
    """With the daemon away: whether it could open its ports."""
    if facts.reached:
        return
    groups = frozenset(facts.unit.get("SupplementaryGroups", "").split())
    for name, port in facts.ports.items():
        told = {"port": port.path, **_shown(port), "user": facts.daemon_user}
        if not port.exists:
            yield Finding("port_missing", name, told)
        elif any(holder.name != DAEMON for holder in port.holders):
            yield Finding("port_busy", name, told)
        elif not port.holders and may_open(port, facts.daemon_user, groups) is False:
            yield Finding("port_denied", name, told)
        else:
            yield Finding("port_fine", name, told)


CHECKS = (boards, eyes, ports_alone)
