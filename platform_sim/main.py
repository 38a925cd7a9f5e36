"""platform-sim: the platform's stand-in, as a program.

    platform-sim --config FILE           runs it until SIGTERM
    platform-sim --config FILE --check   says whether the settings hold
    platform-sim sign --key KEY machine_no=16327129 status=1
                                         a signed body for curl; the time is added

One process: HTTP for merchants, a session at the broker, the callbacks, the rules of time, and one
database file. Killed at any moment it goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from platform_sim import api, catalogue, openapi, timers
from platform_sim.bridge import Bridge
from platform_sim.callbacks import CallbackPump
from platform_sim.guard import allowed
from platform_sim.line import BrokerSettings
from platform_sim.payload import seal
from platform_sim.queues import Books
from platform_sim.settings import BadSettings, Mqtt, Settings, load
from platform_sim.store import Store

log = logging.getLogger("platform")

FINE, FAILED, USAGE = 0, 1, 2

BACKLOG = 256
"""Connections that come at once. asyncio takes so many in one go, before any is counted: with
MOST_CONNECTIONS they stay below the files that a process may open."""
KEPT_S = 75
"""An idle connection of a merchant: longer than the minute after which their side closes it."""
HEAD_S = 10.0
"""For the head of a request after a connection began."""
MOST_CONNECTIONS = 512
"""Half of the 1024 files that a process usually may open: a crowd of idle connections leaves the
callbacks, the broker and the database theirs."""
GOODBYE_S = 5
"""Requests under way at a stop have so long; each is one commit."""


def main(words: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["sign"]:
        return _sign(words[1:])
    parser = argparse.ArgumentParser(
        prog="platform-sim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="only look at the settings")
    given = parser.parse_args(words)
    try:
        settings = load(given.config)
        allowed(settings.callbacks.allowed_hosts)
    except (BadSettings, ValueError) as error:
        print(f"platform-sim: {error}", file=sys.stderr)
        return USAGE
    if given.check:
        print(f"{given.config}: fine, {len(settings.machines)} machines", file=sys.stderr)
        return FINE
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        asyncio.run(serve(settings))
    except (OSError, sqlite3.Error) as error:
        log.error("cannot go on: %s", error)  # noqa: TRY400  (for people; no traceback)
        return FAILED
    return FINE


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Raises OSError: the port is taken; sqlite3.Error: not our file."""
    where = (settings.http.host, settings.http.port)
    try:
        listener = socket.create_server(where, backlog=BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {where[0]}:{where[1]}: {error.strerror}") from None
    store = Store(settings.database)
    try:
        await store.write(lambda tx: catalogue.take_over(tx, settings, now=time.time()))
        books = Books(store, settings.rules)
        wakes = asyncio.Event(), asyncio.Event()
        store.wakes += wakes
        trusted = allowed(settings.callbacks.allowed_hosts)
        bridge = Bridge(
            broker(settings.mqtt),
            books,
            books,
            wakes[0],
            prefix=settings.mqtt.prefix,
            group=settings.mqtt.share_group or None,
        )
        pump = CallbackPump(books, trusted, wakes[1])
        server = Server(
            uvicorn.Config(
                api.application(store, settings),
                http=Connection,
                backlog=BACKLOG,
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_keep_alive=KEPT_S,
                timeout_graceful_shutdown=GOODBYE_S,
                server_header=False,
            )
        )
        for wake in wakes:
            wake.set()  # what a kill left is due now
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(bridge.run(), name="bridge"),
                group.create_task(pump.run(), name="callbacks"),
                group.create_task(timers.run(store, settings.rules), name="timers"),
            ]
            try:
                await server.serve([listener])
            finally:
                for task in running:
                    task.cancel()
    finally:
        await store.close()
    log.info("stopped")


class Connection(H11Protocol):
    """Of a merchant, or of somebody who only holds it: who sends no request has to go."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._wait(KEPT_S)
        super().on_response_complete()

    def _wait(self, seconds: float | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = None if seconds is None else self.loop.call_later(seconds, self._no_head)

    def _no_head(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """HTTP until a signal."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """We take them: uvicorn would raise them again behind its end, and break ours off."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = (sockets or self.servers[0].sockets)[0].getsockname()[:2]
            log.info("ready: http://%s:%s%s", host, port, openapi.ROOT)


def broker(mqtt: Mqtt) -> BrokerSettings:
    return BrokerSettings(
        host=mqtt.host,
        port=mqtt.port,
        client_id=mqtt.client_id,
        username=mqtt.username or None,
        password_file=mqtt.password_file,
        tls=mqtt.ca_file is not None or mqtt.cert_file is not None,
        ca_file=mqtt.ca_file,
        cert_file=mqtt.cert_file,
        key_file=mqtt.key_file,
    )


def _sign(words: Sequence[str]) -> int:
    """A body for curl: curl -d "$(platform-sim sign --key KEY status=1 machine_no=16327129)"."""
    parser = argparse.ArgumentParser(prog="platform-sim sign", description=_sign.__doc__)
    parser.add_argument("--key", required=True, help="the merchant's sign_key")
    parser.add_argument("--encoding", choices=("raw", "url"), default="raw")
    parser.add_argument("fields", nargs="+", metavar="NAME=VALUE")
    given = parser.parse_args(words)
    fields = {"timestamp": str(int(time.time()))}
    for field in given.fields:
        name, equals, value = field.partition("=")
        if not name or not equals:
            parser.error(f"{field!r} is not NAME=VALUE")
        fields[name] = value
    print(seal(fields, given.key, given.encoding).decode())
    return FINE


if __name__ == "__main__":
    sys.exit(main())
