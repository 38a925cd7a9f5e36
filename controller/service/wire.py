"""HTTP requests into what the routes take; answers and errors into bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from controller.errors import Refused
from controller.service.routes import Answer, Asked, Route, routes_at

MAX_BODY = 64 * 1024
"""Bytes. The longest request that means anything has some 300."""


class Rejected(Refused):
    """A request that the machine is not asked about."""

    def __init__(self, status: HTTPStatus, code: str, template: str, /, **fields: object) -> None:
        super().__init__(code, template, **fields)
        self.status = status


# --------------------------------------------------------------------------- from a request


def route_of(request: web.BaseRequest) -> tuple[Route, dict[str, str]]:
    found = routes_at(request.rel_url.raw_path)
    for route, fields in found:
        if route.method == request.method:
            return route, fields
    if found:
        allowed = ", ".join(sorted({route.method for route, _ in found}))
        raise Rejected(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path takes {methods} only",
            methods=allowed,
        )
    raise Rejected(HTTPStatus.NOT_FOUND, "no_such_path", "no such path: see docs/vendctl.md")


async def asked(request: web.BaseRequest, route: Route, fields: Mapping[str, str]) -> Asked:
    given = dict(request.query) if route.method == "GET" else await _body(request)
    if twice := given.keys() & fields.keys():
        raise Rejected(
            HTTPStatus.BAD_REQUEST,
            "bad_field",
            "{field} belongs in the path and only there",
            field=min(twice),
        )
    try:
        return route.asked.model_validate({**given, **fields})
    except ValidationError as bad:
        raise Rejected(
            HTTPStatus.BAD_REQUEST, "bad_field", "{mistakes}", mistakes=_sentence(bad)
        ) from None


async def _body(request: web.BaseRequest) -> dict[str, Any]:
    """The JSON object of a request; an empty body is an empty object."""
    too_large = Rejected(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_large",
        "a request has {most} bytes at most",
        most=MAX_BODY,
    )
    if (request.content_length or 0) > MAX_BODY:
        raise too_large
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY:
            raise too_large
    if not body.strip():
        return {}
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise Rejected(HTTPStatus.BAD_REQUEST, "bad_json", "the body is no JSON") from None
    if not isinstance(given, dict):
        raise Rejected(HTTPStatus.BAD_REQUEST, "bad_json", "the body is no JSON object")
    return given


def _sentence(bad: ValidationError) -> str:
    """Every mistake of a request in one line, without what the peer sent."""
    found = bad.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(str(part)[:40] for part in mistake['loc'])}: {mistake['msg']}"
        for mistake in found[:5]
    )


# --------------------------------------------------------------------------- to a peer


def answer(content: Answer) -> web.Response:
    return web.Response(body=line(content), content_type="application/json")


def error(status: int, content: Answer) -> web.Response:
    return web.Response(status=status, body=line(content), content_type="application/json")


def refusal(refused: Refused) -> dict[str, Any]:
    """The sentence twice: as it stands, and as vendctl says it in another language."""
    return {
        "error": refused.code,
        "message": str(refused),
        "template": refused.template,
        "fields": refused.fields,
    }


def line(content: Answer) -> bytes:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return text.encode("utf-8", "replace") + b"\n"


def _plain(value: object) -> object:
    """What the machine's mappings may hold besides plain JSON."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)
