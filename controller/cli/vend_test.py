"""`vendctl test LANE`: a test vend, followed step by step, and what it says of its lane."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.cli import eye_plot, screen, vend_round
from controller.cli.client import path
from controller.cli.exits import Exit, Trouble
from controller.cli.looks import lane_now
from controller.cli.meanings import glossed, meant, refusal
from controller.cli.stopping import Stop, stoppable
from controller.cli.verbs import Line, Session, Verb, channel, confirm, whole
from controller.cli.verdict_words import seconds, verdict_words
from controller.cli.words import joined, say, say_count

MAX_CYCLES = 20
"""The service's own bound."""

ALL = "all"


@dataclass(slots=True)
class Followed:
    """What came of a test vend. `refused`: the code and sentence that ended it early."""

    outcomes: list[Mapping[str, Any]] = field(default_factory=list)
    refused: tuple[str, str] | None = None
    finished: bool = False


def run(session: Session, args: argparse.Namespace) -> Exit:
    if args.lane == ALL:
        return vend_round.run(session, args, follow)
    if args.cabinet is not None or args.empty:
        args.parser.error(say("CABINET and --empty belong to 'test all'"))
    lane = lane_now(session, args.lane)
    boards = session.daemon.read("/v1/status")["boards"]
    stops = bool(boards.get(lane.get("board"), {}).get("can_stop"))
    if boards.get(lane.get("board"), {}).get("door") == "open":
        screen.words(say("The door is open: a test turns the motor all the same."))
    if lane.get("health") == "disabled":
        screen.words(
            say("Lane {lane} is disabled: a test turns its motor all the same.", lane=args.lane)
        )
    confirm(session, _intent(args.lane, args.cycles, stops=stops))
    with stoppable(session.daemon) as stop:
        try:
            followed = follow(session, args.lane, args.cycles, stop)
        except (KeyboardInterrupt, BrokenPipeError):
            screen.words(_left(args.lane, stops=stops))
            return Exit.INTERRUPTED
    return _finished(session, args.lane, followed, stopped=stop.wanted)


def _intent(lane: str, cycles: int, *, stops: bool) -> str:
    if stops:
        return say_count(
            "This turns the motor of lane {lane} once: a product may fall and leave its stock. "
            "Hands out. Ctrl-C stops the motor.",
            "This turns the motor of lane {lane} {count} times: as many products may fall and "
            "leave its stock. Hands out. Ctrl-C stops the motor.",
            cycles,
            lane=lane,
        )
    return say_count(
        "This turns the motor of lane {lane} once: a product may fall and leave its stock. "
        "Hands out. THIS BOARD CANNOT STOP A MOTOR: a turn that began ends by itself, Ctrl-C "
        "or not.",
        "This turns the motor of lane {lane} {count} times: as many products may fall and "
        "leave its stock. Hands out. THIS BOARD CANNOT STOP A MOTOR: a turn that began ends by "
        "itself, Ctrl-C or not.",
        cycles,
        lane=lane,
    )


def _left(lane: str, *, stops: bool) -> str:
    if stops:
        return say(
            "\nNo further cycle begins. The daemon stops the motor of one that runs now and "
            "journals its outcome: see 'vendctl status' and 'vendctl lane {lane}'.",
            lane=lane,
        )
    return say(
        "\nNo further cycle begins. One that runs now goes on: this board cannot stop it. It ends "
        "by itself within its time limit and is journalled: see 'vendctl status' and "
        "'vendctl lane {lane}'.",
        lane=lane,
    )


def follow(session: Session, lane: str, cycles: int, stop: Stop) -> Followed:
    """A test vend from its first step to its last, told to a person as it goes. Raises Trouble
    when it was refused before it began, or the daemon went away."""
    followed, said = Followed(), ""
    for step in session.daemon.stream(path("lanes", lane, "test"), cycles=cycles):
        stop.saw(step)
        if session.json:
            screen.as_json_line(step)
        elif (sentence := progress(step)) and sentence != said:  # it waits: once is enough
            for line in screen.wrapped(sentence, "", "    "):
                screen.words(line)
            said = sentence
        if step.get("event") == "outcome":
            followed.outcomes.append(step)
            if not session.json:
                _show_eye(step)
        if step.get("event") == "refused":
            code = str(step.get("error"))
            followed.refused = code, refusal(code, step)
            return followed
        if step.get("event") == "finished":
            followed.finished = True
            return followed
    return followed


def progress(step: Mapping[str, Any]) -> str:
    """A step as a line for people; empty for one that says nothing to them."""
    count = f"{step.get('cycle', '?')}/{step.get('of', '?')}"
    note = screen.clean(meant(step.get("note")))
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
    return joined([screen.clean(glossed(part)) for part in parts if part])


def _show_eye(step: Mapping[str, Any]) -> None:
    """The eye's level over time around the drop, where the board lets its host read it."""
    eye = step.get("eye")
    if not eye:
        return
    shown = eye_plot.window(eye["changes"], eye["over_ms"])
    for line in (*eye_plot.plot(eye["changes"], *shown), *eye_plot.pulse_lines(eye["pulses"])):
        screen.data(line)


def _finished(session: Session, lane: str, followed: Followed, *, stopped: bool) -> Exit:
    if not session.json:
        _table(followed.outcomes)
    if stopped:
        return Exit.INTERRUPTED
    if followed.refused is not None:
        raise Trouble(Exit.REFUSED, *followed.refused)
    if not followed.finished:
        raise Trouble(
            Exit.UNREACHABLE,
            "connection_lost",
            say(
                "The daemon stopped before the test was over. A cycle that ran is settled at its "
                "next start: see 'vendctl lane {lane}'",
                lane=lane,
            ),
        )
    fine = all(step.get("outcome") == "delivered" for step in followed.outcomes)
    return Exit.FINE if fine else Exit.BAD_NEWS


def _table(outcomes: Sequence[Mapping[str, Any]]) -> None:
    """A row per cycle, then each verdict once, behind the cycles that it is about."""
    if not outcomes:
        return
    heads = ("CYCLE", "OUTCOME", "MOTOR", "DROPS", "REASON")
    rows = [
        tuple(
            seconds(step.get("run_ms")) if name == "run_ms" else step.get(name)
            for name in ("cycle", "outcome", "run_ms", "drops", "reason")
        )
        for step in outcomes
    ]
    for line in screen.table(heads, rows):
        screen.data(line)
    verdicts: dict[str, list[str]] = {}
    for step in outcomes:
        verdicts.setdefault(verdict_words(step), []).append(str(step.get("cycle")))
    for line in screen.pairs([(",".join(each), words) for words, each in verdicts.items()]):
        screen.data(line)


def lane_or_all(text: str) -> str:
    """An argument's type: a lane, or the word for every one."""
    return ALL if text.lower() == ALL else channel(text)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lane", type=lane_or_all, metavar="LANE")
    parser.add_argument("cabinet", nargs="?", metavar="CABINET", help=say("'test all': only there"))
    parser.add_argument(
        "--cycles",
        type=whole(1, MAX_CYCLES),
        default=1,
        metavar="N",
        help=say("how often, 1 to 20 (1)"),
    )
    parser.add_argument(
        "--empty", action="store_true", help=say("'test all': lanes without stock, too")
    )


VERBS = (
    Verb(
        "test",
        (
            Line("test LANE", "test vends, journalled as such", "vendctl test A20 --cycles 3"),
            Line("test all [CABINET]", "each lane once, a verdict for each", "vendctl test all A"),
        ),
        run,
        _arguments,
        note="Exit code 1 when a cycle did not deliver, or a lane of 'test all' needs a hand.\n"
        "Ctrl-C stops the motor where the board can, and shows the outcome (exit code 130);\n"
        "a second Ctrl-C leaves at once. With --json one step per line.",
    ),
)
