"""`vendctl test LANE`: a test vend, followed step by step."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from controller.cli import screen
from controller.cli.client import path
from controller.cli.exits import Exit, Trouble
from controller.cli.meanings import refusal
from controller.cli.verbs import Line, Session, Verb, channel, confirm, whole
from controller.cli.words import say, say_count

MAX_CYCLES = 20
"""The service's own bound."""


def run(session: Session, args: argparse.Namespace) -> Exit:
    confirm(
        session,
        say_count(
            "This turns the motor of lane {lane} once: a product may fall and leave its stock. "
            "Hands out.",
            "This turns the motor of lane {lane} {count} times: as many products may fall and "
            "leave its stock. Hands out.",
            args.cycles,
            lane=args.lane,
        ),
    )
    outcomes: list[Mapping[str, Any]] = []
    said = ""
    try:
        for step in session.daemon.stream(path("lanes", args.lane, "test"), cycles=args.cycles):
            if session.json:
                screen.as_json_line(step)
            elif (sentence := progress(step)) and sentence != said:  # it waits: once is enough
                screen.words(sentence)
                said = sentence
            if step.get("event") == "outcome":
                outcomes.append(step)
            if step.get("event") == "refused":
                code = str(step.get("error"))
                raise Trouble(Exit.REFUSED, code, refusal(code, str(step.get("message"))))
            if step.get("event") == "finished":
                return _finished(session, outcomes)
    except (KeyboardInterrupt, BrokenPipeError):
        screen.words(
            say(
                "\nNo further cycle begins. One that runs now ends by itself within its time "
                "limit, stops its motor and is journalled: see 'vendctl status' and "
                "'vendctl lane {lane}'.",
                lane=args.lane,
            )
        )
        return Exit.INTERRUPTED
    raise Trouble(
        Exit.UNREACHABLE,
        "connection_lost",
        say(
            "The daemon stopped before the test was over. A cycle that ran is settled at its "
            "next start: see 'vendctl lane {lane}'",
            lane=args.lane,
        ),
    )


def progress(step: Mapping[str, Any]) -> str:
    """A step as a line for people; empty for one that says nothing to them."""
    count = f"{step.get('cycle', '?')}/{step.get('of', '?')}"
    note = screen.clean(step.get("note"))
    frame = f"  [{screen.spaced(screen.clean(step['frame']))}]" if step.get("frame") else ""
    sentences = {
        "waiting": say("{count} waits: {note}", count=count, note=note),
        "started": say("{count} the motor is told to turn", count=count),
        "progress": f"{count} {note}{frame}",
        "outcome": f"{count} {_became(step)}",
    }
    return sentences.get(str(step.get("event")), "")


def _became(step: Mapping[str, Any]) -> str:
    parts = (step.get("outcome"), step.get("reason"), step.get("evidence"))
    return ", ".join(screen.clean(part) for part in parts if part)


def _finished(session: Session, outcomes: list[Mapping[str, Any]]) -> Exit:
    if not session.json:
        heads = ("CYCLE", "OUTCOME", "EVIDENCE", "DROPS", "REASON")
        rows = [
            tuple(step.get(name) for name in ("cycle", "outcome", "evidence", "drops", "reason"))
            for step in outcomes
        ]
        for line in screen.table(heads, rows):
            screen.data(line)
    fine = all(step.get("outcome") == "delivered" for step in outcomes)
    return Exit.FINE if fine else Exit.BAD_NEWS


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lane", type=channel, metavar="LANE")
    parser.add_argument(
        "--cycles",
        type=whole(1, MAX_CYCLES),
        default=1,
        metavar="N",
        help=say("how often, 1 to 20 (1)"),
    )


VERBS = (
    Verb(
        "test",
        (Line("test LANE", "test vends, journalled as such", "vendctl test A20 --cycles 3"),),
        run,
        _arguments,
        note="Exit code 1 when a cycle did not deliver. Ctrl-C: no further cycle begins, and\n"
        "one that runs ends by itself (exit code 130). With --json one step per line.",
    ),
)
