"""The truth: one line for each physical event, in order, written as it happens.

A line is `{"event": name, "lane": number or null, "machine_ms": …, "at": Unix seconds,
…}`. `machine_ms` counts machine time since the emulator's start; `at` is there when
the emulator was given a wall clock. A file is appended to, so that a ledger
spans restarts of the emulator; each start begins with `power_on`. It is one emulator's:
a second one on the same file is refused. What a full disk does not take is written
first as soon as it does.

| event | what happened |
| --- | --- |
| drive_frame | a drive command was received and started; `cycle_id` (VBP) or `pack_no` (XY) |
| motor_started, motor_stopped | current on and off; `why` it stopped, `run_ms` |
| product_left | an item went over the edge of its lane; `item`, its number since the start |
| product_fell | that `item` passed the eye and landed; `seen` whether the eye could see it |
| eye_blocked, eye_clear | the light eye's level |
| door_open, door_closed | the door |
| power_on, power_off, board_reset | the board's life; `cause` |
| unplugged, plugged | the cable |
| fault, lifted | a fault took effect, or was taken away; `kind` |
| refilled | a person put goods into a lane |
| memory_damaged | the memory file held no memory: the board begins with an empty one |
| plug_failed | the cable's port cannot be provided again; `why` |
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firmware_sim.timeline import Timeline

KEPT_LINES = 100_000
"""Lines kept in memory for questions: an hour of orders has some ten thousand."""

LONGEST_LINE = 4096
"""Bytes; ours have some 150."""

Line = dict[str, Any]


def _opened(path: Path) -> int:
    """To append to, ours alone, and without the half line of a predecessor that was killed."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise OSError(
            errno.EBUSY, "another emulator writes it: end that first", str(path)
        ) from None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        _cut_half_line(fd)
    return fd


def _cut_half_line(fd: int) -> None:
    size = os.fstat(fd).st_size
    start = max(0, size - LONGEST_LINE)
    end = os.pread(fd, LONGEST_LINE, start)
    os.ftruncate(fd, start + end.rfind(b"\n") + 1)


class Ledger:
    def __init__(
        self,
        timeline: Timeline,
        path: Path | None = None,
        *,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self.lines: deque[Line] = deque(maxlen=KEPT_LINES)
        self.written = 0
        self.watchers: list[Callable[[Line], None]] = []
        self._timeline = timeline
        self._wall = wall
        self._path = path
        self._fd = _opened(path) if path else -1
        self._unwritten = b""
        self._complained = False

    def write(self, event: str, lane: int | None = None, **more: Any) -> None:
        line: Line = {"event": event, "lane": lane}
        line["machine_ms"] = round(self._timeline.machine_ms())
        if self._wall is not None:
            line["at"] = round(self._wall(), 3)
        line.update(more)
        self.lines.append(line)
        self.written += 1
        if self._fd >= 0:
            self._unwritten += json.dumps(line).encode() + b"\n"
            self._store()
        for watcher in self.watchers:
            watcher(line)

    def _store(self) -> None:
        """Motors turn and products fall whether or not there is room to write it down."""
        try:
            written = os.write(self._fd, self._unwritten)
        except OSError as error:
            if not self._complained:
                self._complained = True
                why = f"{self._path}: {error.strerror}; the ledger's lines wait in memory"
                sys.stderr.write(f"firmware-sim: {why}\n")
            return
        self._unwritten = self._unwritten[written:]

    def count(self, event: str, lane: int | None = None) -> int:
        """How often it happened, in one lane or in all."""
        return sum(
            line["event"] == event and (lane is None or line["lane"] == lane) for line in self.lines
        )

    def last(self, count: int) -> list[Line]:
        return list(self.lines)[-count:] if count > 0 else []

    def close(self) -> None:
        if self._fd >= 0:
            if self._unwritten:
                self._store()
            os.close(self._fd)
            self._fd = -1
