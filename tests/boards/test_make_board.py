"""From a board's table to a driver: every mistake is a sentence with a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from controller.boards import PROTOCOLS, make_board
from controller.boards.port import Port
from controller.dispensing.interfaces import Board, Clock
from controller.errors import ConfigError
from tests.boards.scripted_vbp import ScriptedVbp
from tests.boards.support import CLOCK, MemoryPort


def test_both_protocols_and_their_baud_rates() -> None:
    rates: list[int] = []

    def factory(_spec: str, baudrate: int, _clock: Clock) -> Port:
        rates.append(baudrate)
        return MemoryPort(ScriptedVbp())

    boards: list[Board] = [
        make_board("a", protocol, "/dev/x", {}, CLOCK, factory) for protocol in PROTOCOLS
    ]
    assert [(board.name, board.protocol) for board in boards] == [("a", "vbp"), ("a", "xy")]
    assert rates == [115_200, 57_600]
    assert [board.capabilities.remembers_cycles for board in boards] == [True, False]


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("tcn", {}, "not built"),
        ("vbp", {"drive_length": 5}, "unknown board option drive_length"),
        ("vbp", {"baudrate": "fast"}, "baudrate"),
        ("vbp", {"baudrate": True}, "baudrate"),
        ("xy", {"drive_length": 8}, "drive_length: a whole number 5..7"),
        ("xy", {"jam_means": "maybe"}, "jam_means: one of not_delivered, unknown"),
        ("xy", {"resend_same_packno": 5}, "resend_same_packno"),
        ("xy", {"elevator": 1}, "elevator: true or false"),
        ("xy", {"door_means": "x"}, "door_means"),
        ("xy", {"poll_ms": 50}, "poll_ms"),
    ],
)
def test_a_bad_table_is_answered(protocol: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_board("a", protocol, "/dev/x", options, CLOCK)
