"""What the streams have told so far: the machine's picture, kept from lines of changes.

Nothing of it is trusted to have a shape: a part that is missing is empty.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FRAMES_KEPT = 200
"""Frames that scrolled: more than the tallest screen has lines."""

Rows = dict[str, Any]


@dataclass(slots=True)
class Seen:
    """`at` and `lost_at` are Unix seconds: of the newest line, and since when none comes."""

    parts: dict[str, Rows] = field(default_factory=dict)
    at: float | None = None
    lost_at: float | None = None
    why: str = ""
    """Why no line comes now; empty while they come."""
    frames: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=FRAMES_KEPT))
    frames_note: str = ""
    """Why no frames come; empty while they do."""

    def part(self, name: str) -> Rows:
        return self.parts.get(name, {})

    def take(self, line: Mapping[str, Any]) -> None:
        """A line of `/v1/watch`."""
        data, part = line.get("data"), str(line.get("part"))
        if not isinstance(data, Mapping):
            return
        if part == "snapshot":
            self.parts = {
                name: {key: row for key, row in rows.items() if row is not None}
                for name, rows in data.items()
                if isinstance(rows, Mapping)
            }
        else:
            rows = {**self.part(part), **data}
            self.parts[part] = {key: row for key, row in rows.items() if row is not None}
        at = line.get("at")
        self.at = float(at) if isinstance(at, int | float) else self.at
        self.lost_at, self.why = None, ""

    def lose(self, why: str, now: float) -> None:
        """The stream is gone; what was told stays, with the moment since when it is old."""
        self.lost_at = now if self.lost_at is None else self.lost_at
        self.why = why

    def take_frame(self, line: Mapping[str, Any]) -> bool:
        """A line of `/v1/trace`; False where it shows nothing: notes, and frames that only
        keep a line alive."""
        self.frames_note = ""
        if line.get("idle") or not line.get("frame"):
            return False
        self.frames.append(line)
        return True
