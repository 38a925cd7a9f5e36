"""`vendctl config check [FILE]`: the settings, judged here and without the daemon."""

from __future__ import annotations

import argparse
from pathlib import Path

from controller.cli import screen
from controller.cli.exits import Exit
from controller.cli.verbs import Line, Session, Verb
from controller.cli.words import say

DEFAULT_FILE = "/etc/vending-controller/config.toml"


def run_check(session: Session, args: argparse.Namespace) -> Exit:
    from controller.config import check_text  # late: pydantic costs more than all the rest

    errors, warnings = check_text(Path(args.file))
    if session.json:
        screen.as_json({"file": args.file, "errors": list(errors), "warnings": list(warnings)})
    else:
        for warning in warnings:
            screen.data(say("warning: {text}", text=screen.clean(warning)))
        for error in errors:
            screen.data(say("error: {text}", text=screen.clean(error)))
        if not errors:
            screen.words(say("{file}: the daemon can run with it.", file=args.file))
    return Exit.BAD_NEWS if errors else Exit.FINE


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", default=DEFAULT_FILE, metavar="FILE", help=DEFAULT_FILE)


VERBS = (
    Verb(
        "config check",
        (
            Line(
                "config check [FILE]",
                "is the settings file right?",
                "vendctl config check /etc/vending-controller/config.toml",
            ),
        ),
        run_check,
        _arguments,
        note="Needs no daemon. Exit code 1 when the daemon would not start with the file.",
    ),
)
