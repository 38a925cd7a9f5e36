"""The local service: HTTP/1.1 on a Unix socket, for vendctl and local tools.

One request per connection. Every answer is JSON; every error is
`{"error": code, "message": text}` and never a stack trace; a refusal has its sentence also
as `template` and `fields`, for vendctl to say it in another language. What a peer can make us
hold is bounded: connections, their age, the size of a request, the number of test
vends. A peer that goes away stops nothing that began: an act is carried through,
a test vend's running cycle is followed to its end (its motor is stopped where the
board can, and no further one begins). An act whose peer had left before we came to it is not begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp import web

from controller.errors import (
    BoardOffline,
    BoardRefused,
    ControllerError,
    JournalError,
    JournalUnwritable,
    Refused,
)
from controller.service import socket_file
from controller.service.connection import REQUEST_S, Connection, Door, connection_of, has_left
from controller.service.machine import Machine
from controller.service.peers import Admission, Peer, Right, name_of, own_uid, peer_of
from controller.service.routes import Answer
from controller.service.tail import Tails
from controller.service.wire import Rejected, answer, asked, error, line, refusal, route_of

logger = logging.getLogger("vending.service")

MAX_STREAMS = 4
"""Test vends wait for each other anyway; the rest is a mistake of a script."""

ANSWER_S = 30.0
"""The longest that reading the machine may take; beyond it the peer hears `timeout`."""

WRITE_S = 10.0
"""A peer that takes none of our bytes for so long has gone, as far as we care."""

HEARTBEAT_S = 5.0
"""An empty line in a quiet stream: shows that we live, and notices a peer that left."""

FLUSH_S = 0.5
"""At the stop: for answers that are being written. Local peers read in milliseconds."""

GONE_S = 0.25
"""How soon it is seen that a peer left: their motor turns meanwhile."""

IN_A_CYCLE = {"started", "progress"}
"""Steps of a test vend after which a cycle of it is open; at every other a stream may be left."""

STATUS_OF_REFUSAL: Mapping[str, HTTPStatus] = {
    "forbidden": HTTPStatus.FORBIDDEN,
    "unknown_order": HTTPStatus.NOT_FOUND,
    "unknown_unit": HTTPStatus.NOT_FOUND,
    "unknown_channel": HTTPStatus.NOT_FOUND,
    "unknown_cabinet": HTTPStatus.NOT_FOUND,
    "unknown_board": HTTPStatus.NOT_FOUND,
}
"""Any other code of a refusal is a 409: it is well asked, and not possible now."""

FAILURES: tuple[tuple[type[Exception], HTTPStatus, str], ...] = (
    (JournalUnwritable, HTTPStatus.SERVICE_UNAVAILABLE, "journal_unwritable"),
    (JournalError, HTTPStatus.SERVICE_UNAVAILABLE, "journal_unreadable"),
    (BoardOffline, HTTPStatus.CONFLICT, "board_offline"),
    (BoardRefused, HTTPStatus.CONFLICT, "board_refused"),
    (ControllerError, HTTPStatus.CONFLICT, "not_possible"),
    (TimeoutError, HTTPStatus.GATEWAY_TIMEOUT, "timeout"),
)
"""What the machine may raise besides a refusal; the first that fits."""


class PeerGone(ConnectionResetError):
    """It closed its connection before we began with its request."""


class Service:
    """A running service. `close` gives the socket back."""

    def __init__(
        self, machine: Machine, admission: Admission, path: Path, *, request_s: float = REQUEST_S
    ) -> None:
        self.machine = machine
        self.admission = admission
        self.path = path
        self.door = Door(request_s)
        self.closing = False
        self.streams: set[asyncio.Task[Any]] = set()
        self.tails = Tails()
        self._http = web.Server(self._handle)
        self._server: asyncio.Server | None = None
        self._identity = (0, 0)

    async def open(self, gid: int | None) -> None:
        listener = socket_file.listen(self.path, gid)
        self._identity = socket_file.identity_of(self.path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: Connection(self.door, self._http, loop), sock=listener
        )

    async def close(self, grace_s: float = 5.0) -> None:
        """No new request; streams end after their running cycle, or after `grace_s`."""
        self.closing = True
        socket_file.remove(self.path, self._identity)
        if self._server is not None:
            self._server.close()
        self.tails.close()
        if self.streams:
            await asyncio.wait(set(self.streams), timeout=grace_s)
        self._http.pre_shutdown()
        await self._http.shutdown(FLUSH_S)

    # -------------------------------------------------------------- one request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every answer closes its connection: no peer holds one for later."""
        try:
            response = await self._answer(request)
        except PeerGone:
            raise  # aiohttp ends such a connection quietly
        except Exception as failure:  # noqa: BLE001 - the last wall before the peer
            response = error(*_told(failure))
        response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        route, fields = route_of(request)
        peer = _peer_of(request)
        if not self.admission.allows(peer, route.right):
            _note("denied", peer, request, right=str(route.right))
            raise self.admission.refusal(peer, route.right)
        if self.closing:
            raise Rejected(
                HTTPStatus.SERVICE_UNAVAILABLE, "shutting_down", "the daemon is stopping"
            )
        given = await asked(request, route, fields)
        connection = connection_of(request)
        connection.live_for(None if route.stream else ANSWER_S + WRITE_S)
        who = name_of(peer.uid)
        if route.right is Right.ACT:
            if has_left(request):
                _note("left_before_the_act", peer, request)
                raise PeerGone
            _note("asked_to_act", peer, request, asked=given.model_dump_json())
        if route.stream is not None and route.right is Right.READ:
            return await self.tails.follow(request, route.stream(self.machine, given, who))
        if route.stream is not None:
            return await self._stream(request, route.stream(self.machine, given, who), who)
        assert route.answer is not None  # noqa: S101 - a route has one of the two
        # An act is not bounded in time: one that was cut in the middle has no honest answer.
        async with asyncio.timeout(None if route.right is Right.ACT else ANSWER_S):
            return answer(await route.answer(self.machine, given, who))

    # -------------------------------------------------------------- a test vend

    async def _stream(
        self, request: web.BaseRequest, steps: AsyncGenerator[Answer, None], who: str
    ) -> web.StreamResponse:
        if len(self.streams) >= MAX_STREAMS:
            await steps.aclose()
            raise Rejected(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "busy",
                "too many test vends or checks run: wait for them",
            )
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self.streams.add(task)
        try:
            async with contextlib.aclosing(steps):
                return await self._follow(request, steps, who)
        finally:
            self.streams.discard(task)

    async def _follow(
        self, request: web.BaseRequest, steps: AsyncGenerator[Answer, None], who: str
    ) -> web.StreamResponse:
        """Hand each step on as a line; a peer that left is no reason to leave a cycle."""
        first = await anext(steps, None)  # a refusal here is an answer of its own
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        response.force_close()
        listening = await _writes(response.prepare(request))
        step: Answer | None = first
        while step is not None:
            listening = listening and await _writes(response.write(line(step)))
            left = self.closing or not _there(request, listening)
            if left and step.get("event") not in IN_A_CYCLE:
                what = "test_vend_left" if request.path.endswith("/test") else "stream_left"
                logger.info(what, extra={"fields": {"path": request.path[:200]}})
                break
            following = asyncio.ensure_future(_next(steps))
            waiting = self._wait(following, request, response, step, who, listening=listening)
            listening = await waiting
            step = following.result()
        if listening:
            await _writes(response.write_eof())
        return response

    async def _wait(
        self,
        following: asyncio.Future[Answer | None],
        request: web.BaseRequest,
        response: web.StreamResponse,
        step: Answer,
        who: str,
        *,
        listening: bool,
    ) -> bool:
        """Until the step after `step` is here; whether the peer still listens then."""
        loop = asyncio.get_running_loop()
        beat, stopped = loop.time() + HEARTBEAT_S, step.get("event") not in IN_A_CYCLE
        try:
            while not following.done():
                await asyncio.wait({following}, timeout=min(GONE_S, HEARTBEAT_S))
                if listening and not following.done() and loop.time() >= beat:
                    beat = loop.time() + HEARTBEAT_S
                    listening = await _writes(response.write(b"\n"))
                if not stopped and not following.done() and not _there(request, listening):
                    stopped = True
                    await self._stop_left(str(step.get("test_id")), who)
        except asyncio.CancelledError:
            following.cancel()
            await asyncio.wait({following})  # a generator is closed only when it stands still
            raise
        return listening

    async def _stop_left(self, test_id: str, who: str) -> None:
        """Whoever tested went away with a motor turning: nobody sees any more what it does."""
        logger.warning("test_vend_abandoned", extra={"fields": {"test_id": test_id, "who": who}})
        with contextlib.suppress(ControllerError):
            await self.machine.stop_test(test_id, who)


async def start_service(
    machine: Machine, *, socket: Path, read_group: str, act_group: str
) -> Service:
    """Listen on `socket` and answer for `machine`.

    Groups are looked up now; one that the system lacks is warned of and admits nobody.
    Raises `socket_file.SocketUnusable` (a ControllerError) with the remedy.
    """
    read_gid = socket_file.group_id(read_group)
    admission = Admission(
        own_uid=own_uid(),
        read_group=read_group,
        read_gid=read_gid,
        act_group=act_group,
        act_gid=socket_file.group_id(act_group),
    )
    service = Service(machine, admission, socket)
    await service.open(read_gid)
    return service


# --------------------------------------------------------------------------- pieces


def _peer_of(request: web.BaseRequest) -> Peer:
    sock = None if request.transport is None else request.transport.get_extra_info("socket")
    try:
        if sock is not None:
            return peer_of(sock)
    except OSError:
        pass  # gone between its request and our question
    raise PeerGone


def _told(failure: Exception) -> tuple[HTTPStatus, dict[str, Any]]:
    """What a peer hears of a failure: status and answer. A bug goes to the log as well."""
    if isinstance(failure, Rejected):
        return failure.status, refusal(failure)
    if isinstance(failure, Refused):
        return STATUS_OF_REFUSAL.get(failure.code, HTTPStatus.CONFLICT), refusal(failure)
    for kind, status, code in FAILURES:
        if isinstance(failure, kind) and str(failure):
            return status, {"error": code, "message": str(failure)}
        if isinstance(failure, kind):
            return status, refusal(
                Refused(code, "no answer within {seconds:g} s", seconds=ANSWER_S)
            )
    logger.error("request_failed", exc_info=failure)
    bug = Refused(
        "internal",
        "the daemon failed at this request; its log says how: journalctl -u vending-controller",
    )
    return HTTPStatus.INTERNAL_SERVER_ERROR, refusal(bug)


def _note(event: str, peer: Peer, request: web.BaseRequest, **more: str) -> None:
    fields = {"who": name_of(peer.uid), "uid": peer.uid, "path": request.path[:200], **more}
    logger.info(event, extra={"fields": fields})


async def _next(steps: AsyncGenerator[Answer, None]) -> Answer | None:
    """The next step; None at the end. A refusal between two cycles is a last line."""
    try:
        return await anext(steps, None)
    except Exception as failure:  # noqa: BLE001 - the answer has begun: its last line says so
        return {"event": "refused", **_told(failure)[1]}


async def _writes(writing: Any) -> bool:
    """False when the peer is gone, or takes nothing any more."""
    try:
        async with asyncio.timeout(WRITE_S):
            await writing
    except (ConnectionError, TimeoutError, RuntimeError):
        return False  # RuntimeError: how older aiohttp says "closing transport"
    return True


def _there(request: web.BaseRequest, listening: bool) -> bool:  # noqa: FBT001 - read at one place
    return listening and request.transport is not None and not request.transport.is_closing()
