"""The local sockets: the daemon's service, what vendctl hears from it, the emulator's control."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
from http import HTTPStatus
from typing import Any

from controller.cli.client import Daemon
from controller.cli.exits import Exit, Trouble
from controller.service.connection import Connection, Door
from controller.service.peers import Admission
from controller.service.routes import ROUTES
from controller.service.server import Service
from firmware_sim.control import answer
from firmware_sim.faults import KINDS
from tests.boards.support import in_virtual_time
from tests.emulator.hosts import make_board
from tests.fuzz.draw import Draw, text_of
from tests.fuzz.files import folder
from tests.fuzz.texts import edited
from tests.service.memory_machine import MemoryMachine

PATHS = tuple(
    route.path.format(order_id="1111111", channel="A20", name="main", test_id="t1", unit="1")
    for route in ROUTES
)
NAMES = (b"channel", b"stock", b"cycles", b"cabinet", b"reason", b"limit", b"order_id", b"x")
BODY = [(b"stock", b"3"), (b"cycles", b"2"), (b"reason", b'"why"'), (b"cabinet", b'"A"')]
HEADS = (
    b"Content-Length: 4\r\n", b"Content-Length: 70000\r\n", b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"Expect: 100-continue\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Host: \xff\r\n",
)  # fmt: skip
LARGEST_ANSWER = 64 * 1024


def _request(draw: Draw) -> bytes:
    if draw.number(8) == 1:
        return draw.some()
    method = draw.pick((b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS"))
    target = draw.pick(PATHS).encode()
    if draw.flag():
        target += draw.pick((b"?limit=5", b"/", b"?x=1", b"%00", b"?delivery_id=a&delivery_id=b"))
        target += draw.some()
    body = edited(draw, BODY[: draw.number(5)], NAMES)
    head = b"Host: localhost\r\nContent-Length: %d\r\n" % len(body)
    if draw.number(4) == 1:
        head += draw.pick(HEADS)
    return method + b" " + target + b" HTTP/1.1\r\n" + head + b"\r\n" + body


def service(data: bytes) -> None:
    """Whatever a local peer writes: no answer at all, or one of HTTP with a JSON object in it,
    bounded, and never one that says that the daemon failed."""
    draw = Draw(data)
    sent = b"".join(_request(draw) for _ in draw.rounds(2))
    size = draw.number(256) or len(sent) or 1
    heard = in_virtual_time(_exchange([sent[at : at + size] for at in range(0, len(sent), size)]))
    if not heard:
        return
    assert len(heard) <= LARGEST_ANSWER
    status = int(heard.split(b" ", 2)[1])
    if status == HTTPStatus.CONTINUE:
        heard = heard.partition(b"\r\n\r\n")[2]
        if not heard:
            return
        status = int(heard.split(b" ", 2)[1])
    assert status in {200, 400, 404, 405, 409, 413, 417, 503}, heard
    head, _, body = heard.partition(b"\r\n\r\n")
    if b"x-ndjson" not in head and body:
        assert isinstance(json.loads(body), dict)


async def _exchange(reads: list[bytes]) -> bytes:
    admission = Admission(
        own_uid=os.getuid(), read_group="a", read_gid=None, act_group="b", act_gid=None
    )
    running = Service(MemoryMachine(), admission, folder() / "nowhere.sock")
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    await loop.connect_accepted_socket(lambda: Connection(Door(), running._http, loop), sock=ours)
    theirs.setblocking(False)  # noqa: FBT003  its signature
    heard = b""
    with theirs, contextlib.suppress(OSError):
        for read in reads:
            await loop.sock_sendall(theirs, read)
        while piece := await loop.sock_recv(theirs, 65536):
            heard += piece
    await running._http.shutdown(0.1)
    return heard


STATUSES = (b"200 OK", b"404 Not Found", b"409 Conflict", b"500 x", b"999 x", b"204 No Content")
SAID = [(b"error", b'"busy"'), (b"message", b'"more than 16 connections"'), (b"lanes", b"[]")]


class _Spoken(Daemon):
    """A daemon whose connection is one end of a pair of sockets, the answer already in it."""

    def __init__(self, said: bytes) -> None:
        super().__init__("memory", 0.5)
        self.said = said

    @contextlib.contextmanager
    def _asked(self, method: str, target: str, body: Any) -> Any:
        with _answered(self.said), super()._asked(method, target, body) as response:
            yield response


@contextlib.contextmanager
def _answered(said: bytes) -> Any:
    """vendctl's connection for the time being: our end takes what it asks and has answered."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)

        def connect(connection: http.client.HTTPConnection) -> None:
            connection.sock = ours

        from controller.cli import client

        kept = client._UnixConnection.connect
        client._UnixConnection.connect = connect  # type: ignore[method-assign]
        try:
            yield
        finally:
            client._UnixConnection.connect = kept  # type: ignore[method-assign]


def vendctl(data: bytes) -> None:
    """What answers on the socket says anything: an object, or Trouble with words for people."""
    draw = Draw(data)
    body = edited(draw, SAID, (b"error", b"message", b"event", b"x"))
    if draw.flag():
        body = b"\n".join((body, edited(draw, SAID, (b"event", b"x"))))
    head = b"HTTP/1.1 " + draw.pick(STATUSES) + b"\r\n"
    if draw.number(4):
        head += b"Content-Length: %d\r\n" % len(body)
    elif draw.flag():
        head += b"Transfer-Encoding: chunked\r\n"
        body = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    said = draw.rest() if draw.number(8) == 1 else head + b"\r\n" + body
    daemon = _Spoken(said[:65536])  # more would not fit the kernel's buffer
    asked = draw.number(3)
    try:
        if asked == 0:
            assert isinstance(daemon.read("/v1/status", limit=1), dict)
        elif asked == 1:
            assert isinstance(daemon.act("/v1/stock/fill", cabinet="A"), dict)
        else:
            assert all(isinstance(step, dict) for step in daemon.stream("/v1/lanes/A1/test"))
    except Trouble as trouble:
        assert trouble.exit_code in set(Exit)  # noqa: PT017  the other way out


FAULT = [(b"do", b'"fault"'), (b"kind", b'"jam"'), (b"lane", b"10"), (b"count", b"2")]
HANDS = [(b"do", b'"refill"'), (b"lane", b"10"), (b"goods", b"3"), (b"on", b"true")]
ASKS = [(b"ask", b'"ledger"'), (b"last", b"3")]
CONTROL_NAMES = (
    b"do", b"ask", b"kind", b"lane", b"cycle", b"at", b"probability", b"times", b"seconds", b"open",
    b"delay_ms", b"after_ms", b"code", b"started", b"count", b"on", b"goods", b"last",
)  # fmt: skip
VERBS = (
    b"fault", b"lift", b"unplug", b"plug", b"power", b"door", b"reset", b"refill", b"block_eye",
    b"service", b"state", b"ledger", b"faults",
)  # fmt: skip
FAULTS = sorted(KINDS)


def emulator_control(data: bytes) -> None:
    """Each line is answered with one that is JSON, and the board lives on."""
    draw = Draw(data)
    protocol = draw.pick(("vbp", "xy"))

    async def play() -> None:
        board = make_board(protocol)
        for _ in draw.rounds(8):
            members = list(draw.pick((FAULT, HANDS, ASKS))[: draw.number(5)])
            if draw.flag() and members:
                members[0] = (members[0][0], b'"' + draw.pick(VERBS) + b'"')
            if draw.flag() and len(members) > 1:
                members[1] = (b"kind", b'"' + draw.pick(FAULTS).encode() + b'"')
            line = edited(draw, members, CONTROL_NAMES).replace(b"\n", b" ")
            said = answer(board, line)
            json.dumps(said, allow_nan=False)
            assert said["ok"] or (said["error"] and "\n" not in said["error"]), text_of(line)
            await asyncio.sleep(draw.pick((0.0, 0.3, 5.0)))
        assert answer(board, b'{"ask": "state"}')["ok"]
        board.close()

    in_virtual_time(play())
