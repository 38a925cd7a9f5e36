"""What a verb of vendctl is: its words, its arguments, what it runs; and how acting ones ask."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

from controller.cli import screen
from controller.cli.client import Daemon
from controller.cli.exits import Exit, Trouble
from controller.cli.words import say
from controller.model import canonical_channel


@dataclass(frozen=True, slots=True)
class Session:
    """What a run of vendctl was told besides its verb."""

    daemon: Daemon
    json: bool
    yes: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A verb's line of the help."""

    usage: str
    summary: str
    example: str


AGREED = ("y", "yes", "是", "好")
"""In every language: who set the machine's language may not be who types."""

Run = Callable[[Session, argparse.Namespace], Exit]


def no_arguments(_parser: argparse.ArgumentParser) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Verb:
    """`name` is one word, or a group's and its own (`stock set`)."""

    name: str
    lines: tuple[Line, ...]
    run: Run
    arguments: Callable[[argparse.ArgumentParser], None] = no_arguments
    note: str = ""
    """For the end of its help: what its exit code 1 means, what it waits for."""
    asks_daemon: bool = True
    """False: it works without any, and with --offline starts none that would hold the journal."""


def channel(text: str) -> str:
    """An argument's type: `a01` means lane A1."""
    try:
        return canonical_channel(text.upper())
    except ValueError:
        raise argparse.ArgumentTypeError(
            say("{text!r} is no lane: a letter and a number, like A20", text=text[:20])
        ) from None


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argument's type: a whole number within these bounds."""

    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text[:20]) <= high:
            raise argparse.ArgumentTypeError(
                say(
                    "{text!r} is no whole number from {low} to {high}",
                    text=text[:20],
                    low=low,
                    high=high,
                )
            )
        return int(text)

    return number


def confirm(session: Session, intent: str) -> None:
    """Say what will be done, and ask once. Raises Trouble unless it was agreed to."""
    screen.words(intent)
    if session.yes:
        return
    if not sys.stdin.isatty():
        raise Trouble(
            Exit.USAGE,
            "not_confirmed",
            say("Nobody is here to confirm that, so nothing was done. Add --yes in a script"),
        )
    if screen.ask(say("Go on? [y/N] ")) not in AGREED:
        raise Trouble(Exit.REFUSED, "not_confirmed", say("Nothing was done"))
