"""`vendctl cabinet stop|start NAME` and `board accept NAME`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from controller.cli import screen
from controller.cli.client import path
from controller.cli.exits import Exit
from controller.cli.looks import board_to_accept, cabinet_now
from controller.cli.meanings import meant
from controller.cli.verbs import Line, Session, Verb, confirm
from controller.cli.words import say


def run_stop(session: Session, args: argparse.Namespace) -> Exit:
    cabinet_now(session.daemon.read("/v1/status"), args.name)
    confirm(
        session,
        say("This stops cabinet {name}: no new cycle there until it is started.", name=args.name),
    )
    done = session.daemon.act(path("cabinets", args.name, "stop"), reason=args.reason or "")
    return _acted(session, done)


def run_start(session: Session, args: argparse.Namespace) -> Exit:
    status = session.daemon.read("/v1/status")
    cabinet = cabinet_now(status, args.name)
    if cabinet.get("state") != "stopped":
        screen.words(say("Cabinet {name} is not stopped: nothing was done.", name=args.name))
        lanes = status.get("moving_lanes") or ()
        moving = any(lane.get("cabinet") == args.name for lane in lanes)
        return _acted(session, {"name": args.name, "cabinet": cabinet, "moving": moving})
    confirm(
        session,
        say("This lets the motors of cabinet {name} turn again. Hands out.", name=args.name),
    )
    return _acted(session, session.daemon.act(path("cabinets", args.name, "start")))


def run_accept(session: Session, args: argparse.Namespace) -> Exit:
    board_to_accept(session.daemon.read("/v1/status"), args.name)
    confirm(
        session,
        say(
            "This takes the board that answers as {name} for the right one from now on.",
            name=args.name,
        ),
    )
    done = session.daemon.act(path("boards", args.name, "accept"))
    if session.json:
        screen.as_json(done)
    else:
        board = done.get("board", {})
        state = screen.clean(meant(board.get("out_of_service") or "") or say("in service"))
        screen.data(say("board {name}: {state}", name=screen.clean(args.name), state=state))
    return Exit.FINE


def _acted(session: Session, done: Mapping[str, Any]) -> Exit:
    if session.json:
        screen.as_json(done)
        return Exit.FINE
    cabinet = done.get("cabinet", {})
    reason = f" ({screen.clean(meant(cabinet['reason']))})" if cabinet.get("reason") else ""
    name = screen.clean(done.get("name"))
    state = f"{screen.clean(meant(cabinet.get('state')))}{reason}"
    for line in screen.wrapped(say("cabinet {name}: {state}", name=name, state=state), "", "  "):
        screen.data(line)
    if done.get("moving"):
        warning = say(
            "A motor of cabinet {name} may still turn: wait until the first line of "
            "'vendctl status' says that nothing moves.",
            name=name,
        )
        for line in screen.wrapped(warning):
            screen.words(line)
    return Exit.FINE


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


def _name_and_reason(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument("--reason", help=say("why, kept with the cabinet"))


VERBS = (
    Verb(
        "cabinet stop",
        (
            Line(
                "cabinet stop NAME",
                "before a hand reaches in",
                "vendctl cabinet stop A --reason refill",
            ),
        ),
        run_stop,
        _name_and_reason,
        note="A cycle that runs already goes on to its end: the answer says so. Wait for it.",
    ),
    Verb(
        "cabinet start",
        (Line("cabinet start NAME", "sell again", "vendctl cabinet start A"),),
        run_start,
        _name,
        note="After a lost journal each lane needs 'stock set' or 'stock fill' first. One that is\n"
        "not stopped stays as it is (exit code 0).",
    ),
    Verb(
        "board accept",
        (Line("board accept NAME", "after a board was swapped", "vendctl board accept main"),),
        run_accept,
        _name,
    ),
)
