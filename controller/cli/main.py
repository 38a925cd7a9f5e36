"""vendctl: the technician's tool. Thin: it asks the daemon, and prints for people or as JSON."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from controller import __version__
from controller.cli import (
    cabinets,
    completion,
    doctor,
    eye,
    journal,
    lanes,
    link,
    offline,
    orders,
    outbox,
    resolve,
    screen,
    service_mode,
    settings,
    status,
    stock,
    trace,
    vend_test,
)
from controller.cli.client import DEFAULT_SOCKET, TIMEOUT_S, Daemon
from controller.cli.exits import Exit, Trouble
from controller.cli.verbs import Session, Verb
from controller.cli.watch import verb as watch
from controller.cli.words import CATALOGUES, language_of, later, say, speak

VERBS: tuple[Verb, ...] = (
    *status.VERBS,
    *doctor.VERBS,
    *watch.VERBS,
    *orders.VERBS,
    *lanes.VERBS,
    *stock.VERBS,
    *resolve.VERBS,
    *outbox.VERBS,
    *journal.VERBS,
    *link.VERBS,
    *trace.VERBS,
    *cabinets.VERBS,
    *status.CLOCK_VERBS,
    *service_mode.VERBS,
    *vend_test.VERBS,
    *eye.VERBS,
    *settings.VERBS,
    *completion.VERBS,
)

EXIT_CODES: tuple[tuple[Exit, str], ...] = (
    (Exit.FINE, later("fine")),
    (
        Exit.BAD_NEWS,
        later(
            "the answer is bad news (each verb's --help says what that is); what a reading verb "
            "was to show does not exist"
        ),
    ),
    (
        Exit.USAGE,
        later("wrong usage, or nobody was there to confirm and --yes was not given"),
    ),
    (Exit.UNREACHABLE, later("the daemon cannot be reached")),
    (Exit.REFUSED, later("refused; what an acting verb was to act on does not exist")),
    (Exit.TIME_RAN_OUT, later("time ran out")),
    (Exit.INTERRUPTED, later("stopped with Ctrl-C")),
)


def main(argv: Sequence[str] | None = None) -> int:
    """The program `vendctl`; returns its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    speak(language_of(given, os.environ))
    if "_ARGCOMPLETE" in os.environ:
        completion.complete(parser())
    screen.open_streams()
    code = Exit.FINE
    try:
        code = _run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        screen.drop(sys.stdout)  # `vendctl events | head`: the reader has enough
    except OSError as error:
        screen.drop(sys.stdout)
        screen.words(say("vendctl: cannot write the answer: {why}", why=error.strerror or error))
        return int(Exit.BAD_NEWS)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    return int(code)


def _run(given: list[str]) -> Exit:
    top = parser()
    args = top.parse_args(given)
    if args.verb is None:
        top.error(
            say("no verb given; 'vendctl --help' lists them, 'vendctl status' is a beginning")
        )
    as_json = getattr(args, "json", False)
    where = getattr(args, "socket", None) or os.environ.get("VENDCTL_SOCKET") or DEFAULT_SOCKET
    timeout_s, yes = getattr(args, "timeout", TIMEOUT_S), getattr(args, "yes", False)
    verb: Verb = args.verb
    try:
        with contextlib.ExitStack() as held:
            if getattr(args, "offline", False) and verb.asks_daemon:
                settings_file = Path(getattr(args, "config", settings.DEFAULT_FILE))
                where = held.enter_context(offline.daemon_without_broker(settings_file, where))
            return verb.run(Session(Daemon(where, timeout_s), json=as_json, yes=yes), args)
    except Trouble as trouble:
        if as_json:
            screen.as_json_line({"error": trouble.code, "message": str(trouble)})
        screen.words(f"vendctl: {screen.clean(trouble)} ({trouble.code})")
        return trouble.exit_code


def parser() -> argparse.ArgumentParser:
    options = _options()
    top = argparse.ArgumentParser(
        prog="vendctl",
        description=say("Asks the vending controller on this machine, and acts through it."),
        epilog=_epilog(),
        formatter_class=screen.NarrowHelp,
        parents=[options],
        allow_abbrev=False,
        usage=say("vendctl [options] VERB …"),
    )
    top.add_argument(
        "--version",
        action="version",
        version=f"vendctl {__version__}",
        help=say("show the version and exit"),
    )
    top.set_defaults(verb=None)
    verbs = top.add_subparsers(metavar="VERB", help=argparse.SUPPRESS)
    groups: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for verb in VERBS:
        group, _, name = verb.name.rpartition(" ")
        if group and group not in groups:
            groups[group] = verbs.add_parser(
                group,
                prog=f"vendctl {group}",
                usage=f"vendctl {group} VERB …",
                formatter_class=screen.NarrowHelp,
                allow_abbrev=False,
            ).add_subparsers(metavar="VERB", required=True)
        _add(groups[group] if group else verbs, name, verb, options)
    return top


def _add(
    among: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    verb: Verb,
    options: argparse.ArgumentParser,
) -> None:
    example = say("example:")
    examples = "\n".join([example, *(f"  {line.example}" for line in verb.lines)])
    options_word = say("[options]")
    own = among.add_parser(
        name,
        prog=f"vendctl {verb.name}",
        usage="\n       ".join(f"vendctl {line.usage} {options_word}" for line in verb.lines),
        help=say(verb.lines[0].summary),
        description="\n".join(f"{line.usage}: {say(line.summary)}" for line in verb.lines),
        epilog="\n\n".join(part for part in (" ".join(say(verb.note).split()), examples) if part),
        formatter_class=screen.NarrowHelp,
        parents=[options],
        allow_abbrev=False,
    )
    verb.arguments(own)
    own.set_defaults(verb=verb, parser=own)


def _options() -> argparse.ArgumentParser:
    """Options that every verb takes, before it or behind it. Absent ones leave no trace, so
    that the verb's parser does not undo what stood before the verb."""
    options = argparse.ArgumentParser(
        add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False
    )
    group = options.add_argument_group(say("options of every verb"))
    group.add_argument(
        "--socket",
        metavar="PATH",
        help=say("the daemon's socket; else $VENDCTL_SOCKET, else {path}", path=DEFAULT_SOCKET),
    )
    group.add_argument("--json", action="store_true", help=say("data as JSON on stdout"))
    group.add_argument("--yes", action="store_true", help=say("act without asking (scripts)"))
    group.add_argument("--lang", choices=sorted(CATALOGUES), help=say("else by the locale"))
    group.add_argument(
        "--offline",
        action="store_true",
        help=say("the daemon is stopped: do it here, straight on the port"),
    )
    group.add_argument(
        "--config",
        metavar="FILE",
        help=say("its settings, for --offline ({path})", path=settings.DEFAULT_FILE),
    )
    group.add_argument(
        "--timeout",
        type=_seconds,
        metavar="S",
        help=say("seconds to wait for an answer ({seconds:g})", seconds=TIMEOUT_S),
    )
    return options


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:  # noqa: PLR2004 - an hour
        raise argparse.ArgumentTypeError(say("seconds, from above 0 to 3600"))
    return seconds


def _epilog() -> str:
    lines = [line for verb in VERBS for line in verb.lines]
    verbs = [f"  {line.usage:<20}  {say(line.summary)}" for line in lines]
    examples = [f"  {line.example}" for line in lines]
    codes = [f"  {int(code)}  {say(meaning)}" for code, meaning in EXIT_CODES]
    parts = (
        [say("verbs:"), *verbs],
        [say("examples:"), *examples],
        [say("exit codes:"), *codes],
    )
    return "\n\n".join("\n".join(part) for part in parts)


if __name__ == "__main__":
    sys.exit(main())
