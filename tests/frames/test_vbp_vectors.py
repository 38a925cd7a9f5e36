"""The vectors of the VBP document, byte for byte, in both directions."""

from __future__ import annotations

import pytest

from controller.boards.vbp import frames as vbp
from controller.boards.vbp.framing import cobs_decode, cobs_encode

CYCLE = 0x692339C000000007

VECTORS = [
    ("HELLO", 1, vbp.Hello(), "00 03 01 01 01 02 01 01 05 F1 85 6D 58 00"),
    (
        "HELLO answer",
        1,
        vbp.HelloAnswer("sim 1.0", 0xCAFEBABE, 0x0BADF00D, 1, 1500, 60, 0x0F, 32),
        (
            "00 03 01 81 01 02 01 14 1E 01 07 73 69 6D 20 31 2E 30 CA FE BA BE 0B AD F0 0D 01 01"
            " 03 05 DC 02 3C 01 01 02 0F 06 20 7E 09 77 45 00"
        ),
    ),
    (
        "DISPENSE",
        2,
        vbp.Dispense(CYCLE, 10, vbp.Option.WATCH_EYE, 15000, 3000, 9000),
        (
            "00 03 01 10 01 02 02 06 13 69 23 39 C0 01 01 02 07 07 0A 01 3A 98 0B B8 01 07 23 28"
            " 24 96 30 25 00"
        ),
    ),
    ("accepted", 2, vbp.DispenseAnswer(0), "00 03 01 90 01 02 02 02 01 05 F5 52 50 01 00"),
    ("eye blocked", 2, vbp.DispenseAnswer(5), "00 03 01 90 01 02 02 07 01 05 85 38 A4 8E 00"),
    ("no HELLO yet", 2, vbp.ErrorAnswer(4), "00 03 01 E0 01 02 02 07 01 04 1E 57 44 33 00"),
    (
        "GET_RESULT",
        3,
        vbp.GetResult(CYCLE),
        "00 03 01 11 01 02 03 06 08 69 23 39 C0 01 01 06 07 D2 5A 72 80 00",
    ),
    (
        "done",
        3,
        vbp.ResultAnswer(CYCLE, 3, 0, 1, 1, 1234, 2100, 410),
        (
            "00 03 01 91 01 02 03 06 12 69 23 39 C0 01 01 03 07 03 0D 01 01 04 D2 08 34 01 9A 06"
            " D7 52 EC 00"
        ),
    ),
    (
        "interrupted",
        3,
        vbp.ResultAnswer(CYCLE, vbp.RecordState.INTERRUPTED),
        (
            "00 03 01 91 01 02 03 06 12 69 23 39 C0 01 01 05 07 04 FF FF 01 01 01 01 01 01 05 66"
            " 61 08 85 00"
        ),
    ),
    (
        "RELEASE",
        4,
        vbp.Release(CYCLE),
        "00 03 01 12 01 02 04 06 08 69 23 39 C0 01 01 03 07 87 03 42 D8 00",
    ),
    (
        "STOP",
        7,
        vbp.Stop(CYCLE),
        "00 03 01 14 01 02 07 06 08 69 23 39 C0 01 01 06 07 E6 20 6F 6F 00",
    ),
    (
        "EVENT 7",
        0,
        vbp.Event(7, vbp.EventKind.CYCLE_FINISHED, cycle_id=CYCLE),
        "00 03 01 40 01 01 01 02 0D 01 01 07 07 01 69 23 39 C0 01 01 02 07 04 12 80 0E 00",
    ),
    (
        "EVENT_ACK 7",
        5,
        vbp.EventAck(7),
        "00 03 01 41 01 02 05 02 04 01 01 06 07 E2 AD 1E 76 00",
    ),
    ("unknown type", 6, vbp.ErrorAnswer(2), "00 03 01 E0 01 02 06 07 01 02 78 56 76 51 00"),
]


@pytest.mark.parametrize(
    ("seq", "payload", "wire"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS]
)
def test_vector_is_written_and_read(seq: int, payload: vbp.Payload, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert vbp.encode(payload, seq).hex(" ") == data.hex(" ")
    decoder = vbp.Decoder()
    (frame,) = decoder.feed(data)
    assert frame.seq == seq
    assert vbp.parse(frame) == payload
    assert (decoder.frames_ok, decoder.frames_bad, decoder.bytes_dropped) == (1, 0, 0)


@pytest.mark.parametrize(
    ("plain", "stuffed"),
    [
        ("", "01"),
        ("00", "01 01"),
        ("11 22 00 33", "03 11 22 02 33"),
        ("11 00 00 00", "02 11 01 01 01"),
        ("11 " * 254, "FF " + "11 " * 254 + "01"),
        ("11 " * 255, "FF " + "11 " * 254 + "02 11"),
    ],
)
def test_cobs_vector(plain: str, stuffed: str) -> None:
    assert cobs_encode(bytes.fromhex(plain)).hex() == bytes.fromhex(stuffed).hex()
    assert cobs_decode(bytes.fromhex(stuffed)) == bytes.fromhex(plain)
