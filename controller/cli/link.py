"""`vendctl link`: the serial lines, counted."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from controller.cli import screen
from controller.cli.exits import Exit
from controller.cli.meanings import meant
from controller.cli.verbs import Line, Session, Verb
from controller.cli.words import joined, later, say

TRIPS = (later("last"), later("mean"))


def run(session: Session, _args: argparse.Namespace) -> Exit:
    found = session.daemon.read("/v1/link")
    ports = found.get("ports", [])
    if session.json:
        screen.as_json(found)
    else:
        for port in ports:
            for line in page(port):
                screen.data(line)
    return Exit.FINE if all(port.get("up") for port in ports) else Exit.BAD_NEWS


def page(port: Mapping[str, Any]) -> list[str]:
    state = say("up") if port.get("up") else say("DOWN")
    trip = port.get("round_trip_ms") or {}
    times = joined(
        [f"{say(name)} {trip[name]:.1f}" for name in TRIPS if _is_number(trip.get(name))]
    )
    counters = port.get("counters") or {}
    name, since = screen.clean(port.get("board")), screen.at(port.get("since"))
    told = say("board {name}: {state} since {since}", name=name, state=state, since=since)
    head = screen.wrapped(told, "", "  ")
    lines = [
        *(head if port.get("up") else [screen.paint(line, "bad") for line in head]),
        *screen.pairs(
            [
                ("  port", port.get("port")),
                ("  protocol", port.get("protocol")),
                ("  round trip ms", times),
                ("  problem", meant(port.get("problem") or "")),
                *((f"  {name}", value) for name, value in counters.items()),
            ]
        ),
    ]
    for reset in port.get("resets") or ():
        told = say(
            "restarted {when}: {cause}",
            when=screen.at(reset.get("at")),
            cause=screen.clean(meant(reset.get("cause"))),
        )
        lines += screen.wrapped(told, "  ", "    ")
    return [*lines, ""]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


VERBS = (
    Verb(
        "link",
        (Line("link", "per port: frames, errors, round trips", "vendctl link"),),
        run,
        note="Exit code 1 when a port is down.",
    ),
)
