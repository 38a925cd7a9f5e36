"""The frames of VBP, without a word on what they carry: COBS, CRC and the decoder of a stream.

    00 + COBS(body) + 00
    body: version(1)=01 | type(1) | flags(1)=00 | seq(2) | len(2) | payload(len) | crc32(4)

Integers are big-endian, a body has at most 255 bytes, the CRC is zlib's over
everything before it. A receiver that joins in the middle is in step again at
the next `00`. Use this through `frames`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from controller.errors import FrameError

VERSION = 1
BODY_LIMIT = 255
"""Bytes of a body at most, by the protocol."""
HEADER = struct.Struct(">BBBHH")
CRC = struct.Struct(">I")
PAYLOAD_LIMIT = BODY_LIMIT - HEADER.size - CRC.size
ENCODED_LIMIT = BODY_LIMIT + 2
"""COBS adds one byte per 254: a body of 255 bytes is at most 257 on the wire."""
COBS_RUN = 254
"""The longest run without a zero that one COBS code covers; its code is one more, FF."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One body without its version and CRC. `payload` is not yet judged: see `parse`."""

    type: int
    seq: int
    payload: bytes = b""
    flags: int = 0


def encode_frame(frame: Frame) -> bytes:
    if len(frame.payload) > PAYLOAD_LIMIT:
        raise FrameError(f"a payload has at most {PAYLOAD_LIMIT} bytes, not {len(frame.payload)}")
    try:
        head = HEADER.pack(VERSION, frame.type, frame.flags, frame.seq, len(frame.payload))
    except struct.error as error:
        raise FrameError(f"frame does not fit its fields: {error}") from error
    body = head + frame.payload
    return b"\0" + cobs_encode(body + CRC.pack(zlib.crc32(body))) + b"\0"


def decode_body(body: bytes) -> Frame:
    """Raises FrameError on a wrong CRC, length or version: the three silent drops."""
    if not HEADER.size + CRC.size <= len(body) <= BODY_LIMIT:
        raise FrameError(f"a body has {HEADER.size + CRC.size} to {BODY_LIMIT} bytes")
    if zlib.crc32(body[: -CRC.size]) != CRC.unpack(body[-CRC.size :])[0]:
        raise FrameError("the CRC is wrong")
    version, type_, flags, seq, length = HEADER.unpack_from(body)
    if version != VERSION:
        raise FrameError(f"version {version} is not {VERSION}")
    if length != len(body) - HEADER.size - CRC.size:
        raise FrameError(f"the length says {length}, the body is {len(body)} bytes")
    return Frame(type_, seq, body[HEADER.size : -CRC.size], flags)


def cobs_encode(data: bytes) -> bytes:
    """Consistent overhead byte stuffing (Cheshire and Baker 1999): no zero remains."""
    out = bytearray()
    for run in data.split(b"\0"):
        rest = run
        while len(rest) >= COBS_RUN:
            out += b"\xff" + rest[:COBS_RUN]
            rest = rest[COBS_RUN:]
        out.append(len(rest) + 1)
        out += rest
    return bytes(out)


def cobs_decode(data: bytes) -> bytes:
    """Raises FrameError when a code points past the end, or a zero is inside."""
    if not data or 0 in data:
        raise FrameError("not a COBS block")
    out = bytearray()
    at = 0
    while at < len(data):
        code = data[at]
        run = data[at + 1 : at + code]
        if len(run) != code - 1:
            raise FrameError("a COBS code points past the end")
        out += run
        at += code
        if code <= COBS_RUN and at < len(data):
            out.append(0)
    return bytes(out)


class Decoder:
    """A stream of bytes -> frames. Bounded, never raises, in step again at the next `00`."""

    def __init__(self) -> None:
        self.frames_ok = 0
        self.frames_bad = 0
        """Blocks between two zeros that were no valid frame."""
        self.bytes_dropped = 0
        self._block = bytearray()
        self._overlong = False

    @property
    def partial(self) -> int:
        """Bytes of an unfinished frame that wait for their `00`."""
        return len(self._block)

    def feed(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        first, *others = data.split(b"\0")
        self._collect(first)
        for piece in others:
            frame = self._finish()
            if frame is not None:
                frames.append(frame)
            self._collect(piece)
        return frames

    def drop_partial(self) -> list[Frame]:
        """The line fell silent inside a frame: forget its bytes. Returns no frames, as VBP
        cannot hide one in a block; the list is for symmetry with other protocols."""
        if self._block:
            self._drop()
        self._overlong = False
        return []

    def _collect(self, piece: bytes) -> None:
        if self._overlong:
            self.bytes_dropped += len(piece)
            return
        self._block += piece
        if len(self._block) > ENCODED_LIMIT:
            self._drop()
            self._overlong = True

    def _finish(self) -> Frame | None:
        overlong, self._overlong = self._overlong, False
        if overlong or not self._block:
            return None
        try:
            frame = decode_body(cobs_decode(bytes(self._block)))
        except FrameError:
            self._drop()
            return None
        self.frames_ok += 1
        self._block.clear()
        return frame

    def _drop(self) -> None:
        self.frames_bad += 1
        self.bytes_dropped += len(self._block)
        self._block.clear()
