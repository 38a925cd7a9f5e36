"""The frames of XY, without a word on what they carry: STX, PackNO, XOR and the decoder.

    FA FB | cmd | len | PackNO text... | xor

`len` counts PackNO and text, `xor` is the XOR of every byte before it; nothing is
stuffed, so that `FA FB` may occur inside. Exactly two frames carry no PackNO: POLL
`FA FB 41 00 40` and ACK `FA FB 42 00 43`; an ACK with one is met in the field and
taken. Use this through `frames`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from operator import xor

from controller.errors import FrameError

STX = b"\xfa\xfb"
BODY_LIMIT = 255
"""Bytes of PackNO and text at most."""
OVERHEAD = 5
"""STX, command, length, check byte."""
BYTE = 0xFF
POLL_COMMAND = 0x41
ACK_COMMAND = 0x42
LENGTHS = range(1, BODY_LIMIT + 1)
LENGTHS_OF_BARE: dict[int, Collection[int]] = {POLL_COMMAND: (0,), ACK_COMMAND: (0, 1)}
"""The commands without PackNO, and the lengths that are taken from the line."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `pack_no` is None for POLL and ACK; `text` is what follows it."""

    command: int
    pack_no: int | None = None
    text: bytes = b""


def next_pack_no(pack_no: int) -> int:
    """1..255, then 1 again: 0 is unused."""
    return pack_no % BYTE + 1


def encode_frame(frame: Frame) -> bytes:
    """Raises FrameError when the frame cannot be: too long, or with a wrong PackNO."""
    bare = frame.command in LENGTHS_OF_BARE
    if frame.pack_no is None and not bare:
        raise FrameError(f"command {frame.command:02X} needs a PackNO")
    if frame.command == POLL_COMMAND and (frame.pack_no is not None or frame.text):
        raise FrameError("a POLL carries nothing")
    if bare and frame.text:
        raise FrameError("an ACK carries no text")
    if frame.pack_no is not None and not 1 <= frame.pack_no <= BYTE:
        raise FrameError(f"PackNO is 1..255, not {frame.pack_no}")
    body = (b"" if frame.pack_no is None else bytes((frame.pack_no,))) + frame.text
    if len(body) > BODY_LIMIT or not 0 <= frame.command <= BYTE:
        raise FrameError(f"command {frame.command:#x} with {len(body)} bytes is no frame")
    head = STX + bytes((frame.command, len(body))) + body
    return head + bytes((check_byte(head),))


def check_byte(data: bytes | bytearray) -> int:
    return reduce(xor, data, 0)


class Decoder:
    """A stream of bytes -> frames, as the maker's own host reads it.

    Scan for FA FB, wait for len + 5 bytes, check the XOR; on a mismatch drop one
    byte and scan again. A length that its command cannot have is a mismatch too.
    A PackNO of 0 is unused, but taken: some senders in the field let it happen.
    Never raises; holds at most one frame of bytes. A half frame waits for ever:
    the owner calls `drop_partial` when the line was silent for 100 ms.
    """

    def __init__(self) -> None:
        self.frames_ok = 0
        self.frames_bad = 0
        """Places that began like a frame and were none."""
        self.bytes_dropped = 0
        self._bytes = bytearray()

    @property
    def partial(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return len(self._bytes)

    def feed(self, data: bytes) -> list[Frame]:
        self._bytes += data
        frames = []
        while (found := self._next()) is not None:
            frames.append(found)
        return frames

    def drop_partial(self) -> list[Frame]:
        """The line was silent: the half frame at the head will not be finished.

        A wrong length byte may have swallowed whole frames behind it; those are
        returned. They are old: a POLL among them has lost its answer window.
        """
        frames: list[Frame] = []
        while self._bytes:
            if len(self._bytes) > 1:
                self.frames_bad += 1
            self._drop(1)
            frames += self.feed(b"")
        return frames

    def _next(self) -> Frame | None:
        data = self._bytes
        while True:
            self._seek()
            if len(data) < OVERHEAD - 1:
                return None
            command, length = data[2], data[3]
            if length not in LENGTHS_OF_BARE.get(command, LENGTHS):
                self._mismatch()
                continue
            size = length + OVERHEAD
            if len(data) < size:
                return None
            body = bytes(data[4 : size - 1])
            if check_byte(data[: size - 1]) != data[size - 1]:
                self._mismatch()
                continue
            self.frames_ok += 1
            del data[:size]
            return Frame(command, body[0] if body else None, body[1:])

    def _seek(self) -> None:
        """Bring FA FB, or a last FA that may become it, to the head."""
        at = self._bytes.find(STX)
        if at < 0:
            at = len(self._bytes) - (1 if self._bytes.endswith(STX[:1]) else 0)
        self._drop(at)

    def _mismatch(self) -> None:
        self.frames_bad += 1
        self._drop(1)

    def _drop(self, count: int) -> None:
        self.bytes_dropped += count
        del self._bytes[:count]
