"""Physics: lanes with goods, motors with time, falls, a light eye, a door, a power supply.

The machine does what current and gravity do, whatever the firmware believes; the
ledger has the truth of it. Times are milliseconds of machine time.

A motor's run has an *edge*: there the item leaves its lane, and `fall_ms` later
it passes the eye and lands. A motor that stops before the edge keeps its item,
and its next run goes on from where it stands.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from firmware_sim.faults import LATE_DROP_MS, CyclePlan
from firmware_sim.ledger import Ledger
from firmware_sim.scenario import LaneSettings
from firmware_sim.timeline import Timeline

PULSE_MS = (30.0, 80.0)
"""How long a falling item darkens the eye: 10 to 25 cm of product at some 3 m/s."""
DOUBLE_DROP_MS = 120.0
"""Between two items that fall together."""
OPEN_CIRCUIT_MS = 50.0
"""A board needs a few samples without current to call a motor missing."""
STUCK_MS = 1_000.0
"""A home switch that did not open after a second: the motor did not leave home."""
OVERCURRENT_AT = 0.3
"""Part of the run at which an overloaded motor trips."""
RUN_MA = 400
STALL_MA = 2_000


class Halt(StrEnum):
    """Why a motor stopped."""

    HOME = "home"
    RAN_TOO_LONG = "ran_too_long"
    OPEN_CIRCUIT = "open_circuit"
    OVERCURRENT = "overcurrent"
    STUCK_AT_HOME = "stuck_at_home"
    BY_REQUEST = "by_request"
    POWER = "power"
    RESET = "reset"


FAULTY_HALTS = frozenset(
    (Halt.RAN_TOO_LONG, Halt.OPEN_CIRCUIT, Halt.OVERCURRENT, Halt.STUCK_AT_HOME)
)


CUT_SHORT = frozenset((Halt.BY_REQUEST, Halt.POWER, Halt.RESET))
DEAD_HALTS = frozenset((Halt.OPEN_CIRCUIT, Halt.STUCK_AT_HOME))
DEAD_MOTORS = (
    ("motor_open", OPEN_CIRCUIT_MS, Halt.OPEN_CIRCUIT, 0),
    ("motor_stuck", STUCK_MS, Halt.STUCK_AT_HOME, STALL_MA),
)
"""Faults in which nothing turns: kind, when the board notices, what it then calls it, mA."""
NOTHING_FALLS = frozenset(("jam", "no_drop", "motor_overcurrent"))
UNPULSED = frozenset(("eye_blind", "item_on_eye"))
"""Faults in which a falling item makes no pulse: unseen, or it stays in the beam."""
ALMOST_HOME = 0.999
"""A motor that was cut off is never taken for one at home."""


@dataclass(slots=True)
class Lane:
    settings: LaneSettings
    goods: int
    progress: float = 0.0
    """Where the motor stands between home (0) and home again (1)."""
    runs: int = 0
    faults: int = 0
    cycles: int = 0
    """Drive commands that were started."""

    @property
    def number(self) -> int:
        return self.settings.number

    @property
    def at_home(self) -> bool:
        return self.progress == 0.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """What the firmware learns when a motor stopped."""

    lane: int
    why: Halt
    run_ms: float
    peak_ma: int


@dataclass(slots=True)
class _Run:
    """The motor that turns now."""

    lane: Lane
    began: float
    full_ms: float
    """One whole turn of this run, jitter included."""
    from_progress: float
    drop_wait_ms: float
    plan: CyclePlan
    edges_left: int
    """How often it will still carry goods over the edge."""
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    peak_ma: int = RUN_MA


class Machine:
    """Callbacks tell the firmware what its inputs see; without power it sees nothing."""

    def __init__(
        self,
        lanes: Iterable[LaneSettings],
        *,
        timeline: Timeline,
        ledger: Ledger,
        rng: random.Random,
        eye: bool = True,
    ) -> None:
        """`eye`: a light eye is fitted."""
        self.lanes = {lane.number: Lane(lane, lane.goods) for lane in lanes}
        self.door_open = False
        self.powered = True
        self.eye_faulty = False
        self.eye_failures = 0
        """How often it became faulty."""
        self.eye_pulses = 0
        self.on_stopped: Callable[[Stopped], None] = lambda _stopped: None
        self.on_eye: Callable[[bool], None] = lambda _blocked: None
        self.on_door: Callable[[bool], None] = lambda _open: None
        self._timeline = timeline
        self._ledger = ledger
        self._rng = rng
        self._has_eye = eye
        self._run: _Run | None = None
        self._shadows: dict[str, int] = {}
        """What darkens the eye now: cause -> how many of it."""
        self._blocked_since: float | None = None
        self._items = 0
        """Items that went over an edge since the start: the newest one's number."""

    # ------------------------------------------------------------------ eye and door

    @property
    def eye_blocked(self) -> bool:
        return bool(self._shadows)

    @property
    def blocked_ms(self) -> float:
        """How long the eye has been blocked by now; 0 when it is clear."""
        if self._blocked_since is None:
            return 0.0
        return self._timeline.machine_ms() - self._blocked_since

    def shade(self, cause: str, *, on: bool, lane: int | None = None) -> None:
        """A cause begins or ceases to block the eye's beam; without an eye there is none."""
        if not self._has_eye:
            return
        was = self.eye_blocked
        count = self._shadows.pop(cause, 0) + (1 if on else -1)
        if count > 0:
            self._shadows[cause] = count
        if self.eye_blocked == was:
            return
        self._blocked_since = self._timeline.machine_ms() if self.eye_blocked else None
        self.eye_pulses += self.eye_blocked
        self._ledger.write("eye_blocked" if self.eye_blocked else "eye_clear", lane, cause=cause)
        self.on_eye(self.eye_blocked)

    def is_shaded(self, cause: str) -> bool:
        return cause in self._shadows

    def unshade(self, cause: str) -> None:
        """Take away all of a cause, however many."""
        if cause in self._shadows:
            self._shadows[cause] = 1
            self.shade(cause, on=False)

    def set_door(self, *, is_open: bool) -> None:
        if is_open != self.door_open:
            self.door_open = is_open
            self._ledger.write("door_open" if is_open else "door_closed")
            self.on_door(is_open)

    def refill(self, number: int, goods: int) -> None:
        lane = self.lanes[number]
        lane.goods = goods
        self._ledger.write("refilled", number, goods=goods)

    # ------------------------------------------------------------------ motor

    @property
    def running(self) -> int | None:
        """The lane whose motor turns."""
        return self._run.lane.number if self._run else None

    def start_motor(
        self, number: int, *, max_run_ms: float, drop_wait_ms: float, plan: CyclePlan
    ) -> None:
        """Current on. The board stops it at home, at a fault, or after max_run_ms.

        `drop_wait_ms` is how long the board will wait for a fall: a late drop
        falls after that. One motor at a time: the caller sees to it.
        """
        lane = self.lanes[number]
        settings = lane.settings
        lane.runs += 1
        run = _Run(
            lane=lane,
            began=self._timeline.machine_ms(),
            full_ms=settings.run_ms * self._jitter(settings),
            from_progress=lane.progress,
            drop_wait_ms=drop_wait_ms,
            plan=plan,
            edges_left=self._edges_of(plan) if lane.progress < settings.edge_at else 0,
        )
        self._run = run
        for kind, after, why, peak in DEAD_MOTORS:
            if kind in plan:
                run.peak_ma = peak
                self._at(run, min(after, max_run_ms), self._halt, run, why)
                return
        self._ledger.write("motor_started", number)
        self._plan_stop(run, max_run_ms)
        for turn in range(run.edges_left):
            edge_ms = (settings.edge_at + turn - run.from_progress) * run.full_ms
            self._at(run, edge_ms, self._over_the_edge, run)

    def stop_motor(self, why: Halt) -> None:
        """Current off, at once. Nothing happens when none turns."""
        if self._run is not None:
            self._halt(self._run, why)

    def _plan_stop(self, run: _Run, max_run_ms: float) -> None:
        stop_ms, why = (1.0 - run.from_progress) * run.full_ms, Halt.HOME
        if run.plan.keys() & {"jam", "motor_runs_on"}:
            stop_ms = math.inf
            run.peak_ma = STALL_MA if "jam" in run.plan else RUN_MA
        elif "motor_overcurrent" in run.plan:
            stop_ms, why = OVERCURRENT_AT * run.full_ms, Halt.OVERCURRENT
            run.peak_ma = STALL_MA
        if stop_ms > max_run_ms:
            stop_ms, why = max_run_ms, Halt.RAN_TOO_LONG
        self._at(run, stop_ms, self._halt, run, why)

    def _edges_of(self, plan: CyclePlan) -> int:
        """How often the motor carries goods over the edge in this run."""
        if plan.keys() & NOTHING_FALLS:
            return 0
        return plan["motor_runs_on"].count or 1 if "motor_runs_on" in plan else 1

    def _at(self, run: _Run, milliseconds: float, call: Callable[..., None], *args: object) -> None:
        run.timers.append(self._timeline.after_ms(milliseconds, call, *args))

    def _jitter(self, settings: LaneSettings) -> float:
        return 1.0 + self._rng.uniform(-settings.jitter, settings.jitter)

    def _halt(self, run: _Run, why: Halt) -> None:
        if why is Halt.HOME and run.edges_left:
            self._over_the_edge(run)  # due at this very instant, and the item goes first
        self._run = None
        for timer in run.timers:
            timer.cancel()
        run_ms = self._timeline.machine_ms() - run.began
        lane = run.lane
        if why in CUT_SHORT:
            lane.progress = min(ALMOST_HOME, run.from_progress + run_ms / run.full_ms)
        elif why not in DEAD_HALTS:
            lane.progress = 0.0  # at home, or a technician's matter: the next run begins anew
        if why in FAULTY_HALTS:
            lane.faults += 1
        self._ledger.write("motor_stopped", lane.number, why=why.value, run_ms=round(run_ms))
        self.on_stopped(Stopped(lane.number, why, run_ms, run.peak_ma))

    # ------------------------------------------------------------------ goods

    def _over_the_edge(self, run: _Run) -> None:
        run.edges_left -= 1
        lane = run.lane
        together = min(2 if "double_drop" in run.plan else 1, lane.goods)
        if not together:
            return
        fall_ms = lane.settings.fall_ms * self._jitter(lane.settings)
        late = run.plan.get("late_drop")
        if late is not None:
            # It hangs at the edge until the board has given up waiting for it.
            to_home = (1.0 - run.from_progress) * run.full_ms
            left = max(0.0, to_home - (self._timeline.machine_ms() - run.began))
            fall_ms = left + run.drop_wait_ms
            fall_ms += LATE_DROP_MS if late.delay_ms is None else late.delay_ms
        for index in range(together):
            lane.goods -= 1
            self._items += 1
            self._ledger.write("product_left", lane.number, goods=lane.goods, item=self._items)
            self._fall(lane.number, self._items, run.plan, fall_ms + index * DOUBLE_DROP_MS)

    def _fall(self, lane: int, item: int, plan: CyclePlan, fall_ms: float) -> None:
        """Both ends of its pulse are timed from here: a loop that is late, and at a high
        speed all are, makes no two items out of step with each other."""
        cause = f"product {item}"
        self._timeline.after_ms(fall_ms, self._fell, lane, item, plan, cause)
        if not plan.keys() & UNPULSED:
            pulse_ms = self._rng.uniform(*PULSE_MS)
            self._timeline.after_ms(fall_ms + pulse_ms, self._passed, cause, lane)

    def _fell(self, lane: int, item: int, plan: CyclePlan, cause: str) -> None:
        dark = self.eye_blocked or self.eye_faulty or not self.powered or not self._has_eye
        seen = "eye_blind" not in plan and not dark
        self._ledger.write("product_fell", lane, seen=seen, item=item)
        if "eye_blind" in plan:
            return
        if "item_on_eye" in plan:
            self.shade("item", on=True, lane=lane)
            seconds = plan["item_on_eye"].seconds
            if seconds is not None:
                self._timeline.after_ms(seconds * 1000, self.unshade, "item")
            return
        self.shade(cause, on=True, lane=lane)

    def _passed(self, cause: str, lane: int) -> None:
        self.shade(cause, on=False, lane=lane)
