"""The other side of the socket, byte by byte: no client library smooths anything here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any


async def exchange(path: Path, sent: bytes, *, within_s: float = 5.0) -> tuple[int, bytes]:
    """Send these bytes; the status and the body of the answer, 0 for no answer at all."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(sent)
        await writer.drain()
        async with asyncio.timeout(within_s):
            answer = await reader.read()
    except (ConnectionError, BrokenPipeError):
        answer = b""
    finally:
        writer.close()
    return split(answer)


def split(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1."):
        return 0, answer
    return int(head.split(b" ")[1]), body


def request(method: str, target: str, body: bytes | None = None) -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n"
    if body is None:
        return (head + "\r\n").encode()
    return (head + f"Content-Length: {len(body)}\r\n\r\n").encode() + body


async def get(path: Path, target: str) -> tuple[int, Any]:
    status, body = await exchange(path, request("GET", target))
    return status, json.loads(body)


async def post(path: Path, target: str, content: object = None) -> tuple[int, Any]:
    body = b"" if content is None else json.dumps(content).encode()
    status, answer = await exchange(path, request("POST", target, body))
    return status, json.loads(answer)
