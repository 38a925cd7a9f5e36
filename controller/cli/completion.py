"""`vendctl completion bash|zsh|fish`, and what those scripts ask for while a person types.

argcomplete reads the same parser as the program, so a new verb completes by itself. What is
named by the machine (lanes, orders, boards, cabinets) is asked of the running daemon.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from controller.cli import screen
from controller.cli.client import DEFAULT_SOCKET, Daemon
from controller.cli.exits import Exit, Trouble
from controller.cli.verbs import Line, Session, Verb
from controller.cli.words import say

SHELLS = ("bash", "zsh", "fish")

PATIENCE_S = 1.0
"""For the daemon's names. A person waits with a finger on Tab: none are better than late ones."""

ORDERS = 50
"""The newest ones are those that somebody asks about."""


def lanes(daemon: Daemon) -> list[str]:
    return [str(lane["channel"]) for lane in daemon.read("/v1/lanes")["lanes"]]


def orders(daemon: Daemon) -> list[str]:
    found = daemon.read("/v1/orders", limit=ORDERS)["orders"]
    return list(dict.fromkeys(str(order["order_id"]) for order in found))


def boards(daemon: Daemon) -> list[str]:
    return list(daemon.read("/v1/status")["boards"])


def cabinets(daemon: Daemon) -> list[str]:
    return list(daemon.read("/v1/status")["cabinets"])


def lanes_and_turns(daemon: Daemon) -> Iterator[str]:
    """Of the verb `lane`, whose first word may be an act; that needs no daemon."""
    yield from ("enable", "disable")
    yield from lanes(daemon)


def orders_and_turns(daemon: Daemon) -> Iterator[str]:
    """Of the verb `order`, whose first word may be an act."""
    yield "cancel"
    yield from orders(daemon)


Names = Callable[[Daemon], Iterable[str]]

NAMES: Mapping[str, Names] = {
    "LANE": lanes,
    "[enable|disable] LANE": lanes_and_turns,
    "ID": orders,
    "ORDER": orders,
    "ID[/DELIVERY]": orders,
    "ORDER[/DELIVERY]": orders,
    "[cancel] ID[/DELIVERY]": orders_and_turns,
    "CABINET": cabinets,
    "BOARD": boards,
    "cabinet NAME": cabinets,
    "board NAME": boards,
}
"""An argument's metavar, or its group's name and metavar -> who names its values."""


def complete(parser: argparse.ArgumentParser) -> None:
    """Called where a shell's script runs vendctl: answers it and ends the program."""
    import argcomplete  # late: only while a person types
    from argcomplete.completers import ChoicesCompleter, FilesCompleter

    for group, own in _parsers(parser, ""):
        for action in own._actions:  # noqa: SLF001 - argparse has no public list of them
            names = NAMES.get(str(action.metavar)) or NAMES.get(f"{group} {action.metavar}")
            if names is not None:
                action.completer = _completer(names)  # type: ignore[attr-defined]
            elif action.metavar in {"FILE", "PATH"}:
                action.completer = FilesCompleter()  # type: ignore[attr-defined]
    # For a value that nobody can know, like a number: nothing, not bash's own file names.
    nothing = ChoicesCompleter({})
    argcomplete.autocomplete(parser, always_complete_options=False, default_completer=nothing)


def _parsers(
    parser: argparse.ArgumentParser, group: str
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every parser below this one, with the first word of its verb."""
    yield group, parser
    for action in parser._actions:  # noqa: SLF001 - as above
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for name, own in action.choices.items():
                yield from _parsers(own, group or name)


def _completer(names: Names) -> Callable[..., list[str]]:
    def complete_from_daemon(parsed_args: argparse.Namespace, **_more: object) -> list[str]:
        where = getattr(parsed_args, "socket", None) or os.environ.get("VENDCTL_SOCKET")
        found: list[str] = []
        with contextlib.suppress(Trouble, KeyError, TypeError):
            for name in names(Daemon(where or DEFAULT_SOCKET, PATIENCE_S)):
                found.append(screen.clean(name))  # noqa: PERF401 - what came before a failure counts
        return found

    return complete_from_daemon


def run(session: Session, args: argparse.Namespace) -> Exit:
    from argcomplete.shell_integration import shellcode  # late, as above

    # Not bash's own file names where we know none: a lane is no file.
    script = shellcode(["vendctl"], shell=args.shell, complete_arguments=["-o", "nospace"])
    script = script.strip()  # zsh finds its #compdef on the first line only
    if session.json:
        screen.as_json({"shell": args.shell, "script": script})
    else:
        screen.data(script)
    return Exit.FINE


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=say("bash, zsh or fish"))


VERBS = (
    Verb(
        "completion",
        (
            Line(
                "completion SHELL",
                "the Tab key, for bash, zsh or fish",
                'eval "$(vendctl completion bash)"',
            ),
        ),
        run,
        _arguments,
        note="Needs no daemon. Prints a script that the shell reads at its start; the words it\n"
        "completes come from vendctl, names of lanes and orders from the running daemon.",
        asks_daemon=False,
    ),
)
