"""VBP frames in words, for people beside the raw bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, IntFlag

from controller.boards.vbp import frames
from controller.boards.vbp.framing import ENCODED_LIMIT, cobs_decode, decode_body
from controller.boards.words import Word
from controller.errors import FrameError

IDLE = frozenset((frames.Type.STATUS, frames.Type.STATUS | frames.ANSWER_BIT))
"""What keeps a quiet line alive, once a second."""

CODES: dict[tuple[str, str], type[IntEnum | IntFlag]] = {
    ("", "eye"): frames.Eye,
    ("", "door"): frames.Door,
    ("", "motor"): frames.Motor,
    ("", "drop"): frames.Drop,
    ("", "verdict"): frames.Verdict,
    ("", "reset_cause"): frames.ResetCause,
    ("", "capabilities"): frames.Capability,
    ("", "options"): frames.Option,
    ("", "output"): frames.OutputPin,
    ("", "code"): frames.ErrorCode,
    ("StatusAnswer", "state"): frames.BoardState,
    ("ResultAnswer", "state"): frames.RecordState,
    ("LaneInfoAnswer", "kind"): frames.LaneKind,
    ("Event", "kind"): frames.EventKind,
    ("ReadEyeAnswer", "selftest"): frames.SelfTest,
}
"""(payload or "" for any, field) -> the table that names its numbers."""

NOTHING_SET = {"eye": "clear", "options": "none", "capabilities": "none"}
DELIMITER = b"\0"
HEXADECIMAL = frozenset(("boot_id", "memory_id"))


class Cut:
    """One direction of a VBP stream, cut into frames and what is none; nothing of it is lost."""

    def __init__(self) -> None:
        self._decoder = frames.Decoder()
        self._raw = bytearray()

    def feed(self, data: bytes) -> Iterator[Word]:
        *ended, open_end = data.split(DELIMITER)
        for part in ended:
            yield from self._take(part + DELIMITER)
        yield from self._take(open_end)

    def _take(self, part: bytes) -> Iterator[Word]:
        """At most one delimiter, at its end."""
        self._raw += part
        found = self._decoder.feed(part)
        if found:
            yield word_of(found[0], self._taken())
        elif part and not any(self._raw):
            self._raw[:] = DELIMITER  # a run of them is as good as one
        elif part.endswith(DELIMITER) or len(self._raw) > ENCODED_LIMIT + 2:
            yield self._no_frame()

    def silence(self) -> Iterator[Word]:
        """VBP has no time between bytes: a half frame ends at the next delimiter."""
        yield from ()

    def _taken(self) -> bytes:
        raw = bytes(self._raw)
        self._raw.clear()
        return raw

    def _no_frame(self) -> Word:
        raw = self._taken()
        why = "too long" if len(raw) > ENCODED_LIMIT else ""
        try:
            decode_body(cobs_decode(raw.strip(DELIMITER)))
        except FrameError as error:
            why = why or str(error)
        return Word(raw, "no frame", why, ok=False)


def word_of(frame: frames.Frame, raw: bytes) -> Word:
    kind = frame.type if frame.type in set(frames.Type) else frame.type & ~frames.ANSWER_BIT
    known = kind in set(frames.Type)
    name = frames.Type(kind).name if known else f"{frame.type:02X}"
    try:
        payload = frames.parse(frame)
    except FrameError as error:
        return Word(raw, name, str(error), ok=False)
    said = ", ".join((f"seq {frame.seq}", *_fields(payload)))
    return Word(raw, name, said, ok=True, idle=frame.type in IDLE)


def _fields(payload: frames.Payload) -> Iterator[str]:
    shown: tuple[str, ...] = payload.__match_args__
    if isinstance(payload, frames.Event):
        detail = frames.EVENT_DETAILS.get(payload.kind)
        shown = ("event", "kind", *(("rest",) if detail is None else detail[1]))
    for name in shown:
        yield _field(type(payload).__name__, name, getattr(payload, name))


def _field(payload: str, name: str, value: object) -> str:
    codes = CODES.get((payload, name)) or CODES.get(("", name))
    if codes is not None and isinstance(value, int):
        return f"{name} {_named(codes, name, value)}"
    if isinstance(value, bytes):
        return f"{name} {value.hex(' ').upper()}"
    if isinstance(value, tuple):
        return f"{name} {' '.join(map(str, value)) or 'none'}"
    if name in HEXADECIMAL:
        return f"{name} {value:08X}"
    if name.endswith("_ms"):
        return f"{name.removesuffix('_ms')} {value} ms"
    return f"{name} {value}"


def _named(codes: type[IntEnum | IntFlag], name: str, value: int) -> str:
    if issubclass(codes, IntFlag):
        flags = [str(flag.name).lower() for flag in codes if value & flag]
        rest = value & ~sum(codes)
        return " ".join((*flags, *([f"{rest:X}"] if rest else ()))) or NOTHING_SET.get(name, "0")
    return codes(value).name.lower() if value in set(codes) else f"{value:02X}"
