"""VBP codec: round trips of every payload, and a decoder that survives every stream."""

from __future__ import annotations

import struct
import zlib
from dataclasses import fields

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from controller.boards.vbp import frames as vbp
from controller.boards.vbp.framing import (
    BODY_LIMIT,
    ENCODED_LIMIT,
    PAYLOAD_LIMIT,
    cobs_decode,
    cobs_encode,
)
from controller.errors import FrameError

WIDTHS = {"B": 8, "H": 16, "I": 32, "Q": 64}
VARIABLE = (vbp.HelloAnswer, vbp.ListOpenAnswer, vbp.Event)


def fixed_payloads() -> st.SearchStrategy[vbp.Payload]:
    """Any value of any payload with a fixed layout, drawn from the layout itself."""

    def of(kind: type[vbp.Payload]) -> st.SearchStrategy[vbp.Payload]:
        codes = kind.LAYOUT.format.lstrip(">")
        assert len(codes) == len(fields(kind))
        return st.tuples(*(st.integers(0, 2 ** WIDTHS[c] - 1) for c in codes)).map(
            lambda values: kind(*values)
        )

    kinds = [kind for kind in vbp.PAYLOADS.values() if kind not in VARIABLE]
    return st.one_of([of(kind) for kind in kinds])


u32 = st.integers(0, 2**32 - 1)
u16 = st.integers(0, 2**16 - 1)
u8 = st.integers(0, 255)
ids = st.integers(0, 2**64 - 1)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)
events = st.one_of(
    st.builds(vbp.Event, u32, st.just(1), cycle_id=ids),
    st.builds(vbp.Event, u32, st.just(2), eye=u8),
    st.builds(vbp.Event, u32, st.just(3), cycle_id=ids, after_ms=u32),
    st.builds(vbp.Event, u32, st.just(4), door=u8),
    st.builds(vbp.Event, u32, st.just(5), lane=u16, motor=u8),
    st.builds(vbp.Event, u32, st.integers(6, 255), rest=st.binary(max_size=30)),
)
payloads = st.one_of(
    fixed_payloads(),
    st.builds(vbp.HelloAnswer, printable, u32, u32, u8, u32, u16, u32, u16),
    st.builds(vbp.ListOpenAnswer, st.lists(ids, max_size=24).map(tuple)),
    events,
)
frames = st.builds(vbp.Frame, u8, u16, st.binary(max_size=PAYLOAD_LIMIT), u8)


@given(payloads, u16)
def test_payload_round_trip(payload: vbp.Payload, seq: int) -> None:
    (frame,) = vbp.Decoder().feed(vbp.encode(payload, seq))
    assert (frame.seq, frame.flags) == (seq, 0)
    assert vbp.parse(frame) == payload


@given(u8, st.binary(max_size=PAYLOAD_LIMIT))
def test_parse_says_frame_error_and_nothing_else(kind: int, payload: bytes) -> None:
    try:
        vbp.parse(vbp.Frame(kind, 1, payload))
    except FrameError as error:
        assert str(error)  # noqa: PT017  parse may also succeed


@given(st.binary(max_size=600))
def test_cobs_round_trip(data: bytes) -> None:
    stuffed = cobs_encode(data)
    assert 0 not in stuffed
    assert cobs_decode(stuffed) == data
    if len(data) <= BODY_LIMIT:
        assert len(stuffed) <= ENCODED_LIMIT


@given(st.lists(frames, max_size=6), st.data())
def test_frames_are_found_whatever_the_reads_are_cut_into(
    sent: list[vbp.Frame], data: st.DataObject
) -> None:
    wire = b"".join(vbp.encode_frame(frame) for frame in sent)
    decoder = vbp.Decoder()
    found = []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        found += decoder.feed(wire[:size])
        wire = wire[size:]
    assert found == sent
    assert decoder.frames_bad == 0


@given(st.lists(st.binary(max_size=700), max_size=8))
def test_any_bytes_are_bounded_counted_and_harmless(pieces: list[bytes]) -> None:
    """P14: nothing that comes over the wire crashes or grows without bound."""
    decoder = vbp.Decoder()
    for piece in pieces:
        decoder.feed(piece)
        assert decoder.partial <= ENCODED_LIMIT
    (found,) = decoder.feed(b"\0" + vbp.encode(vbp.Hello(), 9))
    assert found == vbp.frame_of(vbp.Hello(), 9)


@given(st.binary(max_size=600), frames, st.binary(max_size=600))
def test_a_frame_in_garbage_is_found(before: bytes, frame: vbp.Frame, after: bytes) -> None:
    found = vbp.Decoder().feed(before + vbp.encode_frame(frame) + after)
    assert frame in found


@given(st.lists(frames, min_size=1, max_size=6), st.data())
def test_lost_bytes_cost_the_frames_they_are_of_and_no_other(
    sent: list[vbp.Frame], data: st.DataObject
) -> None:
    """A gap anywhere, over as many frames as it likes: all before it and after it are found."""
    wires = [vbp.encode_frame(frame) for frame in sent]
    wire = b"".join(wires)
    start = data.draw(st.integers(0, len(wire) - 1))
    end = data.draw(st.integers(start + 1, len(wire)))
    whole, at = [], 0
    for frame, one in zip(sent, wires, strict=True):
        if at + len(one) <= start or at >= end:
            whole.append(frame)
        at += len(one)
    decoder = vbp.Decoder()
    found = decoder.feed(wire[:start] + wire[end:])
    assert [frame for frame in found if frame in sent] == found, "nothing that was not sent"
    remaining = iter(found)
    assert all(frame in remaining for frame in whole)


@given(frames, st.data())
def test_a_flipped_bit_never_makes_another_frame(frame: vbp.Frame, data: st.DataObject) -> None:
    wire = bytearray(vbp.encode_frame(frame))
    bit = data.draw(st.integers(0, 8 * len(wire) - 1))
    wire[bit // 8] ^= 1 << bit % 8
    decoder = vbp.Decoder()
    found = decoder.feed(bytes(wire) + b"\0")
    assert found in ([], [frame])  # a flipped delimiter may leave the frame whole
    assert decoder.frames_ok + decoder.frames_bad >= 1


@given(frames, st.integers(2, 255))
def test_another_version_is_dropped_silently(frame: vbp.Frame, version: int) -> None:
    body = struct.pack(">BBBHH", version, frame.type, 0, frame.seq, len(frame.payload))
    body += frame.payload
    decoder = vbp.Decoder()
    wire = b"\0" + cobs_encode(body + struct.pack(">I", zlib.crc32(body))) + b"\0"
    assert decoder.feed(wire) == []
    assert decoder.frames_bad == 1


@given(frames, u16)
def test_a_length_that_contradicts_the_body_is_dropped(frame: vbp.Frame, length: int) -> None:
    assume(length != len(frame.payload))
    body = struct.pack(">BBBHH", 1, frame.type, 0, frame.seq, length) + frame.payload
    decoder = vbp.Decoder()
    wire = b"\0" + cobs_encode(body + struct.pack(">I", zlib.crc32(body))) + b"\0"
    assert decoder.feed(wire) == []
    assert decoder.frames_bad == 1


def test_an_endless_block_is_counted_once_and_forgotten() -> None:
    decoder = vbp.Decoder()
    for _ in range(100):
        decoder.feed(b"\x55" * 1000)
    assert decoder.partial <= ENCODED_LIMIT
    assert decoder.feed(b"\0" + vbp.encode(vbp.Status(), 1)) == [vbp.frame_of(vbp.Status(), 1)]
    assert (decoder.frames_bad, decoder.bytes_dropped) == (1, 100_000)


def test_a_half_frame_can_be_dropped_by_its_owner() -> None:
    decoder = vbp.Decoder()
    wire = vbp.encode(vbp.Hello(), 1)
    decoder.feed(wire[:6])
    assert decoder.drop_partial() == []
    assert (decoder.partial, decoder.frames_bad, decoder.bytes_dropped) == (0, 1, 5)
    assert len(decoder.feed(wire)) == 1


def test_two_byte_milliseconds_saturate() -> None:
    assert [vbp.ms16(v) for v in (-1, 0, 1.9, 65535, 65536, 1e9)] == [0, 0, 1, 65535, 65535, 65535]


@pytest.mark.parametrize(
    "payload",
    [
        vbp.Release(2**64),
        vbp.Dispense(1, 70000, 0, 0, 0, 0),
        vbp.ListOpenAnswer(tuple(range(25))),
        vbp.Event(1, 3, cycle_id=-1),
        vbp.Event(2**32, 1),
        vbp.HelloAnswer("x", -1, 0, 0, 0, 0, 0, 0),
    ],
)
def test_a_value_that_does_not_fit_is_a_frame_error(payload: vbp.Payload) -> None:
    with pytest.raises(FrameError):
        payload.encode()


def test_a_long_or_foreign_text_of_a_board_is_cut_and_made_printable() -> None:
    long = vbp.HelloAnswer("x" * 400, 1, 2, 3, 4, 5, 6, 7)
    assert len(vbp.HelloAnswer.decode(long.encode()).text) == vbp.HelloAnswer.TEXT_LIMIT
    raw = bytearray(vbp.HelloAnswer("abc", 1, 2, 3, 4, 5, 6, 7).encode())
    raw[2:5] = b"a\n\xff"
    assert vbp.HelloAnswer.decode(bytes(raw)).text == "a??"


def test_a_frame_longer_than_the_protocol_is_refused() -> None:
    with pytest.raises(FrameError):
        vbp.encode_frame(vbp.Frame(1, 1, bytes(PAYLOAD_LIMIT + 1)))
    with pytest.raises(FrameError):
        vbp.encode_frame(vbp.Frame(1, 70000))
