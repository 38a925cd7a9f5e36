"""The control socket's lines: what they do, and that no line breaks anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.boards.vbp import frames as vbp
from firmware_sim.control import CONNECTIONS_LIMIT, LINE_LIMIT, ControlSocket, answer
from tests.emulator.hosts import VbpHost, make_board
from tests.virtual_time import run_virtual


def say(host: VbpHost, **message: Any) -> dict[str, Any]:
    return answer(host.board, json.dumps(message).encode())


def test_each_verb_does_what_it_says() -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        board = host.board
        host.hello()
        assert say(host, do="door", open=True) == {"ok": True}
        assert board.machine.door_open
        assert say(host, do="door", open=False) == {"ok": True}
        assert not board.machine.door_open
        say(host, do="block_eye", on=True)
        assert board.machine.eye_blocked
        say(host, do="block_eye", on=True)
        say(host, do="block_eye", on=False)
        assert not board.machine.eye_blocked
        say(host, do="refill", lane=10, goods=3)
        assert board.machine.lanes[10].goods == 3
        say(host, do="service", on=True)
        assert host.ask(vbp.Status()).state == vbp.BoardState.SERVICE
        say(host, do="service", on=False)
        say(host, do="unplug")
        assert not board.wire.plugged
        say(host, do="plug")
        assert board.wire.plugged
        say(host, do="power", on=False)
        assert not board.machine.powered
        say(host, do="power", on=True)
        assert board.machine.powered
        await asyncio.sleep(0.2)
        host.hello()
        say(host, do="reset")
        await asyncio.sleep(0.2)
        assert host.ask(vbp.Status()) == vbp.ErrorAnswer(vbp.ErrorCode.NOT_NOW)
        assert say(host, do="fault", kind="jam", lane=10) == {"ok": True}
        state = say(host, ask="state")["state"]
        assert state["armed"] == [{"kind": "jam", "lane": 10}]
        assert say(host, do="lift", kind="jam") == {"ok": True, "ended": 0}
        ledger = say(host, ask="ledger", last=2)
        assert len(ledger["ledger"]) == 2
        assert ledger["lines"] == board.ledger.written
        assert "jam" in say(host, ask="faults")["faults"]

    run_virtual(play)


BAD = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"7",
    b"{}",
    b"[" * 20_000,
    b'{"do": "fly"}',
    b'{"do": ["fault"]}',
    b'{"do": {"a": 1}}',
    b'{"ask": null}',
    b'{"do": "fault"}',
    b'{"do": "fault", "kind": "jamm"}',
    b'{"do": "fault", "kind": "jam", "lane": 99}',
    b'{"do": "fault", "kind": "jam", "colour": 1}',
    b'{"do": "fault", "kind": "no_ack"}',
    b'{"do": "lift", "kind": "jamm"}',
    b'{"do": "lift", "kind": ["jam"]}',
    b'{"do": "power"}',
    b'{"do": "power", "on": 1}',
    b'{"do": "door", "open": "yes"}',
    b'{"do": "refill", "lane": 10}',
    b'{"do": "refill", "lane": 10, "goods": 99999}',
    b'{"do": "refill", "lane": 9, "goods": 1}',
    b'{"do": "plug", "x": 1}',
    b'{"ask": "ledger", "last": -1}',
    b'{"ask": "ledger", "last": 1e9}',
]


@pytest.mark.parametrize("line", BAD)
def test_p14_a_bad_line_is_answered_with_an_error_and_changes_nothing(line: bytes) -> None:
    async def play() -> None:
        host = VbpHost(make_board("vbp"))
        before = host.board.state()
        said = answer(host.board, line)
        assert said["ok"] is False
        assert said["error"]
        assert len(said["error"]) < 1000
        assert host.board.state() == before

    run_virtual(play)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(deadline=None)  # the machine may be busy
@given(
    st.dictionaries(
        st.sampled_from(["do", "ask", "kind", "lane", "on", "open", "goods", "last", "cycle"]),
        st.sampled_from(["fault", "power", "refill", "ledger", "state", "jam", "unplug", "lift"])
        | json_values,
    )
)
def test_any_object_is_answered(body: dict[str, Any]) -> None:
    async def play() -> None:
        said = answer(make_board("vbp"), json.dumps(body).encode())
        assert said["ok"] or said["error"]
        json.dumps(said)

    run_virtual(play)


async def on_socket(
    path: Path, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> None:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
    try:
        await talk(reader, writer)
    finally:
        writer.close()


async def test_one_connection_carries_many_lines_and_bad_ones_do_not_end_it(tmp_path: Path) -> None:
    board = make_board("vbp")
    control = ControlSocket(tmp_path / "c.sock", board)
    await control.open()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'nonsense\n\n{"ask": "state"}\n')
        assert json.loads(await reader.readline())["ok"] is False
        assert json.loads(await reader.readline())["state"]["protocol"] == "vbp"

    await on_socket(tmp_path / "c.sock", talk)
    control.close()
    assert not (tmp_path / "c.sock").exists()
    board.close()


async def test_an_endless_line_is_answered_and_the_connection_ends(tmp_path: Path) -> None:
    board = make_board("vbp")
    control = ControlSocket(tmp_path / "c.sock", board)
    await control.open()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * (LINE_LIMIT * 3))
        async with asyncio.timeout(5):
            assert json.loads(await reader.readline())["ok"] is False
            with contextlib.suppress(ConnectionError):  # the kernel resets: more was unread
                assert await reader.read() == b""

    await on_socket(tmp_path / "c.sock", talk)
    control.close()
    board.close()


async def test_connections_are_bounded_and_a_left_over_socket_is_replaced(tmp_path: Path) -> None:
    board = make_board("vbp")
    path = tmp_path / "c.sock"
    dead = ControlSocket(path, board)
    await dead.open()
    assert dead._server is not None
    dead._server.close()  # as after a kill: the file stays
    control = ControlSocket(path, board)
    await control.open()
    pairs = [await asyncio.open_unix_connection(path) for _ in range(CONNECTIONS_LIMIT)]
    for reader, writer in pairs:
        writer.write(b'{"ask": "faults"}\n')
        assert json.loads(await reader.readline())["ok"]
    reader, writer = await asyncio.open_unix_connection(path)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    for _, other in [*pairs, (reader, writer)]:
        other.close()
    control.close()
    board.close()
