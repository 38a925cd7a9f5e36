"""The truth: one line for each physical event, in order, flushed as it happens.

A line is `{"event": name, "lane": number or null, "machine_ms": …, "at": Unix seconds,
…}`. `machine_ms` counts machine time since the emulator's start; `at` is there when
the emulator was given a wall clock. A file is appended to, so that a ledger
spans restarts of the emulator; each start begins with `power_on`.

| event | what happened |
| --- | --- |
| drive_frame | a drive command was received and started; `cycle_id` (VBP) or `pack_no` (XY) |
| motor_started, motor_stopped | current on and off; `why` it stopped, `run_ms` |
| product_left | an item went over the edge of its lane |
| product_fell | it passed the eye and landed; `seen` whether the eye could see it |
| eye_blocked, eye_clear | the light eye's level |
| door_open, door_closed | the door |
| power_on, power_off, board_reset | the board's life; `cause` |
| unplugged, plugged | the cable |
| fault, lifted | a fault took effect, or was taken away; `kind` |
| refilled | a person put goods into a lane |
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from firmware_sim.timeline import Timeline

KEPT_LINES = 100_000
"""Lines kept in memory for questions: an hour of orders has some ten thousand."""

Line = dict[str, Any]


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
        self._file: TextIO | None = path.open("a", encoding="utf-8") if path else None

    def write(self, event: str, lane: int | None = None, **more: Any) -> None:
        line: Line = {"event": event, "lane": lane}
        line["machine_ms"] = round(self._timeline.machine_ms())
        if self._wall is not None:
            line["at"] = round(self._wall(), 3)
        line.update(more)
        self.lines.append(line)
        self.written += 1
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        for watcher in self.watchers:
            watcher(line)

    def count(self, event: str, lane: int | None = None) -> int:
        """How often it happened, in one lane or in all."""
        return sum(
            line["event"] == event and (lane is None or line["lane"] == lane) for line in self.lines
        )

    def last(self, count: int) -> list[Line]:
        return list(self.lines)[-count:] if count > 0 else []

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
