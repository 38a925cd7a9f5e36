"""The vectors of the XY document, byte for byte: built by us, and read as what they are."""

from __future__ import annotations

import pytest

from controller.boards.xy import frames as xy

BUILT = [
    ("POLL", xy.encode_frame(xy.POLL), "FA FB 41 00 40"),
    ("ACK", xy.encode_frame(xy.ACK), "FA FB 42 00 43"),
    ("sync", xy.sync(0x02), "FA FB 31 01 02 33"),
    (
        "captured lane report",
        xy.LaneReport(1, 9900, 4, 4, 1, 3).encode(0x41),
        "FA FB 11 0C 41 00 01 00 00 26 AC 04 04 00 01 03 D4",
    ),
    ("captured drive", xy.Drive(1, drop_sensor=True).encode(0x02), "FA FB 06 05 02 01 00 00 01 00"),
    ("captured 01", xy.DispensingStatus(1, 1).encode(0x3F), "FA FB 04 04 3F 01 00 01 3E"),
    ("captured 03", xy.DispensingStatus(3, 1).encode(0x40), "FA FB 04 04 40 03 00 01 43"),
    ("menu 17 read", xy.menu(0x42, 0x17, xy.MenuOp.READ), "FA FB 70 03 42 17 00 27"),
    ("drive 5", xy.Drive(10, drop_sensor=True).encode(9), "FA FB 06 05 09 01 00 00 0A 00"),
    ("drive 6", xy.Drive(10, drop_sensor=True).encode(9, 6), "FA FB 06 06 09 01 00 00 0A 00 03"),
    ("drive 7", xy.Drive(10, drop_sensor=True).encode(9, 7), "FA FB 06 07 09 01 00 00 0A 00 01 03"),
    (
        "drive lane 300, elevator",
        xy.Drive(300, drop_sensor=True, elevator=True).encode(0x0A),
        "FA FB 06 05 0A 01 01 01 2C 25",
    ),
    ("buy", xy.select_to_buy(8, 10), "FA FB 03 03 08 00 0A 03"),
    ("check", xy.check_lane(7, 10), "FA FB 01 03 07 00 0A 0E"),
    ("02 normal", xy.LaneCheckAnswer(1, 10).encode(0x21), "FA FB 02 04 21 01 00 0A 2D"),
    ("04 dispensing", xy.DispensingStatus(1, 10).encode(0x30), "FA FB 04 04 30 01 00 0A 3A"),
    ("04 success", xy.DispensingStatus(2, 10).encode(0x31), "FA FB 04 04 31 02 00 0A 38"),
    ("04 jammed", xy.DispensingStatus(3, 10).encode(0x32), "FA FB 04 04 32 03 00 0A 3A"),
    ("04 did not stop", xy.DispensingStatus(4, 10).encode(0x33), "FA FB 04 04 33 04 00 0A 3C"),
    ("04 no motor", xy.DispensingStatus(6, 10).encode(0x34), "FA FB 04 04 34 06 00 0A 39"),
    ("04 elevator", xy.DispensingStatus(7, 10).encode(0x35), "FA FB 04 04 35 07 00 0A 39"),
    ("04 terminated", xy.DispensingStatus(0xFF, 10).encode(0x36), "FA FB 04 04 36 FF 00 0A C2"),
    ("04 picker", xy.DispensingStatus(2, 10, 1).encode(0x37), "FA FB 04 05 37 02 00 0A 01 3E"),
    ("poll 200 ms", xy.poll_interval(0x0F, 200), "FA FB 16 02 0F 02 18"),
    (
        "lane report",
        xy.LaneReport(10, 350, 5, 8, 1234, 0).encode(0x40),
        "FA FB 11 0C 40 00 0A 00 00 01 5E 05 08 04 D2 00 D2",
    ),
    ("51", xy.ask_status(0x10), "FA FB 51 01 10 41"),
    ("53", xy.ask_elevator(0x11), "FA FB 53 01 11 42"),
    ("54", xy.ElevatorAnswer(0).encode(0x41), "FA FB 54 02 41 00 16"),
    (
        "52",
        xy.MachineStatus(
            coin_acceptor=0,
            card_reader=3,
            temperature_controller=0,
            temperature=4,
            door=1,
            bill_change=1000,
            coin_change=500,
            machine_number="0000012345",
            temperatures=(4, *(None,) * 7),
        ).encode(0x50),
        (
            "FA FB 52 21 50 00 00 03 00 04 01 00 00 03 E8 00 00 01 F4 30 30 30 30 30 31 32 33 34 35"
            " 04 AA AA AA AA AA AA AA 95"
        ),
    ),
    ("sensor on", xy.set_drop_sensor(0x12, 0, on=True), "FA FB 70 05 12 24 01 00 01 42"),
    ("sensor off", xy.set_drop_sensor(0x13, 0, on=False), "FA FB 70 05 13 24 01 00 02 40"),
    ("71 set ok", xy.MenuAnswer(0x24, 1, b"\0").encode(0x42), "FA FB 71 04 42 24 01 00 13"),
    ("jam list", xy.menu(0x15, xy.MenuType.JAM_LIST, 0), "FA FB 70 03 15 32 00 55"),
    (
        "71 lane 10 jammed",
        xy.MenuAnswer(0x32, 0, bytes.fromhex("01000A00")).encode(0x43),
        "FA FB 71 07 43 32 00 01 00 0A 00 0D",
    ),
    ("jam clear", xy.menu(0x16, xy.MenuType.JAM_LIST, 1), "FA FB 70 03 16 32 01 57"),
    (
        "lane config",
        xy.menu(0x18, xy.MenuType.LANE_CONFIG, 0, b"\x00\x0a"),
        "FA FB 70 05 18 42 00 00 0A 24",
    ),
    (
        "71 lane config",
        xy.MenuAnswer(0x42, 0, bytes.fromhex("0000015E00050804D201000000")).encode(0x44),
        "FA FB 71 10 44 42 00 00 00 01 5E 00 05 08 04 D2 01 00 00 00 E3",
    ),
    ("lane test", xy.menu(0x1B, 0x38, 1, b"\x01\x00\x0a"), "FA FB 70 06 1B 38 01 01 00 0A 5E"),
    ("self test", xy.drop_sensor_self_test(0x1C, 0), "FA FB 70 05 1C 50 01 00 00 39"),
]


@pytest.mark.parametrize(("ours", "wire"), [v[1:] for v in BUILT], ids=[v[0] for v in BUILT])
def test_vector_is_built(ours: bytes, wire: str) -> None:
    assert ours.hex(" ") == bytes.fromhex(wire).hex(" ")


READ_ONLY = [
    "FA FB 21 06 D5 01 00 01 86 A0 D5",
    "FA FB 23 05 2E 00 98 96 80 87",
    "FA FB 01 04 07 00 0A 00 09",
    "FA FB 12 07 0B 00 0A 00 00 01 5E 4A",
    "FA FB 13 04 0C 00 0A 05 15",
    "FA FB 14 04 0D 00 0A 08 1E",
    "FA FB 15 05 0E 00 0A 04 D2 C3",
    "FA FB 70 05 19 47 00 00 0A 20",
    "FA FB 71 0B 45 47 00 00 00 00 11 00 00 17 3E 41",
]


@pytest.mark.parametrize("wire", [v[2] for v in BUILT] + READ_ONLY)
def test_vector_is_one_frame_and_goes_back_to_its_bytes(wire: str) -> None:
    data = bytes.fromhex(wire)
    decoder = xy.Decoder()
    (frame,) = decoder.feed(data)
    assert xy.encode_frame(frame) == data
    assert (decoder.frames_ok, decoder.frames_bad, decoder.bytes_dropped) == (1, 0, 0)


PARSED = [
    ("FA FB 04 04 31 02 00 0A 38", xy.DispensingStatus(xy.Dispensing.SUCCESS, 10)),
    ("FA FB 04 05 37 02 00 0A 01 3E", xy.DispensingStatus(2, 10, picker=1)),
    ("FA FB 02 04 21 01 00 0A 2D", xy.LaneCheckAnswer(xy.LaneCheck.NORMAL, 10)),
    (
        "FA FB 11 0C 40 00 0A 00 00 01 5E 05 08 04 D2 00 D2",
        xy.LaneReport(10, 350, 5, 8, 1234, 0),
    ),
    ("FA FB 54 02 41 00 16", xy.ElevatorAnswer(0)),
    ("FA FB 71 04 42 24 01 00 13", xy.MenuAnswer(xy.MenuType.DROP_SENSOR, 1, b"\0")),
    ("FA FB 21 06 D5 01 00 01 86 A0 D5", None),
]


@pytest.mark.parametrize(("wire", "payload"), PARSED)
def test_vector_says_what_the_document_says(wire: str, payload: xy.BoardPayload | None) -> None:
    (frame,) = xy.Decoder().feed(bytes.fromhex(wire))
    assert xy.parse(frame) == payload


@pytest.mark.parametrize("length", [5, 6, 7])
def test_the_host_drive_is_read_in_each_length(length: int) -> None:
    drive = xy.Drive(300, drop_sensor=True, elevator=False)
    (frame,) = xy.Decoder().feed(drive.encode(7, length))
    assert len(frame.text) + 1 == length
    assert xy.Drive.decode(frame.text) == drive
