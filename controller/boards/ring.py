"""The trace ring of one board: its line's last minutes, in two files that a kill -9 leaves behind.

Appended, one line of a capture for each piece of traffic, and never synced: what
was written is the kernel's, and outlives the process (not the computer). When the
newer file is full it becomes the older one, whose content goes. Nothing depends on
a ring: where it cannot be written it stops, says why, and tries again later.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from controller import capture
from controller.capture import Piece

log = logging.getLogger("vending.trace")

FILE_BYTES = 1024 * 1024
"""Two of these a board. An XY line at rest writes some 500 bytes a second (5 polls and their
ACKs), a VBP line some 200: the ring holds 35 minutes at least. A line full of noise at
115200 baud writes 35 KiB a second: 30 seconds at least."""

RETRY_S = 30.0
"""After a failed write: a full disk is not asked at each frame."""

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""O_NONBLOCK: a pipe in its place must not hold the daemon."""


class Ring:
    def __init__(self, folder: Path, board: str, head: Callable[[], str], size: int) -> None:
        """`head`: the first lines of each file. Nothing is touched before the first `write`."""
        self.newer = folder / f"{board}.capture"
        self.older = folder / f"{board}.older.capture"
        self.problem = ""
        """Why nothing is written now; empty while it is."""
        self._board = board
        self._head = head
        self._size = size
        self._file = -1
        self._length = 0
        self._retry_at = float("-inf")

    def write(self, piece: Piece) -> None:
        """Never raises, never waits for a disk to be in order."""
        if self.problem and piece.mono < self._retry_at:
            return
        try:
            if self._length >= self._size:
                self.close()
                self.newer.replace(self.older)
            if self._file < 0:
                self._open()
            self._append(capture.line_of(piece).encode("ascii"))
        except OSError as error:
            self._stopped(error, piece.mono)
        else:
            if self.problem:
                self.problem = ""
                log.info("trace_goes_on", extra={"fields": {"board": self._board}})

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._length = 0

    def files(self) -> list[tuple[BinaryIO, int]]:
        """What is there now, older first: open files, and how far to read each.

        A rotation meanwhile changes nothing of it. Raises OSError."""
        found: list[tuple[BinaryIO, int]] = []
        for path in (self.older, self.newer):
            try:
                opened = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
            except FileNotFoundError:
                continue
            found.append((opened, os.fstat(opened.fileno()).st_size))
        return found

    def _open(self) -> None:
        self.newer.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(self.newer, FLAGS, 0o600)
        self._length = os.fstat(self._file).st_size
        if self._length == 0:
            self._append(self._head().encode("ascii", "replace"))
        else:  # of the life before, whose last line may be half a one
            self._append(b"\n# the program began anew\n")

    def _append(self, data: bytes) -> None:
        sent = os.write(self._file, data)
        self._length += sent
        if sent < len(data):
            raise OSError(f"only {sent} of {len(data)} bytes could be written; is the disk full?")

    def _stopped(self, error: OSError, now: float) -> None:
        self._retry_at = now + RETRY_S
        self.close()
        why = f"{self.newer}: {error.strerror or error}"[:200]
        if not self.problem:
            log.warning("trace_stopped", extra={"fields": {"board": self._board, "why": why}})
        self.problem = why


def lines_of(files: list[tuple[BinaryIO, int]]) -> Iterator[str]:
    """The lines of these files, each closed when it was read or the iteration is closed."""
    try:
        for opened, length in files:
            left = length
            while left > 0 and (line := opened.readline(min(left, capture.LONGEST_LINE))):
                left -= len(line)
                yield line.decode("ascii", "replace")
    finally:
        for opened, _length in files:
            opened.close()
