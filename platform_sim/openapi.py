"""The order API as an OpenAPI document, made from one table and the table of errors.

The wire has a base64 text where people want fields; so each signed endpoint describes the fields
inside (`x-payload`) beside the body that carries them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from platform_sim import codes
from platform_sim.codes import Code
from platform_sim.payload import seal

ROOT = "/api/openapi/v1"
EXAMPLE_KEY = "ds069ed4223ac1660f"
"""Of the vendor's public test vector."""
EXAMPLE_TIME = "1727494645"

MACHINE = {"type": "string", "pattern": "^[0-9]{8}$", "description": "the machine's eight digits"}
NUMBER = {"type": "string", "pattern": "^[0-9]+$", "description": "a number, as text"}
TIME = {"type": "string", "pattern": "^[0-9]+$", "description": "Unix seconds, as text"}
TEXT = {"type": "string"}
METHOD = {"type": "string", "const": "device.delivery.put"}

HEADERS = (codes.NO_APPID, codes.BAD_APPID, codes.BAD_SECRET)
SIGNED = (codes.BAD_REQUEST, codes.BAD_SIGNATURE, codes.FORM)


@dataclass(frozen=True)
class Description:
    summary: str
    answer: Any
    """An example of `data`."""
    payload: Mapping[str, Any] | None = None
    """Fields of the signed payload beside `timestamp` and `sign`; None: there is none."""
    example: Mapping[str, str] | None = None
    optional: tuple[str, ...] = ()
    errors: tuple[Code, ...] = ()


ORDER_BODY = {
    "type": "object",
    "required": ["machine_no", "products", "trade_id", "notify_url"],
    "properties": {
        "machine_no": MACHINE,
        "trade_id": {
            "type": "string",
            "minLength": 1,
            "maxLength": 64,
            "description": "the merchant's own number, unique; 20 to 32 digits are advised",
        },
        "notify_url": {"type": "string", "format": "uri", "description": "told by POST"},
        "products": {
            "type": "array",
            "minItems": 1,
            "maxItems": 50,
            "items": {
                "type": "object",
                "required": ["product_id", "quantity"],
                "properties": {
                    "product_id": {"type": "integer", "minimum": 1},
                    "quantity": {"type": "integer", "minimum": 1, "maximum": 50},
                },
            },
        },
    },
}
ORDER_EXAMPLE = {
    "machine_no": "16327129",
    "notify_url": "https://merchant.example/told",
    "trade_id": "3f2a58ad69b74e86b8a1a3da6fd75cc1",
    "products": [{"product_id": 121, "quantity": 1}, {"product_id": 122, "quantity": 1}],
}
CALLBACK_EXAMPLE = {
    "method": "device.delivery.response",
    "order_id": 1111111,
    "record_id": 78,
    "deliver_status": "0",
    "floor_status": "2",
    "error_msg": "Goods are Stuck",
    "fail_reason": "Goods are Stuck",
    "delivery_id": "1733200000000017",
    "channel_name": "A20",
    "quantity": 1,
    "delivered": 0,
    "timed_out": 0,
}

PRODUCT = {
    "id": 121,
    "category": {"id": 1, "title": "category 1"},
    "good": {"name": "water", "price": "3.00", "original_price": "3.00"},
    "channel": {"name": "A1", "cabinet_name": "A", "code": "000", "x": "0", "y": "0", "addr": 1},
    "current_inventory": 8,
    "inventory": 8,
}

DESCRIPTIONS: Mapping[tuple[str, str], Description] = {
    ("POST", "/ping"): Description("Is it there?", "pong"),
    ("POST", "/rent/machines"): Description(
        "The merchant's machines. An absent is_online means offline.",
        [{"machine_name": "station", "machine_no": "16327129", "is_online": True, "status": True}],
    ),
    ("POST", "/rent/machines/{machine_no}"): Description(
        "One machine",
        {
            "machine_name": "station",
            "machine_no": "16327129",
            "is_online": True,
            "model": {"id": 1, "cabinet_names": ["A", "B"]},
            "machine_type": 1,
        },
        errors=(codes.NO_MACHINE,),
    ),
    ("POST", "/categories"): Description(
        "Categories of a machine's products",
        [{"id": 1, "title": "category 1"}],
        {"machine_no": MACHINE},
        {"machine_no": "16327129"},
        errors=(codes.NO_MACHINE,),
    ),
    ("POST", "/products"): Description(
        "What is for sale, by motor number; cabinet_name (default A) and addr exclude each other",
        [PRODUCT],
        {
            "machine_no": MACHINE,
            "page": NUMBER,
            "per_page": NUMBER,
            "category_id": NUMBER,
            "cabinet_name": {"type": "string", "pattern": "^[A-Z]$"},
            "addr": {"type": "string", "pattern": "^[1-8]$"},
            "select_all": {"type": "string", "enum": ["0", "1"]},
        },
        {"machine_no": "16327129", "page": "1"},
        optional=("per_page", "category_id", "cabinet_name", "addr", "select_all"),
        errors=(codes.NO_MACHINE,),
    ),
    ("POST", "/floors"): Description(
        "Channels and their state: 1 normal, 2 jammed, 3 motor fault, 47 silent, 0 not there",
        [{"name": "A1", "floor_status": "1", "product_id": 121, "current_inventory": 8}],
        {"machine_no": MACHINE},
        {"machine_no": "16327129"},
        errors=(codes.NO_MACHINE,),
    ),
    ("POST", "/orders"): Description(
        "Make an order and take its stock. The body is plain. Void when unpaid after 20 minutes.",
        {"order_id": 1111111},
        errors=(
            codes.BAD_REQUEST, codes.FORM, codes.NO_MACHINE, codes.OFFLINE, codes.NOT_OPERATING,
            codes.NO_PRODUCT, codes.OFF_SALE, codes.NO_STOCK, codes.NO_TRADE, codes.TRADE_EXISTS,
        ),
    ),
    ("PUT", "/orders/{order_id}"): Description(
        "1 paid; 5 is paying; 2, 3, 4, 6 close the order: what has not gone out goes back.",
        {},
        {"machine_no": MACHINE, "status": {"type": "string", "enum": list("123456")}},
        {"machine_no": "16327129", "status": "1"},
        errors=(codes.NO_RECORD, codes.ORDER_EXPIRED, codes.ORDER_STATUS, codes.PAID),
    ),
    ("POST", "/orders/{order_id}"): Description(
        "An order, its lines and their states (of a paid one)",
        {
            "order_id": 1111111,
            "trade_id": "3f2a58ad69b74e86b8a1a3da6fd75cc1",
            "machine_no": "16327129",
            "status": "SUCCESS",
            "notify_send_count": 1,
            "records": [
                {"id": 78, "product_id": 121, "quantity": 1, "status": "IS_SUCCESS",
                 "notify_sent": "1"},
            ],
        },
        {"machine_no": MACHINE},
        {"machine_no": "16327129"},
        errors=(codes.NO_RECORD,),
    ),
    ("POST", "/deliveries"): Description(
        "Give out one line of a paid order; behind a light eye one item of it. Answers at once,"
        " the result comes to notify_url.",
        {"delivery_id": "1733200000000017"},
        {"machine_no": MACHINE, "method": METHOD, "order_id": NUMBER, "record_id": NUMBER},
        {
            "machine_no": "16327129",
            "method": "device.delivery.put",
            "order_id": "1111111",
            "record_id": "78",
        },
        errors=(
            codes.NO_RECORD, codes.UNPAID, codes.ORDER_EXPIRED, codes.ORDER_STATUS,
            codes.DELIVERED, codes.OFFLINE, codes.NOT_OPERATING, codes.BUSY,
        ),
    ),
    ("POST", "/deliveries/debug"): Description(
        "Test one lane: its motor turns. The result comes to notify_url, without an order_id.",
        {"delivery_id": "1733200000000018"},
        {
            "machine_no": MACHINE,
            "method": METHOD,
            "channel_name": {"type": "string", "pattern": "^[A-Z][0-9]{1,3}$"},
            "notify_url": {"type": "string", "format": "uri"},
        },
        {
            "machine_no": "16327129",
            "method": "device.delivery.put",
            "channel_name": "A20",
            "notify_url": "https://merchant.example/told",
        },
        errors=(codes.NO_MACHINE, codes.NO_RECORD, codes.OFFLINE, codes.NOT_OPERATING, codes.BUSY),
    ),
    ("POST", "/deliveries/{delivery_id}"): Description(
        "What became of a delivery. status is the platform's own text; delivery_logs are its units:"
        " -1 waiting, 0 failed, 1 success, 2 cancelled, 3 dispensing, 5 timed out.",
        {
            "delivery_id": "1733200000000017",
            "order_id": 1111111,
            "record_id": 78,
            "channel_name": "A20",
            "status": "出货完成",
            "delivered_at": 1763900003,
            "delivery_logs": [{"unit": 1, "status": "1"}],
        },
        {"machine_no": MACHINE},
        {"machine_no": "16327129"},
        errors=(codes.NO_MACHINE, codes.NO_RECORD),
    ),
}  # fmt: skip


def document() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for (method, path), what in DESCRIPTIONS.items():
        paths.setdefault(ROOT + path, {})[method.lower()] = _operation(method, path, what)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Order API of the vending platform, as platform-sim plays it",
            "version": "1",
            "description": "Headers Appid and AppSecret on every call. Zero, false and empty fields"
            " are left out of answers. A failure's body is code, message and an empty data; the"
            " header X-Detail says in English what is wrong and where.",
        },
        "paths": paths,
        "webhooks": {"device.delivery.response": {"post": _callback()}},
        "components": {"schemas": {"Failure": _failure()}, "securitySchemes": _headers()},
        "security": [{"Appid": [], "AppSecret": []}],
    }


def _operation(method: str, path: str, what: Description) -> dict[str, Any]:
    errors = [*HEADERS, *(SIGNED if what.payload is not None else ()), *what.errors]
    responses: dict[str, Any] = {"200": _json({"code": 0, "message": "ok", "data": what.answer})}
    for http in sorted({code.http for code in errors}):
        said = {code.number: code.message for code in errors if code.http == http}
        lines = ", ".join(f"{number} {message}" for number, message in sorted(said.items()))
        schema = {"$ref": "#/components/schemas/Failure"}
        responses[str(http)] = {
            "description": lines,
            "content": {"application/json": {"schema": schema}},
        }
    operation: dict[str, Any] = {
        "summary": what.summary,
        "operationId": _name(method, path),
        "responses": responses,
    }
    if names := [part[1:-1] for part in path.split("/") if part.startswith("{")]:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": NUMBER} for name in names
        ]
    if (method, path) == ("POST", "/orders"):
        operation["requestBody"] = _body(ORDER_BODY, ORDER_EXAMPLE)
    elif what.payload is not None:
        operation["requestBody"] = _signed_body(what)
    return operation


def _name(method: str, path: str) -> str:
    words = [part.strip("{}") for part in path.split("/") if part]
    return "_".join([method.lower(), *words])


def _body(schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"required": True, "content": content}


def _signed_body(what: Description) -> dict[str, Any]:
    payload, example = what.payload or {}, what.example or {}
    fields = {**payload, "timestamp": TIME, "sign": TEXT}
    inside = {
        "type": "object",
        "required": sorted(set(fields) - set(what.optional)),
        "properties": fields,
        "additionalProperties": {"type": "string"},
    }
    schema = {
        "type": "object",
        "required": ["payload"],
        "properties": {
            "payload": {
                "type": "string",
                "contentEncoding": "base64",
                "contentMediaType": "application/json",
                "contentSchema": inside,
            }
        },
        "x-payload": {"key": EXAMPLE_KEY, "fields": {**example, "timestamp": EXAMPLE_TIME}},
    }
    sealed = json.loads(seal({**example, "timestamp": EXAMPLE_TIME}, EXAMPLE_KEY))
    return _body(schema, sealed)


def _json(example: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {"code": {"const": 0}, "message": {"const": "ok"}, "data": {}},
    }
    return {
        "description": "done",
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def _failure() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["code", "message", "data"],
        "properties": {
            "code": {"type": "integer"},
            "message": {"type": "string"},
            "data": {"type": "object", "maxProperties": 0},
        },
        "example": {"code": 60002, "message": "商品已下架", "data": {}},
    }


def _callback() -> dict[str, Any]:
    texts = ("method", "deliver_status", "floor_status", "error_msg", "fail_reason",
             "delivery_id", "channel_name")  # fmt: skip
    numbers = ("order_id", "record_id", "quantity", "delivered", "timed_out")
    schema = {
        "type": "object",
        "required": ["method", "deliver_status", "floor_status", "error_msg", "quantity"],
        "properties": {
            **{name: {"type": "string"} for name in texts},
            **{name: {"type": "integer"} for name in numbers},
            "deliver_status": {
                "enum": ["0", "1", "5"],
                "description": "0 failed, 1 success, 5 timed out: it may have fallen; wait or ask,"
                " and do not refund blindly. A later callback corrects an earlier one.",
            },
        },
    }
    return {
        "summary": "What became of a delivery; repeated with backoff until answered 2xx, in order",
        "requestBody": _body(schema, CALLBACK_EXAMPLE),
        "responses": {"200": {"description": "booked"}},
    }


def _headers() -> dict[str, Any]:
    return {
        name: {"type": "apiKey", "in": "header", "name": name} for name in ("Appid", "AppSecret")
    }
