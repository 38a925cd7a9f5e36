"""Faults met on a line, replayed: each file of `captures/` is a test of the real driver.

A capture is made with `vendctl trace BOARD --save FILE` at the machine, or with the
emulator. To make a test of it, put it here with two more lines in its head: `expect:`,
how each of its drives must end, and `about:`, what happened. It is played in virtual time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import capture
from controller.boards import make_board
from controller.boards.port import Trace
from controller.boards.vbp import frames as vbp
from controller.boards.xy import frames as xy
from controller.boards.xy.frames import Command
from controller.capture import Capture, Piece
from firmware_sim.replay import Replay
from tests.boards.support import (
    CLOCK,
    MemoryPort,
    NotebookDesk,
    an_order,
    drive,
    in_virtual_time,
    running,
)
from tests.boards.test_with_emulator import verdict
from tests.boards.test_words import VBP_FRAMES, XY_FRAMES

CAPTURES = sorted((Path(__file__).parent / "captures").glob("*.capture"))


def drives_of_turn(frame: Any) -> dict[int, dict[str, Any]]:
    """Number of the drive -> what the recorded host told the board to turn."""
    if isinstance(frame, vbp.Frame) and frame.type == vbp.Type.DISPENSE:
        told = vbp.Dispense.decode(frame.payload)
        watch = bool(told.options & vbp.Option.WATCH_EYE)
        return {told.cycle_id: {"lane": told.lane, "watch_eye": watch}}
    if isinstance(frame, xy.Frame) and frame.command == Command.DRIVE:
        order = xy.Drive.decode(frame.text)
        return {frame.pack_no or 0: {"lane": order.lane, "watch_eye": order.drop_sensor}}
    return {}


def drives_of(replay: Replay) -> list[dict[str, Any]]:
    """A repeat of the same frame is no other drive."""
    found: dict[int, dict[str, Any]] = {}
    for turn in replay.turns:
        found |= drives_of_turn(turn.host)
    return list(found.values())


def replayed(
    recorded: Capture,
    orders: list[dict[str, Any]] | None = None,
    *,
    trace: Trace | None = None,
) -> tuple[str, Replay]:
    """How the drives ended with today's driver, and the board that played its part."""
    replay = Replay(recorded)
    protocol = recorded.header["protocol"]

    async def whole() -> str:
        port = MemoryPort(replay)
        port.traffic.trace = trace
        driver = make_board("main", protocol, "memory:", {}, CLOCK, lambda *_: port)
        ended = []
        async with running(driver, NotebookDesk()):
            for number, order in enumerate(drives_of(replay) if orders is None else orders, 7_000):
                events = await drive(driver, an_order(number, **order), within_s=120)
                ended.append(verdict(events))
                await driver.release(number)
            try:
                async with asyncio.timeout(30):
                    await replay.over.wait()
            except TimeoutError:
                pass  # the findings say why
        replay.close()
        return ", ".join(ended)

    return in_virtual_time(whole()), replay


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_a_fault_that_was_met_ends_as_it_must(path: Path) -> None:
    recorded = capture.read(path.read_text(encoding="ascii"))
    ended, replay = replayed(recorded)
    assert ended == recorded.header["expect"]
    assert replay.findings() == []
    assert replay.over.is_set()


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_a_capture_that_begins_with_its_drive_is_enough(path: Path) -> None:
    """As a technician saves it: the line had been up for days, and nobody said HELLO."""
    recorded = capture.read(path.read_text(encoding="ascii"))
    replay = Replay(recorded)
    first = next(turn for turn in replay.turns if drives_of_turn(turn.host))
    cut = tuple(piece for piece in recorded.pieces if piece.mono >= first.at)
    assert len(cut) < len(recorded.pieces) - 3
    ended, played = replayed(Capture(recorded.header, cut))
    assert ended == recorded.header["expect"]
    assert played.findings() == []


def recorded_of(name: str) -> Capture:
    return capture.read((CAPTURES[0].parent / name).read_text(encoding="ascii"))


def test_a_host_that_says_more_than_the_capture_is_found() -> None:
    """P1: an XY drive that is repeated for want of an ACK may turn the motor twice."""
    replay = Replay(recorded_of("no-ack-xy.capture"))
    drive_frame = xy.Drive(1, drop_sensor=False).encode(9)

    async def whole() -> None:
        replay.connect(lambda _data: None)
        for said in (xy.encode_frame(xy.ACK), drive_frame, drive_frame):
            replay.on_bytes(said)
        replay.close()

    in_virtual_time(whole())
    assert replay.findings() == [
        "not in the capture: DRIVE PackNO 9, lane 1, drop sensor off, elevator off"
    ]


def test_a_host_that_says_something_else_is_found() -> None:
    other = [{"lane": 3, "watch_eye": True}]
    ended, replay = replayed(recorded_of("jam-vbp.capture"), other)
    assert ended == "RefusedBeforeMotion/lane_disabled"
    said = " ".join(replay.findings())
    assert "not in the capture: DISPENSE" in said
    assert "lane 3" in said
    assert "never said: DISPENSE" in said
    assert not replay.over.is_set()


def test_a_host_that_says_nothing_is_found() -> None:
    ended, replay = replayed(recorded_of("no-ack-xy.capture"), [])
    assert ended == ""
    assert [each.split(" PackNO")[0] for each in replay.findings()] == ["never said: DRIVE"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("vending-capture 1\n", "protocol"),
        ("vending-capture 1\nprotocol: tcn\n", "protocol"),
    ],
)
def test_what_cannot_be_played_is_refused(text: str, why: str) -> None:
    with pytest.raises(capture.CaptureError, match=why):
        Replay(capture.read(text))


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_a_capture_replayed_and_traced_replays_again(path: Path) -> None:
    """Round trip: what the driver's port saw of a replay is a capture with the same end."""
    first = capture.read(path.read_text(encoding="ascii"))
    pieces: list[Piece] = []
    ended, _ = replayed(first, trace=lambda way, data, at: pieces.append(Piece(at, at, way, data)))
    text = capture.head(protocol=first.header["protocol"])
    text += "".join(map(capture.line_of, pieces))
    again, replay = replayed(capture.read(text))
    assert again == ended == first.header["expect"]
    assert replay.findings() == []


@pytest.mark.parametrize("protocol", ["vbp", "xy"])
@given(data=st.data())
def test_no_host_ends_a_replay(protocol: str, data: st.DataObject) -> None:
    """Any bytes of a host, any frames of the board: nothing raises, findings are bounded."""
    frames = VBP_FRAMES if protocol == "vbp" else XY_FRAMES
    parts = st.lists(st.sampled_from(frames) | st.binary(max_size=30), max_size=12)
    ways = st.sampled_from(capture.DIRECTIONS)
    recorded = Capture(
        {"protocol": protocol},
        tuple(
            Piece(float(at), float(at), data.draw(ways), part)
            for at, part in enumerate(data.draw(parts))
            if part
        ),
    )

    async def whole() -> None:
        replay = Replay(recorded)
        replay.connect(lambda _data: None)
        for part in data.draw(parts):
            replay.on_bytes(part)
            await asyncio.sleep(0.3)
        replay.close()
        assert len(replay.findings()) <= 20

    in_virtual_time(whole())
