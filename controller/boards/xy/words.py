"""XY frames in words, for people beside the raw bytes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields

from controller.boards.words import Word
from controller.boards.xy import frames
from controller.boards.xy.frames import Command, lane_of, name_of
from controller.boards.xy.framing import STX, check_byte
from controller.errors import FrameError

IDLE = frozenset((Command.POLL, Command.ACK))

LANE_BYTES = 2


def _lane(text: bytes) -> str:
    if len(text) < LANE_BYTES:
        raise FrameError(f"a lane has {LANE_BYTES} bytes, not {len(text)}")
    return f"lane {lane_of(text[:LANE_BYTES])}"


def _drive(text: bytes) -> str:
    drive = frames.Drive.decode(text)
    sensor, elevator = (("off", "on")[each] for each in (drive.drop_sensor, drive.elevator))
    return f"lane {drive.lane}, drop sensor {sensor}, elevator {elevator}"


def _dispensing(text: bytes) -> str:
    told = frames.DispensingStatus.decode(text)
    return f"lane {told.lane} {name_of(frames.Dispensing, told.status)}"


def _lane_check(text: bytes) -> str:
    told = frames.LaneCheckAnswer.decode(text)
    return f"lane {told.lane} {name_of(frames.LaneCheck, told.status)}"


def _menu(text: bytes) -> str:
    told = frames.MenuAnswer.decode(text)  # a question and its answer begin alike
    data = told.data.hex(" ").upper() or "nothing"
    return f"{name_of(frames.MenuType, told.kind)} {name_of(frames.MenuOp, told.op)}: {data}"


def _elevator(text: bytes) -> str:
    return name_of(frames.ElevatorState, frames.ElevatorAnswer.decode(text).state)


def _every_field(payload: type[frames.LaneReport | frames.MachineStatus]) -> Callable[[bytes], str]:
    def words(text: bytes) -> str:
        told = payload.decode(text)
        return ", ".join(
            f"{field.name} {_plain(getattr(told, field.name))}"
            for field in fields(told)
            if getattr(told, field.name) not in (None, b"")
        )

    return words


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex(" ").upper()
    if isinstance(value, tuple):
        return " ".join("-" if each is None else str(each) for each in value)
    return str(value)


def _steps(text: bytes) -> str:
    return f"every {text[0] * 100} ms" if text else "no interval"


WORDS: Mapping[int, Callable[[bytes], str]] = {
    Command.CHECK_LANE: _lane,
    Command.SELECT_TO_BUY: _lane,
    Command.SELECTED: _lane,
    Command.LANE_CHECK: _lane_check,
    Command.DRIVE: _drive,
    Command.DISPENSING: _dispensing,
    Command.LANE_REPORT: _every_field(frames.LaneReport),
    Command.POLL_INTERVAL: _steps,
    Command.SYNC: lambda _text: "begin anew",
    Command.ASK_STATUS: lambda _text: "how is the machine?",
    Command.MACHINE_STATUS: _every_field(frames.MachineStatus),
    Command.ASK_ELEVATOR: lambda _text: "how is the elevator?",
    Command.ELEVATOR_STATUS: _elevator,
    Command.MENU: _menu,
    Command.MENU_ANSWER: _menu,
}
"""Command -> what its text says. Others are shown as bytes."""


class Cut:
    """One direction of an XY stream, cut into frames and what is none; nothing of it is lost."""

    def __init__(self) -> None:
        self._decoder = frames.Decoder()
        self._raw = bytearray()

    def feed(self, data: bytes) -> Iterator[Word]:
        yield from self._cut(data, self._decoder.feed(data))

    def silence(self) -> Iterator[Word]:
        """100 ms without a byte: a half frame will not be finished."""
        yield from self._cut(b"", self._decoder.drop_partial())

    def _cut(self, data: bytes, found: list[frames.Frame]) -> Iterator[Word]:
        self._raw += data
        for frame in found:
            wire = _wire(frame)
            at = self._raw.find(wire)
            yield from self._no_frame(at)
            del self._raw[: len(wire)]
            yield word_of(frame, wire)
        yield from self._no_frame(len(self._raw) - self._decoder.partial)

    def _no_frame(self, count: int) -> Iterator[Word]:
        if count > 0:
            raw = bytes(self._raw[:count])
            del self._raw[:count]
            yield Word(raw, "no frame", f"{count} bytes that are no frame", ok=False)


def _wire(frame: frames.Frame) -> bytes:
    """As it stood on the line; `encode_frame` refuses what only the field sends (PackNO 0)."""
    body = (b"" if frame.pack_no is None else bytes((frame.pack_no,))) + frame.text
    sent = STX + bytes((frame.command, len(body))) + body
    return sent + bytes((check_byte(sent),))


def word_of(frame: frames.Frame, raw: bytes) -> Word:
    command = frame.command
    name = Command(command).name if command in set(Command) else f"{command:02X}"
    number = "" if frame.pack_no is None else f"PackNO {frame.pack_no}"
    tell = WORDS.get(command)
    try:
        said = tell(frame.text) if tell else frame.text.hex(" ").upper()
    except FrameError as error:
        return Word(raw, name, str(error), ok=False)
    return Word(raw, name, ", ".join(filter(None, (number, said))), ok=True, idle=command in IDLE)
