"""Streams that only read: may be left at any line, and never wait for a slow reader.

A peer gets lines as they come, an empty one in a quiet time. One that takes nothing
for WRITE_S is left; what waits for it until then is bounded by the socket's buffers
and by whoever makes the lines.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from controller.service.routes import Answer
from controller.service.wire import Rejected, line

MAX_TAILS = 6
"""`watch` takes two, the picture and the frames: two people watch, one window has a trace, and
one is to spare. Apart from the test vends: who
reads keeps nobody from acting."""

HEARTBEAT_S = 5.0
"""An empty line in a quiet stream, as in a test vend's: shows that we live."""

WRITE_S = 10.0
"""A peer that takes none of our bytes for so long is left."""


class Tails:
    """All reading streams of a service."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def close(self) -> None:
        for task in self._running:
            task.cancel()

    async def follow(
        self, request: web.BaseRequest, lines: AsyncGenerator[Answer, None]
    ) -> web.StreamResponse:
        """Raises Rejected beyond the bound, and what the first line raises."""
        if len(self._running) >= MAX_TAILS:
            await lines.aclose()
            raise Rejected(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "busy",
                "{count} streams are read already: end one of them",
                count=MAX_TAILS,
            )
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._running.add(task)
        try:
            async with contextlib.aclosing(lines):
                return await _hand_on(request, lines)
        finally:
            self._running.discard(task)


async def _hand_on(
    request: web.BaseRequest, lines: AsyncGenerator[Answer, None]
) -> web.StreamResponse:
    first = await anext(lines, None)  # a refusal here is an answer of its own
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    response.force_close()
    following = asyncio.ensure_future(_next(lines))
    try:
        there = await _writes(response.prepare(request))
        if there and first is not None:
            there = await _writes(response.write(line(first)))
        while there:
            await asyncio.wait({following}, timeout=HEARTBEAT_S)
            if not following.done():
                there = await _writes(response.write(b"\n"))
                continue
            told = following.result()
            if told is None:
                await _writes(response.write_eof())
                break
            there = await _writes(response.write(line(told)))
            following = asyncio.ensure_future(_next(lines))
    finally:
        following.cancel()
        await asyncio.wait({following})  # a generator is closed only when it stands still
    return response


async def _next(lines: AsyncGenerator[Answer, None]) -> Answer | None:
    return await anext(lines, None)


async def _writes(writing: Awaitable[Any]) -> bool:
    """False when the peer is gone, or takes nothing any more."""
    try:
        async with asyncio.timeout(WRITE_S):
            await writing
    except (ConnectionError, TimeoutError, RuntimeError):
        return False  # RuntimeError: how older aiohttp says "closing transport"
    return True
