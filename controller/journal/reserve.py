"""Disk space put by, so that a cycle in flight can be closed on a full disk (P12).

A file of really written bytes beside the journal. When closing a cycle meets a
full disk the file is removed, and the closing tried again in the room it left.
While it is missing and cannot be written anew, no cycle is opened and no
command accepted.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

log = logging.getLogger("vending.journal")

RESERVE_BYTES = 4 * 1024 * 1024
"""As much as the whole write-ahead log before a checkpoint (1,000 pages of 4 KiB): a closing
transaction is some 30 pages, and at most one cycle a board is in flight."""


class Reserve:
    """Used by one thread at a time: the database's."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self.path = path
        self.size = size
        self.whole = False
        """Found or made whole since the start; only `release` ends it."""

    def ensure(self) -> bool:
        """Whether the space is put by; made now where it is missing and there is room."""
        if not self.whole:
            self.whole = self._is_whole() or self._make()
        return self.whole

    def release(self) -> bool:
        """Give the space back; False when there was none."""
        try:
            self.path.unlink()
        except OSError:
            return False
        self.whole = False
        log.warning("journal_reserve_released", extra={"fields": {"bytes": self.size}})
        return True

    def _is_whole(self) -> bool:
        """Sparse files do not count: blocks, not length, are what was put by."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return found.st_size == self.size and found.st_blocks * 512 >= self.size

    def _make(self) -> bool:
        """Random bytes: a file system that compresses would keep no room for zeros."""
        part = self.path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                file.write(os.urandom(self.size))
                file.flush()
                os.fsync(file.fileno())
            part.rename(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            log.warning("journal_reserve_missing", extra={"fields": {"error": str(error)}})
            return False
        return True
