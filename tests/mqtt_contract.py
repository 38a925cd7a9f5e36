"""Whether a message is what docs/schemas/mqtt says: the committed contract judges real messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas" / "mqtt"


def closed(schema: Any) -> Any:
    """Only what it names: ours may name new fields later, a test must not overlook one now."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {name: closed(part) for name, part in schema.items()}
    whole = schema.get("type") == "object" and isinstance(schema.get("properties"), dict)
    return {**shut, "additionalProperties": False} if whole else shut


@cache
def _validator(message: str) -> Draft7Validator:
    path = SCHEMAS / f"{message}.json"
    if not path.exists():
        path = SCHEMAS / f"{message.partition('.')[0]}.json"  # an answer to what is no verb
    return Draft7Validator(closed(json.loads(path.read_text(encoding="utf-8"))))


def complaints(topic: str, body: Mapping[str, Any]) -> list[str]:
    """What the schema has to say against a message on this topic below the machine's root."""
    errors = _validator(topic.replace("/", ".")).iter_errors(body)
    return [f"{topic}: {'.'.join(map(str, error.path))}: {error.message}" for error in errors]


_KIND = ("status", "kind", "outcome", "reason", "code", "online", "mode")


def complaints_of_each_kind(messages: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Of the first message of each kind: a run says the same thousands of times."""
    first: dict[tuple[Any, ...], tuple[str, Mapping[str, Any]]] = {}
    for topic, body in messages:
        first.setdefault((topic, *map(body.get, _KIND)), (topic, body))
    return [complaint for topic, body in first.values() for complaint in complaints(topic, body)]
