"""A bare shop: whatever is POSTed becomes a row, durable before it is answered.

    python -m benchmarks.bare.shop DATABASE

What a request costs on the same HTTP server (uvicorn) and the same SQLite (WAL, FULL), one commit
each, without a rule. Says `ready: URL/` as platform-sim does. Runs until it is ended.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import uvicorn

SCHEMA = "CREATE TABLE rows (number INTEGER PRIMARY KEY, body BLOB NOT NULL)"
HEADERS = [(b"content-type", b"application/json")]

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def main() -> None:
    asyncio.run(serve(Path(sys.argv[1])))


async def serve(file: Path) -> None:
    database = sqlite3.connect(file, isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", SCHEMA):
        database.execute(statement).fetchall()

    async def application(_scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        json.loads(body)
        number = database.execute("INSERT INTO rows (body) VALUES (?)", (body,)).lastrowid
        told = json.dumps({"code": 0, "message": "ok", "data": {"order_id": number}}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": told})

    config = uvicorn.Config(
        application, port=0, log_level="warning", access_log=False, lifespan="off"
    )
    await Shop(config).serve()


class Shop(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        print(f"ready: http://{host}:{port}/", flush=True)


if __name__ == "__main__":
    main()
