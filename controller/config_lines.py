"""Where in a TOML text each key stands, so that a message can name its line.

tomllib gives values without places. This scan finds tables, arrays of tables
(counted by index, nested ones within their parent) and keys; it steps over
multi-line strings and arrays and never judges the text: a text that is not
TOML gives some places or none. Keys inside inline tables have the line of the
key that holds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

Path = tuple[str | int, ...]
"""The way to a value: table names, keys, and indexes (from 0) in arrays of tables."""

_BARE = r"[A-Za-z0-9_-]+"
_PART = rf"""(?:{_BARE}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_DOTTED = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_DOTTED})[ \t]*\]")
_KEY = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")
_PARTS = re.compile(_PART)
_NOISE = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|'
    r"'''.*?'''|"
    r'"(?:[^"\\\n]|\\.)*"|'
    r"'[^'\n]*'|"
    r"\#[^\n]*",
    re.DOTALL,
)
"""Strings and comments: what may hold brackets and equal signs without meaning them."""


def places(text: str) -> dict[Path, int]:
    """The line, counted from 1, of each table header and each key."""
    found: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    for number, line in _statements(text):
        header = _HEADER.match(line)
        if header is not None:
            names = _split(header[2])
            table = _resolve(names, arrays)
            if header[1] == "[[":
                arrays[table] = arrays.get(table, -1) + 1
                found.setdefault(table, number)
                table = (*table, arrays[table])
            found.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key is not None:
            path = table
            for name in _split(key[1]):
                path = (*path, name)
                found.setdefault(path, number)
    return found


def line_of(path: Path, lines: Mapping[Path, int]) -> int:
    """The line of a value, or of the nearest thing around it that has one; else 1."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each line that begins a statement: not the inside of a string or an array."""
    depth = 0
    blanked = _NOISE.sub(_blank, text)
    originals = text.split("\n")
    for number, line in enumerate(blanked.split("\n"), start=1):
        if depth == 0 and line.strip():
            yield number, originals[number - 1]
            if _HEADER.match(originals[number - 1]):
                continue  # its brackets are no array
        depth = max(0, depth + line.count("[") - line.count("]"))


def _blank(noise: re.Match[str]) -> str:
    """The same number of lines, with nothing in them that a bracket count would see."""
    return "_" + "\n" * noise[0].count("\n")


def _split(dotted: str) -> list[str]:
    return [part.strip("\"'") if part[0] in "\"'" else part for part in _PARTS.findall(dotted)]


def _resolve(names: list[str], arrays: Mapping[Path, int]) -> Path:
    """`cabinet.lane` means the lanes of the newest cabinet."""
    path: Path = ()
    for position, name in enumerate(names):
        path = (*path, name)
        if position < len(names) - 1 and path in arrays:
            path = (*path, arrays[path])
    return path
