"""Two brakes, both in memory and bounded: a bucket of tokens, and a pause per key.

`now` is monotonic seconds. A restart forgets them, which costs one burst.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """`burst` at once, then `per_second`."""

    burst: float
    per_second: float
    filled: float = field(init=False)
    at: float | None = None

    def __post_init__(self) -> None:
        self.filled = self.burst

    def take(self, now: float) -> bool:
        """Whether one more is allowed now; a clock that went back gives nothing."""
        if self.at is not None:
            earned = max(0.0, now - self.at) * self.per_second
            self.filled = min(self.burst, self.filled + earned)
        self.at = now
        if self.filled < 1.0:
            return False
        self.filled -= 1.0
        return True


@dataclass(slots=True)
class Pause:
    """At most one in `seconds` for each key; the oldest of more than `keys` are forgotten."""

    seconds: float
    keys: int
    last: OrderedDict[Hashable, float] = field(default_factory=OrderedDict)

    def over(self, key: Hashable, now: float) -> bool:
        """Whether the key may go again now; if so, its pause begins."""
        before = self.last.get(key)
        if before is not None and 0 <= now - before < self.seconds:
            return False
        self.last[key] = now
        self.last.move_to_end(key)
        while len(self.last) > self.keys:
            self.last.popitem(last=False)
        return True
