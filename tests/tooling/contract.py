"""Writes the MQTT contract as data: `make generated`.

`docs/schemas/mqtt`, a JSON Schema per message, from the daemon's payload models;
`docs/examples/mqtt`, real messages, from the stories of `tests.tooling.stories`; and
`docs/asyncapi.yaml`, which says on which topic each message goes.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from controller import __version__
from controller.uplink.commands import Request
from controller.uplink.messages import (
    INCOMING,
    OUTGOING,
    InventoryMessage,
    StateMessage,
    json_schemas,
)
from controller.uplink.remote import ACTS
from tests.tooling import stories

DOCS = Path(__file__).parents[2] / "docs"
SCHEMAS = DOCS / "schemas" / "mqtt"
EXAMPLES = DOCS / "examples" / "mqtt"
ASYNCAPI = DOCS / "asyncapi.yaml"

DRAFT = "http://json-schema.org/draft-07/schema#"
"""What AsyncAPI 3.0 tools must read; the models need nothing newer."""

ANY_ANSWER = "response"
"""The schema of an answer to what is no verb of ours."""


@dataclass(frozen=True)
class Message:
    """`topic` is below the machine's root."""

    name: str
    topic: str
    summary: str
    qos: int = 1
    retain: bool = False
    to_machine: bool = False


MESSAGES: Sequence[Message] = (
    Message("dispense", "dispense", "Turn the motors for these products, once.", to_machine=True),
    Message("cancel", "cancel", "End the units of an order that have not begun.", to_machine=True),
    Message("order", "order", "What became of a command as a whole."),
    Message("result", "result", "What became of one unit."),
    Message("event", "event", "Something happened that is no result."),
    Message("state", "state", "The machine at a glance; also its last will.", retain=True),
    Message("inventory", "inventory", "Every lane as the journal counts it.", retain=True),
    Message("telemetry", "telemetry", "Heartbeat and counters.", qos=0),
)
VERBS: Mapping[str, str] = {
    "status": "The machine at a glance, now.",
    "inventory": "Every lane, now.",
    "results": "Stored `order` and `result` messages: of one command, or all after a place.",
    "diagnostics": "What a technician would look at first.",
    "stock.set": "So many lie in the lane.",
    "lane.enable": "The lane sells again.",
    "lane.disable": "The lane sells no more.",
    "mode.set": "Service mode on or off.",
    "lane.test": "One test vend: turns the motor.",
}
"""Verb -> what its request says."""


def all_messages() -> Iterator[Message]:
    yield from MESSAGES
    for verb, summary in VERBS.items():
        yield Message(f"request.{verb}", f"request/{verb}", summary, to_machine=True)
        yield Message(f"response.{verb}", f"response/{verb}", f"The answer to `request/{verb}`.")
    yield Message(ANY_ANSWER, "response/invalid", "The answer to what is no verb at all.")


def model_of(name: str) -> type[BaseModel]:
    """The daemon's own model of a message."""
    kind, _, verb = name.partition(".")
    if kind == "request":
        return ACTS.get(verb) or INCOMING.get(f"request/{verb}", Request)
    return INCOMING.get(kind) or OUTGOING[kind]


# ------------------------------------------------------------------ schemas


def _part_of(model: type[BaseModel], without: Sequence[str]) -> dict[str, Any]:
    """The model's object less these fields, as `data` of an answer holds it."""
    schema = model.model_json_schema(mode="serialization", by_alias=True)
    kept = {name: part for name, part in schema["properties"].items() if name not in without}
    return {"type": "object", "properties": kept, "required": list(kept)} | {
        key: schema[key] for key in ("$defs",) if key in schema
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_PLACE = _object(journal={"type": "integer"}, seq={"type": "integer"})
_LANE = _object(lane={"type": "object", "description": "as `vendctl lane … --json` has it"})
_OBJECTS = {"type": "array", "items": {"type": "object"}}
DATA: Mapping[str, Mapping[str, Any]] = {
    "status": _part_of(StateMessage, ("schema", "machine_no", "online")),
    "inventory": _part_of(InventoryMessage, ("schema", "machine_no", "at")),
    "results": _object(
        next={"anyOf": [_PLACE, {"type": "null"}], "description": "the place to go on from"},
        topics={
            "type": "array",
            "items": {"enum": ["order", "result"]},
            "description": "of each of `messages`",
        },
        messages=_OBJECTS | {"description": "the stored payloads, byte for byte"},
    ),
    "diagnostics": _object(status={"type": "object"}, lanes=_OBJECTS, ports=_OBJECTS),
    "stock.set": _LANE,
    "lane.enable": _LANE,
    "lane.disable": _LANE,
    "mode.set": _object(
        service_mode={"type": ["object", "null"]},
        moving={"type": "boolean"},
        open_units={"type": "integer"},
    ),
    "lane.test": _object(test_id={"type": "string"}, channel={"type": "string"}),
}
"""`data` of an answer whose code is `ok`, by verb."""


def _untitled(schema: Any) -> Any:
    """Without the titles that only say a field's name again."""
    if isinstance(schema, list):
        return [_untitled(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _untitled(part)
        for name, part in schema.items()
        if name != "title" or not isinstance(part, str)
    }


def schema_of(message: Message) -> dict[str, Any]:
    kind, _, verb = message.name.partition(".")
    if kind == "request":
        schema = model_of(message.name).model_json_schema(mode="validation")
    else:
        schema = json_schemas()[kind]
    if kind == "response" and verb:
        data = dict(DATA[verb])
        definitions = data.pop("$defs", {})
        schema["properties"]["verb"] = {"const": verb, "type": "string"}
        schema["if"] = {"properties": {"code": {"const": "ok"}}}
        schema["then"] = {"properties": {"data": data}}
        if definitions:
            schema["$defs"] = {**schema.get("$defs", {}), **definitions}
    return {
        **_untitled(schema),
        "$schema": DRAFT,
        "title": f"vending/v1/{{machine_no}}/{message.topic}",
        "description": message.summary,
    }


# ------------------------------------------------------------------ AsyncAPI

_HEAD = """\
# Made by `make generated` from the daemon's payload models; do not edit.
# The contract in words, with every rule and code: mqtt.md. For backend developers: backend.md.
"""


def _channel_name(message: Message) -> str:
    return message.topic.replace("/", "_").replace(".", "_")


def _component(message: Message, examples: Sequence[stories.Told]) -> dict[str, Any]:
    mine = [example for example in examples if example.message == message.name]
    return {
        "name": message.name,
        "title": message.topic,
        "summary": message.summary,
        "contentType": "application/json",
        "payload": {"$ref": f"./schemas/mqtt/{message.name}.json"},
        "examples": [{"name": one.what, "payload": one.payload} for one in mine[:1]],
    }


def _operation(message: Message) -> dict[str, Any]:
    channel = f"#/channels/{_channel_name(message)}"
    mqtt: dict[str, Any] = {"qos": message.qos, "bindingVersion": "0.2.0"}
    if not message.to_machine:
        mqtt["retain"] = message.retain
    operation: dict[str, Any] = {
        "action": "receive" if message.to_machine else "send",
        "channel": {"$ref": channel},
        "summary": message.summary,
        "bindings": {"mqtt": mqtt},
        "messages": [{"$ref": f"{channel}/messages/{message.name}"}],
    }
    if message.name.startswith("request."):
        verb = message.name.removeprefix("request.")
        answers = f"#/channels/response_{verb.replace('.', '_')}"
        operation["reply"] = {
            "channel": {"$ref": answers},
            "messages": [{"$ref": f"{answers}/messages/response.{verb}"}],
        }
    return operation


def asyncapi(examples: Sequence[stories.Told]) -> dict[str, Any]:
    """Seen from the machine: it receives commands and sends the rest."""
    messages = list(all_messages())
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "vending-controller",
            "version": __version__,
            "description": (
                "What a vending machine and its platform say to each other over MQTT, version 1. "
                "Each message is at least once and in order per topic; (order_id, delivery_id, "
                "unit, revision) names a result, (journal, seq) a message. mqtt.md has every rule."
            ),
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "broker.example:8883",
                "protocol": "secure-mqtt",
                "protocolVersion": "5",
                "description": "MQTT 5, or 3.1.1; persistent sessions; a certificate per machine.",
            }
        },
        "channels": {
            _channel_name(message): {
                "address": f"vending/v1/{{machine_no}}/{message.topic}",
                "description": message.summary,
                "parameters": {"machine_no": {"$ref": "#/components/parameters/machine_no"}},
                "messages": {
                    message.name: {"$ref": f"#/components/messages/{message.name}"},
                },
            }
            for message in messages
        },
        "operations": {_channel_name(message): _operation(message) for message in messages},
        "components": {
            "parameters": {
                "machine_no": {
                    "description": "exactly eight ASCII digits",
                    "examples": [stories.MACHINE_NO],
                }
            },
            "messages": {message.name: _component(message, examples) for message in messages},
        },
    }


# ------------------------------------------------------------------ files


class _Plain(yaml.SafeDumper):
    """Repeats what it says twice: anchors are for machines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def documents() -> dict[Path, str]:
    """Every file of the contract, with its text."""
    examples = stories.told()
    texts = {
        SCHEMAS / f"{message.name}.json": _json(schema_of(message)) for message in all_messages()
    }
    texts |= {EXAMPLES / f"{example.name}.json": _json(example.payload) for example in examples}
    document = yaml.dump(
        asyncapi(examples), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=100
    )
    return texts | {ASYNCAPI: _HEAD + document}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    logging.disable(logging.CRITICAL)
    texts = documents()
    for folder in (SCHEMAS, EXAMPLES):
        folder.mkdir(parents=True, exist_ok=True)
        for gone in set(folder.glob("*.json")) - set(texts):
            gone.unlink()
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    print(f"{ASYNCAPI}, and {len(texts) - 1} files in {SCHEMAS} and {EXAMPLES}")


if __name__ == "__main__":
    main()
