"""What the service answers: shapes, names, refusals, bad requests (P6, P12, P14)."""

from __future__ import annotations

import getpass
import json
import logging
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from controller.errors import BoardOffline, JournalUnwritable, Refused
from controller.model import canonical_channel
from controller.service import shapes
from controller.service.routes import ROUTES, routes_at
from controller.service.server import Service
from controller.service.wire import MAX_BODY
from tests.service.memory_machine import MemoryMachine
from tests.service.raw_http import exchange, get, post, request

ME = getpass.getuser()

SHAPES = [
    ("GET", "/v1/status", None, shapes.Status),
    ("GET", "/v1/orders?limit=5&before=99", None, shapes.Orders),
    ("GET", "/v1/orders/1111111", None, shapes.OrderDetails),
    ("GET", "/v1/lanes", None, shapes.Lanes),
    ("GET", "/v1/lanes/A20", None, shapes.LaneDetails),
    ("GET", "/v1/link", None, shapes.Link),
    ("GET", "/v1/events", None, shapes.Events),
    ("GET", "/v1/doctor", None, shapes.Checkup),
    ("GET", "/v1/journal/extract?rows=5", None, shapes.JournalExtract),
    ("POST", "/v1/lanes/A20/enable", {}, shapes.LaneActed),
    ("POST", "/v1/lanes/A20/disable", {"reason": "bent"}, shapes.LaneActed),
    ("POST", "/v1/lanes/A20/stock", {"stock": 3}, shapes.LaneActed),
    ("POST", "/v1/stock/fill", {}, shapes.LanesActed),
    ("POST", "/v1/cabinets/A/stop", {"reason": "hand"}, shapes.CabinetActed),
    ("POST", "/v1/cabinets/A/start", None, shapes.CabinetActed),
    ("POST", "/v1/boards/main/accept", None, shapes.BoardActed),
    ("POST", "/v1/clock/accept", None, shapes.ClockActed),
    ("POST", "/v1/service/on", None, shapes.ServiceActed),
    ("POST", "/v1/service/off", None, shapes.ServiceActed),
    ("POST", "/v1/tests/t1/stop", None, shapes.TestStopped),
    ("GET", "/v1/outbox", None, shapes.OutboxView),
    ("GET", "/v1/journal/prune", None, shapes.WouldPrune),
    ("POST", "/v1/stock/undo-test", {"channel": "A20"}, shapes.TestsUndone),
    ("POST", "/v1/orders/1111111/cancel", {"delivery_id": "7"}, shapes.OrderCancelled),
    (
        "POST",
        "/v1/orders/1111111/units/1/resolve",
        {"outcome": "delivered", "revision": 1},
        shapes.Resolved,
    ),
]


@pytest.mark.parametrize(("method", "target", "body", "shape"), SHAPES)
async def test_every_route_answers_its_shape(
    service: Service,
    machine: MemoryMachine,
    socket_path: Path,
    method: str,
    target: str,
    body: object,
    shape: type,
) -> None:
    machine.vends_open = 1  # a test to stop
    status, answer = await (
        get(socket_path, target) if method == "GET" else post(socket_path, target, body)
    )
    assert status == 200, answer
    assert TypeAdapter(shape).validate_python(answer, strict=True) == answer


def test_the_table_above_knows_every_route() -> None:
    tried = {
        (route.method, route.path)
        for method, target, _, _ in SHAPES
        for route, _ in routes_at(target.partition("?")[0])
        if route.method == method
    }
    assert tried == {(route.method, route.path) for route in ROUTES if route.answer is not None}


async def test_a_request_reaches_the_machine_as_it_was_meant(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    await get(socket_path, "/v1/orders?limit=5&before=99")
    await get(socket_path, "/v1/orders/1111111?delivery_id=a%2Fb")
    await post(socket_path, "/v1/lanes/A020/disable", {"reason": "bent\nspiral "})
    await post(socket_path, "/v1/stock/fill", {"cabinet": "A"})
    assert machine.acts == [
        ("orders", 5, 99),
        ("order", 1111111, "a/b"),
        ("lane_disable", "A20", "bent spiral", ME),
        ("stock_fill", "A", ME),
    ]


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Refused("cycle_open", "a cycle of {lane} runs", lane="A20"), 409, "cycle_open"),
        (Refused("unknown_channel", "there is no lane A20"), 404, "unknown_channel"),
        (JournalUnwritable("the disk is full"), 503, "journal_unwritable"),
        (BoardOffline("the cable is out"), 409, "board_offline"),
        (TimeoutError(), 504, "timeout"),
        (ZeroDivisionError("secret of the inside"), 500, "internal"),
    ],
)
async def test_p12_what_the_machine_raises_is_an_answer_without_a_trace(
    service: Service,
    machine: MemoryMachine,
    socket_path: Path,
    failure: Exception,
    status: int,
    code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine.failure = failure
    found, answer = await get(socket_path, "/v1/lanes/A20")
    assert (found, answer["error"]) == (status, code)
    if "template" in answer:
        assert answer["template"].format(**answer["fields"]) == answer["message"]
    else:
        assert answer.keys() == {"error", "message"}
        assert not isinstance(failure, Refused)
    assert "secret" not in answer["message"]
    assert "Traceback" not in answer["message"]
    machine.failure = None
    assert (await get(socket_path, "/v1/lanes/A20"))[0] == 200
    logged = [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
    assert len(logged) == (1 if status == 500 else 0), "only a bug is an error in the log"


BAD = [
    ("GET", "/", None, 404, "no_such_path"),
    ("GET", "/v1/lanes/A20/enable", None, 405, "method_not_allowed"),
    ("DELETE", "/v1/status", None, 405, "method_not_allowed"),
    ("GET", "/v1/lanes/%2e%2e%2fetc", None, 400, "bad_field"),
    ("GET", "/v1/lanes/a20", None, 400, "bad_field"),
    ("GET", "/v1/orders?limit=0", None, 400, "bad_field"),
    ("GET", "/v1/orders?limit=1000000", None, 400, "bad_field"),
    ("GET", "/v1/orders?limit=-1", None, 400, "bad_field"),
    ("GET", "/v1/orders?surprise=1", None, 400, "bad_field"),
    ("GET", "/v1/orders/0", None, 400, "bad_field"),
    ("GET", "/v1/orders/99999999999999999999", None, 400, "bad_field"),
    ("POST", "/v1/lanes/A20/stock", b"", 400, "bad_field"),
    ("POST", "/v1/lanes/A20/stock", b'{"stock":"3"}', 400, "bad_field"),
    ("POST", "/v1/lanes/A20/stock", b'{"stock":true}', 400, "bad_field"),
    ("POST", "/v1/lanes/A20/stock", b'{"stock":3.0}', 400, "bad_field"),
    ("POST", "/v1/lanes/A20/stock", b'{"stock":-1}', 400, "bad_field"),
    ("POST", "/v1/lanes/A20/stock", b'{"stock":1,"x":1}', 400, "bad_field"),
    ("POST", "/v1/lanes/A20/stock", b'{"stock":1,"channel":"A1"}', 400, "bad_field"),
    ("POST", "/v1/lanes/A20/stock", b"[1]", 400, "bad_json"),
    ("POST", "/v1/lanes/A20/stock", b"\xff\xfe{", 400, "bad_json"),
    ("POST", "/v1/lanes/A20/stock", b"[" * 60_000, 400, "bad_json"),
    ("POST", "/v1/lanes/A20/test", b'{"cycles":21}', 400, "bad_field"),
    ("POST", "/v1/cabinets/%20/stop", b"", 400, "bad_field"),
    ("POST", "/v1/lanes/A20/stock", b" " * (MAX_BODY + 1), 413, "too_large"),
]


@pytest.mark.parametrize(("method", "target", "body", "status", "code"), BAD)
async def test_p14_a_bad_request_has_a_code_and_reaches_nothing(
    service: Service,
    machine: MemoryMachine,
    socket_path: Path,
    method: str,
    target: str,
    body: bytes | None,
    status: int,
    code: str,
) -> None:
    found, answer = await exchange(socket_path, request(method, target, body))
    assert (found, json.loads(answer)["error"]) == (status, code)
    assert machine.acts == []


async def test_p14_a_body_without_a_length_is_bounded_too(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    head = b"POST /v1/stock/fill HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    found, answer = await exchange(socket_path, head + chunk * 4 + b"0\r\n\r\n")
    assert (found, json.loads(answer)["error"]) == (413, "too_large")
    assert machine.acts == []


@pytest.mark.parametrize(
    "noise",
    [
        b"\x00\xff\xfa\xfb\x06garbage\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not TLS here\r\n\r\n",
    ],
)
async def test_p14_noise_is_answered_counted_and_forgotten(
    service: Service, socket_path: Path, noise: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    found, answer = await exchange(socket_path, noise)
    assert (found, json.loads(answer)["error"]) == (400, "bad_request")
    assert service.door.turned_away == 1
    assert max((len(entry.getMessage()) for entry in caplog.records), default=0) < 500
    assert (await get(socket_path, "/v1/status"))[0] == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
FIELDS = sorted({name for route in ROUTES for name in route.asked.model_fields})


@settings(deadline=None)
@given(part=st.text(max_size=30), content=st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_p14_whatever_is_asked_is_judged_and_what_passes_is_sound(
    part: str, content: dict[str, object]
) -> None:
    """Any text in a path, any JSON in a body: a ValidationError, or a request in its bounds."""
    for route in ROUTES:
        raw = "/".join(quote(part, safe="") if p[:1] == "{" else p for p in route.path.split("/"))
        fields = dict(routes_at(raw)).get(route)
        if fields is None:
            assert part in {"", "fill"}, "a quoted part stays one part"
            continue
        try:
            asked = route.asked.model_validate({**content, **fields})
        except ValidationError:
            continue
        told = asked.model_dump()
        channel = told.get("channel") or "A1"
        assert channel == canonical_channel(channel)
        assert 0 <= told.get("stock", 0) <= 10_000
        assert 1 <= told.get("cycles", 1) <= 20
        assert len(told.get("reason", "")) <= 200
        assert told.get("reason", "").isprintable()
        assert told.get("name", "x").isprintable()
