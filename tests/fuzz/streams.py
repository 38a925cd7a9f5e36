"""What comes over a serial line: raw bytes, and whole frames with their checks made right.

A plan is a list of pieces; each is garbage, a frame, or a frame with one byte changed or
its end missing, and says into how small reads it is cut. A mutation that knew no CRC
would never come past it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from controller.boards.vbp import frames as vbp
from controller.boards.vbp.framing import PAYLOAD_LIMIT
from controller.boards.xy import frames as xy
from controller.boards.xy.framing import LENGTHS_OF_BARE
from tests.fuzz.draw import Draw

PIECES = 24
RAW, FRAME, CHANGED, CUT_SHORT = range(4)

VBP_TYPES = sorted(vbp.PAYLOADS)
VBP_SIZES = {kind: payload.LAYOUT.size for kind, payload in vbp.PAYLOADS.items()}
XY_COMMANDS = sorted(xy.Command)


def vbp_frame(draw: Draw) -> bytes:
    """Of a type that a table knows (or of any), with a payload of its size (or of any)."""
    kind = draw.number(len(VBP_TYPES) + 1)
    of_table = kind < len(VBP_TYPES)
    type_ = VBP_TYPES[kind] if of_table else draw.number(256)
    seq = draw.number(4)
    size = VBP_SIZES.get(type_, 0)
    payload = draw.octets(size) if draw.number(4) else draw.some()[:PAYLOAD_LIMIT]
    return vbp.encode_frame(vbp.Frame(type_, seq, payload))


def xy_frame(draw: Draw) -> bytes:
    kind = draw.number(len(XY_COMMANDS) + 1)
    command = int(XY_COMMANDS[kind]) if kind < len(XY_COMMANDS) else draw.number(256)
    if command in LENGTHS_OF_BARE:
        return xy.encode_frame(xy.Frame(command))
    text = draw.some()[:254]
    return xy.encode_frame(xy.Frame(command, draw.number(255) + 1, text))


def reads(draw: Draw, frame: Callable[[Draw], bytes]) -> Iterator[bytes]:
    """The line's bytes, as the reads of a port would bring them."""
    for _ in draw.rounds(PIECES):
        kind = draw.number(4)
        piece = draw.some() if kind == RAW else frame(draw)
        if kind == CHANGED:
            at = draw.number(len(piece))
            piece = piece[:at] + bytes((piece[at] ^ (draw.number(255) + 1),)) + piece[at + 1 :]
        elif kind == CUT_SHORT:
            piece = piece[: draw.number(len(piece))]
        size = draw.number(256) or len(piece) or 1
        yield from (piece[at : at + size] for at in range(0, len(piece), size))


def as_plan(wire: bytes) -> bytes:
    """The input whose reads are this stream, byte for byte."""
    blocks = (wire[at : at + 255] for at in range(0, len(wire), 255))
    return b"".join(bytes((RAW, len(block))) + block + b"\0" for block in blocks)
