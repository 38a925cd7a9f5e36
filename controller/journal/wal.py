"""Whether the write-ahead log lost commits that were durable once.

SQLite ends its recovery silently at the first frame whose checksum is wrong.
After a power cut that is right: the last transaction was not durable yet. But
every commit of ours is flushed before the next begins, so behind the break at
most one commit of the same generation can lie. Two or more mean that durable
commits became unreadable: damage, not a torn tail.

One exception: where the sync of a commit fails, the next is written in its place
(store.py), and a crash in the middle of that leaves the rest of both. The longer one's
last frames then follow from frames that are not there any more, which their checksums
tell: each frame's goes on from that of the frame before.

Layout: https://www.sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

HEADER = struct.Struct(">IIIIIIII")
"""magic, version, page size, checkpoint number, salt 1, salt 2, checksum 1, checksum 2"""
FRAME = struct.Struct(">IIIIII")
"""page number, size of the database after a commit (else 0), salt 1, salt 2, two checksums"""
CHECKED_OF_FRAME = 8
"""Bytes of a frame's header that its checksums cover, besides the page."""
MAGICS = (0x377F0682, 0x377F0683)
PAGE_SIZES = frozenset(1 << power for power in range(9, 17))
FRAMES_LOOKED_AT = 100_000
"""A log of 400 MiB: far beyond what a checkpoint ever lets grow; bounds the time of a start."""


def lost_commits(path: Path, recovered: int) -> int:
    """Commits of the log's own generation behind the `recovered` frames that SQLite accepted;
    one less where the last of them was being written over.

    A header of zeros is a log that was never flushed: nothing in it was durable.
    Any other broken header in front of frames counts as two. Raises OSError.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    if size <= HEADER.size + FRAME.size:
        return 0
    with path.open("rb") as file:
        head = file.read(HEADER.size)
        if not any(head):
            return 0
        magic, _, page_size, _, salt1, salt2, _, _ = HEADER.unpack(head)
        if magic not in MAGICS or page_size not in PAGE_SIZES:
            return 2
        step = FRAME.size + page_size
        commits = 0
        frames = range(recovered, min((size - HEADER.size) // step, recovered + FRAMES_LOOKED_AT))
        for frame in frames:
            told = os.pread(file.fileno(), FRAME.size, HEADER.size + frame * step)
            _, commit, of1, of2, _, _ = FRAME.unpack(told)
            commits += bool(commit and (of1, of2) == (salt1, salt2))
        if commits > 1 and not _each_follows(file, frames, step, ">" if magic & 1 else "<"):
            commits -= 1
    return commits


def _each_follows(file: BinaryIO, frames: range, step: int, order: str) -> bool:
    """Whether the checksums of each frame go on from those of the one before it. The first is not
    asked: it is the one that SQLite did not accept."""
    before: tuple[int, int] | None = None
    for frame in frames:
        file.seek(HEADER.size + frame * step)
        content = file.read(step)
        *_, told1, told2 = FRAME.unpack(content[: FRAME.size])
        covered = content[:CHECKED_OF_FRAME] + content[FRAME.size :]
        if before is not None and _checksums(before, covered, order) != (told1, told2):
            return False
        before = told1, told2
    return True


def _checksums(before: tuple[int, int], data: bytes, order: str) -> tuple[int, int]:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    one, two = before
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return one, two
