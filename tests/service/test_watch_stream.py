"""`GET /v1/watch` on the socket: bounded in readers and memory, and left at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controller.service import tail
from controller.service.server import Service
from tests.service.memory_machine import MemoryMachine
from tests.service.raw_http import get, request
from tests.service.test_bounds import until

WATCH = request("GET", "/v1/watch")


@contextlib.asynccontextmanager
async def watching(path: Path) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(WATCH)
        yield reader
    finally:
        writer.close()


async def lines(reader: asyncio.StreamReader, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            line = await reader.readline()
            assert line, "the stream ended"
            if line.startswith(b"{"):
                found.append(json.loads(line))
    return found


async def test_lines_come_as_they_are_made_and_a_quiet_stream_shows_that_it_lives(
    service: Service,
    machine: MemoryMachine,
    socket_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tail, "HEARTBEAT_S", 0.05)
    machine.hold.clear()
    async with watching(socket_path) as reader:
        assert await lines(reader, 2) == machine.watch_lines
        async with asyncio.timeout(5):
            await reader.readuntil(b"\r\n1\r\n\n\r\n")  # a chunk of one empty line


async def test_a_reader_that_left_is_noticed_in_a_quiet_stream(
    service: Service,
    machine: MemoryMachine,
    socket_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tail, "HEARTBEAT_S", 0.05)
    machine.hold.clear()
    async with watching(socket_path) as reader:
        await lines(reader, 2)
        assert machine.watchers == 1
    await until(lambda: machine.watchers == 0)
    assert len(service.tails) == 0


async def test_readers_are_bounded_and_leave_room_for_questions(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    machine.hold.clear()
    async with contextlib.AsyncExitStack() as watchers:
        for _ in range(tail.MAX_TAILS):
            await lines(await watchers.enter_async_context(watching(socket_path)), 2)
        status, answer = await get(socket_path, "/v1/watch")
        assert (status, answer["error"]) == (503, "busy")
        assert (await get(socket_path, "/v1/status"))[0] == 200


async def test_a_reader_that_takes_nothing_is_dropped_with_a_bounded_heap(
    service: Service,
    machine: MemoryMachine,
    socket_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next line is made when the last one was taken: what was not made takes no memory."""
    monkeypatch.setattr(tail, "WRITE_S", 0.2)
    made = 0

    async def endless() -> AsyncIterator[dict[str, Any]]:
        nonlocal made
        while True:
            made += 1
            yield {"part": "lanes", "at": 0.0, "data": {"A1": "x" * 10_000}}

    machine.watch = endless  # type: ignore[method-assign,assignment]
    async with watching(socket_path):
        await until(lambda: made > 0)
        await until(lambda: len(service.tails) == 0)
    assert made < 200, "2 MB: what the buffers of two sockets and a transport may hold"


async def test_the_daemons_stop_ends_a_stream_at_once(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    machine.hold.clear()
    async with watching(socket_path) as reader:
        await lines(reader, 2)
        async with asyncio.timeout(3):
            await service.close(grace_s=60)
            await reader.read()
    assert machine.watchers == 0
