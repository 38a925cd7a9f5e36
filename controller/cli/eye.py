"""`vendctl eye CABINET`: the light eye now and live, its pulses counted, its level drawn."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from controller.cli import eye_plot, screen
from controller.cli.client import path
from controller.cli.exits import Exit, Trouble
from controller.cli.verbs import Line, Session, Verb, whole
from controller.cli.words import later, say

SIGHTS = {
    "read": later("cabinet {cabinet}, board {board}: the light eye is read between cycles"),
    "told": later(
        "cabinet {cabinet}, board {board}: the board tells when its light eye changes; "
        "pulses of falling items do not show"
    ),
    "watched": later(
        "cabinet {cabinet}, board {board}: this board keeps its light eye to itself. It "
        "looks before it turns a motor, and nobody can ask it from here: 'vendctl test' shows "
        "whether it sees an item fall"
    ),
    "none": later("cabinet {cabinet} has no light eye, by its settings or its board"),
}

SELFTESTS = {
    "ok": later("self-test: fine"),
    "fault": later("self-test: FAULT. Wipe the eye, look at its connector and its alignment"),
    "not_run": later("self-test: not run (a cycle runs, or the board would not)"),
}

LEVELS = {
    "clear": later("clear"),
    "blocked": later("DARK: something lies in it, or it is dirty or out of line"),
    "faulty": later("FAULTY: look at its connector"),
    "absent": later("absent: the board has no eye fitted"),
    "unverified": later("not known: the board does not answer"),
}

BAD = frozenset({"blocked", "faulty", "absent", "unverified"})
"""At the end. Where only the board itself looks (`watched`) nothing is known to be wrong."""


def run(session: Session, args: argparse.Namespace) -> Exit:
    seen: dict[str, Any] = {"sight": "", "level": "", "selftest": "", "pulses": []}
    name = args.cabinet.upper() if len(args.cabinet) == 1 else args.cabinet
    interrupted = False
    try:
        for line in session.daemon.lines(path("cabinets", name, "eye"), seconds=args.seconds):
            _take(session, seen, line)
    except KeyboardInterrupt:
        interrupted = True  # the live view is ended this way, and what was seen is shown
    last = seen.get("finished")
    if last is not None and not session.json:
        _show(seen, last)
    if interrupted:
        return Exit.INTERRUPTED
    if last is None:
        raise Trouble(
            Exit.UNREACHABLE, "connection_lost", say("The daemon stopped while the eye was shown")
        )
    bad = seen["level"] in BAD or seen["selftest"] == "fault"
    return Exit.BAD_NEWS if bad and seen["sight"] != "watched" else Exit.FINE


def _take(session: Session, seen: dict[str, Any], line: Mapping[str, Any]) -> None:
    """Remember a line of the stream, and tell it to whoever looks on."""
    event = line.get("event")
    before = seen["level"]
    seen["level"] = line.get("level", before)
    if event == "eye":
        seen["sight"], seen["selftest"] = line.get("sight"), line.get("selftest")
        seen["began"] = line.get("at")
    elif event == "pulse":
        began = round((float(line["at"]) - float(seen["began"])) * 1000)
        width = line.get("width_ms")
        seen["pulses"].append({"at_ms": began - (width or 0), "width_ms": width})
    elif event == "finished":
        seen["finished"] = line
    if session.json:
        screen.as_json_line(line)
        return
    for sentence in _sentences(line, before):
        screen.words(sentence)


def _sentences(line: Mapping[str, Any], before: str) -> list[str]:
    """What a line says to a person: nothing for a level that stayed."""
    event, clock = line.get("event"), screen.at_ms(line.get("at"))
    level = str(line.get("level"))
    if event == "eye":
        told = [say(SIGHTS.get(str(line.get("sight")), SIGHTS["none"]), **_names(line))]
        test = SELFTESTS.get(str(line.get("selftest")))
        told += [say(test)] if test else []
        return [row for sentence in told for row in screen.wrapped(sentence)]
    if event == "pulse" and line.get("width_ms") is None:
        return [say("{clock} pulse, shorter than 20 ms", clock=clock)]
    if event == "pulse":
        return [say("{clock} pulse, {ms} ms", clock=clock, ms=line.get("width_ms"))]
    if event == "level" and level != before:
        runs = line.get("cycle_runs")
        note = say("{clock} (a cycle runs: not asked)", clock=clock) if runs else clock
        return screen.wrapped(f"{note} {say(LEVELS.get(level, level))}")
    return []


def _names(line: Mapping[str, Any]) -> dict[str, str]:
    return {name: screen.clean(line.get(name)) for name in ("cabinet", "board")}


def _show(seen: Mapping[str, Any], last: Mapping[str, Any]) -> None:
    """The level now, the pulses, and the plot over the whole time."""
    if seen["sight"] not in ("read", "told"):
        screen.data(say("light eye: cannot be read from here"))
        return
    level = str(seen["level"])
    for line in screen.wrapped(say("light eye: {level}", level=say(LEVELS.get(level, level)))):
        screen.data(line)
    screen.data(say("pulses: {count}", count=last.get("pulses")))
    for line in eye_plot.plot(last["changes"], 0, last["over_ms"]):
        screen.data(line)
    for line in eye_plot.pulse_lines(seen["pulses"]):
        screen.data(line)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cabinet", metavar="CABINET")
    parser.add_argument(
        "--seconds",
        type=whole(1, 3600),
        default=10,
        metavar="N",
        help=say("how long to look, 1 to 3600 (10)"),
    )


VERBS = (
    Verb(
        "eye",
        (Line("eye CABINET", "the light eye, live, with a plot", "vendctl eye A --seconds 30"),),
        run,
        _arguments,
        note="Exit code 1 when it is dark, faulty, absent or not known at the end. It asks\n"
        "nothing of a board whose motor turns. With --json one line per change, and one a second.",
    ),
)
