"""How vendctl shows things: plain text of 60 columns, for a phone held upright.

Data goes to stdout, words to stderr. What comes from boards and people is printed
without control characters: a board's text must not move the cursor.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from controller.cli.words import say

WIDTH = 60
"""Columns. An SSH session on a phone held upright shows about so many."""

GAP = "  "

NO_LINE_BEGINS_WITH = "，。、；：！？）」』》…,.;:!?)"  # noqa: RUF001 - Chinese marks
NO_LINE_ENDS_WITH = "（「『《("  # noqa: RUF001
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
        print(_for_terminal(text), file=sys.stderr, flush=True)
    except OSError:
        drop(sys.stderr)


def ask(question: str) -> str:
    """What the person at the terminal answers, in small letters; empty where there is none."""
    lines = _for_terminal(question)
    print(lines, end=question[len(question.rstrip()) :], file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower()


def _for_terminal(text: str) -> str:
    """Broken between words where a terminal would break inside one; a file gets it as it is."""
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH
    except (OSError, ValueError, AttributeError):
        return text
    return "\n".join(
        shown
        for line in text.rstrip(" ").split("\n")
        for shown in ([line] if columns_of(line) <= width else wrapped(line, width=width))
    )


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
    """Lines of `WIDTH` columns at most, below the heads in the language of this run.

    The last column gives way when it gets narrow. A first cell of more than `first`
    columns (a long order key) is never cut: it takes lines of its own.
    """
    heads = [say(head) for head in heads]
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
            lines += wrapped(row[0])
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


def wrapped(text: str, indent: str = "", hang: str = "", width: int = WIDTH) -> list[str]:
    """Lines of `width` columns at most. Between wide signs (Chinese) a line may end without a
    space; a hyphen ends none, since device paths and ids are copied from here."""
    words = [word for word in _BREAKABLE.findall(clean(text)) if word]
    hang = hang or indent
    lines: list[str] = []
    line, filled = indent, False
    for word in _kept_together(words):
        if filled and not _fits(line + word.rstrip(), width):
            lines.append(line.rstrip())
            line, filled = hang, False
        rest = word if filled else word.lstrip()
        while not _fits(line + rest.rstrip(), width):
            head = _beginning(rest, max(width - columns_of(line), 2))
            lines.append(line + head)
            line, rest = hang, rest[len(head) :]
        line += rest
        filled = filled or bool(rest)
    return [*lines, line.rstrip()] if filled else lines


_BREAKABLE = re.compile(
    r" +|[\u1100-\u11ff\u2e80-\ud7af\uf900-\ufaff\ufe30-\uffef]|"
    r"[^ \u1100-\u11ff\u2e80-\ud7af\uf900-\ufaff\ufe30-\uffef]+"
)
"""Spaces, one wide sign, or a run of narrow ones. The blocks of East Asian wide signs: Unicode,
EastAsianWidth.txt."""


def _kept_together(words: Sequence[str]) -> list[str]:
    """Spaces and closing marks stay with the word before them, opening ones with the next."""
    kept: list[str] = []
    for word in words:
        closes = word.isspace() or word[0] in NO_LINE_BEGINS_WITH
        opened = bool(kept) and kept[-1][-1] in NO_LINE_ENDS_WITH
        if kept and (closes or opened):
            kept[-1] += word
        else:
            kept.append(word)
    return kept


def _fits(text: str, columns: int) -> bool:
    return len(text) <= columns and columns_of(text) <= columns


def _beginning(text: str, columns: int) -> str:
    """As much of it as fits."""
    at = min(len(text), columns)
    while columns_of(text[:at]) > columns:
        at -= 1
    return text[:at]


class NarrowHelp(argparse.RawDescriptionHelpFormatter):
    """argparse's help in `WIDTH` columns, counted as a terminal does."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=16, width=WIDTH)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(text, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Each line on its own; one that goes on does so below its second column of words."""
        lines = [
            filled
            for line in text.splitlines()
            for filled in (wrapped(line, *_indents(line, indent), width) if line.strip() else [""])
        ]
        return "\n".join(lines) + "\n"


def _indents(line: str, indent: str) -> tuple[str, str]:
    """Of a line and of what goes on below it: behind its last gap of two spaces."""
    bare = line.lstrip()
    first = indent + line[: len(line) - len(bare)]
    gap = line.rfind(GAP, 0, 26)
    return first, " " * (gap + len(GAP)) if gap > len(first) else first


def pairs(facts: Sequence[tuple[str, object]]) -> list[str]:
    """`name  value`, aligned; long values go on below their column. Names are said in the
    language of this run."""
    said = [(_said(name), value) for name, value in facts]
    room = max(columns_of(name) for name, _ in said) + len(GAP)
    lines: list[str] = []
    for name, value in said:
        lines += wrapped(clean(value), name + " " * (room - columns_of(name)), " " * room)
    return lines


def _said(name: str) -> str:
    bare = name.lstrip()
    return name[: len(name) - len(bare)] + say(bare)


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
