"""Writes the man page vendctl(1) in English and Chinese: `make generated`.

Made from the verbs and the parser of the program, so it cannot say anything else than
`--help` does. Only macros of man(7) that groff and mandoc both know.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from controller.cli.main import EXIT_CODES, VERBS, parser
from controller.cli.verbs import Verb
from controller.cli.words import LANGUAGE, later, say

MAN = Path(__file__).parents[2] / "docs" / "man"

PAGES: Mapping[str, Path] = {
    "en": MAN / "man1" / "vendctl.1",
    "zh": MAN / "zh_CN" / "man1" / "vendctl.1",
}
"""As man(1) looks for them below a directory of MANPATH."""

ENVIRONMENT: tuple[tuple[str, str], ...] = (
    ("VENDCTL_SOCKET", later("the daemon's socket, where --socket is not given")),
    ("LC_ALL, LC_MESSAGES, LANG", later("the language, where --lang is not given")),
    ("NO_COLOR", later("no colours, when it is set")),
)

FILES: tuple[tuple[str, str], ...] = (
    ("/run/vending-controller/control.sock", later("the daemon's socket")),
    ("/etc/vending-controller/config.toml", later("the daemon's settings")),
)


def page(language: str) -> str:
    """The man page as roff."""
    LANGUAGE.set(language)
    try:
        return "\n".join(_lines()) + "\n"
    finally:
        LANGUAGE.set("en")


def _lines() -> Iterator[str]:
    top = parser()
    yield '.\\" Made by "make generated" from the verbs of vendctl.'
    yield f'.TH VENDCTL 1 "" "vending\\-controller {version("vending-controller")}"'
    yield ".ad l"  # Chinese has no spaces to stretch
    yield f'.SH "{say("NAME")}"'
    yield f"vendctl \\- {roff(say('the technician of a vending machine asks and acts'))}"
    yield f'.SH "{say("SYNOPSIS")}"'
    yield f"\\fBvendctl\\fR {roff(say('[options]'))} \\fIVERB\\fR …"
    yield f'.SH "{say("DESCRIPTION")}"'
    yield roff(top.description or "")
    yield roff(
        say(
            "Reading verbs never change anything. Acting ones say what they will do, ask once, "
            "and are journalled with the user's name. Data goes to stdout, words to stderr."
        )
    )
    yield f'.SH "{say("VERBS")}"'
    for verb in VERBS:
        yield from _verb(verb, top)
    yield f'.SH "{say("OPTIONS")}"'
    yield from _options(top)
    yield f'.SH "{say("EXIT STATUS")}"'
    yield from _listed([(str(int(code)), say(meaning)) for code, meaning in EXIT_CODES])
    yield f'.SH "{say("ENVIRONMENT")}"'
    yield from _listed([(name, say(meaning)) for name, meaning in ENVIRONMENT])
    yield f'.SH "{say("FILES")}"'
    yield from _listed([(name, say(meaning)) for name, meaning in FILES])


def _verb(verb: Verb, top: argparse.ArgumentParser) -> Iterator[str]:
    for place, line in enumerate(verb.lines):
        yield ".TP" if place == 0 else ".TQ"
        yield f"\\fBvendctl {roff(line.usage)}\\fR"
    yield roff("; ".join(say(line.summary) for line in verb.lines))
    if verb.note:
        yield ".IP"
        yield roff(" ".join(say(verb.note).split()))
    own = _parser_of(verb.name.split(), top)
    everywhere = {action.dest for action in top._actions}
    for action in own._actions:
        if action.option_strings and action.dest not in everywhere:
            yield ".IP"
            yield f"\\fB{roff(_invocation(action))}\\fR: {roff(action.help or '')}"
    yield ".IP"
    yield roff(say("example:"))
    yield ".RS"
    for line in verb.lines:
        yield ".PP"
        yield ".EX"
        yield roff(line.example)
        yield ".EE"
    yield ".RE"


def _parser_of(words: list[str], among: argparse.ArgumentParser) -> argparse.ArgumentParser:
    for action in among._actions:
        if words and isinstance(action, argparse._SubParsersAction):
            return _parser_of(words[1:], action.choices[words[0]])
    return among


def _options(top: argparse.ArgumentParser) -> Iterator[str]:
    yield from _listed(
        [
            (_invocation(action), action.help or "")
            for action in top._actions
            if action.option_strings
        ]
    )


def _invocation(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings)
    if action.nargs == 0:
        return names
    value = "|".join(map(str, action.choices)) if action.choices else action.metavar
    return f"{names} {value or action.dest.upper()}"


def _listed(entries: list[tuple[str, str]]) -> Iterator[str]:
    for name, text in entries:
        yield ".TP"
        yield f"\\fB{roff(name)}\\fR"
        yield roff(text)


def roff(text: str) -> str:
    """As roff takes it literally: its escape sign, and the signs that begin a request."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    lines = textwrap.wrap(safe, 78, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for language, path in PAGES.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(language), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
