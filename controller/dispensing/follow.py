"""From a driver's stream to the end of a cycle's life, within a bound."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from controller.dispensing.cycle import CycleLife
from controller.dispensing.interfaces import Clock, CycleEvent, FrameWritten

log = logging.getLogger("vending.cycle")

MAX_TRACE = 200
"""Events kept of one cycle: a storm of statuses must not grow the journal."""

Trace = list[dict[str, Any]]


def event_name(event: CycleEvent) -> str:
    """FrameWritten -> frame_written"""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()


def note(trace: Trace, at: float, event: CycleEvent) -> None:
    """One line of the cycle's story, for `vendctl order`."""
    if len(trace) >= MAX_TRACE:
        return
    line: dict[str, Any] = {"at": round(at, 3), "event": event_name(event)}
    if event.frame:
        line["frame"] = event.frame.hex(" ").upper()
    trace.append(line)


async def follow(
    life: CycleLife,
    stream: AsyncGenerator[CycleEvent, None],
    clock: Clock,
    *,
    guard_until: float,
    cycle_timeout_s: float,
    trace: Trace,
    told: Callable[[CycleEvent], None] = lambda _event: None,
) -> float | None:
    """Feed the stream to the life until it is over, and end it when its time is.

    Before the drive frame left, the bound is `guard_until` (monotonic; the
    driver itself gives up at the deadline, so this only guards); after it,
    `cycle_timeout_s` from the moment it left. Returns that moment, None when no
    frame left.
    """
    written_at: float | None = None
    limit = guard_until
    async with aclosing(stream):
        while not life.over:
            try:
                async with clock.timeout(max(0.0, limit - clock.monotonic())):
                    event = await anext(stream)
            except (TimeoutError, StopAsyncIteration):
                life.run_out()
                break
            note(trace, clock.wall(), event)
            told(event)
            if isinstance(event, FrameWritten):
                written_at = clock.monotonic()
                limit = written_at + cycle_timeout_s
            life.apply(event)
    return written_at
