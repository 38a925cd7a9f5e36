"""An input's bytes read as choices, so that a mutation of bytes is a change of plan.

atheris has such a reader too; ours replays the corpus where atheris is not installed.
Past the end every choice is the first one, and `left` says that there is no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def octets(self, count: int) -> bytes:
        """So many bytes; zeros past the end."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken + bytes(count - len(taken))

    def number(self, below: int) -> int:
        """0 up to `below`, out of one byte or as many as it takes."""
        width = max(1, ((below - 1).bit_length() + 7) // 8)
        return int.from_bytes(self.octets(width), "big") % below

    def flag(self) -> bool:
        return self.number(2) == 1

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.number(len(choices))]

    def some(self) -> bytes:
        """A length and so many bytes, as far as there are any."""
        count = self.number(256)
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def rest(self) -> bytes:
        taken = self._data[self._at :]
        self._at = len(self._data)
        return taken

    def rounds(self, most: int) -> Iterator[int]:
        """Turns of a loop, while there is something left."""
        for turn in range(most):
            if not self.left:
                return
            yield turn


def text_of(data: bytes) -> str:
    """Bytes as text, whatever they are: what is no UTF-8 becomes characters of a byte each."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
