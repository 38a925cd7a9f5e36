"""What a cabinet's worker takes from its queue: a customer's unit, or a technician's test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controller.dispensing.eye import EyeTrace
from controller.dispensing.interfaces import Clock, UnitJob
from controller.errors import Refused
from controller.model import Finding, OrderKey, UnitRef

PAUSE_S = 30.0
"""P4: an order that began in time goes on while no pause is longer than this."""

TEST_STARTS_WITHIN_S = 20.0
"""A technician waits at the machine; a test that starts later would surprise a hand inside."""


@dataclass(slots=True)
class OrderRun:
    """When an order may still move a motor. Monotonic seconds."""

    expires: float
    active: float | None = None
    """End of its newest cycle whose motor may have moved; None before the first: only such a
    cycle begins an order (P4)."""
    running: int = 0
    """Cycles of it that are open now, in all cabinets: no deadline passes meanwhile."""
    found: bool = False
    """The start found it in the journal."""
    judged: bool = True
    """False: the wall clock that it was made by is not believed; see `judge`."""

    @property
    def deadline(self) -> float:
        if self.running:
            return float("inf")
        if self.active is None:
            return self.expires
        return max(self.expires, self.active + PAUSE_S)

    def judge(self, unit: UnitJob, clock: Clock) -> None:
        """A unit found waiting after a power cut: its deadline, once the clock is believed."""
        if not self.judged and clock.believed():
            found = order_run(unit, clock)
            self.expires, self.judged = found.expires, True
            self.active = found.active if self.active is None else self.active


def order_run(unit: UnitJob, clock: Clock) -> OrderRun:
    """From wall-clock times to the monotonic ones that a clock set meanwhile can't move.

    While the clock is not believed: the latest moment that they could ever mean.
    """
    now, wall = clock.monotonic(), clock.wall()
    if not clock.believed():
        return OrderRun(now + unit.expires_at - unit.issued_at, judged=False)
    active = None if unit.order_active_at is None else now + unit.order_active_at - wall
    return OrderRun(now + unit.expires_at - wall, active)


@dataclass(slots=True)
class TestVend:
    """A test of one lane (P6). `progress` is told of each step, `done` of the end."""

    __test__ = False  # no test case of pytest's

    test_id: str
    channel: str
    who: str
    done: asyncio.Future[Finding]
    progress: Callable[[str, Mapping[str, Any]], None] = lambda _step, _detail: None
    stop_asked: bool = False
    """No cycle of it begins any more; the one that runs is stopped where the board can."""
    eye: EyeTrace | None = None
    """What the eye did in its newest cycle, where the host may read it."""


@dataclass(frozen=True, slots=True)
class Job:
    """One vend to be tried on one lane."""

    channel: str
    run: OrderRun
    unit: UnitJob | None = None
    test: TestVend | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ref(self) -> UnitRef | None:
        return self.unit.ref if self.unit else None

    @property
    def key(self) -> OrderKey | None:
        return self.unit.ref.key if self.unit else None

    @property
    def name(self) -> str:
        """For the log: an order can be followed by grepping its id."""
        return str(self.unit.ref) if self.unit else f"test:{self.test.test_id if self.test else ''}"

    def leave(self) -> None:
        """The daemon stops. A unit is journalled as waiting, the next start takes it up; who
        waits for a test hears of it now."""
        if self.test is not None and not self.test.done.done():
            self.test.done.set_exception(Refused("shutting_down", "the daemon is stopping"))

    def after_cycle(self, finding: Finding) -> Job:
        """The same unit, with one more cycle that ended in `not_delivered` behind it."""
        if self.unit is None:
            return self
        unit = replace(self.unit, cycles=self.unit.cycles + 1, last_finding=finding)
        return replace(self, unit=unit)
