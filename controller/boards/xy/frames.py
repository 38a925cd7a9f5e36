"""XY on the wire: bytes <-> frozen dataclasses. Pure: no I/O, no clock.

`Decoder` (in `framing`, with the check byte) turns a stream into `Frame`s.
Builders return the bytes of a frame; the `decode` of each payload takes a
frame's text (the bytes after PackNO) and raises FrameError where they contradict
the command. Integers are big-endian. Status codes are plain `int`s, so that a
code which no table knows arrives as it is; the enums give them names.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from controller.boards.xy.framing import BYTE, Decoder, Frame, encode_frame, next_pack_no
from controller.errors import FrameError

__all__ = ["Decoder", "Frame", "encode_frame", "next_pack_no"]  # the rest is public by its name

POLL_INTERVAL_MS = 200
"""The board's default; command 16 changes it in steps of 100 ms."""
ANSWER_WINDOW_MS = 100
"""The host must start its answer within this after a POLL."""
MAX_SENDS = 5
"""Each side may send one packet up to five times."""


class Command(IntEnum):
    """Bytes of `cmd`. U: host to board, V: board to host."""

    CHECK_LANE = 0x01  # U
    LANE_CHECK = 0x02  # V, answer to 01
    SELECT_TO_BUY = 0x03  # U
    DISPENSING = 0x04  # V
    SELECTED = 0x05  # V, U
    DRIVE = 0x06  # U
    LANE_REPORT = 0x11  # V
    POLL_INTERVAL = 0x16  # U
    SYNC = 0x31  # V, U
    POLL = 0x41  # V
    ACK = 0x42  # V, U
    ASK_STATUS = 0x51  # U
    MACHINE_STATUS = 0x52  # V
    ASK_ELEVATOR = 0x53  # U
    ELEVATOR_STATUS = 0x54  # V
    MENU = 0x70  # U
    MENU_ANSWER = 0x71  # V


class LaneCheck(IntEnum):
    """Status of 02. The maker counts in decimal digits: 0x10 follows 0x09."""

    NORMAL = 0x01
    OUT_OF_STOCK = 0x02
    NO_SUCH_LANE = 0x03
    PAUSED = 0x04
    PRODUCT_IN_ELEVATOR = 0x05
    DELIVERY_DOOR_UNLOCKED = 0x06
    ELEVATOR_ERROR = 0x07
    ELEVATOR_SELF_CHECK_FAULT = 0x08
    DELIVERY_DOOR_CLOSE_ERROR = 0x09
    LANE_LEVEL = 0x0A
    INLET_OPEN_ERROR = 0x10
    INLET_CLOSE_ERROR = 0x11
    NO_BOX_DETECTED = 0x12
    HEATING = 0x13
    DELIVERY_DOOR_OPEN_ERROR = 0x14
    TAKE_OUT_THE_BOX = 0x15
    STAY_POLE_RETURN_ERROR = 0x16
    MAIN_MOTOR = 0x17
    TRANSLATION_MOTOR = 0x18
    STAY_POLE_PUSH_ERROR = 0x19
    ELEVATOR_ENTERING_OVEN = 0x20
    ELEVATOR_LEAVING_OVEN = 0x21
    PUSH_ROD_PUSH_ERROR = 0x22
    PUSH_ROD_RETURN_ERROR = 0x23


class Dispensing(IntEnum):
    """Status of 04."""

    STARTED = 0x01
    SUCCESS = 0x02
    JAMMED = 0x03
    MOTOR_DID_NOT_STOP = 0x04
    LANE_INVALID = 0x05
    NO_MOTOR = 0x06
    ELEVATOR_ERROR = 0x07
    BELT_SELF_CHECK_ERROR = 0x0A
    ELEVATOR_UP = 0x10
    ELEVATOR_DOWN = 0x11
    ELEVATOR_UP_ERROR = 0x12
    ELEVATOR_DOWN_ERROR = 0x13
    DELIVERY_DOOR_CLOSING = 0x14
    DELIVERY_DOOR_CLOSE_ERROR = 0x15
    INLET_OPENING = 0x16
    INLET_OPEN_ERROR = 0x17
    PUSHING_BOX_IN = 0x18
    INLET_CLOSING = 0x19
    INLET_CLOSE_ERROR = 0x20
    NO_BOX_DETECTED = 0x21
    HEATING = 0x22
    HEATING_SECONDS_LEFT = 0x23
    TAKE_THE_BOX_OUT = 0x24
    STAY_POLE_RETURN_ERROR = 0x25
    DELIVERY_DOOR_OPENING = 0x26
    DELIVERY_DOOR_OPEN_ERROR = 0x27
    STAY_POLE_PUSH_ERROR = 0x28
    ELEVATOR_ENTER_OVEN_ERROR = 0x29
    ELEVATOR_EXIT_OVEN_ERROR = 0x30
    PUSH_ROD_PUSH_ERROR = 0x31
    PUSH_ROD_RETURN_ERROR = 0x32
    LANE_EMPTY = 0xFC
    LANE_PAUSED = 0xFD
    SALE_PAUSED = 0xFE
    TERMINATED = 0xFF


class ElevatorState(IntEnum):
    """State of 54."""

    OK = 0
    PRODUCT_IN_ELEVATOR = 1
    DELIVERY_DOOR_OPEN = 2
    ELEVATOR_ERROR = 3
    SELF_CHECK_ERROR = 4


class MenuType(IntEnum):
    """Types of 70 and 71 that dispensing needs."""

    DROP_SENSOR = 0x24
    ON_JAM = 0x27
    JAM_LIST = 0x32
    MOTOR_ERROR_LIST = 0x33
    TEST_LANE = 0x38
    LANE_CONFIG = 0x42
    DROP_SENSOR_SELF_TEST = 0x50


class MenuOp(IntEnum):
    READ = 0
    SET = 1


MENU_OK = 0
"""The one byte of a 71 that answers a setting; 1 is a failure."""
SELF_TEST_AUTO = 0


POLL = Frame(Command.POLL)
ACK = Frame(Command.ACK)


def name_of(codes: type[IntEnum], code: int) -> str:
    """The name of a status code for people; its hexadecimal where no table knows it."""
    return codes(code).name.lower() if code in set(codes) else f"{code:02X}"


# ------------------------------------------------------------------------ host to board

DRIVE_LENGTHS = (5, 6, 7)
"""Lengths of 06 that firmwares take; the maker's document says 5."""


def check_lane(pack_no: int, lane: int) -> bytes:
    return encode_frame(Frame(Command.CHECK_LANE, pack_no, lane_bytes(lane)))


def select_to_buy(pack_no: int, lane: int) -> bytes:
    return encode_frame(Frame(Command.SELECT_TO_BUY, pack_no, lane_bytes(lane)))


@dataclass(frozen=True, slots=True)
class Drive:
    """06: turn the motor of a lane. `cart` exists from length 6 on, `picker` at 7."""

    lane: int
    drop_sensor: bool
    elevator: bool = False
    cart: int = 0
    picker: int = 1

    def encode(self, pack_no: int, length: int = 5) -> bytes:
        """`length` is the firmware's, a setting of the machine. FrameError for any but 5, 6, 7."""
        if length not in DRIVE_LENGTHS:
            raise FrameError(f"a drive frame has length 5, 6 or 7, not {length}")
        text = bytes((self.drop_sensor, self.elevator)) + lane_bytes(self.lane)
        text += bytes((self.cart, self.picker))[: length - DRIVE_LENGTHS[0]]
        return encode_frame(Frame(Command.DRIVE, pack_no, text))

    @classmethod
    def decode(cls, text: bytes) -> Self:
        if len(text) + 1 not in DRIVE_LENGTHS:
            raise FrameError(f"a drive frame has length 5, 6 or 7, not {len(text) + 1}")
        extra = text[4:] + bytes((0, 1))[len(text) - 4 :]
        return cls(lane_of(text[2:4]), text[0] == 1, text[1] == 1, extra[0], extra[1])


def poll_interval(pack_no: int, interval_ms: int) -> bytes:
    """16: 100..2000 ms in steps of 100. FrameError outside."""
    steps = interval_ms // 100
    if not 1 <= steps <= 20:  # noqa: PLR2004  the range that the maker documents
        raise FrameError(f"a poll interval is 100..2000 ms, not {interval_ms}")
    return encode_frame(Frame(Command.POLL_INTERVAL, pack_no, bytes((steps,))))


def sync(pack_no: int) -> bytes:
    """31, in both directions."""
    return encode_frame(Frame(Command.SYNC, pack_no))


def ask_status(pack_no: int) -> bytes:
    return encode_frame(Frame(Command.ASK_STATUS, pack_no))


def ask_elevator(pack_no: int) -> bytes:
    return encode_frame(Frame(Command.ASK_ELEVATOR, pack_no))


def menu(pack_no: int, kind: int, op: int, params: bytes = b"") -> bytes:
    """70. Keep one outstanding: its answer does not repeat the parameters."""
    return encode_frame(Frame(Command.MENU, pack_no, bytes((kind, op)) + params))


def set_drop_sensor(pack_no: int, machine: int, *, on: bool) -> bytes:
    return menu(pack_no, MenuType.DROP_SENSOR, MenuOp.SET, bytes((machine, 1 if on else 2)))


def read_drop_sensor(pack_no: int, machine: int) -> bytes:
    return menu(pack_no, MenuType.DROP_SENSOR, MenuOp.READ, bytes((machine,)))


def drop_sensor_self_test(pack_no: int, machine: int) -> bytes:
    """The automatic test; the answer is comm result and test result, 0 is good."""
    return menu(
        pack_no, MenuType.DROP_SENSOR_SELF_TEST, MenuOp.SET, bytes((machine, SELF_TEST_AUTO))
    )


def lane_bytes(lane: int) -> bytes:
    try:
        return struct.pack(">H", lane)
    except struct.error as error:
        raise FrameError(f"a lane's number is 0..65535, not {lane}") from error


def lane_of(two: bytes) -> int:
    return int.from_bytes(two, "big")


# ------------------------------------------------------------------------ board to host


def _check_size(name: str, text: bytes, sizes: tuple[int, ...]) -> None:
    if len(text) not in sizes:
        raise FrameError(f"{name} has {sizes} bytes after PackNO, not {len(text)}")


@dataclass(frozen=True, slots=True)
class LaneCheckAnswer:
    """02: `status` is a LaneCheck. 00 is not normal."""

    status: int
    lane: int

    def encode(self, pack_no: int) -> bytes:
        text = bytes((self.status,)) + lane_bytes(self.lane)
        return encode_frame(Frame(Command.LANE_CHECK, pack_no, text))

    @classmethod
    def decode(cls, text: bytes) -> Self:
        _check_size("a lane check", text, (3,))
        return cls(text[0], lane_of(text[1:3]))


@dataclass(frozen=True, slots=True)
class DispensingStatus:
    """04: `status` is a Dispensing; lane 0 means the lane now selected."""

    status: int
    lane: int
    picker: int | None = None

    def encode(self, pack_no: int) -> bytes:
        text = bytes((self.status,)) + lane_bytes(self.lane)
        text += b"" if self.picker is None else bytes((self.picker,))
        return encode_frame(Frame(Command.DISPENSING, pack_no, text))

    @classmethod
    def decode(cls, text: bytes) -> Self:
        _check_size("a dispensing status", text, (3, 4))
        return cls(text[0], lane_of(text[1:3]), text[3] if text[3:] else None)


@dataclass(frozen=True, slots=True)
class LaneReport:
    """11, one for each lane after a synchronisation. `price` in the smallest money unit."""

    lane: int
    price: int
    stock: int
    capacity: int
    product: int
    status: int
    rest: bytes = b""
    """Up to three bytes of newer firmwares: lane check, cabinet, layer."""

    def encode(self, pack_no: int) -> bytes:
        try:
            text = REPORT.pack(
                self.lane, self.price, self.stock, self.capacity, self.product, self.status
            )
        except struct.error as error:
            raise FrameError(f"LaneReport does not fit its fields: {error}") from error
        return encode_frame(Frame(Command.LANE_REPORT, pack_no, text + self.rest))

    @classmethod
    def decode(cls, text: bytes) -> Self:
        _check_size("a lane report", text, tuple(range(REPORT.size, REPORT.size + 4)))
        lane, price, stock, capacity, product, status = REPORT.unpack_from(text)
        return cls(lane, price, stock, capacity, product, status, text[REPORT.size :])


REPORT = struct.Struct(">HIBBHB")


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """52. Temperatures in degrees Celsius, None where no probe is connected."""

    bill_acceptor: int = 0
    coin_acceptor: int = 0
    card_reader: int = 0
    temperature_controller: int = 0
    temperature: int | None = None
    door: int = 0
    """Non-zero is read as open; that depends on the machine's configuration."""
    bill_change: int = 0
    coin_change: int = 0
    machine_number: str = "0000000000"
    temperatures: tuple[int | None, ...] = (None,) * 8
    rest: bytes = b""
    """Humidities and door states of newer firmwares."""

    def encode(self, pack_no: int) -> bytes:
        try:
            text = MACHINE.pack(
                self.bill_acceptor,
                self.coin_acceptor,
                self.card_reader,
                self.temperature_controller,
                NO_PROBE if self.temperature is None else self.temperature & BYTE,
                self.door,
                self.bill_change,
                self.coin_change,
                self.machine_number.encode("ascii", "replace"),
                bytes(NO_PROBE if t is None else t & BYTE for t in self.temperatures),
            )
        except struct.error as error:
            raise FrameError(f"MachineStatus does not fit its fields: {error}") from error
        return encode_frame(Frame(Command.MACHINE_STATUS, pack_no, text + self.rest))

    @classmethod
    def decode(cls, text: bytes) -> Self:
        if len(text) < MACHINE.size:
            raise FrameError(f"a machine status has {MACHINE.size} bytes or more, not {len(text)}")
        bill, coin, card, controller, temperature, door, bills, coins, number, probes = (
            MACHINE.unpack_from(text)
        )
        return cls(
            bill_acceptor=bill,
            coin_acceptor=coin,
            card_reader=card,
            temperature_controller=controller,
            temperature=_celsius(temperature),
            door=door,
            bill_change=bills,
            coin_change=coins,
            machine_number="".join(chr(b) if b in DIGITS else "?" for b in number),
            temperatures=tuple(_celsius(byte) for byte in probes),
            rest=text[MACHINE.size :],
        )


MACHINE = struct.Struct(">BBBBBBII10s8s")
NO_PROBE = 0xAA
DIGITS = frozenset(b"0123456789")
PROBE_MARKERS = frozenset((NO_PROBE, 0xA1, 0xA2))


def _celsius(byte: int) -> int | None:
    if byte in PROBE_MARKERS:
        return None
    return byte - (BYTE + 1) if byte > BYTE // 2 else byte


@dataclass(frozen=True, slots=True)
class ElevatorAnswer:
    """54: `state` is an ElevatorState."""

    state: int

    def encode(self, pack_no: int) -> bytes:
        return encode_frame(Frame(Command.ELEVATOR_STATUS, pack_no, bytes((self.state,))))

    @classmethod
    def decode(cls, text: bytes) -> Self:
        _check_size("an elevator status", text, (1,))
        return cls(text[0])


@dataclass(frozen=True, slots=True)
class MenuAnswer:
    """71: `data` depends on kind and op; a setting is answered with one byte, MENU_OK or 1."""

    kind: int
    op: int
    data: bytes = b""

    def encode(self, pack_no: int) -> bytes:
        text = bytes((self.kind, self.op)) + self.data
        return encode_frame(Frame(Command.MENU_ANSWER, pack_no, text))

    @classmethod
    def decode(cls, text: bytes) -> Self:
        if len(text) < 2:  # noqa: PLR2004  kind and op
            raise FrameError(f"a menu answer has kind and op, not {len(text)} bytes")
        return cls(text[0], text[1], text[2:])


BoardPayload = (
    LaneCheckAnswer | DispensingStatus | LaneReport | MachineStatus | ElevatorAnswer | MenuAnswer
)

FROM_BOARD: dict[int, type[BoardPayload]] = {
    Command.LANE_CHECK: LaneCheckAnswer,
    Command.DISPENSING: DispensingStatus,
    Command.LANE_REPORT: LaneReport,
    Command.MACHINE_STATUS: MachineStatus,
    Command.ELEVATOR_STATUS: ElevatorAnswer,
    Command.MENU_ANSWER: MenuAnswer,
}


def parse(frame: Frame) -> BoardPayload | None:
    """What a data frame of the board says; None for a command without a payload of ours.

    Raises FrameError when its text contradicts the command. It is acknowledged all
    the same: the board would repeat it five times.
    """
    payload = FROM_BOARD.get(frame.command)
    return None if payload is None else payload.decode(frame.text)
