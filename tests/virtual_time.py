"""A loop whose time jumps to the next timer: hours in seconds, the same every run.

Real I/O that is ready comes first; only when nothing is ready does the clock
jump. Work in an executor holds the clock, which must not overtake it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START = 1_000.0
"""Where virtual monotonic time begins: not 0, so that a forgotten default shows."""

EPOCH = 1_763_900_000.0
"""Unix seconds at START."""


class _JumpingSelector(selectors.SelectSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready:
            return ready
        if self.loop.in_executor:
            return super().select(0.001)
        if timeout is None:
            raise RuntimeError("nothing is scheduled: this would wait for ever")
        self.loop.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = START
        self.in_executor = 0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def wall(self) -> float:
        return EPOCH + self.now - START

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> Any:
        self.in_executor += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._returned)
        return future

    def _returned(self, _future: Any) -> None:
        self.in_executor -= 1


def virtual_wall() -> float:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.wall()


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main()` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
