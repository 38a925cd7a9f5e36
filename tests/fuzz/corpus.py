"""The inputs that are kept, one a line as Python writes bytes, so that a change can be read.

A comment above an input says why it stays; the others are what the last `--keep` found to
cover the most with the fewest.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
LARGEST_FILE = 48 * 1024
"""Bytes of found inputs in one file: seventeen targets stay well below a megabyte."""


@dataclass(frozen=True, slots=True)
class Kept:
    data: bytes
    why: str = ""


def path_of(name: str) -> Path:
    return CORPUS / f"{name}.txt"


def read(name: str) -> list[Kept]:
    """Raises FileNotFoundError for a target without a corpus."""
    kept, why = [], ""
    for line in path_of(name).read_text(encoding="ascii").splitlines():
        if line.startswith("#"):
            why = line.removeprefix("#").strip()
        elif line:
            data = ast.literal_eval(line)
            assert isinstance(data, bytes)
            kept.append(Kept(data, why))
            why = ""
    return kept


def write(name: str, found: Iterable[bytes]) -> None:
    """Those with a reason stay; beside them the shortest of `found`, as far as there is room."""
    reasoned = [one for one in read(name) if one.why] if path_of(name).exists() else []
    lines = [line for one in reasoned for line in (f"# {one.why}", repr(one.data))]
    room = LARGEST_FILE
    for data in sorted(set(found) - {one.data for one in reasoned}, key=lambda d: (len(d), d)):
        room -= len(repr(data))
        if room < 0:
            break
        lines.append(repr(data))
    path_of(name).write_text("\n".join(lines) + "\n", encoding="ascii")
