"""What the tests of the platform's pumps share: queues at the seams, in memory, and waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from platform_sim.seams import Callback

LONGEST_WAIT_S = 10.0


async def until(condition: Callable[[], Any]) -> Any:
    """Wait for the condition to be true, and return what it gave."""
    deadline = time.monotonic() + LONGEST_WAIT_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        await asyncio.sleep(0.005)
    raise AssertionError(f"not within {LONGEST_WAIT_S} s")


@dataclass
class Callbacks:
    """A CallbackQueue; what a real one keeps on disk, this keeps over lives of a pump."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: dict[int, tuple[float, Callback]] = field(default_factory=dict)
    done: list[int] = field(default_factory=list)
    failures: list[tuple[int, str, float | None]] = field(default_factory=list)
    broken: Exception | None = None

    def put(self, order_id: int, url: str, body: bytes = b"{}", tries: int = 0) -> int:
        number = len(self.waiting) + len(self.done) + 1
        self.waiting[number] = (0.0, Callback(number, order_id, url, body, tries))
        self.woken.set()
        return number

    async def due_callbacks(self, now: float, limit: int) -> Sequence[Callback]:
        oldest: dict[int, tuple[float, Callback]] = {}
        for at, callback in self.waiting.values():
            oldest.setdefault(callback.order_id, (at, callback))
        return [callback for at, callback in oldest.values() if at <= now][:limit]

    async def told(self, callback_id: int) -> None:
        if self.broken is not None:
            raise self.broken
        del self.waiting[callback_id]
        self.done.append(callback_id)
        self.woken.set()

    async def not_told(self, callback_id: int, why: str, again_at: float | None) -> None:
        assert why.isprintable()
        assert len(why) <= 200
        self.failures.append((callback_id, why, again_at))
        _, callback = self.waiting[callback_id]
        if again_at is None:
            del self.waiting[callback_id]
        else:
            again = replace(callback, tries=callback.tries + 1)
            self.waiting[callback_id] = (again_at, again)
        self.woken.set()
