"""What a real daemon answers to `vendctl --json` is what docs/schemas says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.system.site import Site
from tests.tooling.schemas import FAILURE, LINES, SHAPES, file_of

pytestmark = pytest.mark.system

VERBS = (
    ("status",),
    ("orders",),
    ("order", "1"),
    ("events",),
    ("lanes",),
    ("lane", "A2"),
    ("lane", "disable", "A2", "--reason", "bent"),
    ("lane", "A2"),
    ("lane", "enable", "A2"),
    ("link",),
    ("trace", "--all"),
    ("service", "on"),
    ("service", "off"),
    ("outbox",),
    ("doctor",),
    ("eye", "A", "--seconds", "1"),
    ("journal", "check"),
    ("journal", "backup", "{file}"),
    ("journal", "prune"),
    ("test", "A1"),
    ("stock", "undo-test", "A1"),
    ("stock", "set", "A2", "3"),
    ("stock", "fill", "A"),
    ("cabinet", "stop", "A"),
    ("status",),
    ("cabinet", "start", "A"),
    ("config", "show"),
    ("config", "schema"),
    ("completion", "bash"),
)
"""In the order of a visit; the machine is as it was afterwards, but for a product."""

REFUSED = (("board", "accept", "main"), ("clock", "accept"), ("lane", "Z9"), ("order", "99"))
"""There is nothing to accept on a machine that is well, and no such lane or order."""

NEED_A_TROUBLE = {
    "board accept",
    "clock accept",
    "config check",
    "journal restore",
    "resolve",
    "watch",
}
"""Their shapes are tried on a machine in memory (tests/service, tests/cli)."""


def closed(schema: Any) -> Any:
    """Only what it names: ours may name new fields later, a test must not overlook one now."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {name: closed(part) for name, part in schema.items() if name != "properties"}
    if "properties" not in schema:
        return shut
    named = {name: closed(part) for name, part in schema["properties"].items()}
    return {**shut, "properties": named, "additionalProperties": False}


def judged(name: str, answer: object) -> list[str]:
    """What the schema has to say against it."""
    schema = closed(json.loads(file_of(name).read_text(encoding="utf-8")))
    return [error.message for error in Draft202012Validator(schema).iter_errors(answer)]


def verb_of(words: tuple[str, ...]) -> str:
    return max((verb for verb in SHAPES if f"{' '.join(words)} ".startswith(f"{verb} ")), key=len)


def test_every_answer_of_the_real_daemon_fits_its_schema(site: Site) -> None:
    site.platform.dispense(1, [{"product_id": 122, "quantity": 1}])
    site.platform.wait_order(1, "finished")
    for words in VERBS:
        filled = [word.format(file=site.directory / "copy.db") for word in words]
        ran = site.daemon.run_ctl(*filled, "--json", "--yes")
        assert ran.returncode in {0, 1}, ran.stderr
        verb = verb_of(words)
        answers = ran.stdout.splitlines() if verb in LINES else [ran.stdout]
        for answer in answers:
            assert judged(verb, json.loads(answer)) == [], words
    for words in REFUSED:
        ran = site.daemon.run_ctl(*words, "--json", "--yes")
        assert ran.returncode in {1, 4}
        assert judged(FAILURE, json.loads(ran.stdout)) == [], words


def test_every_verb_was_asked_or_says_why_not() -> None:
    assert {verb_of(words) for words in VERBS} | NEED_A_TROUBLE == set(SHAPES)


def test_a_wrong_answer_is_found() -> None:
    assert judged(FAILURE, {"error": "busy"}) != []
    assert judged(FAILURE, {"error": "busy", "message": "wait", "more": 1}) != []
    assert judged("lanes", {"lanes": [{"channel": "A1"}]}) != []
