"""The decoders of both serial protocols, alone: pure functions, and so the fastest targets."""

from __future__ import annotations

from controller.boards.vbp import frames as vbp
from controller.boards.vbp.framing import ENCODED_LIMIT
from controller.boards.xy import frames as xy
from controller.boards.xy.framing import BODY_LIMIT, OVERHEAD
from controller.errors import FrameError
from tests.fuzz.draw import Draw
from tests.fuzz.streams import reads, vbp_frame, xy_frame

LONGEST_XY = BODY_LIMIT + OVERHEAD


def vbp_stream(data: bytes) -> None:
    """Bounded; the same frames however the reads are cut; in step again at the next 00."""
    decoder, found, wire = vbp.Decoder(), [], b""
    for read in reads(Draw(data), vbp_frame):
        wire += read
        found += decoder.feed(read)
        assert decoder.partial <= ENCODED_LIMIT
    at_once = vbp.Decoder()
    assert at_once.feed(wire) == found
    counters = ("frames_ok", "frames_bad", "bytes_dropped", "partial")
    assert [getattr(at_once, name) for name in counters] == [
        getattr(decoder, name) for name in counters
    ]
    # Each byte is looked at once: it ends in a frame, is dropped, or waits.
    assert decoder.bytes_dropped + decoder.partial + 13 * len(found) <= len(wire)
    for frame in found:
        assert vbp.Decoder().feed(vbp.encode_frame(frame)) == [frame]
        _vbp_payload(frame)
    assert decoder.feed(b"\0" + vbp.encode(vbp.Hello(), 9))[-1] == vbp.frame_of(vbp.Hello(), 9)


def _vbp_payload(frame: vbp.Frame) -> None:
    try:
        payload = vbp.parse(frame)
    except FrameError as error:
        assert str(error)  # noqa: PT017  most frames have a payload
        return
    wire = payload.encode()
    assert type(payload).decode(wire) == payload
    if not isinstance(payload, vbp.HelloAnswer):  # its text is made printable
        assert wire == frame.payload


def xy_stream(data: bytes) -> None:
    """Bounded; no byte unaccounted for; a POLL behind any garbage is found."""
    draw = Draw(data)
    silent = draw.flag()
    decoder, found, wire = xy.Decoder(), [], b""
    for read in reads(draw, xy_frame):
        wire += read
        found += decoder.feed(read)
        assert decoder.partial < LONGEST_XY
    if not silent:
        assert xy.Decoder().feed(wire) == found
    else:
        found += decoder.drop_partial()
        assert decoder.partial == 0
    # Every turn of the decoder's loop drops a byte or takes a frame: this bounds the turns.
    sizes = sum(OVERHEAD + (frame.pack_no is not None) + len(frame.text) for frame in found)
    assert decoder.bytes_dropped + decoder.partial + sizes == len(wire)
    for frame in found:
        _xy_payload(frame)
    # No half frame is longer than this filling, which holds no beginning of one.
    assert decoder.feed(bytes(LONGEST_XY) + xy.encode_frame(xy.POLL))[-1] == xy.POLL


def _xy_payload(frame: xy.Frame) -> None:
    if frame.pack_no != 0:  # taken from the line, and never sent
        assert xy.Decoder().feed(xy.encode_frame(frame)) == [frame]
    try:
        payload = xy.parse(frame)
    except FrameError as error:
        assert str(error)  # noqa: PT017
    else:
        if payload is not None:
            (back,) = xy.Decoder().feed(payload.encode(7))
            assert (back.command, xy.parse(back)) == (frame.command, payload)
    if frame.command == xy.Command.DRIVE:
        try:
            drive = xy.Drive.decode(frame.text)
        except FrameError:
            return
        (back,) = xy.Decoder().feed(drive.encode(7, len(frame.text) + 1))
        assert xy.Drive.decode(back.text) == drive
