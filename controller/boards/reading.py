"""Both directions of one board's line, put into words in the order of their times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from controller.boards.vbp import words as vbp
from controller.boards.words import Cut, Word
from controller.boards.xy import words as xy
from controller.capture import DIRECTIONS, Piece

CUTS: Mapping[str, Callable[[], Cut]] = {"vbp": vbp.Cut, "xy": xy.Cut}

SILENCE_S = 0.1
"""XY's page: a half frame is dropped after 100 ms of silence. VBP has no such time."""


@dataclass(frozen=True, slots=True)
class Said:
    """A word with the time at which its last byte passed."""

    wall: float
    mono: float
    direction: str
    word: Word


class Reading:
    """Fed with the pieces of one board's line; bounded, never raises."""

    def __init__(self, protocol: str) -> None:
        """KeyError for a protocol that is not built."""
        self._cuts = {direction: CUTS[protocol]() for direction in DIRECTIONS}
        self._last: dict[str, Piece] = {}

    def feed(self, piece: Piece) -> Iterator[Said]:
        cut = self._cuts[piece.direction]
        last = self._last.get(piece.direction)
        if last is not None and not 0 <= piece.mono - last.mono <= SILENCE_S:
            for word in cut.silence():
                yield Said(last.wall, last.mono, piece.direction, word)
        self._last[piece.direction] = piece
        for word in cut.feed(piece.data):
            yield Said(piece.wall, piece.mono, piece.direction, word)
