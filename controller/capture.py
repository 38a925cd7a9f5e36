"""Captures: what passed a board's line, as text that people read and programs replay. Pure.

docs/capture.md is the page of the format. One line of it is one piece of the line's
traffic; the first line names the version, `name: value` lines behind it say whose it is.
The trace ring of the daemon is kept in it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.errors import ControllerError

VERSION_LINE = "vending-capture 1"
DIRECTIONS = ("in", "out")
"""in: the board spoke; out: the host did."""

LONGEST_LINE = 64 * 1024
"""Signs. A read of a port brings 4 KiB at most: 12 KiB of hexadecimal pairs."""
LONGEST_CAPTURE = 16 * 1024 * 1024
"""Bytes. A ring holds 2 MiB of one board; the words behind its frames make that some more."""
HEADER_LINES = 40

_PIECE = re.compile(
    r"(?P<wall>-?\d{1,15}\.\d{1,9}) (?P<mono>\d{1,15}\.\d{1,9}) (?P<way>in|out) "
    r"(?P<hex>[0-9A-Fa-f]{2}(?: ?[0-9A-Fa-f]{2})*)(?: *#.*)?",
    re.ASCII,
)
_HEADER = re.compile(r"(?P<name>[a-z_]{1,32}): ?(?P<value>.{0,200})", re.ASCII)


class CaptureError(ControllerError, ValueError):
    """Scenario: a capture that an editor cut in the middle of a line."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one direction that came or left together. `wall` in Unix seconds; `mono` in
    seconds of the monotonic clock, for distances: a clock that is set moves none of them."""

    wall: float
    mono: float
    direction: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Capture:
    header: Mapping[str, str]
    pieces: tuple[Piece, ...]


def head(**facts: object) -> str:
    """The first lines of a capture: board, protocol, baudrate, program, started."""
    lines = [VERSION_LINE, *(f"{name}: {_one_line(value)}" for name, value in facts.items())]
    return "\n".join(lines) + "\n"


def line_of(piece: Piece, words: str = "") -> str:
    """One line with its end. `words` say what it means; no program reads them."""
    data = piece.data.hex(" ").upper()
    said = f"  # {_one_line(words)}" if words else ""
    return f"{piece.wall:.6f} {piece.mono:.6f} {piece.direction} {data}{said}\n"


def piece_of(line: str) -> Piece | None:
    """None where the line is none of traffic: a comment, a header, half a line of a crash."""
    found = _PIECE.fullmatch(line) if len(line) <= LONGEST_LINE else None
    if found is None:
        return None
    data = bytes.fromhex(found["hex"])
    return Piece(float(found["wall"]), float(found["mono"]), found["way"], data)


def pieces_of(lines: Iterable[str]) -> Iterator[Piece]:
    """Of a ring: what cannot be read is left out."""
    for line in lines:
        piece = piece_of(line.rstrip("\n"))
        if piece is not None:
            yield piece


def read(text: str) -> Capture:
    """Of a file that somebody may have edited. Raises CaptureError with the line's number."""
    if len(text) > LONGEST_CAPTURE:
        raise CaptureError(f"a capture has {LONGEST_CAPTURE} bytes at most: cut it to what matters")
    lines = text.splitlines()
    if not lines or lines[0].strip() != VERSION_LINE:
        raise CaptureError(f"line 1: a capture begins with {VERSION_LINE!r}")
    header: dict[str, str] = {}
    pieces: list[Piece] = []
    for number, whole in enumerate(lines[1:], start=2):
        line = whole.strip()
        if not line or line.startswith("#"):
            continue
        piece = piece_of(line)
        if piece is not None:
            if pieces and piece.mono < pieces[-1].mono:
                raise CaptureError(f"line {number}: earlier than the line before it")
            pieces.append(piece)
            continue
        named = _HEADER.fullmatch(line)
        if named is None or pieces or len(header) >= HEADER_LINES:
            raise CaptureError(
                f"line {number}: not `SECONDS MONOTONIC in|out HEX`, a comment (#), "
                "or a header (name: value) above all traffic"
            )
        header[named["name"]] = named["value"].strip()
    return Capture(header, tuple(pieces))


def _one_line(value: object) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in str(value))
