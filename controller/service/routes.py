"""What can be asked of the service: one table. Nothing here knows HTTP's wire.

A route names its method, its path, the right that it takes, the shape of what it
is given (query string of a reading, JSON body of an acting route) and the method
of the Machine that answers. The path's `{fields}` are checked by the same shape.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from controller.model import canonical_channel
from controller.service.machine import Machine
from controller.service.peers import Right

PAGE = 500
"""The most rows that one answer carries: a page of orders stays below 200 KiB."""

TEST_CYCLES = 20
"""The most cycles of one test vend: more than a lane holds, and an end to a typing mistake."""

DAY_S = 86_400
"""More than any ring holds."""

WATCH_S = 3600
"""The longest look at a light eye: whoever forgot it open takes a part of the board's line."""


def _whole_number(value: Any) -> Any:
    """A query string's or path's text as the int that it spells; anything else as it is."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:  # noqa: PLR2004 - digits of an int64
        return int(value)
    return value


def _one_line(value: Any) -> Any:
    """A person's words, without what could disturb a log or a terminal."""
    if isinstance(value, str):
        return "".join(sign if sign.isprintable() else " " for sign in value).strip()
    return value


Channel = Annotated[str, AfterValidator(canonical_channel)]
Name = Annotated[str, BeforeValidator(_one_line), StringConstraints(min_length=1, max_length=64)]
Reason = Annotated[str, BeforeValidator(_one_line), StringConstraints(max_length=200)]
Limit = Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=PAGE)]
Cursor = Annotated[int, BeforeValidator(_whole_number), Field(ge=0, lt=2**63)]
OrderId = Annotated[int, BeforeValidator(_whole_number), Field(gt=0, lt=2**63)]


class Asked(BaseModel):
    """Strict: `"5"` is no number in a body, and a field nobody knows is a mistake."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Nothing(Asked):
    pass


class OrdersAsked(Asked):
    limit: Limit = 20
    before: Cursor | None = None


class OrderAsked(Asked):
    order_id: OrderId
    delivery_id: Annotated[str, StringConstraints(max_length=32)] | None = None


class EventsAsked(Asked):
    limit: Limit = 50


class TraceAsked(Asked):
    """`follow` and `quiet` are 0 or 1."""

    seconds: Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=DAY_S)] = 60
    follow: Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=1)] = 0
    quiet: Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=1)] = 0
    board: Name | None = None


class ExtractAsked(Asked):
    rows: Limit = 200


class LaneAsked(Asked):
    channel: Channel


class LaneReasoned(LaneAsked):
    reason: Reason = ""


class StockSet(LaneAsked):
    stock: Annotated[int, Field(ge=0, le=10_000)]


class StockFill(Asked):
    cabinet: Name | None = None


class Named(Asked):
    name: Name


class NamedReasoned(Named):
    reason: Reason = ""


class StockUndoTest(Asked):
    channel: Channel | None = None


class OrderActed(Asked):
    order_id: OrderId
    delivery_id: Annotated[str, StringConstraints(max_length=32)] = ""
    reason: Reason = ""


class UnitResolved(OrderActed):
    unit: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, lt=2**31)]
    outcome: Literal["delivered", "not_delivered"]
    revision: Annotated[int, Field(ge=0, lt=2**31)]


class LaneTest(LaneAsked):
    cycles: Annotated[int, Field(ge=1, le=TEST_CYCLES)] = 1


class TestNamed(Asked):
    test_id: Name


class EyeAsked(Named):
    seconds: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=WATCH_S)] = 10


Answer = Mapping[str, Any]
Answers = Callable[[Machine, Any, str], Awaitable[Answer]]
Streams = Callable[[Machine, Any, str], AsyncGenerator[Answer, None]]


@dataclass(frozen=True, slots=True)
class Route:
    """`answer` or `stream` takes the machine, the checked request, and the user's name."""

    method: str
    path: str
    right: Right
    asked: type[Asked]
    answer: Answers | None = None
    stream: Streams | None = None

    def fields(self, parts: list[str]) -> dict[str, str] | None:
        """The path's `{fields}` where it is this route's, else None."""
        mine = self.path.strip("/").split("/")
        if len(mine) != len(parts):
            return None
        found: dict[str, str] = {}
        for pattern, part in zip(mine, parts, strict=True):
            if pattern.startswith("{"):
                found[pattern[1:-1]] = unquote(part)
            elif pattern != part:
                return None
        return found


def _reads(path: str, asked: type[Asked], answer: Answers) -> Route:
    return Route("GET", path, Right.READ, asked, answer)


def _follows(path: str, asked: type[Asked], stream: Streams) -> Route:
    """Lines as they come, for as long as somebody reads them."""
    return Route("GET", path, Right.READ, asked, stream=stream)


def _acts(path: str, asked: type[Asked], answer: Answers) -> Route:
    return Route("POST", path, Right.ACT, asked, answer)


def _works(path: str, asked: type[Asked], stream: Streams) -> Route:
    """Long work, told in lines while it is done."""
    return Route("POST", path, Right.ACT, asked, stream=stream)


ROUTES: tuple[Route, ...] = (
    _reads("/v1/status", Nothing, lambda m, _q, _w: m.status()),
    _reads("/v1/orders", OrdersAsked, lambda m, q, _w: m.orders(q.limit, q.before)),
    _reads(
        "/v1/orders/{order_id}", OrderAsked, lambda m, q, _w: m.order(q.order_id, q.delivery_id)
    ),
    _reads("/v1/lanes", Nothing, lambda m, _q, _w: m.lanes()),
    _reads("/v1/lanes/{channel}", LaneAsked, lambda m, q, _w: m.lane(q.channel)),
    _reads("/v1/link", Nothing, lambda m, _q, _w: m.link()),
    _reads("/v1/events", EventsAsked, lambda m, q, _w: m.events(q.limit)),
    Route(
        "GET",
        "/v1/trace",
        Right.READ,
        TraceAsked,
        stream=lambda m, q, _w: m.trace(
            q.seconds, q.board, follow=bool(q.follow), quiet=bool(q.quiet)
        ),
    ),
    _reads("/v1/doctor", Nothing, lambda m, _q, _w: m.doctor()),
    _reads("/v1/journal/extract", ExtractAsked, lambda m, q, _w: m.journal_extract(q.rows)),
    _follows("/v1/watch", Nothing, lambda m, _q, _w: m.watch()),
    _acts(
        "/v1/lanes/{channel}/enable",
        LaneReasoned,
        lambda m, q, who: m.lane_enable(q.channel, q.reason, who),
    ),
    _acts(
        "/v1/lanes/{channel}/disable",
        LaneReasoned,
        lambda m, q, who: m.lane_disable(q.channel, q.reason, who),
    ),
    _acts(
        "/v1/lanes/{channel}/stock",
        StockSet,
        lambda m, q, who: m.stock_set(q.channel, q.stock, who),
    ),
    _acts(
        "/v1/stock/undo-test", StockUndoTest, lambda m, q, who: m.stock_undo_test(q.channel, who)
    ),
    _acts(
        "/v1/orders/{order_id}/cancel",
        OrderActed,
        lambda m, q, who: m.order_cancel(q.order_id, q.delivery_id, q.reason, who),
    ),
    _acts(
        "/v1/orders/{order_id}/units/{unit}/resolve",
        UnitResolved,
        lambda m, q, who: m.resolve(
            q.order_id, q.delivery_id, q.unit, q.outcome, q.revision, q.reason, who
        ),
    ),
    _acts("/v1/stock/fill", StockFill, lambda m, q, who: m.stock_fill(q.cabinet, who)),
    _acts(
        "/v1/cabinets/{name}/stop",
        NamedReasoned,
        lambda m, q, who: m.cabinet_stop(q.name, q.reason, who),
    ),
    _acts("/v1/cabinets/{name}/start", Named, lambda m, q, who: m.cabinet_start(q.name, who)),
    _acts("/v1/boards/{name}/accept", Named, lambda m, q, who: m.board_accept(q.name, who)),
    _acts("/v1/clock/accept", Nothing, lambda m, _q, who: m.clock_accept(who)),
    _acts("/v1/service/on", Nothing, lambda m, _q, who: m.service_on(who)),
    _acts("/v1/service/off", Nothing, lambda m, _q, who: m.service_off(who)),
    _reads("/v1/outbox", Nothing, lambda m, _q, _w: m.outbox()),
    _works("/v1/journal/check", Nothing, lambda m, _q, who: m.journal_check(who)),
    _works("/v1/journal/backup", Nothing, lambda m, _q, who: m.journal_backup(who)),
    _reads("/v1/journal/prune", Nothing, lambda m, _q, _w: m.journal_would_prune()),
    _works("/v1/journal/prune", Nothing, lambda m, _q, who: m.journal_prune(who)),
    Route(
        "POST",
        "/v1/lanes/{channel}/test",
        Right.ACT,
        LaneTest,
        stream=lambda m, q, who: m.test_lane(q.channel, q.cycles, who),
    ),
    _acts("/v1/tests/{test_id}/stop", TestNamed, lambda m, q, who: m.stop_test(q.test_id, who)),
    Route(
        "GET",
        "/v1/cabinets/{name}/eye",
        Right.READ,
        EyeAsked,
        stream=lambda m, q, _w: m.eye(q.name, q.seconds),
    ),
)


def routes_at(raw_path: str) -> list[tuple[Route, dict[str, str]]]:
    """The routes of a path (still percent-encoded), whatever their method."""
    parts = raw_path.strip("/").split("/")
    return [(route, found) for route in ROUTES if (found := route.fields(parts)) is not None]
