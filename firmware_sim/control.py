"""The control socket: faults and questions at run time, one JSON object per line.

    {"do": "fault", "kind": "jam", "lane": 1}     any field of a scenario's fault
    {"do": "lift", "kind": "go_silent"}           without kind: everything
    {"do": "unplug"}   {"do": "plug"}   {"do": "reset"}
    {"do": "power", "on": false}   {"do": "door", "open": true}   {"do": "block_eye", "on": true}
    {"do": "service", "on": true}                 VBP: the board's service mode
    {"do": "refill", "lane": 1, "goods": 8}
    {"ask": "state"}   {"ask": "ledger", "last": 100}   {"ask": "faults"}

Every line is answered with one: `{"ok": true, …}` or `{"ok": false, "error": …}`.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller.boards.vbp.frames import ResetCause
from firmware_sim.board import EmulatedBoard
from firmware_sim.faults import KINDS, Fault

LINE_LIMIT = 64 * 1024
CONNECTIONS_LIMIT = 16
LEDGER_LINES = 100
LEDGER_LIMIT = 10_000
GOODS_LIMIT = 250

Answer = dict[str, Any]
Body = Mapping[str, Any]


class Misunderstood(Exception):
    """The line is refused; the message says what to write instead."""


def answer(board: EmulatedBoard, line: bytes) -> Answer:
    """Do or answer what one line says. Never raises."""
    try:
        return {"ok": True, **_understood(board, line)}
    except (Misunderstood, OSError) as error:  # OSError: a memory file that cannot be written
        return {"ok": False, "error": str(error)}


def _understood(board: EmulatedBoard, line: bytes) -> Answer:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Misunderstood("not JSON: write one object per line") from error
    if not isinstance(body, dict):
        raise Misunderstood('not an object: write {"do": …} or {"ask": …}')
    for word, verbs in (("do", DO), ("ask", ASK)):
        if word in body:
            verb = body.pop(word)
            if not isinstance(verb, str) or verb not in verbs:
                raise Misunderstood(f"{word} is one of {', '.join(verbs)}")
            return verbs[verb](board, body)
    raise Misunderstood('write {"do": …} or {"ask": …}')


def _only(body: Body, *keys: str) -> None:
    unknown = [key for key in body if key not in keys]
    if unknown:
        raise Misunderstood(f"unknown key {unknown[0][:40]!r}; here go {', '.join(keys) or 'none'}")


def _switch(body: Body, key: str) -> bool:
    _only(body, key)
    value = body.get(key)
    if not isinstance(value, bool):
        raise Misunderstood(f"{key} is true or false")
    return value


def _number(body: Body, key: str, low: int, high: int, default: int | None = None) -> int:
    value = body.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Misunderstood(f"{key} is a whole number from {low} to {high}")
    return value


def _lane(board: EmulatedBoard, body: Body) -> int:
    lane = _number(body, "lane", 0, 0xFFFF)
    if lane not in board.machine.lanes:
        raise Misunderstood(f"there is no lane {lane}")
    return lane


def _fault(board: EmulatedBoard, body: Body) -> Answer:
    try:
        fault = Fault.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part)[:40] for part in first["loc"])
        raise Misunderstood(f"{key}: {first['msg'].removeprefix('Value error, ')}") from error
    if fault.lane is not None and fault.lane not in board.machine.lanes:
        raise Misunderstood(f"there is no lane {fault.lane}")
    if board.settings.protocol not in KINDS[fault.kind].protocols:
        raise Misunderstood(f"a {board.settings.protocol} board has no fault {fault.kind!r}")
    try:
        board.arm(fault)
    except ValueError as error:
        raise Misunderstood(str(error)) from error
    return {}


def _lift(board: EmulatedBoard, body: Body) -> Answer:
    _only(body, "kind", "lane")
    kind = body.get("kind")
    if kind is not None and kind not in list(KINDS):
        raise Misunderstood(f"kind is one of {', '.join(KINDS)}")
    lane = _lane(board, body) if "lane" in body else None
    return {"ended": board.lift(kind, lane)}


def _state_switch(kind: str, key: str | None, *, when: bool) -> Callable[..., Answer]:
    """A verb that puts a lasting fault on or takes it off again."""

    def verb(board: EmulatedBoard, body: Body) -> Answer:
        if key is None:
            _only(body)
        if key is None or _switch(body, key) is when:
            if not board.faults.is_on(kind):
                board.strike(Fault(kind=kind))
        else:
            board.lift(kind)
        return {}

    return verb


def _plug(board: EmulatedBoard, body: Body) -> Answer:
    _only(body)
    board.lift("unplug")
    return {}


def _block_eye(board: EmulatedBoard, body: Body) -> Answer:
    board.block_eye(on=_switch(body, "on"))
    return {}


def _reset(board: EmulatedBoard, body: Body) -> Answer:
    _only(body)
    board.reset(ResetCause.PIN)
    return {}


def _service(board: EmulatedBoard, body: Body) -> Answer:
    if board.vbp is None:
        raise Misunderstood("only a vbp board has a service mode")
    board.vbp.service = _switch(body, "on")
    return {}


def _refill(board: EmulatedBoard, body: Body) -> Answer:
    _only(body, "lane", "goods")
    lane = _lane(board, body)
    board.machine.refill(lane, _number(body, "goods", 0, GOODS_LIMIT))
    return {}


def _state(board: EmulatedBoard, body: Body) -> Answer:
    _only(body)
    return {"state": board.state()}


def _ledger(board: EmulatedBoard, body: Body) -> Answer:
    _only(body, "last")
    count = _number(body, "last", 0, LEDGER_LIMIT, LEDGER_LINES)
    return {"ledger": board.ledger.last(count), "lines": board.ledger.written}


def _faults(board: EmulatedBoard, body: Body) -> Answer:
    _only(body)
    protocol = board.settings.protocol
    return {"faults": [name for name, kind in KINDS.items() if protocol in kind.protocols]}


Verbs = dict[str, Callable[[EmulatedBoard, dict[str, Any]], Answer]]

DO: Verbs = {
    "fault": _fault,
    "lift": _lift,
    "unplug": _state_switch("unplug", None, when=True),
    "plug": _plug,
    "power": _state_switch("power_cut", "on", when=False),
    "door": _state_switch("door_open", "open", when=True),
    "reset": _reset,
    "refill": _refill,
    "block_eye": _block_eye,
    "service": _service,
}
ASK: Verbs = {"state": _state, "ledger": _ledger, "faults": _faults}


def clear_place(path: Path) -> None:
    """Removes a socket that a killed emulator left; OSError where a living one answers."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX) as caller:
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise OSError(
                errno.EADDRINUSE, "another emulator answers there: end that first", str(path)
            )


class ControlSocket:
    """A Unix socket for one board."""

    def __init__(self, path: Path, board: EmulatedBoard) -> None:
        self._path = path
        self._board = board
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Raises OSError, which names the path. What a killed emulator left is replaced."""
        try:
            clear_place(self._path)
            self._server = await asyncio.start_unix_server(
                self._serve, self._path, limit=LINE_LIMIT
            )
        except OSError as error:
            raise OSError(f"control {self._path}: {error.strerror or error}") from error
        self._inode = self._path.stat().st_ino

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            if self._path.exists() and self._path.stat().st_ino == self._inode:
                self._path.unlink()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._writers) >= CONNECTIONS_LIMIT:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the peer is gone, or the emulator ends
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # longer than the limit: where the next line begins is unknown
                await self._say(writer, {"ok": False, "error": f"a line has {LINE_LIMIT} bytes"})
                return
            if not line:
                return
            if line.strip():
                await self._say(writer, answer(self._board, line))

    async def _say(self, writer: asyncio.StreamWriter, said: Answer) -> None:
        writer.write(json.dumps(said).encode() + b"\n")
        await writer.drain()
