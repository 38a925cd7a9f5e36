"""A rate limit: so many at once, and one more each period."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Allowance:
    """A bucket of `burst` tokens that fills with one per `period_s` seconds.

    `suppressed` counts the refusals since the last grant, for the next message to tell.
    """

    burst: int
    period_s: float
    suppressed: int = 0
    _tokens: float = field(init=False)
    _seen: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)

    def grant(self, now: float) -> bool:
        """Take a token at monotonic time `now`; False when there is none."""
        if self._seen is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._seen) / self.period_s)
        self._seen = now
        if self._tokens < 1:
            self.suppressed += 1
            return False
        self._tokens -= 1
        return True

    def told(self) -> int:
        """The refusals since they were last told, and start counting anew."""
        count, self.suppressed = self.suppressed, 0
        return count
