"""`vendctl stock undo-test [LANE]`: what your test vends dropped is in its lane again."""

from __future__ import annotations

import argparse

from controller.cli import screen
from controller.cli.client import path
from controller.cli.exits import Exit
from controller.cli.lanes import show_lanes
from controller.cli.looks import lane_now
from controller.cli.verbs import Line, Session, Verb, channel, confirm
from controller.cli.words import say


def run_undo(session: Session, args: argparse.Namespace) -> Exit:
    if args.lane is not None:
        lane_now(session, args.lane)
    confirm(
        session,
        say("This says that all that your test vends dropped lies in its lanes again.")
        if args.lane is None
        else say(
            "This says that all that your test vends dropped from lane {name} lies in it again.",
            name=args.lane,
        ),
    )
    done = session.daemon.act(path("stock", "undo-test"), channel=args.lane)
    if session.json:
        screen.as_json(done)
        return Exit.FINE
    show_lanes(done.get("lanes", []))
    for name, items in (done.get("put_back") or {}).items():
        screen.words(say("lane {name}: {items} put back", name=screen.clean(name), items=items))
    return Exit.FINE


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lane", nargs="?", type=channel, metavar="LANE")


VERBS = (
    Verb(
        "stock undo-test",
        (
            Line(
                "stock undo-test [LANE]",
                "your tests' items are back",
                "vendctl stock undo-test A20",
            ),
        ),
        run_undo,
        _arguments,
        note="Only test vends of your own that dropped something since the lane was last counted,\n"
        "each once. A test of unknown outcome is settled by 'stock set'.",
    ),
)
