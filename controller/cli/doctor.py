"""`vendctl doctor`: everything that a call-out would check, and what to do next.

Facts are gathered once (`checks_facts`), judged by small functions (`checks_*`), and
said by one table (`checks_words`), in the order in which they matter.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from controller.cli import (
    checks_boards,
    checks_daemon,
    checks_lanes,
    checks_memory,
    checks_uplink,
    screen,
)
from controller.cli.checks_facts import Facts, gather
from controller.cli.checks_words import MEANINGS, RANK, Finding, State
from controller.cli.exits import Exit
from controller.cli.meanings import meant
from controller.cli.verbs import Line, Session, Verb
from controller.cli.words import say

CHECKS = (
    *checks_daemon.CHECKS,
    *checks_memory.CHECKS,
    *checks_boards.CHECKS,
    *checks_lanes.CHECKS,
    *checks_uplink.CHECKS,
)

LISTED = 10
"""Findings of one code that the page shows; the JSON has them all."""


TOLD = frozenset({"why", "level", "kind"})
"""Facts in the daemon's words; the others are names, paths and numbers."""


def run(session: Session, args: argparse.Namespace) -> Exit:
    facts = gather(session.daemon, getattr(args, "config", None))
    found = examine(facts)
    checks = [as_check(finding) for finding in found]
    lines = page(found)
    if args.bundle is not None:
        from controller.cli import bundle  # late: tar and gzip, for this one verb

        return bundle.run(session, facts, Path(args.bundle), {"checks": checks}, lines)
    if session.json:
        screen.as_json({"checks": checks})
    else:
        for line in lines:
            screen.data(line)
    return Exit.BAD_NEWS if needs_attention(found) else Exit.FINE


def examine(facts: Facts) -> list[Finding]:
    """What matters most first; each finding once."""
    found: dict[tuple[str, str, str], Finding] = {}
    for check in CHECKS:
        for finding in check(facts):
            text = str(finding.facts.get("text", ""))
            found.setdefault((finding.code, finding.subject, text), finding)
    return sorted(found.values(), key=lambda each: RANK[each.code])


def needs_attention(found: Iterable[Finding]) -> bool:
    return any(MEANINGS[each.code].state is State.BAD for each in found)


def as_check(finding: Finding) -> dict[str, Any]:
    """`shapes.Check`."""
    cause, remedy = in_words(finding)
    return {
        "code": finding.code,
        "state": MEANINGS[finding.code].state.value,
        "subject": finding.subject,
        "cause": cause,
        "remedy": remedy,
        "facts": dict(finding.facts),
    }


def in_words(finding: Finding) -> tuple[str, str]:
    meaning = MEANINGS[finding.code]
    said = {name: meant(finding.facts[name]) for name in TOLD & finding.facts.keys()}
    fields = {"subject": finding.subject, **finding.facts, **said}
    cause = say(meaning.cause, **fields)
    return cause, say(meaning.remedy, **fields) if meaning.remedy else ""


def page(found: Sequence[Finding]) -> list[str]:
    bad, look, fine = (
        [each for each in found if MEANINGS[each.code].state is state]
        for state in (State.BAD, State.LOOK, State.FINE)
    )
    lines = [_head(len(bad), len(look))]
    for part, mark, colour in ((bad, "!!", "bad"), (look, " ?", "loud")):
        shown = _first_of_each_code(part)
        for number, finding in enumerate(shown, 1 if part is bad else len(bad) + 1):
            lines += ["", *_finding(finding, mark, colour, number)]
        if len(shown) < len(part):
            lines += ["", say("… and {count} more: --json", count=len(part) - len(shown))]
    if fine:
        lines += ["", say("Fine:")]
        for finding in fine:
            cause, _ = in_words(finding)
            name = finding.code.removesuffix("_fine")
            lines += screen.wrapped(f"{name:<12}{_about(finding, cause)}", "  ", " " * 14)
    return lines


def _head(bad: int, look: int) -> str:
    if bad:
        return screen.paint(say("{count} to mend, {look} to look at.", count=bad, look=look), "bad")
    if look:
        return screen.paint(say("Nothing to mend, {look} to look at.", look=look), "good")
    return screen.paint(say("Nothing to mend."), "good")


def _first_of_each_code(found: Sequence[Finding]) -> list[Finding]:
    counts: dict[str, int] = {}
    shown = []
    for finding in found:
        counts[finding.code] = counts.get(finding.code, 0) + 1
        if counts[finding.code] <= LISTED:
            shown.append(finding)
    return shown


def _about(finding: Finding, cause: str) -> str:
    """A board's or cabinet's name before the words that do not have it."""
    if finding.subject and finding.subject not in cause and "/" not in finding.subject:
        return f"{finding.subject}: {cause}"
    return cause


def _finding(finding: Finding, mark: str, colour: str, number: int) -> list[str]:
    cause, remedy = in_words(finding)
    head = f"{mark} {number}. {finding.code}"
    about = screen.clean(finding.subject)
    titled = f"{head}  {about}" if screen.columns_of(f"{head}  {about}") <= screen.WIDTH else head
    return [
        screen.paint(titled if finding.subject else head, colour),
        *screen.wrapped(cause, "   ", "   "),
        *(screen.wrapped(remedy, "   > ", "     ") if remedy else ()),
    ]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", metavar="FILE", help=say("write all of it to one archive"))


VERBS = (
    Verb(
        "doctor",
        (
            Line("doctor", "checks everything; what to do next", "vendctl doctor"),
            Line(
                "doctor --bundle FILE",
                "one archive for support, without secrets",
                "vendctl doctor --bundle /tmp/machine.tar.gz",
            ),
        ),
        run,
        _arguments,
        note="Exit code 1 when something is to be mended. It changes nothing, and works without "
        "the daemon as far as it can: that the daemon is away is then its first finding.",
    ),
)
