"""Tell everybody who waits that something changed; they look for themselves what."""

from __future__ import annotations

import asyncio

from controller.dispensing.interfaces import Clock


class Bell:
    """Take `tick()`, look at the facts, then `wait(tick)`: no change in between is missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    def tick(self) -> asyncio.Event:
        return self._event

    @staticmethod
    async def wait(tick: asyncio.Event, clock: Clock, seconds: float | None) -> None:
        """Return at the next ring after `tick`, or after so many seconds."""
        try:
            async with clock.timeout(seconds):
                await tick.wait()
        except TimeoutError:
            return
