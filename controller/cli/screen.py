"""How vendctl shows things: plain text of 60 columns, for a phone held upright.

Data goes to stdout, words to stderr. What comes from boards and people is printed
without control characters: a board's text must not move the cursor.
"""

from __future__ import annotations

import io
import json
import os
import sys
import textwrap
import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

WIDTH = 60
"""Columns. An SSH session on a phone held upright shows about so many."""

GAP = "  "
COLOURS = {"bad": "31", "good": "32", "loud": "1"}
"""SGR codes (ECMA-48): red, green, bold."""


def open_streams() -> None:
    """Before anything is printed: a closed stream swallows, and no text is too odd to print."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - to stay open
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def drop(stream: TextIO) -> None:
    """After a failed write: Python's own flush at exit would fail again, with a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def data(text: str) -> None:
    print(text)


def words(text: str) -> None:
    """What is said beside the data. That nobody reads it is no reason to leave an act."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        drop(sys.stderr)


def as_json(content: object) -> None:
    _print_json(content, indent=2)


def as_json_line(content: object) -> None:
    _print_json(content)


def _print_json(content: object, indent: int | None = None) -> None:
    """UTF-8 where the stream is, else ASCII with JSON's own escapes: the same either way."""
    utf8 = sys.stdout.encoding.lower() == "utf-8"
    print(json.dumps(content, ensure_ascii=not utf8, indent=indent), flush=True)


def paint(text: str, colour: str) -> str:
    """Coloured on a terminal only, and never with NO_COLOR set (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return text
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


def clean(value: object) -> str:
    """One line of printable text; `-` for nothing."""
    if value is None or value == "":
        return "-"
    return "".join(sign if sign.isprintable() else "?" for sign in str(value))


def columns_of(text: str) -> int:
    """Columns on a terminal: East Asian wide signs take two."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def cut(text: str, columns: int) -> str:
    if columns_of(text) <= columns:
        return text
    kept = ""
    for sign in text:
        if columns_of(kept) + columns_of(sign) > columns - 1:
            break
        kept += sign
    return kept + "…"


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], *, first: int = 26) -> list[str]:
    """Lines of `WIDTH` columns at most.

    The last column gives way when it gets narrow. A first cell of more than `first`
    columns (a long order key) is never cut: it takes a line of its own.
    """
    cells = [[clean(cell) for cell in row] for row in rows]
    wide = [
        max([columns_of(head)] + [columns_of(row[at]) for row in cells])
        for at, head in enumerate(heads)
    ]
    wide[0] = max(
        [columns_of(heads[0])]
        + [columns_of(row[0]) for row in cells if columns_of(row[0]) <= first]
    )
    taken = sum(wide[:-1]) + len(GAP) * (len(heads) - 1)
    wide[-1] = max(min(wide[-1], WIDTH - taken), 1)
    lines = [_line(heads, wide)]
    for row in cells:
        if columns_of(row[0]) > wide[0]:
            lines.append(row[0])
            lines.append(_line(["", *row[1:]], wide))
        else:
            lines.append(_line(row, wide))
    return [
        cut(line, WIDTH) if columns_of(line) > WIDTH and " " in line else line for line in lines
    ]


def _line(cells: Sequence[str], wide: Sequence[int]) -> str:
    padded = (
        cut(cell, room) + " " * (room - columns_of(cut(cell, room)))
        for cell, room in zip(cells, wide, strict=True)
    )
    return GAP.join(padded).rstrip()


def wrapped(text: str, indent: str = "", hang: str = "") -> list[str]:
    return textwrap.wrap(
        clean(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=hang or indent,
        break_on_hyphens=False,  # device paths and ids are copied from here
    )


def pairs(facts: Sequence[tuple[str, object]]) -> list[str]:
    """`name  value`, aligned; long values go on below their column."""
    room = max(columns_of(name) for name, _ in facts) + len(GAP)
    lines: list[str] = []
    for name, value in facts:
        lines += wrapped(str(clean(value)), name.ljust(room), " " * room)
    return lines


def spaced(frame: str) -> str:
    """Hex in pairs, as documents of protocols print it."""
    digits = frame.replace(" ", "")
    return " ".join(digits[at : at + 2] for at in range(0, len(digits), 2))


def at(seconds: object, *, day: bool = True) -> str:
    """Local time of a Unix second; `-` for none."""
    if not isinstance(seconds, int | float) or not 0 <= seconds < 1e11:  # noqa: PLR2004 - year 5138
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S" if day else "%H:%M:%S", time.localtime(seconds))


def at_ms(seconds: object) -> str:
    """Local time of day with milliseconds, for the steps of a cycle."""
    shown = at(seconds, day=False)
    if shown == "-" or not isinstance(seconds, int | float):
        return shown
    return f"{shown}.{int(seconds * 1000) % 1000:03d}"


def order_key(order: Mapping[str, Any]) -> str:
    delivery = order.get("delivery_id")
    number = order.get("order_id", "?")
    return f"{number}/{delivery}" if delivery else str(number)
