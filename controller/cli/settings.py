"""`vendctl config check [FILE]`, `config show`, `config schema`: the settings.

They are judged here, without the daemon; shown as the daemon runs with them, where it answers.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.cli import screen
from controller.cli.exits import Exit, Trouble
from controller.cli.meanings import meant_finding
from controller.cli.verbs import Line, Session, Verb
from controller.cli.words import joined, later, say
from controller.config_shown import listed

DEFAULT_FILE = "/etc/vending-controller/config.toml"
SET, NOT_SET = later("(set)"), later("(not set)")
"""All that is told of a secret."""


def run_check(session: Session, args: argparse.Namespace) -> Exit:
    from controller.config import check_text  # late: pydantic costs more than all the rest

    file = args.file or getattr(args, "config", None) or DEFAULT_FILE
    errors, warnings = check_text(Path(file))
    if session.json:
        screen.as_json({"file": file, "errors": list(errors), "warnings": list(warnings)})
    else:
        for warning in warnings:
            screen.data(say("warning: {text}", text=screen.clean(meant_finding(warning))))
        for error in errors:
            screen.data(say("error: {text}", text=screen.clean(meant_finding(error))))
        if not errors:
            screen.words(say("{file}: the daemon can run with it.", file=file))
    return Exit.BAD_NEWS if errors else Exit.FINE


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help=DEFAULT_FILE)


# --------------------------------------------------------------------------- shown


def run_show(session: Session, args: argparse.Namespace) -> Exit:
    told, running = _in_force(session, getattr(args, "config", None))
    file, changed = str(told.get("file", "")), bool(told.get("changed"))
    errors = [] if running else [str(error) for error in told.get("errors") or ()]
    found = listed(told.get("settings") or {}, None if changed else _text(file))
    if session.json:
        facts = {"file": file, "running": running, "changed": changed, "errors": errors}
        screen.as_json({**facts, "settings": found})
        return Exit.BAD_NEWS if errors else Exit.FINE
    for error in errors:
        screen.data(say("error: {text}", text=screen.clean(meant_finding(error))))
    for line in _page(found):
        screen.data(line)
    if running and changed:
        _aside(
            say(
                "{file} changed since the daemon started. It runs with what is shown here until "
                "it is restarted: systemctl restart vending-controller",
                file=file,
            )
        )
    elif running:
        _aside(say("{file}, as the daemon runs with it.", file=file))
    return Exit.BAD_NEWS if errors else Exit.FINE


def _in_force(session: Session, file: str | None) -> tuple[Mapping[str, Any], bool]:
    """The settings and whether the daemon runs with them. Raises Trouble."""
    from controller.cli.checks_facts import config_facts  # late: it knows our DEFAULT_FILE

    if file is None:
        try:
            return session.daemon.read("/v1/doctor")["config"], True
        except (Trouble, KeyError) as error:
            file = DEFAULT_FILE
            _aside(say("The daemon did not tell its settings ({why}).", why=screen.clean(error)))
            _aside(say("This is what {file} says.", file=file))
    told = config_facts(file)
    if told.get("unreadable"):
        message = say("This user may not read {file}: use sudo", file=file)
        raise Trouble(Exit.REFUSED, "forbidden", message)
    return told, False


def _text(file: str) -> str | None:
    """For the lines of the settings; None where this user may not read it."""
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return None


def _aside(sentence: str) -> None:
    for line in screen.wrapped(sentence):
        screen.words(line)


def _page(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of the file after the other; each lane, of which there are many, in a row."""
    lines: list[str] = []
    for table, settings in itertools.groupby(
        found, lambda each: each["setting"].rpartition(".")[0]
    ):
        parts = {each["setting"].rpartition(".")[2]: each for each in settings}
        channel = parts.get("channel")
        if channel is not None:
            told = joined([f"{key} {_told(each, line=False)}" for key, each in parts.items()])
            lines += screen.wrapped(_placed(told, channel), "  ", "    ")
            continue
        lines += ["", screen.paint(screen.cut(f"[{table}]", screen.WIDTH), "loud")]
        lines += _rows([(key, _told(each)) for key, each in parts.items()])
    return lines[1:]


def _rows(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """As `screen.pairs`, but keys of the file have no translation."""
    rows = list(pairs)
    room = max(len(key) for key, _ in rows) + 4
    return [
        line
        for key, told in rows
        for line in screen.wrapped(told, f"  {key}".ljust(room), " " * room)
    ]


def _told(setting: Mapping[str, Any], *, line: bool = True) -> str:
    """A value as the file would have it, and where it came from."""
    value = NOT_SET if setting["value"] is None else setting["value"]
    in_words = value in (SET, NOT_SET)
    text = say(str(value)) if in_words else json.dumps(value, ensure_ascii=False)
    if setting["source"] == "default" and not in_words:
        return say("{value} (default)", value=text)
    return _placed(text, setting) if line else text


def _placed(text: str, setting: Mapping[str, Any]) -> str:
    if setting["line"] is None:
        return text
    return say("{value} (line {line})", value=text, line=setting["line"])


def run_schema(_session: Session, _args: argparse.Namespace) -> Exit:
    from controller.config_schema import settings_schema  # late, as above

    screen.as_json(settings_schema())
    return Exit.FINE


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
        asks_daemon=False,
    ),
    Verb(
        "config show",
        (
            Line(
                "config show",
                "the settings that it runs with",
                "vendctl config show --config config.toml",
            ),
        ),
        run_show,
        note="Each setting, its value, and its line in the file, or that it is the default. Of\n"
        "secrets only whether they are set. Those of the running daemon; with --config, or\n"
        "when none answers, those of the file. Exit code 1 when that file has mistakes.",
    ),
    Verb(
        "config schema",
        (
            Line(
                "config schema",
                "JSON Schema of the settings file",
                "vendctl config schema > settings.schema.json",
            ),
        ),
        run_schema,
        note="For an editor that completes and checks TOML. Needs no daemon.",
        asks_daemon=False,
    ),
)
