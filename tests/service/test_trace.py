"""GET /v1/trace: lines as they come, left at any moment, and no slow reader holds anybody."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from controller.boards.ring import Ring
from controller.capture import Piece
from controller.clock import LoopClock
from controller.service import shapes, tail
from controller.service.server import Service
from controller.tracing import FOLLOWER_BYTES, TracedBoard, Tracing
from tests.service.memory_machine import MemoryMachine, trace_frame
from tests.service.raw_http import exchange, get, request
from tests.service.test_bounds import steps, until

FOLLOW = request("GET", "/v1/trace?follow=1")


async def test_the_history_is_lines_of_its_shape(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    status, body = await exchange(socket_path, request("GET", "/v1/trace?seconds=5&quiet=1"))
    assert status == 200
    assert steps(body) == machine.trace_lines
    for line in steps(body):
        assert TypeAdapter(shapes.TraceLine).validate_python(line, strict=True) == line
    assert machine.acts == [("trace", 5, None, False, True)]


@pytest.mark.parametrize("query", ["seconds=x", "seconds=-1", "seconds=86401", "follow=2", "n=1"])
async def test_a_wrong_query_is_told(service: Service, socket_path: Path, query: str) -> None:
    status, answer = await get(socket_path, f"/v1/trace?{query}")
    assert (status, answer["error"]) == (400, "bad_field")


async def test_an_unknown_board_is_refused(service: Service, socket_path: Path) -> None:
    status, answer = await get(socket_path, "/v1/trace?board=x")
    assert (status, answer["error"]) == (404, "unknown_board")


async def test_a_quiet_line_beats_and_a_peer_that_left_is_noticed(
    service: Service,
    machine: MemoryMachine,
    socket_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tail, "HEARTBEAT_S", 0.05)
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    writer.write(FOLLOW)
    async with asyncio.timeout(5):
        await reader.readuntil(b"\r\n1\r\n\n\r\n")  # a chunk of one empty line
        machine.passing.put_nowait(trace_frame(9))
        await reader.readuntil(b"lane 1 started")
    writer.close()
    await until(lambda: machine.tails_open == 0)
    assert len(service.tails) == 0


async def test_a_reader_that_takes_nothing_is_left(
    service: Service,
    machine: MemoryMachine,
    socket_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tail, "WRITE_S", 0.1)
    _reader, writer = await asyncio.open_unix_connection(str(socket_path), limit=1)
    writer.write(FOLLOW)
    await until(lambda: machine.tails_open == 1)
    for _ in range(20_000):  # 5 MB, and the socket's buffers hold some 400 KB
        machine.passing.put_nowait(trace_frame())
    await until(lambda: machine.tails_open == 0)
    assert machine.passing.qsize() > 10_000, "the rest was not read for nobody"
    assert (await get(socket_path, "/v1/status"))[0] == 200
    writer.close()


async def test_readers_are_bounded_and_keep_no_test_vend_away(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    held = []
    for _ in range(tail.MAX_TAILS):
        _reader, writer = await asyncio.open_unix_connection(str(socket_path))
        writer.write(FOLLOW)
        held.append(writer)
    await until(lambda: machine.tails_open == tail.MAX_TAILS)
    status, answer = await get(socket_path, "/v1/trace")
    assert (status, answer["error"]) == (503, "busy")
    assert machine.tails_open == tail.MAX_TAILS
    status, _body = await exchange(socket_path, request("POST", "/v1/lanes/A20/test", b"{}"))
    assert status == 200
    for writer in held:
        writer.close()


async def test_closing_ends_readers_at_once(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    following = asyncio.create_task(exchange(socket_path, FOLLOW))
    await until(lambda: machine.tails_open == 1)
    await asyncio.wait_for(service.close(grace_s=60), 5)
    assert machine.tails_open == 0
    await following


# --------------------------------------------------------------------------- behind the route

POLL = bytes.fromhex("FAFB410040")
STATUS = bytes.fromhex("FAFB040402010001 03")
BOARDS = [TracedBoard("main", "xy", 57_600), TracedBoard("side", "xy", 57_600)]


async def told(tracing: Tracing, *asked: Any, **more: Any) -> list[dict[str, Any]]:
    more = {"follow": False, "quiet": False, **more}
    return [json.loads(json.dumps(line)) async for line in tracing.told(*asked, **more)]


async def test_history_and_live_meet_without_gap_or_repeat(tmp_path: Path) -> None:
    tracing = Tracing(tmp_path, BOARDS, LoopClock())
    passed, loop = tracing.of("main"), asyncio.get_running_loop()
    for number in range(1, 256):
        frame = bytes((0xFA, 0xFB, 0x51, 1, number))
        passed("out", frame + bytes((frame[2] ^ 1 ^ 1 ^ number,)), loop.time())
    stream = tracing.told(60, None, follow=True, quiet=True)
    seen = []
    async for line in stream:
        if "direction" in line:
            seen.append(line["meaning"])
        if len(seen) == 100:  # it still reads what is kept
            for _ in range(5):
                passed("in", STATUS, loop.time())
        if len(seen) == 260:
            break
    await stream.aclose()
    assert seen[:255] == [f"PackNO {number}, how is the machine?" for number in range(1, 256)]
    assert seen[255:] == ["PackNO 2, lane 1 started"] * 5
    assert tracing._followers == []


async def test_only_what_was_asked_for(tmp_path: Path) -> None:
    wall = [1000.0]
    tracing = Tracing(tmp_path, BOARDS, LoopClock(wall=lambda: wall[0]))
    for board in ("main", "side"):
        for second in range(10):
            wall[0] = 1000.0 + second
            tracing.of(board)("in", POLL + STATUS, 5.0 + second)
    every = [line for line in await told(tracing, 60, None) if "direction" in line]
    assert len(every) == 40
    assert [line["at"] for line in every] == sorted(line["at"] for line in every)
    side = [line for line in await told(tracing, 3, "side", quiet=True) if "direction" in line]
    assert [(line["board"], line["at"], line["name"]) for line in side] == [
        ("side", at, "DISPENSING") for at in (1006.0, 1007.0, 1008.0, 1009.0)
    ]
    assert [line["note"] for line in await told(tracing, 0, None)] == ["board", "board"]


async def test_a_reader_that_does_not_keep_up_is_bounded_and_left(tmp_path: Path) -> None:
    tracing = Tracing(tmp_path, BOARDS, LoopClock())
    stream = tracing.told(0, None, follow=True, quiet=False)
    await anext(stream)
    (follower,) = tracing._followers
    for number in range(1000):
        tracing.of("side")("in", bytes(4096), float(number))
        assert sum(len(piece.data) for _, piece in follower.queue) <= FOLLOWER_BYTES
    rest = [line async for line in stream]
    assert rest[-1]["note"] == "too_slow"
    assert tracing._followers == []


async def test_a_broken_ring_is_told_and_live_goes_on(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("no folder")
    tracing = Tracing(tmp_path / "trace", BOARDS, LoopClock())
    passed, loop = tracing.of("main"), asyncio.get_running_loop()
    passed("in", POLL, loop.time())
    stream = tracing.told(60, "main", follow=True, quiet=False)
    assert "trace" in (await anext(stream))["problem"]
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    passed("in", STATUS, loop.time())
    assert (await asyncio.wait_for(waiting, 5))["name"] == "DISPENSING"
    await stream.aclose()


async def test_a_damaged_ring_is_read_where_it_can_be(tmp_path: Path) -> None:
    tracing = Tracing(tmp_path, BOARDS, LoopClock())
    passed = tracing.of("main")
    passed("in", STATUS, 1.0)
    ring: Ring = tracing._rings["main"]
    ring.newer.write_bytes(ring.newer.read_bytes() + bytes(range(256)) * 500 + b"\n")
    ring.close()
    ring.write(Piece(LoopClock().wall(), 2.0, "in", STATUS))
    assert [line.get("name") for line in await told(tracing, 60, "main")] == [
        None,
        "DISPENSING",
        "DISPENSING",
    ]
