"""Several asyncio loops under one virtual clock, stepped one callback at a time.

A loop stands for a process. All callbacks that are ready now run in an order that
the seed chooses between loops (within one loop it is asyncio's own); when none is
ready, the clock jumps to the next timer of any. A process that dies is a loop that is
never stepped again: the crash falls between two callbacks, which is at an await.

Nothing here looks at the wall clock or waits, and no thread exists: work for an
executor is done where it is asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import math
import random
import weakref
from collections.abc import Callable
from typing import Any

START = 1_000.0
"""Where virtual monotonic time begins: not 0, so that a forgotten default shows."""


class Deadlock(AssertionError):
    """Nothing is scheduled, and something is still waited for."""


class SimFuture(asyncio.Future[Any]):
    """Hashed by its number: asyncio keeps tasks and futures in sets, cancels a group in the order
    of its set, and addresses are another at each run."""

    _number: int

    def __hash__(self) -> int:
        return self._number


class SimTask(asyncio.Task[Any]):
    """Hashed by its number, as SimFuture."""

    def __init__(self, loop: SimLoop, coroutine: Any, **more: Any) -> None:
        self._number = next(loop.timeline.numbers)
        super().__init__(coroutine, loop=loop, **more)
        loop.tasks.add(self)

    def __hash__(self) -> int:
        return self._number


class SimHandle(asyncio.Handle):
    """A callback. asyncio asks its loop at each one whether it debugs; ours never does."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: SimLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = self._source_traceback = None


class SimTimer(asyncio.TimerHandle):
    """A callback of later, as SimHandle."""

    __slots__ = ()

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], loop: SimLoop,
        context: contextvars.Context | None,
    ) -> None:  # fmt: skip
        SimHandle.__init__(self, callback, args, loop, context)  # type: ignore[arg-type]
        self._when = when
        self._scheduled = True

    def __lt__(self, other: asyncio.TimerHandle) -> bool:
        return self._when < other._when


class SimLoop(asyncio.BaseEventLoop):
    """One process. It has no selector: what reaches it from outside is a callback."""

    def __init__(self, timeline: Timeline, name: str) -> None:
        super().__init__()
        self.timeline = timeline
        self.name = name
        self.tasks: weakref.WeakSet[SimTask] = weakref.WeakSet()
        """What asyncio.all_tasks would look for among those of every process, the dead ones too."""
        self.failures: list[BaseException] = []
        """What callbacks raised that nobody caught."""
        self.set_exception_handler(self._note_failure)
        self.set_task_factory(SimTask)

    def create_future(self) -> SimFuture:
        future = SimFuture(loop=self)
        future._number = next(self.timeline.numbers)
        return future

    def time(self) -> float:
        return self.timeline.now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = SimHandle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = SimTimer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        return timer

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.timeline.now + delay, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, _executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  (it belongs to whoever awaits it)
            future.set_exception(error)
        return future

    def _note_failure(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.failures.append(error)

    def __del__(self) -> None:
        """A process that died was never closed; asyncio would say so."""

    # ------------------------------------------------------------------ stepping

    def ripen(self) -> None:
        """Move timers that are due to the ready callbacks."""
        due, now = self._scheduled, self.timeline.now
        while due and (due[0]._when <= now or due[0]._cancelled):
            handle = heapq.heappop(due)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                self._ready.append(handle)

    def next_timer(self) -> float:
        """When its next timer is due; infinity without one."""
        due = self._scheduled
        while due and due[0]._cancelled:
            heapq.heappop(due)._scheduled = False
            self._timer_cancelled_count -= 1
        return due[0]._when if due else math.inf

    def step(self) -> None:
        """Run the first ready callback."""
        handle = self._ready.popleft()
        if handle._cancelled:
            return
        asyncio._set_running_loop(self)
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)

    def drop(self) -> None:
        """The process is gone: nothing of it runs again, not even a `finally`.

        Its coroutines are kept, suspended as they were, so that no interpreter clean-up
        runs their handlers either; they cost some kilobytes a crash until `bury`.
        """
        self._ready.clear()
        self._scheduled.clear()


class Timeline:
    """The clock and the loops that live by it."""

    def __init__(self, seed: int) -> None:
        self.now = START
        self.steps = 0
        self.numbers = itertools.count()
        """Of tasks and futures."""
        self._loops: list[SimLoop] = []
        self._chance = random.Random(f"order/{seed}")

    def loop(self, name: str) -> SimLoop:
        made = SimLoop(self, name)
        self._loops.append(made)
        return made

    def end(self, loop: SimLoop) -> None:
        self._loops.remove(loop)
        loop.drop()

    def step(self, limit: float = math.inf) -> SimLoop | None:
        """One callback of one loop, after a jump of the clock where none was ready.

        None when nothing happens until `limit`: the clock stands there then.
        """
        while True:
            ready = []
            for loop in self._loops:
                due = loop._scheduled
                if due and (due[0]._when <= self.now or due[0]._cancelled):
                    loop.ripen()
                if loop._ready:
                    ready.append(loop)
            if ready:
                chosen = ready[0] if len(ready) == 1 else self._chance.choice(ready)
                chosen.step()
                self.steps += 1
                return chosen
            soonest = min(loop.next_timer() for loop in self._loops)
            if soonest > limit:
                self.now = limit
                return None
            if soonest == math.inf:
                raise Deadlock("nothing is scheduled in any process")
            self.now = max(self.now, soonest)
