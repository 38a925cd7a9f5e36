"""The order API over HTTP: requests in, the documented answers out.

A handler reads its fields, calls a rule within one transaction, and returns `data`. Everything else
is here once: the headers, the signature, the size of a body, and how an error is answered.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from platform_sim import catalogue, codes, deliveries, openapi, orders
from platform_sim.codes import ApiError, Code
from platform_sim.deliveries import Terms
from platform_sim.guard import Allowed, Forbidden, allowed, look_at
from platform_sim.orders import NewOrder, Status, Wanted
from platform_sim.payload import LARGEST_BODY, BadPayload, Cause, Signing, open_payload, sparse
from platform_sim.settings import Merchant, Settings
from platform_sim.store import Store

log = logging.getLogger("platform.api")

LONGEST_URL = 2048
LONGEST_TRADE = 64
MOST_LINES = 50
BIGGEST = (1 << 31) - 1
"""Of a product, page or quantity: the vendor's are 32-bit numbers."""
BIGGEST_ID = (1 << 63) - 1
BODY_S = 10.0
"""For 64 KiB: over the slowest link that still buys something, and no longer."""
METHOD_PUT = "device.delivery.put"


@dataclass(frozen=True)
class Call:
    """One request of a merchant who is who they say."""

    store: Store
    settings: Settings
    merchant: Merchant
    trusted: Allowed
    fields: Mapping[str, str]
    """Of a signed payload; empty where the endpoint has none."""
    path: Mapping[str, str]
    body: bytes

    @property
    def appid(self) -> str:
        return self.merchant.appid

    def terms(self) -> Terms:
        return Terms(self.settings.rules, time.time(), debug=self.merchant.debug)


Handler = Callable[[Call], Awaitable[Any]]


# ---------------------------------------------------------------------- fields


def bad(what: str) -> ApiError:
    return ApiError(codes.FORM, what)


def digits(value: str, name: str, most: int = BIGGEST_ID) -> int:
    """A positive number in ASCII digits. Refused: anything else."""
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(BIGGEST_ID))):
        raise bad(f"{name} must be a number in digits")
    number = int(value)
    if not 0 < number <= most:
        raise bad(f"{name} must be from 1 to {most}")
    return number


def machine_no(fields: Mapping[str, Any]) -> str:
    value = fields.get("machine_no")
    if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 8):  # noqa: PLR2004
        raise bad("machine_no must be a text of eight digits")
    return value


def notify_url(fields: Mapping[str, Any], trusted: Allowed) -> str:
    """Refused: what we would never tell. Where a name leads is asked when we go there."""
    value = fields.get("notify_url")
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_URL:
        raise bad(f"notify_url must be a text of at most {LONGEST_URL} characters")
    try:
        look_at(value, trusted)
    except Forbidden as error:
        raise bad(f"notify_url: {error}") from None
    return value


# ---------------------------------------------------------------------- orders


def new_order(body: bytes, most_units: int, trusted: Allowed) -> NewOrder:
    """The one plain body. Refused: whatever the documents do not have."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(codes.BAD_REQUEST, "the body is no JSON") from None
    if not isinstance(given, dict):
        raise ApiError(codes.BAD_REQUEST, "the body is no JSON object")
    trade = given.get("trade_id")
    if trade in ("", None):
        raise ApiError(codes.NO_TRADE, "trade_id")
    if not isinstance(trade, str) or len(trade) > LONGEST_TRADE or not trade.isprintable():
        raise bad(f"trade_id must be a text of 1 to {LONGEST_TRADE} printable characters")
    lines = given.get("products")
    if not isinstance(lines, list) or not 0 < len(lines) <= MOST_LINES:
        raise bad(f"products must be a list of 1 to {MOST_LINES}")
    return NewOrder(
        machine_no=machine_no(given),
        trade_id=trade,
        notify_url=notify_url(given, trusted),
        products=[_wanted(line, at, most_units) for at, line in enumerate(lines)],
    )


def _wanted(line: object, at: int, most_units: int) -> Wanted:
    where = f"products[{at}]"
    if not isinstance(line, dict):
        raise bad(f"{where} must be an object")
    return Wanted(
        _whole(line.get("product_id"), f"{where}.product_id", BIGGEST),
        _whole(line.get("quantity"), f"{where}.quantity", most_units),
    )


def _whole(value: object, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise bad(f"{name} must be a whole number from 1 to {most}")
    return value


async def create_order(call: Call) -> Any:
    new = new_order(call.body, call.settings.rules.units_per_line, call.trusted)
    terms = call.terms()
    order_id = await call.store.write(
        lambda tx: orders.create(tx, call.appid, new, now=terms.now, debug=terms.debug)
    )
    return {"order_id": order_id}


async def update_order(call: Call) -> Any:
    number, terms = machine_no(call.fields), call.terms()
    order_id = digits(call.path["order_id"], "order_id")
    status = Status(digits(call.fields.get("status", ""), "status", 6))

    def write(tx: sqlite3.Connection) -> None:
        row = orders.order(tx, call.appid, order_id, number)
        changed = orders.update(tx, row, status, now=terms.now)
        if changed and status not in {Status.SUCCESS, Status.USERPAYING}:
            deliveries.close_order(tx, terms, row)

    await call.store.write(write)
    return {}


async def query_order(call: Call) -> Any:
    number, order_id = machine_no(call.fields), digits(call.path["order_id"], "order_id")
    return await call.store.read(
        lambda tx: orders.view(tx, orders.order(tx, call.appid, order_id, number))
    )


# ---------------------------------------------------------------------- deliveries


def _put_method(call: Call) -> None:
    if call.fields.get("method") != METHOD_PUT:
        raise bad(f"method must be {METHOD_PUT}")


async def deliver(call: Call) -> Any:
    _put_method(call)
    number, terms = machine_no(call.fields), call.terms()
    order_id = digits(call.fields.get("order_id", ""), "order_id")
    record_id = digits(call.fields.get("record_id", ""), "record_id")

    def write(tx: sqlite3.Connection) -> str:
        row = orders.order(tx, call.appid, order_id, number)
        return deliveries.ask(tx, terms, call.appid, row, record_id, call.fields["sign"])

    return {"delivery_id": await call.store.write(write)}


async def deliver_test(call: Call) -> Any:
    _put_method(call)
    number, url, terms = (
        machine_no(call.fields),
        notify_url(call.fields, call.trusted),
        call.terms(),
    )
    name, sign = call.fields.get("channel_name", ""), call.fields["sign"]

    def write(tx: sqlite3.Connection) -> str:
        orders.machine(tx, call.appid, number)
        channel = catalogue.channel_of(tx, number, name)
        return deliveries.ask_test(tx, terms, call.appid, number, channel, url, sign)

    return {"delivery_id": await call.store.write(write)}


async def query_delivery(call: Call) -> Any:
    number, delivery_id = machine_no(call.fields), call.path["delivery_id"]

    def read(tx: sqlite3.Connection) -> Any:
        orders.machine(tx, call.appid, number)
        row = deliveries.find(tx, delivery_id)
        if row is None or row["machine_no"] != number:
            raise ApiError(codes.NO_RECORD, f"delivery {delivery_id[:40]}")
        return deliveries.view(tx, row)

    return await call.store.read(read)


# ---------------------------------------------------------------------- machines and products


async def ping(_call: Call) -> Any:
    return "pong"


async def list_machines(call: Call) -> Any:
    return await call.store.read(lambda tx: catalogue.machines(tx, call.appid))


async def show_machine(call: Call) -> Any:
    number = machine_no(call.path)
    return await call.store.read(lambda tx: catalogue.machine_detail(tx, call.appid, number))


async def list_products(call: Call) -> Any:
    fields, number = call.fields, machine_no(call.fields)
    cabinet, addr = fields.get("cabinet_name", ""), fields.get("addr", "")
    if cabinet and addr:
        raise bad("cabinet_name and addr exclude each other")
    everything = fields.get("select_all", "0")
    if everything not in {"0", "1", ""}:
        raise bad("select_all must be 0 or 1")
    page = digits(fields.get("page", ""), "page", BIGGEST)
    per_page = digits(
        fields.get("per_page") or str(catalogue.PER_PAGE), "per_page", catalogue.MOST_PER_PAGE
    )
    category = fields.get("category_id") or "0"
    return await call.store.read(
        lambda tx: catalogue.products(
            tx,
            call.appid,
            number,
            page=page,
            per_page=per_page,
            category_id=0 if category == "0" else digits(category, "category_id", BIGGEST),
            cabinet=(cabinet or "A") if not addr else "",
            addr=digits(addr, "addr", 8) if addr else None,
            everything=everything == "1",
        )
    )


async def list_floors(call: Call) -> Any:
    number = machine_no(call.fields)
    return await call.store.read(lambda tx: catalogue.floors(tx, call.appid, number))


async def list_categories(call: Call) -> Any:
    number = machine_no(call.fields)
    return await call.store.read(lambda tx: catalogue.categories(tx, call.appid, number))


# ---------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Endpoint:
    method: str
    path: str
    handler: Handler
    signed: bool = True
    """False: a plain body or none."""


ENDPOINTS = (
    Endpoint("POST", "/ping", ping, signed=False),
    Endpoint("POST", "/rent/machines", list_machines, signed=False),
    Endpoint("POST", "/rent/machines/{machine_no}", show_machine, signed=False),
    Endpoint("POST", "/categories", list_categories),
    Endpoint("POST", "/products", list_products),
    Endpoint("POST", "/floors", list_floors),
    Endpoint("POST", "/orders", create_order, signed=False),
    Endpoint("PUT", "/orders/{order_id}", update_order),
    Endpoint("POST", "/orders/{order_id}", query_order),
    Endpoint("POST", "/deliveries", deliver),
    Endpoint("POST", "/deliveries/debug", deliver_test),
    Endpoint("POST", "/deliveries/{delivery_id}", query_delivery),
)

REFUSED = {
    Cause.BAD_JSON: codes.BAD_REQUEST,
    Cause.NOT_STRINGS: codes.BAD_SIGNATURE,  # the vendor's Rust library leaves them unsigned
    Cause.NO_SIGN: codes.BAD_SIGNATURE,
    Cause.BAD_SIGN: codes.BAD_SIGNATURE,
    Cause.BAD_TIMESTAMP: codes.FORM,
    Cause.TOO_OLD: codes.BAD_SIGNATURE,
}


def answer(data: Any) -> Response:
    return JSONResponse({"code": 0, "message": "ok", "data": sparse(data)})


def refusal(code: Code, detail: str) -> Response:
    """The documented body; the detail goes beside it, for whoever writes the client."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in detail[:300])
    headers = {"X-Detail": shown} if shown else {}
    body = {"code": code.number, "message": code.message, "data": {}}
    return JSONResponse(body, status_code=code.http, headers=headers)


def application(store: Store, settings: Settings) -> Starlette:
    trusted = allowed(settings.callbacks.allowed_hosts)
    merchants = {merchant.appid: merchant for merchant in settings.merchants}

    def route(endpoint: Endpoint) -> Route:
        async def respond(request: Request) -> Response:
            try:
                merchant = _who(request, merchants)
                body = await _body(request)
                fields = _opened(body, merchant) if endpoint.signed else {}
                call = Call(store, settings, merchant, trusted, fields, request.path_params, body)
                return answer(await endpoint.handler(call))
            except ApiError as error:
                return refusal(error.code, error.detail)
            except sqlite3.Error as error:
                log.exception("the store")
                return refusal(codes.INTERNAL, type(error).__name__)

        return Route(openapi.ROOT + endpoint.path, respond, methods=[endpoint.method])

    async def describe(_request: Request) -> Response:
        return JSONResponse(openapi.document())

    described = Route("/openapi.json", describe)
    made = Starlette(
        routes=[*(route(endpoint) for endpoint in ENDPOINTS), described],
        exception_handlers={HTTPException: _no_route, Exception: _broken},
    )
    made.router.redirect_slashes = False  # no answer of the documents is a redirect
    return made


async def _no_route(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return refusal(codes.NOT_ALLOWED if status == codes.NOT_ALLOWED.http else codes.NOT_FOUND, "")


async def _broken(_request: Request, _error: Exception) -> Response:
    return refusal(codes.INTERNAL, "")


def _who(request: Request, merchants: Mapping[str, Merchant]) -> Merchant:
    appid, secret = request.headers.get("Appid", ""), request.headers.get("AppSecret", "")
    if not appid or not secret:
        raise ApiError(codes.NO_APPID, "headers Appid and AppSecret")
    merchant = merchants.get(appid)
    if merchant is None:
        raise ApiError(codes.BAD_APPID, "header Appid")
    if not hmac.compare_digest(secret.encode(), merchant.secret.encode()):
        raise ApiError(codes.BAD_SECRET, "header AppSecret")
    return merchant


async def _body(request: Request) -> bytes:
    """At most LARGEST_BODY; a longer one is not read to its end."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > LARGEST_BODY:
                    detail = f"the body is longer than {LARGEST_BODY} bytes"
                    raise ApiError(codes.BAD_REQUEST, detail)
                parts.append(part)
    except ClientDisconnect:
        raise ApiError(codes.BAD_REQUEST, "the body broke off") from None
    except TimeoutError:
        raise ApiError(codes.BAD_REQUEST, f"the body took more than {BODY_S:g} s") from None
    return b"".join(parts)


def _opened(body: bytes, merchant: Merchant) -> dict[str, str]:
    signing = Signing(merchant.sign_key, merchant.sign_encoding, merchant.sign_max_age_s)
    try:
        return open_payload(body, signing, time.time())
    except BadPayload as error:
        raise ApiError(REFUSED[error.cause], str(error)) from None
