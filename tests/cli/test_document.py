"""docs/vendctl.md says what there is: every verb, route and exit code."""

from __future__ import annotations

from pathlib import Path

from controller.cli.exits import Exit
from controller.cli.main import VERBS
from controller.service.routes import ROUTES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "vendctl.md").read_text(encoding="utf-8")


def test_every_verb_is_in_the_document() -> None:
    missing = [
        line.usage for verb in VERBS for line in verb.lines if f"`{line.usage}" not in DOCUMENT
    ]
    assert missing == []


def test_every_route_is_in_the_document() -> None:
    """By its last two words: the table there joins paths that share a beginning."""
    tails = ["/".join(route.path.split("/")[-2:]) for route in ROUTES]
    short = [tail if "{" not in tail.split("/")[0] else tail.split("/")[1] for tail in tails]
    assert [tail for tail in short if tail not in DOCUMENT] == []


def test_every_exit_code_is_in_the_document() -> None:
    assert [code for code in Exit if f"\n| {int(code)} |" not in DOCUMENT] == []
