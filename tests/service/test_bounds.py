"""What a peer can make the service hold is bounded, and what began is finished (P6, P14)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.errors import Refused
from controller.service import server
from controller.service.connection import MAX_CONNECTIONS
from controller.service.server import Service
from tests.service.memory_machine import MemoryMachine
from tests.service.raw_http import exchange, get, post, request


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, in order or cut."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_p14_a_slow_request_is_cut(service: Service, socket_path: Path) -> None:
    """Slow loris: a byte now and then does not keep a connection."""
    service.door.request_s = 0.2
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def drip() -> None:
        for byte in b"GET /v1/status HTTP/1.1\r\nX: " + b"y" * 1000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(5):
        assert await _rest(reader) == b""
    assert loop.time() - begun < 2
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    writer.close()
    await until(lambda: service.door.connections == 0)


async def test_p14_a_slow_body_is_cut(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    service.door.request_s = 0.2
    head = b"POST /v1/stock/fill HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{"
    assert await exchange(socket_path, head) == (0, b"")
    assert machine.acts == []


async def test_p14_connections_are_bounded_and_the_next_is_told(
    service: Service, socket_path: Path
) -> None:
    held = [await asyncio.open_unix_connection(str(socket_path)) for _ in range(MAX_CONNECTIONS)]
    await until(lambda: service.door.connections == MAX_CONNECTIONS)
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "busy"
    writer.close()
    assert service.door.turned_away == 1
    for _, held_writer in held:
        held_writer.close()
    await until(lambda: service.door.connections == 0)
    assert (await get(socket_path, "/v1/status"))[0] == 200


async def test_one_request_a_connection(service: Service, socket_path: Path) -> None:
    two = request("GET", "/v1/lanes") + request("GET", "/v1/status")
    status, body = await exchange(socket_path, two)
    assert status == 200
    assert list(json.loads(body)) == ["lanes"]


# --------------------------------------------------------------------------- test vends


def steps(body: bytes) -> list[dict[str, object]]:
    """The lines of a chunked NDJSON body."""
    lines = [line for line in body.split(b"\r\n") if line.strip().startswith(b"{")]
    return [json.loads(line) for line in lines]


TEST_VEND = request("POST", "/v1/lanes/A20/test", b'{"cycles":2}')


async def test_p6_a_test_vend_is_told_step_by_step(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    status, body = await exchange(socket_path, TEST_VEND)
    assert status == 200
    cycle = ["started", "progress", "progress", "outcome"]
    assert [step["event"] for step in steps(body)] == [*cycle, *cycle, "finished"]
    assert machine.vends_open == 0


async def test_p6_the_motor_of_a_technician_who_leaves_is_stopped_where_the_board_can(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    machine.hold.clear()
    _reader, writer = await asyncio.open_unix_connection(str(socket_path))
    writer.write(TEST_VEND)
    await asyncio.wait_for(machine.started.wait(), 5)
    writer.close()
    await until(lambda: machine.vends_open == 0)
    assert [act[:2] for act in machine.acts] == [
        ("cycle_started", "A20"),
        ("stop_test", "t1"),
        ("cycle_closed", "A20"),
    ]


async def test_p6_a_technician_who_leaves_ends_no_cycle_that_cannot_be_stopped(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    """The running cycle is followed to its end; the second one never begins."""
    machine.motor = "runs_on"
    machine.hold.clear()
    _reader, writer = await asyncio.open_unix_connection(str(socket_path))
    writer.write(TEST_VEND)
    await asyncio.wait_for(machine.started.wait(), 5)
    writer.close()
    await until(lambda: machine.stop_asked)
    assert machine.vends_open == 1, "still followed with nobody listening"
    machine.hold.set()
    await until(lambda: machine.vends_open == 0)
    assert [act[0] for act in machine.acts] == ["cycle_started", "stop_test", "cycle_closed"]
    assert service.streams == set()


@pytest.mark.parametrize("asked", [TEST_VEND, request("POST", "/v1/cabinets/A/start")])
async def test_p6_an_act_whose_asker_left_before_we_read_it_is_not_done(
    service: Service, machine: MemoryMachine, socket_path: Path, asked: bytes
) -> None:
    """After a hang of ours: they were told that time ran out, and may have reached in."""
    with socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(socket_path))
        asker.sendall(asked)  # all this in one turn of the loop: the service has not looked yet
    assert (await get(socket_path, "/v1/status"))[0] == 200
    await until(lambda: service.door.connections == 0)
    assert machine.acts == []


async def test_a_quiet_stream_shows_that_it_lives(
    service: Service,
    machine: MemoryMachine,
    socket_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "HEARTBEAT_S", 0.05)
    machine.hold.clear()
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    writer.write(TEST_VEND)
    async with asyncio.timeout(5):
        await reader.readuntil(b"progress")
        await reader.readuntil(b"\r\n1\r\n\n\r\n")  # a chunk of one empty line
    machine.hold.set()
    async with asyncio.timeout(5):
        assert b"finished" in await reader.read()
    writer.close()


async def test_a_refusal_before_the_first_step_has_a_status(
    service: Service, socket_path: Path
) -> None:
    status, answer = await post(socket_path, "/v1/lanes/Z9/test")
    assert (status, answer["error"]) == (404, "unknown_channel")


async def test_a_refusal_between_cycles_is_the_last_line(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    async def refused_later(channel: str, cycles: int, who: str):
        yield {"event": "outcome", "outcome": "delivered"}
        raise Refused("cabinet_stopped", "somebody stopped cabinet {name}", name="A")

    machine.test_lane = refused_later  # type: ignore[method-assign]
    _status, body = await exchange(socket_path, TEST_VEND)
    assert steps(body)[-1] == {
        "event": "refused",
        "error": "cabinet_stopped",
        "message": "somebody stopped cabinet A",
        "template": "somebody stopped cabinet {name}",
        "fields": {"name": "A"},
    }


async def test_test_vends_at_once_are_bounded(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    machine.hold.clear()
    running = [
        asyncio.create_task(exchange(socket_path, TEST_VEND)) for _ in range(server.MAX_STREAMS)
    ]
    await until(lambda: len(service.streams) == server.MAX_STREAMS)
    status, answer = await post(socket_path, "/v1/lanes/A20/test")
    assert (status, answer["error"]) == (503, "busy")
    machine.hold.set()
    assert [status for status, _ in await asyncio.gather(*running)] == [200] * server.MAX_STREAMS


async def test_closing_lets_the_running_cycle_end_and_begins_no_other(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    machine.hold.clear()
    following = asyncio.create_task(exchange(socket_path, TEST_VEND))
    await asyncio.wait_for(machine.started.wait(), 5)
    closing = asyncio.create_task(service.close(grace_s=5))
    await until(lambda: not socket_path.exists())
    machine.hold.set()
    await asyncio.wait_for(closing, 5)
    _status, body = await following
    assert [step["event"] for step in steps(body)] == ["started", "progress", "progress", "outcome"]


async def test_closing_does_not_wait_beyond_its_grace(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    machine.hold.clear()
    following = asyncio.create_task(exchange(socket_path, TEST_VEND))
    await asyncio.wait_for(machine.started.wait(), 5)
    await asyncio.wait_for(service.close(grace_s=0.1), 5)
    await until(lambda: machine.vends_open == 0)
    await following
