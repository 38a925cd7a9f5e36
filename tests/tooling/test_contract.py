"""The MQTT contract as data: of today, sound, and what the daemon itself reads and writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from controller.uplink.commands import (
    CancelCommand,
    Content,
    Times,
    cancellation_of,
    order_of,
    read_model,
)
from controller.uplink.jsontext import plain, read_object, write
from tests.mqtt_contract import complaints, complaints_of_each_kind
from tests.tooling import contract
from tests.tooling.contract import ASYNCAPI, EXAMPLES, SCHEMAS

ROOT = Path(__file__).parents[2]
SPECIFICATION = ROOT / ".cache/asyncapi/node_modules/@asyncapi/specs/schemas"
PAGE = (ROOT / "docs" / "mqtt.md").read_text(encoding="utf-8")
MESSAGES = {message.name: message for message in contract.all_messages()}
FILES = sorted(EXAMPLES.glob("*.json"))


def message_of(path: Path) -> str:
    return path.stem.partition("-")[0]


def document() -> dict[str, Any]:
    return dict(yaml.safe_load(ASYNCAPI.read_text(encoding="utf-8")))


def test_the_contract_is_of_today() -> None:
    """Also the examples: the same stories, played anew, give the same bytes."""
    paths = [ASYNCAPI, *SCHEMAS.glob("*"), *EXAMPLES.glob("*")]
    there = {path: path.read_text(encoding="utf-8") for path in paths}
    made = contract.documents()
    assert set(there) == set(made), "make generated"
    assert [path for path in there if there[path] != made[path]] == [], "make generated"


# ------------------------------------------------------------------ schemas and examples


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_a_schema_is_a_schema(path: Path) -> None:
    Draft7Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))


def test_every_message_has_a_schema_and_an_example() -> None:
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(MESSAGES)
    assert {message_of(path) for path in FILES} == set(MESSAGES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_is_what_its_schema_says(path: Path) -> None:
    body = json.loads(path.read_text(encoding="utf-8"))
    assert complaints(message_of(path), body) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_daemon_reads_an_example_of_a_command_and_would_write_the_others(path: Path) -> None:
    name, text = message_of(path), path.read_bytes()
    body = read_object(text)
    if name == "dispense":
        order = order_of(read_model(Content, body), read_model(Times, body), 90)
        assert order.units == sum(product["quantity"] for product in body["products"])
    elif name == "cancel":
        command = cancellation_of(read_model(CancelCommand, body))
        assert command.key.order_id == body["order_id"]
    elif name.startswith("request."):
        model = contract.model_of(name)
        assert set(body) <= set(model.model_fields)
        assert read_model(model, body).request_id == body["request_id"]  # type: ignore[attr-defined]
    else:
        message = contract.model_of(name).model_validate_json(text)
        told = write(plain(message.model_dump(by_alias=True)))
        assert told == write(plain(body)), "other fields, or in another order"


def test_a_wrong_message_is_found() -> None:
    result = json.loads((EXAMPLES / "result-delivered.json").read_text(encoding="utf-8"))
    assert complaints("result", {**result, "outcome": "perhaps"})
    assert complaints("result", {**result, "finished_at": "yesterday"})
    assert complaints("result", {**result, "more": 1})
    assert complaints("result", {key: result[key] for key in result if key != "schema"})
    page = json.loads((EXAMPLES / "response.results-page.json").read_text(encoding="utf-8"))
    assert complaints("response/results", {**page, "data": {"next": None}})
    assert complaints("response/results", {**page, "code": "unavailable", "data": {}}) == []
    assert complaints_of_each_kind([("result", result), ("result", {**result, "unit": 0})]) == []
    assert complaints_of_each_kind([("result", {**result, "unit": 0})])


def test_the_examples_tell_one_story() -> None:
    """A page's messages are those that were sent, and a revision follows what it revises."""
    page = json.loads((EXAMPLES / "response.results-one_order.json").read_text(encoding="utf-8"))
    for name in ("order-accepted", "result-delivered", "result-delivered_with_record"):
        sent = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
        assert sent in page["data"]["messages"]
    was = json.loads((EXAMPLES / "result-unknown.json").read_text(encoding="utf-8"))
    now = json.loads((EXAMPLES / "result-unknown_resolved.json").read_text(encoding="utf-8"))
    same = ("order_id", "delivery_id", "unit", "trade_id", "product_id")
    assert {key: was[key] for key in same} == {key: now[key] for key in same}
    assert (was["outcome"], now["outcome"]) == ("unknown", "delivered")
    assert (now["revision"], now["late"]) == (was["revision"] + 1, True)


# ------------------------------------------------------------------ asyncapi.yaml


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_every_reference_of_the_document_leads_somewhere() -> None:
    whole = document()
    found = set(references(whole))
    assert {ref for ref in found if ref.startswith("./")}
    for ref in found:
        file, _, way = ref.partition("#")
        if file:
            assert (ASYNCAPI.parent / file).is_file(), ref
            continue
        here = whole
        for step in way.strip("/").split("/"):
            assert step in here, ref
            here = here[step]


def test_every_topic_of_the_page_is_a_channel_with_its_qos_and_retain() -> None:
    whole = document()
    prefix = "vending/v1/{machine_no}/"
    told = {}
    for operation in whole["operations"].values():
        channel = whole["channels"][operation["channel"]["$ref"].rpartition("/")[2]]
        bound = operation["bindings"]["mqtt"]
        direction = "to the machine" if operation["action"] == "receive" else "from the machine"
        topic = channel["address"].removeprefix(prefix)
        told[topic] = (direction, f"{bound['qos']}{', retained' if bound.get('retain') else ''}")
    rows = re.findall(r"^\| `([a-z/{}]+)` \| (\w+ the machine) \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert len(rows) == 10
    verbs = re.findall(r"^\| ((?:`[a-z.]+`(?:, )?)+) \| `\{", PAGE, re.MULTILINE)
    verbs = [verb for row in verbs for verb in re.findall(r"`([a-z.]+)`", row)]
    assert set(verbs) == set(contract.VERBS)
    expected = {}
    for topic, direction, how in rows:
        for verb in verbs if "{verb}" in topic else [""]:
            expected[topic.replace("{verb}", verb)] = (direction, how)
    told.pop("response/invalid")
    assert told == expected


def test_the_document_is_what_asyncapi_calls_one() -> None:
    """By the specification's own JSON schema."""
    if not SPECIFICATION.exists():
        pytest.skip("the schema of AsyncAPI is not here; `make node` fetches it from npm")
    path = SPECIFICATION / "3.0.0-without-$id.json"
    specification = Draft7Validator(json.loads(path.read_text(encoding="utf-8")))
    whole = document()
    assert [error.message for error in specification.iter_errors(whole)] == []
    whole["operations"]["dispense"]["action"] = "publish"
    assert list(specification.iter_errors(whole)), "a wrong document would be found"
