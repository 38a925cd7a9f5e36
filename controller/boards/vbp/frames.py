"""VBP on the wire: bytes <-> frozen dataclasses. Pure: no I/O, no clock.

An answer has the type of its request with bit 7 set, and its seq. `Decoder`
(in `framing`, with COBS and CRC) turns a stream into `Frame`s; `parse` turns a
frame into the payload of its type; each payload knows its `TYPE`, `encode` and
`decode`. Numbers that a table of the protocol names are plain `int`s here, so
that a value which no table knows arrives as it is; the enums give them names.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, Self

from controller.boards.vbp.framing import (
    PAYLOAD_LIMIT,
    VERSION,
    Decoder,
    Frame,
    decode_body,
    encode_frame,
)
from controller.errors import FrameError

__all__ = ["Decoder", "Frame", "decode_body", "encode_frame"]  # the rest is public by its name

ANSWER_BIT = 0x80
MS16_LIMIT = 0xFFFF
"""Two-byte milliseconds saturate here."""
OPEN_IDS_LIMIT = 24
"""Cycle ids in one LIST_OPEN answer."""


class Type(IntEnum):
    """Types of requests and events. An answer is `type | ANSWER_BIT`."""

    HELLO = 0x01
    STATUS = 0x02
    DISPENSE = 0x10
    GET_RESULT = 0x11
    RELEASE = 0x12
    LIST_OPEN = 0x13
    STOP = 0x14
    READ_EYE = 0x20
    LANE_INFO = 0x21
    OUTPUT = 0x30
    EVENT = 0x40
    EVENT_ACK = 0x41
    ERROR = 0xE0


class ErrorCode(IntEnum):
    BAD_LENGTH = 1
    UNKNOWN_TYPE = 2
    UNKNOWN_LANE = 3
    NOT_NOW = 4


class ResetCause(IntEnum):
    POWER_ON = 1
    WATCHDOG = 2
    BROWN_OUT = 3
    SOFTWARE = 4
    PIN = 5


class Capability(IntFlag):
    WATCHES_EYE = 1 << 0
    READS_EYE = 1 << 1
    REMEMBERS_CYCLES = 1 << 2
    REMEMBERS_OVER_POWER_LOSS = 1 << 3
    DOOR_SWITCH = 1 << 4
    MEASURES_CURRENT = 1 << 5
    OUTPUTS = 1 << 6
    CAN_STOP = 1 << 7


class BoardState(IntEnum):
    IDLE = 0
    CYCLE_RUNS = 1
    SERVICE = 2


class Eye(IntFlag):
    BLOCKED = 1 << 0
    FAULTY = 1 << 1
    ABSENT = 1 << 2


class Door(IntEnum):
    CLOSED = 0
    OPEN = 1
    NO_SWITCH = 2


class Option(IntFlag):
    """Options of DISPENSE."""

    WATCH_EYE = 1 << 0
    """Refuse on a blocked, faulty or absent eye; report drops."""
    SERVICE_TEST = 1 << 1
    """An open door is allowed."""


class Verdict(IntEnum):
    """Answers to DISPENSE. Only ACCEPTED moves a motor."""

    ACCEPTED = 0
    KNOWN = 1
    BUSY = 2
    EXPIRED = 3
    NO_SUCH_LANE = 4
    EYE_BLOCKED = 5
    EYE_FAULTY_OR_ABSENT = 6
    DOOR_OPEN = 7
    NO_RECORD_FREE = 8
    IN_SERVICE = 9


class RecordState(IntEnum):
    UNKNOWN_ID = 0
    ACCEPTED = 1
    RUNNING = 2
    DONE = 3
    INTERRUPTED = 4
    """The board lost power after it accepted."""


class Motor(IntEnum):
    HOME = 0
    RAN_TOO_LONG = 1
    OPEN_CIRCUIT = 2
    OVERCURRENT = 3
    DID_NOT_LEAVE_HOME = 4
    STOPPED_BY_REQUEST = 5
    NOT_KNOWN = 0xFF


class Drop(IntEnum):
    NOT_WATCHED = 0
    SEEN = 1
    NOT_SEEN = 2
    EYE_FAILED = 3
    NOT_KNOWN = 0xFF


class SelfTest(IntEnum):
    OK = 0
    FAULT = 1
    NOT_RUN = 2


class LaneKind(IntEnum):
    NONE = 0
    SPIRAL = 1
    TRACK = 2
    LOCKER = 3


class OutputPin(IntEnum):
    LIGHT = 1
    LOCK = 2


class EventKind(IntEnum):
    CYCLE_FINISHED = 1
    EYE_CHANGED = 2
    LATE_DROP = 3
    DOOR_CHANGED = 4
    LANE_FAULT = 5


def ms16(milliseconds: float) -> int:
    """A duration as two bytes carry it: whole, not negative, saturated at FFFF."""
    return max(0, min(MS16_LIMIT, int(milliseconds)))


# ------------------------------------------------------------------------ payloads


@dataclass(frozen=True, slots=True)
class Payload:
    """Base of all payloads. A fixed layout is a struct; the few others override."""

    TYPE: ClassVar[int]
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">")

    def encode(self) -> bytes:
        """Raises FrameError when a value does not fit its field."""
        names: tuple[str, ...] = self.__match_args__
        try:
            return self.LAYOUT.pack(*[getattr(self, name) for name in names])
        except struct.error as error:
            raise FrameError(f"{type(self).__name__} does not fit its fields: {error}") from error

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises FrameError when the length is not the layout's."""
        if len(payload) != cls.LAYOUT.size:
            raise FrameError(f"{cls.__name__} has {cls.LAYOUT.size} bytes, not {len(payload)}")
        return cls(*cls.LAYOUT.unpack(payload))


@dataclass(frozen=True, slots=True)
class CycleIdPayload(Payload):
    """A cycle id and nothing else: several requests and answers."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">Q")
    cycle_id: int


@dataclass(frozen=True, slots=True)
class Hello(Payload):
    TYPE: ClassVar[int] = Type.HELLO


@dataclass(frozen=True, slots=True)
class HelloAnswer(Payload):
    """Who the board is. `uptime_ms` is the clock that `Dispense.not_after_ms` is judged by."""

    TYPE: ClassVar[int] = Type.HELLO | ANSWER_BIT
    TAIL: ClassVar[struct.Struct] = struct.Struct(">IIBIHIH")
    TEXT_LIMIT: ClassVar[int] = PAYLOAD_LIMIT - 2 - TAIL.size
    text: str
    boot_id: int
    memory_id: int
    reset_cause: int
    uptime_ms: int
    lanes: int
    capabilities: int
    records_free: int
    version: int = VERSION

    def encode(self) -> bytes:
        """The text is ASCII and cut at TEXT_LIMIT bytes."""
        text = self.text.encode("ascii", "replace")[: self.TEXT_LIMIT]
        try:
            tail = self.TAIL.pack(
                self.boot_id,
                self.memory_id,
                self.reset_cause,
                self.uptime_ms,
                self.lanes,
                self.capabilities,
                self.records_free,
            )
        except struct.error as error:
            raise FrameError(f"HelloAnswer does not fit its fields: {error}") from error
        return bytes((self.version, len(text))) + text + tail

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Bytes of the text that are not printable ASCII arrive as `?`."""
        minimum = 2 + cls.TAIL.size
        if len(payload) < minimum or len(payload) != minimum + payload[1]:
            raise FrameError(f"HelloAnswer of {len(payload)} bytes contradicts its text length")
        text = payload[2 : 2 + payload[1]]
        shown = "".join(chr(b) if chr(b).isprintable() and b < ANSWER_BIT else "?" for b in text)
        tail: tuple[int, ...] = cls.TAIL.unpack(payload[2 + len(text) :])
        boot, memory, cause, uptime, lanes, capabilities, free = tail
        return cls(shown, boot, memory, cause, uptime, lanes, capabilities, free, payload[0])


@dataclass(frozen=True, slots=True)
class Status(Payload):
    TYPE: ClassVar[int] = Type.STATUS


@dataclass(frozen=True, slots=True)
class StatusAnswer(Payload):
    """`frames_ok` and `frames_bad` are the board's own counters of its receiver."""

    TYPE: ClassVar[int] = Type.STATUS | ANSWER_BIT
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">IBBBQII")
    uptime_ms: int
    state: int
    eye: int
    door: int
    running_cycle: int
    frames_ok: int
    frames_bad: int


@dataclass(frozen=True, slots=True)
class Dispense(Payload):
    """The drive frame. `not_after_ms` is in the board's uptime, modulo 2^32."""

    TYPE: ClassVar[int] = Type.DISPENSE
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">QHBHHI")
    cycle_id: int
    lane: int
    options: int
    max_run_ms: int
    drop_wait_ms: int
    not_after_ms: int


@dataclass(frozen=True, slots=True)
class DispenseAnswer(Payload):
    TYPE: ClassVar[int] = Type.DISPENSE | ANSWER_BIT
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">B")
    verdict: int


@dataclass(frozen=True, slots=True)
class GetResult(CycleIdPayload):
    TYPE: ClassVar[int] = Type.GET_RESULT


@dataclass(frozen=True, slots=True)
class ResultAnswer(Payload):
    """A record. Times are since the motor's start, on the board's clock."""

    TYPE: ClassVar[int] = Type.GET_RESULT | ANSWER_BIT
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">QBBBBHHH")
    cycle_id: int
    state: int
    motor: int = Motor.NOT_KNOWN
    drop: int = Drop.NOT_KNOWN
    drops: int = 0
    first_drop_ms: int = 0
    run_ms: int = 0
    peak_ma: int = 0


@dataclass(frozen=True, slots=True)
class Release(CycleIdPayload):
    TYPE: ClassVar[int] = Type.RELEASE


@dataclass(frozen=True, slots=True)
class ReleaseAnswer(CycleIdPayload):
    TYPE: ClassVar[int] = Type.RELEASE | ANSWER_BIT


@dataclass(frozen=True, slots=True)
class ListOpen(Payload):
    TYPE: ClassVar[int] = Type.LIST_OPEN


@dataclass(frozen=True, slots=True)
class ListOpenAnswer(Payload):
    """Unreleased records in any state, oldest first, at most 24: ask again until it is empty."""

    TYPE: ClassVar[int] = Type.LIST_OPEN | ANSWER_BIT
    cycle_ids: tuple[int, ...]

    def encode(self) -> bytes:
        if len(self.cycle_ids) > OPEN_IDS_LIMIT:
            raise FrameError(f"{len(self.cycle_ids)} ids, and an answer carries {OPEN_IDS_LIMIT}")
        return struct.pack(f">B{len(self.cycle_ids)}Q", len(self.cycle_ids), *self.cycle_ids)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        if not payload or payload[0] > OPEN_IDS_LIMIT or len(payload) != 1 + 8 * payload[0]:
            raise FrameError(f"ListOpenAnswer of {len(payload)} bytes contradicts its count")
        return cls(struct.unpack(f">{payload[0]}Q", payload[1:]))


@dataclass(frozen=True, slots=True)
class Stop(CycleIdPayload):
    TYPE: ClassVar[int] = Type.STOP


@dataclass(frozen=True, slots=True)
class StopAnswer(CycleIdPayload):
    TYPE: ClassVar[int] = Type.STOP | ANSWER_BIT


@dataclass(frozen=True, slots=True)
class ReadEye(Payload):
    TYPE: ClassVar[int] = Type.READ_EYE
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">B")
    selftest: int = 0


@dataclass(frozen=True, slots=True)
class ReadEyeAnswer(Payload):
    """`blocked_ms` how long the eye is blocked by now (0 when clear), `pulses` since start."""

    TYPE: ClassVar[int] = Type.READ_EYE | ANSWER_BIT
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BIIB")
    eye: int
    blocked_ms: int
    pulses: int
    selftest: int


@dataclass(frozen=True, slots=True)
class LaneInfo(Payload):
    TYPE: ClassVar[int] = Type.LANE_INFO
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">H")
    lane: int


@dataclass(frozen=True, slots=True)
class LaneInfoAnswer(Payload):
    TYPE: ClassVar[int] = Type.LANE_INFO | ANSWER_BIT
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">HBBII")
    lane: int
    kind: int
    home: int
    runs: int
    faults: int


@dataclass(frozen=True, slots=True)
class Output(Payload):
    TYPE: ClassVar[int] = Type.OUTPUT
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BB")
    output: int
    value: int


@dataclass(frozen=True, slots=True)
class OutputAnswer(Output):
    TYPE: ClassVar[int] = Type.OUTPUT | ANSWER_BIT


@dataclass(frozen=True, slots=True)
class EventAck(Payload):
    TYPE: ClassVar[int] = Type.EVENT_ACK
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">I")
    event: int


@dataclass(frozen=True, slots=True)
class EventAckAnswer(EventAck):
    TYPE: ClassVar[int] = Type.EVENT_ACK | ANSWER_BIT


@dataclass(frozen=True, slots=True)
class ErrorAnswer(Payload):
    """The board cannot serve the request of this seq; `code` is an ErrorCode."""

    TYPE: ClassVar[int] = Type.ERROR
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">B")
    code: int


EVENT_DETAILS: dict[int, tuple[struct.Struct, tuple[str, ...]]] = {
    EventKind.CYCLE_FINISHED: (struct.Struct(">Q"), ("cycle_id",)),
    EventKind.EYE_CHANGED: (struct.Struct(">B"), ("eye",)),
    EventKind.LATE_DROP: (struct.Struct(">QI"), ("cycle_id", "after_ms")),
    EventKind.DOOR_CHANGED: (struct.Struct(">B"), ("door",)),
    EventKind.LANE_FAULT: (struct.Struct(">HB"), ("lane", "motor")),
}
"""What each kind of event carries after its number and kind."""


@dataclass(frozen=True, slots=True)
class Event(Payload):
    """Something the board tells unasked, until EVENT_ACK. Only its kind's fields are set.

    `after_ms` of a late drop counts from the cycle's end. A kind that no table
    knows keeps its bytes in `rest`: it can still be acknowledged.
    """

    TYPE: ClassVar[int] = Type.EVENT
    HEAD: ClassVar[struct.Struct] = struct.Struct(">IB")
    event: int
    kind: int
    cycle_id: int = 0
    after_ms: int = 0
    eye: int = 0
    door: int = 0
    lane: int = 0
    motor: int = 0
    rest: bytes = b""

    def encode(self) -> bytes:
        detail = EVENT_DETAILS.get(self.kind)
        try:
            head = self.HEAD.pack(self.event, self.kind)
            if detail is None:
                return head + self.rest
            return head + detail[0].pack(*(getattr(self, name) for name in detail[1]))
        except struct.error as error:
            raise FrameError(f"Event does not fit its fields: {error}") from error

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        if len(payload) < cls.HEAD.size:
            raise FrameError(f"Event of {len(payload)} bytes has no number and kind")
        event, kind = cls.HEAD.unpack_from(payload)
        rest = payload[cls.HEAD.size :]
        detail = EVENT_DETAILS.get(kind)
        if detail is None:
            return cls(event, kind, rest=rest)
        layout, names = detail
        if len(rest) != layout.size:
            raise FrameError(f"Event of kind {kind} carries {layout.size} bytes, not {len(rest)}")
        return cls(event, kind, **dict(zip(names, layout.unpack(rest), strict=True)))


PAYLOADS: dict[int, type[Payload]] = {
    payload.TYPE: payload
    for payload in (
        *(Hello, HelloAnswer, Status, StatusAnswer, Dispense, DispenseAnswer),
        *(GetResult, ResultAnswer, Release, ReleaseAnswer, ListOpen, ListOpenAnswer),
        *(Stop, StopAnswer, ReadEye, ReadEyeAnswer, LaneInfo, LaneInfoAnswer),
        *(Output, OutputAnswer, EventAck, EventAckAnswer, Event, ErrorAnswer),
    )
}
"""Type byte -> the payload it announces."""


# ------------------------------------------------------------------------ frames


def frame_of(payload: Payload, seq: int) -> Frame:
    return Frame(payload.TYPE, seq, payload.encode())


def encode(payload: Payload, seq: int) -> bytes:
    """The bytes on the wire of one payload. Raises FrameError when it does not fit."""
    return encode_frame(frame_of(payload, seq))


def parse(frame: Frame) -> Payload:
    """Raises FrameError for a type that no table knows, or a payload of a wrong length."""
    payload = PAYLOADS.get(frame.type)
    if payload is None:
        raise FrameError(f"frame type {frame.type:02X} is unknown")
    return payload.decode(frame.payload)
