"""`vendctl outbox`: what the broker does not have yet, and why."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from controller.cli import screen
from controller.cli.exits import Exit
from controller.cli.verbs import Line, Session, Verb
from controller.cli.words import say

HELD_BACK = {"not_connected", "refused"}


def run(session: Session, _args: argparse.Namespace) -> Exit:
    found = session.daemon.read("/v1/outbox")
    topics = found.get("topics") or []
    if session.json:
        screen.as_json(found)
    else:
        heads = ("TOPIC", "WAITING", "OLDEST", "NEXT TRY")
        for line in screen.table(heads, [_row(topic) for topic in topics]):
            screen.data(line)
        for topic in topics:
            for line in screen.wrapped(_why(topic)) if topic.get("why") else ():
                screen.data(line)
    held = any(topic.get("why") in HELD_BACK for topic in topics)
    return Exit.BAD_NEWS if held else Exit.FINE


def _row(topic: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        topic.get("topic"),
        topic.get("count"),
        screen.at(topic.get("oldest_at")),
        _next_try(topic.get("next_try_s")),
    )


def _next_try(seconds: object) -> str:
    return "-" if not isinstance(seconds, int | float) else f"{seconds:.0f} s"


def _why(topic: Mapping[str, Any]) -> str:
    name, detail = screen.clean(topic.get("topic")), screen.clean(topic.get("detail"))
    sentences = {
        "not_connected": say(
            "! {topic}: the broker is not connected ({detail}); all of it waits here, durable",
            topic=name,
            detail=detail,
        ),
        "refused": say(
            "! {topic}: the broker refuses the oldest ({detail}), and the others wait behind it",
            topic=name,
            detail=detail,
        ),
        "sending": say("{topic}: on its way", topic=name),
    }
    return sentences.get(str(topic.get("why")), "")


VERBS = (
    Verb(
        "outbox",
        (Line("outbox", "what still has to leave, and why", "vendctl outbox"),),
        run,
        note="Exit code 1 when something cannot leave now.",
    ),
)
