"""`GET /v1/cabinets/{name}/eye`: one cabinet's light eye, live, without disturbing a cycle.

Between cycles the eye is asked often enough to see an item pass, where the board lets its
host read it. While a cycle runs on the board nothing is asked for this: a level is then
what the board tells by itself and in its status, at most a second old.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from controller.dispensing.eye import LINK_GONE_S, LOOK_S, EyeTrace, look
from controller.dispensing.interfaces import Clock
from controller.dispensing.station import Station
from controller.errors import BoardError
from controller.model import Cabinet
from controller.service import shapes

TOLD_S = 1.0
"""A line at least so often: whoever watches sees that it lives."""

HEARD = {"clear": False, "blocked": True}
"""Levels that a board tells by itself -> dark or not."""


def sight_of(cabinet: Cabinet, station: Station) -> str:
    """How much of the eye shows from here, the most first."""
    can, told = station.board.capabilities, station.board.status().eye
    sights = (
        ("none", not cabinet.drop_sensor),
        ("read", can.reads_eye),
        ("told", told != "unverified"),
        ("watched", can.watches_eye),
    )
    return next((sight for sight, applies in sights if applies), "none")


def at_rest(station: Station) -> bool:
    """No motor of the board turns or may turn: its eye may be asked."""
    return not (station.cycle_open or station.recovering or station.quarantine)


async def watch_eye(
    cabinet: Cabinet, station: Station, clock: Clock, seconds: int
) -> AsyncGenerator[Mapping[str, Any], None]:
    """`shapes.EyeLine`s: one `eye`, then `level` at each change and once a second, `pulse` for
    each that ended, at last `finished`."""
    began = clock.monotonic()
    trace = EyeTrace(began)
    sight = sight_of(cabinet, station)
    level = "absent" if sight == "none" else station.board.status().eye
    yield {
        "event": "eye",
        "at": clock.wall(),
        "cabinet": cabinet.name,
        "board": cabinet.board,
        "sight": sight,
        "selftest": await _selftest(station, sight),
        "level": level,
    }
    if sight in ("read", "told"):
        told_level, told_at = "", began
        while (now := clock.monotonic()) < began + seconds:
            if sight == "read" and at_rest(station):
                ended = await asyncio.shield(look(station.board, clock, trace))
                for pulse in ended or ():
                    yield _pulse(clock, trace, pulse.width_ms)
                level = trace.level if ended is not None else "unverified"
            else:
                ended = []
                level = station.board.status().eye
                trace.lost()
                if level in HEARD:
                    trace.hear(now, dark=HEARD[level])
            if level != told_level or now >= told_at + TOLD_S:
                told_level, told_at = level, now
                yield _level(clock, station, trace, level)
            await clock.sleep(LOOK_S if ended is not None else LINK_GONE_S)
    yield {
        "event": "finished",
        "at": clock.wall(),
        "level": level,
        "pulses": trace.counted,
        "changes": list(trace.changes),
        "over_ms": trace.over_ms,
    }


async def _selftest(station: Station, sight: str) -> str:
    """With the board's turn held: no cycle begins while the eye may be dark by itself."""
    if sight != "read":
        return "none"
    if station.turn.locked() or not at_rest(station):
        return "not_run"
    async with station.turn:
        try:
            return (await station.board.read_eye(selftest=True)).selftest
        except BoardError:
            return "not_run"


def _level(clock: Clock, station: Station, trace: EyeTrace, level: str) -> shapes.EyeLine:
    return {
        "event": "level",
        "at": clock.wall(),
        "level": level,
        "blocked_ms": trace.blocked_ms if level == "blocked" else 0,
        "cycle_runs": not at_rest(station),
        "pulses": trace.counted,
    }


def _pulse(clock: Clock, trace: EyeTrace, width_ms: int | None) -> shapes.EyeLine:
    return {
        "event": "pulse",
        "at": clock.wall(),
        "width_ms": width_ms,
        "pulses": trace.counted,
    }
