"""Texts out of a plan: JSON of our vocabulary with anything in it, and edited TOML."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tests.fuzz.draw import Draw, text_of

DEEPEST = 5
EDITS = 6

ODD_VALUES = (
    b"0", b"1", b"-1", b"true", b"false", b"null", b'""', b"[]", b"{}", b"1.5", b"-0.0", b"1e400",
    b"NaN", b"9223372036854775807", b"9223372036854775808", b"1" * 40, b"1" * 5000, b'"12"',
    b'"\\ud800"', b'"\\u0000"', b'"\\ufeff"', b'"a\\nb"', b'"\xc3\xa9"', b'"\xff"',
    b'"' + b"x" * 70 + b'"', b"[" * 20 + b"]" * 20, b"[" * 3000,
)  # fmt: skip
"""What encoders differ about, what decoders choke on, and the ends of the ranges."""

Members = list[tuple[bytes, bytes]]
"""The names and values of an object, as they stand in its text; a name may come twice."""


def json_value(draw: Draw, names: Sequence[bytes], depth: int = 0) -> bytes:
    kind = draw.number(6 if depth < DEEPEST else 4)
    if kind == 0:
        return draw.pick(ODD_VALUES)
    if kind == 1:
        return str(draw.number(1 << 16)).encode()
    if kind == 2:
        return json.dumps(text_of(draw.some())).encode()
    if kind == 3:
        return draw.some()
    items = [json_value(draw, names, depth + 1) for _ in draw.rounds(draw.number(4))]
    if kind == 4:
        return b"[" + b",".join(items) + b"]"
    return json_object([(draw.pick(names), item) for item in items])


def json_object(members: Members) -> bytes:
    return b"{" + b",".join(b'"' + name + b'":' + value for name, value in members) + b"}"


def edited(draw: Draw, members: Members, names: Sequence[bytes]) -> bytes:
    """This object with some of its members replaced, lost, doubled, added; or quite other bytes."""
    members = list(members)
    for _ in draw.rounds(draw.number(EDITS)):
        kind, at = draw.number(4), draw.number(len(members) or 1)
        if kind == 0 or not members:
            members.append((draw.pick(names), json_value(draw, names)))
        elif kind == 1:
            members[at] = (members[at][0], json_value(draw, names))
        elif kind == 2:
            del members[at]
        else:
            members.append(members[at])
    text = json_object(members)
    kind = draw.number(8)
    if kind == 1:
        return draw.some()
    if kind == 2:
        at = draw.number(len(text))
        return text[:at] + draw.some() + text[at + draw.number(4) :]
    return text


def toml_text(draw: Draw, good: str, values: Sequence[str]) -> bytes:
    """A good file with lines lost, doubled, moved and changed; or quite other bytes."""
    if draw.number(4) == 1:
        return draw.rest()
    lines = good.split("\n")
    for _ in draw.rounds(12):
        kind, at, to = draw.number(6), draw.number(len(lines)), draw.number(len(lines))
        name, equals, _old = lines[at].partition("=")
        if kind == 0:
            lines[at] = f"{name}= {draw.pick(values)}" if equals else draw.pick(values)
        elif kind == 1:
            lines[at] = f"{name}= {text_of(draw.some())}"
        elif kind == 2:
            lines[at] = lines[at][: draw.number(40)] + text_of(draw.some())
        elif kind == 3:
            lines.insert(to, lines[at])
        elif kind == 4:
            lines[at], lines[to] = lines[to], lines[at]
        elif len(lines) > 1:
            del lines[at]
    return "\n".join(lines).encode("utf-8", "surrogatepass")
