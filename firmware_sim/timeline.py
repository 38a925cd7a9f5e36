"""Two clocks on one asyncio loop: real time for links, machine time for motors and falls.

Machine time is real time times `speed`. Motors, falls, light-eye pulses, run
limits and drop waits run in it and are told in its milliseconds. Polls, answer
windows, repeats of events, link time-outs and a board's uptime stay real.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Timeline:
    def __init__(self, loop: asyncio.AbstractEventLoop, speed: float = 1.0) -> None:
        self.loop = loop
        self.speed = speed
        self._start = loop.time()

    def seconds(self) -> float:
        """Real seconds since the emulator's start."""
        return self.loop.time() - self._start

    def machine_ms(self) -> float:
        """Milliseconds of machine time since the emulator's start."""
        return self.seconds() * self.speed * 1000

    def later(self, seconds: float, call: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """Call after real seconds."""
        return self.loop.call_later(max(0.0, seconds), call, *args)

    def after_ms(
        self, milliseconds: float, call: Callable[..., Any], *args: Any
    ) -> asyncio.TimerHandle:
        """Call after milliseconds of machine time."""
        return self.later(milliseconds / 1000 / self.speed, call, *args)
