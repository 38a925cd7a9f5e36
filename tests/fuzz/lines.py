"""Drivers and emulated firmwares at the end of a line, in virtual time."""

from __future__ import annotations

import asyncio
from collections import deque

from controller.boards.vbp import frames as vbp
from controller.boards.vbp.driver import VbpBoard
from controller.boards.vbp.framing import ENCODED_LIMIT
from controller.boards.xy import frames as xy
from controller.boards.xy.driver import XyBoard
from controller.boards.xy.options import XyOptions
from firmware_sim.board import EmulatedBoard
from tests.boards.hostile import survives
from tests.boards.scripted_vbp import ScriptedVbp
from tests.boards.scripted_xy import ScriptedXy
from tests.boards.support import CLOCK, MemoryPort, in_virtual_time
from tests.emulator.hosts import make_board
from tests.fuzz.decoders import LONGEST_XY
from tests.fuzz.draw import Draw
from tests.fuzz.streams import reads, vbp_frame, xy_frame

READS = 60
"""Of one input at most: with byte-wise reads a plan would otherwise take seconds to play."""

PAUSES_S = (0.0, 0.02, 0.11, 0.25, 1.2)
"""Between two reads: within an answer window, past it, past a poll, past a keep-alive."""


def vbp_driver(data: bytes) -> None:
    """With an order under way: no second drive, notices bounded, and the link comes up again."""
    draw = Draw(data)
    pause = draw.pick(PAUSES_S)
    peer = ScriptedVbp()
    port = MemoryPort(peer)
    survives(VbpBoard("main", port, CLOCK), port, list(reads(draw, vbp_frame))[:READS], pause)
    assert len(peer.started) <= 1


def xy_driver(data: bytes) -> None:
    """As for VBP; the one drive frame is counted on the line."""
    draw = Draw(data)
    pause = draw.pick(PAUSES_S)
    peer = ScriptedXy()
    port = MemoryPort(peer)
    board = XyBoard("side", port, CLOCK, XyOptions())
    survives(board, port, list(reads(draw, xy_frame))[:READS], pause)
    assert len([frame for frame in port.to_board if frame[2:3] == b"\x06"]) <= 1


async def _listen(board: EmulatedBoard, said: list[bytes], pause: float) -> list[bytes]:
    """Everything that the board wrote while it was told that, and in the time behind it."""
    heard: list[bytes] = []
    board.connect(heard.append)
    await asyncio.sleep(0.3)
    for read in said:
        board.on_bytes(read)
        await asyncio.sleep(pause)
    await asyncio.sleep(6.0)  # a cycle to its end
    return heard


def vbp_firmware(data: bytes) -> None:
    """It writes sound frames only, starts no motor that no DISPENSE asked for, and answers
    a HELLO behind whatever it was told."""
    draw = Draw(data)
    pause = draw.pick(PAUSES_S)
    said = list(reads(draw, vbp_frame))[:READS]

    async def play() -> None:
        board = make_board("vbp")
        heard = await _listen(board, said, pause)
        board.on_bytes(b"\0" + vbp.encode(vbp.Hello(), 77))
        host, listener = vbp.Decoder(), vbp.Decoder()
        frames = host.feed(b"".join(heard))
        assert host.frames_bad == host.partial == 0
        for frame in frames:
            vbp.parse(frame)
        assert any(frame.seq == 77 and frame.type == vbp.HelloAnswer.TYPE for frame in frames)
        told = listener.feed(b"".join(said) + b"\0")
        asked = [frame for frame in told if frame.type == vbp.Type.DISPENSE]
        assert board.ledger.count("motor_started") <= len(asked)
        assert board.state()["firmware"]["events"] <= 64
        assert all(len(written) <= ENCODED_LIMIT + 2 for written in heard)
        board.close()

    in_virtual_time(play())


def xy_firmware(data: bytes) -> None:
    """It writes sound frames only, starts no motor without a command, and goes on polling."""
    draw = Draw(data)
    pause, in_turn = draw.pick(PAUSES_S), draw.flag()
    said = list(reads(draw, xy_frame))[:READS]

    async def play() -> None:
        board = make_board("xy")
        heard = await (_converse(board, said) if in_turn else _listen(board, said, pause))
        host = xy.Decoder()
        host.feed(b"".join(heard))
        assert host.frames_bad == host.partial == 0
        assert all(len(written) <= LONGEST_XY for written in heard)
        # A command may be cut by a window's end, so that its pieces make others: no exact count.
        assert board.ledger.count("motor_started") <= b"".join(said).count(b"\xfa\xfb")
        queued = board.state()["firmware"]["queued_frames"]
        more: list[bytes] = []
        board.connect(more.append)
        # Unacknowledged frames go five times each, 100 ms apart; then it polls.
        await asyncio.sleep(2.0 + 0.6 * (queued + 8))
        assert xy.encode_frame(xy.POLL) in more
        board.close()

    in_virtual_time(play())


async def _converse(board: EmulatedBoard, said: list[bytes]) -> list[bytes]:
    """As a host does: each data frame acknowledged, one read told behind each POLL."""
    heard: list[bytes] = []
    waiting = deque(said)
    poll, ack = xy.encode_frame(xy.POLL), xy.encode_frame(xy.ACK)
    loop = asyncio.get_running_loop()

    def answer(written: bytes) -> None:
        heard.append(written)
        if written != poll:
            loop.call_later(0.02, board.on_bytes, ack)
        elif waiting:
            loop.call_later(0.02, board.on_bytes, waiting.popleft())

    board.connect(answer)
    for _ in range(4 * READS):
        await asyncio.sleep(0.25)
        if not waiting:
            break
    await asyncio.sleep(6.0)  # a cycle to its end
    return heard
