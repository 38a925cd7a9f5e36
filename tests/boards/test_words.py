"""Streams put into words: what the driver's decoder takes is shown as that, and no byte is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.boards.reading import CUTS, Reading
from controller.boards.vbp import frames as vbp
from controller.boards.words import Word
from controller.boards.xy import frames as xy
from controller.capture import Piece

VBP_FRAMES = [
    vbp.encode(vbp.Hello(), 7),
    vbp.encode(vbp.HelloAnswer("sim 1.0", 1, 2, 1, 3, 60, 0x1FF, 32), 7),
    vbp.encode(vbp.StatusAnswer(5, 1, 3, 9, 0, 1, 0), 7),
    vbp.encode(vbp.Dispense(7_580, 20, 3, 15_000, 3_000, 99), 8),
    vbp.encode(vbp.DispenseAnswer(5), 8),
    vbp.encode(vbp.DispenseAnswer(99), 8),
    vbp.encode(vbp.ResultAnswer(7_580, 3, 1, 2), 9),
    vbp.encode(vbp.ListOpenAnswer((1, 2)), 9),
    vbp.encode(vbp.Event(3, vbp.EventKind.LATE_DROP, cycle_id=7_580, after_ms=900), 0),
    vbp.encode(vbp.Event(3, 77, rest=b"\xab\xcd"), 0),
    vbp.encode_frame(vbp.Frame(0x7E, 1, b"\x01")),
    vbp.encode_frame(vbp.Frame(vbp.Type.STATUS | 0x80, 1, b"\x01")),
]
XY_FRAMES = [
    xy.encode_frame(xy.POLL),
    xy.encode_frame(xy.ACK),
    xy.Drive(300, drop_sensor=True).encode(9),
    xy.DispensingStatus(3, 10).encode(5),
    xy.DispensingStatus(0x77, 10).encode(5),
    xy.LaneReport(10, 350, 5, 8, 1234, 0).encode(6),
    xy.MachineStatus(temperature=-3).encode(7),
    xy.sync(2),
    xy.ask_status(3),
    xy.read_drop_sensor(4, 0),
    xy.MenuAnswer(0x24, 1, b"\0").encode(8),
    xy.LaneCheckAnswer(0x10, 1).encode(9),
    xy.ElevatorAnswer(2).encode(9),
    xy.check_lane(1, 3),
    xy.select_to_buy(1, 3),
    xy.poll_interval(1, 300),
    xy.encode_frame(xy.Frame(0x06, 1, b"\1")),
    xy.encode_frame(xy.Frame(0x16, 1)),
    bytes.fromhex("FAFB 0404 00 01 0001 01"),  # PackNO 0: met in the field
]


def words_of(protocol: str, *reads: bytes) -> list[Word]:
    cut = CUTS[protocol]()
    return [word for data in reads for word in cut.feed(data)]


@pytest.mark.parametrize(
    ("protocol", "frame", "name", "meaning"),
    [
        ("vbp", VBP_FRAMES[0], "HELLO", "seq 7"),
        ("vbp", VBP_FRAMES[2], "STATUS", "eye blocked faulty, door 09"),
        (
            "vbp",
            VBP_FRAMES[3],
            "DISPENSE",
            "lane 20, options watch_eye service_test, max_run 15000 ms, drop_wait 3000 ms",
        ),
        ("vbp", VBP_FRAMES[4], "DISPENSE", "verdict eye_blocked"),
        ("vbp", VBP_FRAMES[5], "DISPENSE", "verdict 63"),
        ("vbp", VBP_FRAMES[6], "GET_RESULT", "state done, motor ran_too_long, drop not_seen"),
        ("vbp", VBP_FRAMES[8], "EVENT", "kind late_drop, cycle_id 7580, after 900 ms"),
        ("vbp", VBP_FRAMES[9], "EVENT", "kind 4D, rest AB CD"),
        ("xy", XY_FRAMES[2], "DRIVE", "PackNO 9, lane 300, drop sensor on, elevator off"),
        ("xy", XY_FRAMES[3], "DISPENSING", "PackNO 5, lane 10 jammed"),
        ("xy", XY_FRAMES[4], "DISPENSING", "PackNO 5, lane 10 77"),
        ("xy", XY_FRAMES[6], "MACHINE_STATUS", "temperature -3"),
        ("xy", XY_FRAMES[10], "MENU_ANSWER", "drop_sensor set: 00"),
        ("xy", XY_FRAMES[15], "POLL_INTERVAL", "every 300 ms"),
        ("xy", XY_FRAMES[18], "DISPENSING", "PackNO 0, lane 1 started"),
    ],
)
def test_a_frame_in_words(protocol: str, frame: bytes, name: str, meaning: str) -> None:
    (word,) = words_of(protocol, frame)
    assert (word.name, word.raw, word.ok) == (name, frame, True)
    assert meaning in word.meaning


@pytest.mark.parametrize(
    ("protocol", "data", "why"),
    [
        ("vbp", VBP_FRAMES[10], "type 7E is unknown"),
        ("vbp", VBP_FRAMES[11], "StatusAnswer has 23 bytes, not 1"),
        ("vbp", b"\0" + b"\x07" * 20 + b"\0", "points past the end"),
        ("vbp", VBP_FRAMES[3][:-3] + b"\x55\x55\0", "CRC"),
        ("xy", XY_FRAMES[16], "length 5, 6 or 7"),
        ("xy", XY_FRAMES[13][:-1] + b"\xee", "no frame"),
        ("xy", b"noise", "5 bytes that are no frame"),
    ],
)
def test_what_is_not_understood_is_shown_all_the_same(protocol: str, data: bytes, why: str) -> None:
    words = words_of(protocol, data, *(() if protocol == "vbp" else (XY_FRAMES[0],)))
    assert not words[0].ok
    assert why in words[0].meaning


def test_only_what_keeps_a_line_alive_is_idle() -> None:
    words = words_of("xy", *XY_FRAMES) + words_of("vbp", *VBP_FRAMES)
    assert {word.name for word in words if word.idle} == {"POLL", "ACK", "STATUS"}


PARTS = st.lists(st.sampled_from(VBP_FRAMES + XY_FRAMES) | st.binary(max_size=400), max_size=12)


@given(st.sampled_from(["vbp", "xy"]), PARTS, st.lists(st.integers(1, 40), max_size=40))
def test_no_byte_is_lost_or_invented_and_the_driver_saw_the_same(
    protocol: str, parts: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(parts)
    reads, rest = [], data
    for size in cuts:
        reads.append(rest[:size])
        rest = rest[size:]
    reads.append(rest)
    words = words_of(protocol, *reads)
    shown = b"".join(word.raw for word in words)
    if protocol == "xy":
        assert data.startswith(shown)
        assert len(data) - len(shown) <= 260, "a half frame waits, and no more"
        good = [word.raw for word in words if word.name != "no frame"]
        assert len(good) == len(xy.Decoder().feed(data))
    else:
        bare = data.replace(b"\0", b"")
        assert bare.startswith(shown.replace(b"\0", b""))
        assert len(bare) - len(shown.replace(b"\0", b"")) <= 260
        good = [word.raw for word in words if word.name != "no frame"]
        assert len(good) == len(vbp.Decoder().feed(data))
        assert all(len(vbp.Decoder().feed(raw)) == 1 for raw in good)
    assert len(shown) <= len(data)


def test_a_half_frame_is_over_after_silence_and_the_next_is_whole() -> None:
    half, poll = XY_FRAMES[5][:9], XY_FRAMES[0]
    reading = Reading("xy")
    assert list(reading.feed(Piece(1, 1, "in", half))) == []
    said = list(reading.feed(Piece(2, 2, "in", poll)))
    assert b"".join(s.word.raw for s in said if s.wall == 1) == half
    assert [(s.wall, s.word.name) for s in said][-1] == (2, "POLL")
