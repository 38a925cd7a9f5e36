"""`vendctl watch`: the machine live on a full screen, or its stream as lines of JSON."""

from __future__ import annotations

import argparse
import codecs
import os
import sys

from controller.cli import screen
from controller.cli.exits import Exit, Trouble
from controller.cli.verbs import Line, Session, Verb
from controller.cli.watch.shelves import ASCII, UTF8, Signs
from controller.cli.words import say


def run(session: Session, args: argparse.Namespace) -> Exit:
    if session.json:
        for line in session.daemon.lines("/v1/watch"):
            screen.as_json_line(line)
        raise Trouble(
            Exit.UNREACHABLE,
            "connection_lost",
            say("The daemon stopped: systemctl status vending-controller"),
        )
    if not on_a_terminal():
        args.parser.error(
            say(
                "watch needs a terminal. For a script: vendctl status --json tells how the "
                "machine is now, vendctl watch --json each change"
            )
        )
    from controller.cli.watch.app import WatchApp  # Textual: no other verb waits for its import

    app = WatchApp(session.daemon, signs_of(sys.stderr.encoding))
    app.run(mouse=False)  # a mouse that moves would be a stream of its own over a slow link
    left = {0: Exit.FINE, int(Exit.INTERRUPTED): Exit.INTERRUPTED}
    return left.get(app.return_code or 0, Exit.BAD_NEWS)


def on_a_terminal() -> bool:
    """Keys come from stdin, and Textual draws on stderr; `> FILE` is meant for data."""
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    return not dumb and all(stream is not None and stream.isatty() for stream in streams)


def signs_of(encoding: str | None) -> Signs:
    try:
        return UTF8 if codecs.lookup(encoding or "ascii").name == "utf-8" else ASCII
    except LookupError:
        return ASCII


VERBS = (
    Verb(
        "watch",
        (Line("watch", "the machine live, full screen", "vendctl watch"),),
        run,
        note="Arrow keys choose a lane; the last line names the keys that act, and each asks\n"
        "before it does. With --json each change as a line, until Ctrl-C.",
    ),
)
