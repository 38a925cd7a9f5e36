"""One connection of the service: bounded in number, in age, and in what it makes us log."""

from __future__ import annotations

import asyncio
import logging
import select
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from controller.service.wire import error, line

logger = logging.getLogger("vending.service")

MAX_CONNECTIONS = 16
"""A technician, their second window, a collector: each connection lives for one request."""

REQUEST_S = 10.0
"""From the connect to the request's last byte. Local programs need milliseconds."""

BAD_REQUEST = 400
SERVER_FAULT = 500


@dataclass(slots=True)
class Door:
    """What the connections of one service share."""

    request_s: float = REQUEST_S
    connections: int = 0
    turned_away: int = 0
    """Connections beyond the bound, and bytes that were no HTTP."""


class Connection(web.RequestHandler):
    """aiohttp's protocol of one connection, with the bounds that it does not have."""

    __slots__ = ("_away", "_deadline", "_door", "_our_loop")

    def __init__(self, door: Door, http: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            http,
            loop=loop,
            logger=logging.getLogger("vending.service.http"),
            access_log=None,  # type: ignore[arg-type] # aiohttp takes it as "none at all"
            tcp_keepalive=False,
            keepalive_timeout=door.request_s,
            lingering_time=1.0,
            auto_decompress=False,
        )
        self._our_loop = loop
        self._door = door
        self._away = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._door.connections += 1
        if self._door.connections > MAX_CONNECTIONS:
            self._away = True
            self._door.turned_away += 1
            assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - a stream socket
            transport.write(TOO_MANY)
            transport.close()
            return
        super().connection_made(transport)
        self.live_for(self._door.request_s)

    def live_for(self, seconds: float | None) -> None:
        """Cut the connection after so long from now, whatever it is at; None: let it live."""
        if self._deadline is not None:
            self._deadline.cancel()
        transport = self.transport
        self._deadline = (
            self._our_loop.call_later(seconds, transport.abort)
            if seconds is not None and transport is not None
            else None
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.connections -= 1
        self.live_for(None)
        if not self._away:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._away:
            super().data_received(data)

    def eof_received(self) -> None:
        if not self._away:
            super().eof_received()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the signature is aiohttp's
        status: int = SERVER_FAULT,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp itself could not make sense of: bytes that are no HTTP."""
        self._door.turned_away += 1
        theirs = BAD_REQUEST <= status < SERVER_FAULT
        logger.log(
            logging.INFO if theirs else logging.ERROR,
            "bad_request",
            extra={"fields": {"status": status, "why": str(exc or message or "")[:200]}},
        )
        text = "this is no HTTP/1.1 request that the service understands"
        code = "bad_request" if theirs else "internal"
        response = error(status, {"error": code, "message": text})
        response.force_close()
        return response


def connection_of(request: web.BaseRequest) -> Connection:
    assert isinstance(request.protocol, Connection)  # noqa: S101 - our own factory made it
    return request.protocol


def has_left(request: web.BaseRequest) -> bool:
    """Whether the peer has closed its end. The kernel is asked: when the loop was held up,
    it reads a request before it learns that its sender gave up waiting long ago."""
    if request.transport is None or request.transport.is_closing():
        return True
    looked = select.poll()
    looked.register(request.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(looked.poll(0))


def _http_bytes(head: bytes, content: dict[str, Any]) -> bytes:
    body = line(content)
    headers = b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head + b"\r\n" + headers % len(body) + body


TOO_MANY = _http_bytes(
    b"HTTP/1.1 503 Service Unavailable",
    {"error": "busy", "message": f"more than {MAX_CONNECTIONS} connections: try again"},
)
"""What a connection beyond the bound is told, unread."""
