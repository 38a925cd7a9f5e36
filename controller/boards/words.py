"""What a stream of bytes says, frame by frame: the raw bytes beside their meaning. Pure.

Each protocol has a `Cut`, which cuts one direction of a line into `Word`s with the
decoder of its driver, and so shows what the driver saw. Every byte of the stream is
in exactly one of them: what is no frame is shown as that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Word:
    """`name` is the protocol's for the frame; `meaning` its fields, named."""

    raw: bytes
    name: str
    meaning: str
    ok: bool
    """False: no frame, or one whose content contradicts its type."""
    idle: bool = False
    """It only keeps the line alive: a POLL, its ACK, a STATUS."""


class Cut(Protocol):
    def feed(self, data: bytes) -> Iterator[Word]: ...
    def silence(self) -> Iterator[Word]:
        """The line was silent for so long that a half frame is over."""
        ...
