"""The OpenAPI document: complete, valid, as committed, and true to what the server answers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jsonschema

from platform_sim import api, openapi
from platform_sim.payload import Signing, open_payload
from tests.platform.conftest import Platform

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_it_describes_each_endpoint_and_no_other() -> None:
    there = {(endpoint.method, endpoint.path) for endpoint in api.ENDPOINTS}
    assert set(openapi.DESCRIPTIONS) == there
    signed = {(e.method, e.path) for e in api.ENDPOINTS if e.signed}
    assert {key for key, what in openapi.DESCRIPTIONS.items() if what.payload is not None} == signed


def test_the_committed_document_is_what_the_program_makes() -> None:
    """`make generated` renews it."""
    assert json.loads(FILE.read_text(encoding="utf-8")) == openapi.document()


def operations() -> list[dict[str, Any]]:
    return [o for path in openapi.document()["paths"].values() for o in path.values()]


def test_its_examples_keep_to_its_schemas_and_their_signatures_hold() -> None:
    seen = 0
    for operation in operations():
        body = operation.get("requestBody")
        if body is None:
            continue
        content = body["content"]["application/json"]
        jsonschema.validate(content["example"], content["schema"])
        payload = content["example"].get("payload")
        if payload is None:
            continue
        inside = json.loads(base64.b64decode(payload))
        schema = content["schema"]["properties"]["payload"]["contentSchema"]
        jsonschema.validate(inside, schema)
        open_payload(json.dumps(content["example"]).encode(), Signing(openapi.EXAMPLE_KEY), 0.0)
        seen += 1
    assert seen == 8
    callback = openapi.document()["webhooks"]["device.delivery.response"]["post"]
    content = callback["requestBody"]["content"]["application/json"]
    jsonschema.validate(content["example"], content["schema"])


async def test_the_server_gives_it_and_answers_the_fields_of_its_examples(
    platform: Platform,
) -> None:
    async with platform.http.get(platform.url + "/openapi.json") as response:
        assert await response.json() == openapi.document()
    merchant = platform.merchant
    order_id, records = await merchant.paid_order("t1", (221, 1))
    delivery_id = (await merchant.deliver(order_id, records[0])).data["delivery_id"]
    (command,) = await platform.commands()
    await platform.result(command, 1, "delivered")
    (told,) = await platform.callbacks()
    assert set(told) == set(openapi.CALLBACK_EXAMPLE)
    answers = {
        ("POST", "/orders/{order_id}"): await merchant.query(order_id),
        ("POST", "/deliveries/{delivery_id}"): await merchant.delivery(delivery_id),
        ("POST", "/products"): (await merchant.signed("/products", page="1")).data,
    }
    for key, data in answers.items():
        example = openapi.DESCRIPTIONS[key].answer
        first, wanted = (data[0], example[0]) if isinstance(data, list) else (data, example)
        assert set(first) == set(wanted), key
