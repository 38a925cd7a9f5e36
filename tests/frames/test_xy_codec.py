"""XY codec: round trips, and a decoder that survives every stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.boards.xy import frames as xy
from controller.boards.xy.framing import BODY_LIMIT, OVERHEAD
from controller.errors import FrameError

FRAME_LIMIT = BODY_LIMIT + OVERHEAD

numbered = st.builds(
    xy.Frame,
    st.integers(0, 255).filter(lambda c: c not in {0x41, 0x42}),
    st.integers(1, 255),
    st.binary(max_size=254),
)
frames = st.one_of(
    numbered, st.sampled_from([xy.POLL, xy.ACK]), st.just(xy.Frame(xy.Command.ACK, 7))
)
without_stx = st.binary(max_size=400).filter(lambda b: b"\xfa" not in b)

u8 = st.integers(0, 255)
u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
celsius = st.one_of(
    st.none(),
    st.integers(-128, 127).filter(lambda t: t & 0xFF not in {0xAA, 0xA1, 0xA2}),
)
board_payloads = st.one_of(
    st.builds(xy.LaneCheckAnswer, u8, u16),
    st.builds(xy.DispensingStatus, u8, u16, st.one_of(st.none(), u8)),
    st.builds(xy.LaneReport, u16, u32, u8, u8, u16, u8, st.binary(max_size=3)),
    st.builds(xy.ElevatorAnswer, u8),
    st.builds(xy.MenuAnswer, u8, u8, st.binary(max_size=200)),
    st.builds(
        xy.MachineStatus,
        *(u8, u8, u8, u8, celsius, u8, u32, u32),
        machine_number=st.from_regex(r"[0-9]{10}", fullmatch=True),
        temperatures=st.tuples(*[celsius] * 8),
        rest=st.binary(max_size=16),
    ),
)


@given(board_payloads, st.integers(1, 255))
def test_board_payload_round_trip(payload: xy.BoardPayload, pack_no: int) -> None:
    (frame,) = xy.Decoder().feed(payload.encode(pack_no))
    assert frame.pack_no == pack_no
    assert xy.parse(frame) == payload


@given(u8, st.binary(max_size=254))
def test_parse_says_frame_error_and_nothing_else(command: int, text: bytes) -> None:
    try:
        xy.parse(xy.Frame(command, 1, text))
    except FrameError as error:
        assert str(error)  # noqa: PT017  parse may also succeed


@given(st.lists(frames, max_size=6), st.data())
def test_frames_are_found_whatever_the_reads_are_cut_into(
    sent: list[xy.Frame], data: st.DataObject
) -> None:
    wire = b"".join(xy.encode_frame(frame) for frame in sent)
    decoder = xy.Decoder()
    found = []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        found += decoder.feed(wire[:size])
        wire = wire[size:]
    assert found == sent
    assert (decoder.frames_bad, decoder.bytes_dropped) == (0, 0)


@given(st.lists(st.binary(max_size=700), max_size=8))
def test_any_bytes_are_bounded_counted_and_harmless(pieces: list[bytes]) -> None:
    """P14: nothing that comes over the wire crashes or grows without bound."""
    decoder = xy.Decoder()
    for piece in pieces:
        decoder.feed(piece)
        assert decoder.partial <= FRAME_LIMIT
    decoder.drop_partial()
    assert decoder.partial == 0
    assert decoder.feed(xy.encode_frame(xy.POLL)) == [xy.POLL]


@given(without_stx, frames, without_stx)
def test_a_frame_in_garbage_is_found(before: bytes, frame: xy.Frame, after: bytes) -> None:
    decoder = xy.Decoder()
    assert decoder.feed(before + xy.encode_frame(frame) + after) == [frame]
    assert decoder.bytes_dropped == len(before) + len(after)


@given(st.binary(max_size=30), frames)
def test_a_frame_behind_any_garbage_is_found_once_the_line_is_silent(
    before: bytes, frame: xy.Frame
) -> None:
    """Garbage that begins like a frame may swallow it; `drop_partial` brings it out,
    unless a check byte agreed by chance with what the garbage made of it."""
    decoder = xy.Decoder()
    found = decoder.feed(before + xy.encode_frame(frame))
    found += decoder.drop_partial()
    assert frame in found or b"\xfa\xfb" in before or before.endswith(b"\xfa")


@given(frames, st.data())
def test_a_flipped_bit_never_makes_another_frame(frame: xy.Frame, data: st.DataObject) -> None:
    """One flipped bit always breaks the XOR or the header: the frame itself never comes
    out changed. What its own text holds may be a frame, as on any line without stuffing."""
    wire = bytearray(xy.encode_frame(frame))
    bit = data.draw(st.integers(0, 8 * len(wire) - 1))
    wire[bit // 8] ^= 1 << bit % 8
    decoder = xy.Decoder()
    found = decoder.feed(bytes(wire)) + decoder.drop_partial()
    assert all(len(xy.encode_frame(f)) < len(wire) for f in found if f.pack_no != 0)
    if not found:
        assert decoder.bytes_dropped == len(wire)


def test_one_byte_is_dropped_and_the_frame_inside_is_found() -> None:
    """A length byte that claims more than there is must not cost the frames behind it."""
    status = xy.DispensingStatus(2, 10).encode(0x31)
    broken = bytes.fromhex("FA FB 04 04 30") + status
    decoder = xy.Decoder()
    assert [f.pack_no for f in decoder.feed(broken)] == [0x31]
    assert decoder.frames_bad == 1
    assert decoder.bytes_dropped == 5


def test_drop_partial_brings_out_what_a_wrong_length_swallowed() -> None:
    status = xy.DispensingStatus(2, 10).encode(0x31)
    decoder = xy.Decoder()
    assert decoder.feed(bytes.fromhex("FA FB 04 F0 30") + status) == []
    assert [f.pack_no for f in decoder.drop_partial()] == [0x31]
    assert decoder.partial == 0


def test_a_lone_stx_at_the_end_waits_for_its_other_half() -> None:
    decoder = xy.Decoder()
    assert decoder.feed(b"\x11\x22\xfa") == []
    assert decoder.partial == 1
    assert decoder.feed(b"\xfb\x41\x00\x40") == [xy.POLL]


@pytest.mark.parametrize("wire", ["FA FB 41 01 05 44", "FA FB 42 02 01 01 41", "FA FB 31 00 30"])
def test_a_length_that_its_command_cannot_have_is_no_frame(wire: str) -> None:
    decoder = xy.Decoder()
    assert decoder.feed(bytes.fromhex(wire)) == []
    assert decoder.frames_bad == 1


def test_an_ack_with_a_pack_number_is_taken() -> None:
    wire = xy.encode_frame(xy.Frame(xy.Command.ACK, 9))
    assert wire[3] == 1
    assert xy.Decoder().feed(wire) == [xy.Frame(xy.Command.ACK, 9)]


def test_pack_numbers_run_from_1_to_255_and_skip_0() -> None:
    number, seen = 0, []
    for _ in range(256):
        number = xy.next_pack_no(number)
        seen.append(number)
    assert seen == [*range(1, 256), 1]


@pytest.mark.parametrize(
    "frame",
    [
        xy.Frame(0x31, None),
        xy.Frame(0x31, 0),
        xy.Frame(0x31, 256),
        xy.Frame(0x41, 1),
        xy.Frame(0x42, None, b"x"),
        xy.Frame(0x31, 1, bytes(255)),
    ],
)
def test_a_frame_that_cannot_be_is_a_frame_error(frame: xy.Frame) -> None:
    with pytest.raises(FrameError):
        xy.encode_frame(frame)


def test_builders_refuse_what_the_protocol_does_not_know() -> None:
    for build in (
        lambda: xy.check_lane(1, 70000),
        lambda: xy.poll_interval(1, 0),
        lambda: xy.poll_interval(1, 2100),
        lambda: xy.Drive(1, drop_sensor=True).encode(1, 8),
        lambda: xy.Drive.decode(b"\1\0\0"),
    ):
        with pytest.raises(FrameError):
            build()


def test_codes_have_names_for_people() -> None:
    assert xy.name_of(xy.Dispensing, 4) == "motor_did_not_stop"
    assert xy.name_of(xy.Dispensing, 0x99) == "99"


@pytest.mark.parametrize("cut", [1, 3, 7, 100])
def test_stx_and_whole_frames_inside_a_frame_are_its_data(cut: int) -> None:
    """Nothing is stuffed: `FA FB` may occur inside, even a whole 04."""
    inner = xy.DispensingStatus(xy.Dispensing.SUCCESS, 10).encode(9)
    frame = xy.Frame(xy.Command.MENU_ANSWER, 5, xy.encode_frame(xy.POLL) + inner + b"\xfa\xfb")
    wire = xy.encode_frame(frame) + xy.encode_frame(xy.POLL)
    decoder = xy.Decoder()
    found = [f for at in range(0, len(wire), cut) for f in decoder.feed(wire[at : at + cut])]
    assert found == [frame, xy.POLL]
    assert decoder.frames_bad == 0
