"""The vocabulary of faults, and the rules by which an armed fault takes effect.

Each kind has a *scope*, which says what an opportunity for it is:

cycle   one run of a lane's motor is not as it should be
answer  one frame that the board sends is not as it should be
state   something is wrong until it is lifted, or for `seconds`
act     something happens once, at a moment

A fault is addressed by `lane`, by `cycle` (that lane's n-th, or the board's n-th
when no lane is named), by `at` (real seconds since the emulator's start: from
then on) and by `probability` (at each opportunity). It strikes `times` times; by
default once, and without bound when it has a probability. What each looks like
to the daemon is in docs/faults.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Scope(StrEnum):
    CYCLE = "cycle"
    ANSWER = "answer"
    STATE = "state"
    ACT = "act"


class Moment(StrEnum):
    """When a state or act that is addressed to a cycle takes effect in it."""

    BEFORE = "before"
    """When the drive frame arrives, before the board judges it."""
    MIDDLE = "middle"
    """Half-way through the motor's run, or `after_ms` after its start."""


@dataclass(frozen=True, slots=True)
class Kind:
    scope: Scope
    moment: Moment = Moment.BEFORE
    seconds: float | None = None
    """How long a state lasts by default; None until it is lifted."""
    protocols: tuple[str, ...] = ("vbp", "xy")


XY = ("xy",)
LOST = "lose_command"
RESET = "reset_mid_cycle"

KINDS: dict[str, Kind] = {
    # physics of one cycle
    "jam": Kind(Scope.CYCLE),
    "no_drop": Kind(Scope.CYCLE),
    "late_drop": Kind(Scope.CYCLE),
    "double_drop": Kind(Scope.CYCLE),
    "eye_blind": Kind(Scope.CYCLE),
    "item_on_eye": Kind(Scope.CYCLE),
    "motor_open": Kind(Scope.CYCLE),
    "motor_stuck": Kind(Scope.CYCLE),
    "motor_overcurrent": Kind(Scope.CYCLE),
    "motor_runs_on": Kind(Scope.CYCLE),
    # the drive frame of one cycle is lost on its way: nothing happens
    LOST: Kind(Scope.CYCLE),
    # physical states
    "eye_stuck_blocked": Kind(Scope.STATE),
    "eye_faulty": Kind(Scope.STATE),
    "door_open": Kind(Scope.STATE),
    # the line, one frame
    "dont_answer": Kind(Scope.ANSWER),
    "answer_late": Kind(Scope.ANSWER),
    "corrupt": Kind(Scope.ANSWER),
    "truncate": Kind(Scope.ANSWER),
    "duplicate": Kind(Scope.ANSWER),
    "noise": Kind(Scope.ANSWER),
    "split_writes": Kind(Scope.ANSWER),
    "merge_frames": Kind(Scope.ANSWER),
    # the line, until lifted
    "go_silent": Kind(Scope.STATE),
    "unplug": Kind(Scope.STATE, Moment.MIDDLE),
    # the board's life
    RESET: Kind(Scope.ACT, Moment.MIDDLE),
    "power_cut": Kind(Scope.STATE, Moment.MIDDLE),
    "forget_memory": Kind(Scope.ACT, Moment.MIDDLE),
    "swap": Kind(Scope.ACT, Moment.MIDDLE),
    # what only an XY board does
    "no_ack": Kind(Scope.STATE, protocols=XY),
    "ack_length_one": Kind(Scope.STATE, protocols=XY),
    "poll_gap": Kind(Scope.STATE, seconds=2.0, protocols=XY),
    "ack_no_status": Kind(Scope.CYCLE, protocols=XY),
    "repeat_status": Kind(Scope.CYCLE, protocols=XY),
    "wrong_lane": Kind(Scope.CYCLE, protocols=XY),
    "sel_zero": Kind(Scope.CYCLE, protocols=XY),
    "error_then_ff": Kind(Scope.CYCLE, protocols=XY),
    "success_without_start": Kind(Scope.CYCLE, protocols=XY),
    "data_before_ack": Kind(Scope.CYCLE, protocols=XY),
    "status": Kind(Scope.CYCLE, protocols=XY),
    "status_storm": Kind(Scope.ACT, protocols=XY),
}

_LASTING = frozenset(name for name, kind in KINDS.items() if kind.scope is Scope.STATE)
_MOMENTARY = frozenset(name for name, kind in KINDS.items() if kind.scope is Scope.ACT)
_SCRIPTED = frozenset(("status", "error_then_ff"))

TAKEN_BY: dict[str, frozenset[str]] = {
    "seconds": _LASTING | {"item_on_eye"},
    "delay_ms": frozenset(("late_drop", "answer_late")),
    "after_ms": _LASTING | _MOMENTARY,
    "code": _SCRIPTED,
    "started": _SCRIPTED,
    "count": frozenset(("status_storm", "motor_runs_on", "repeat_status")),
}
"""Keys that only some kinds take: on another one they would say nothing."""

LATE_DROP_MS = 2_000
"""Default of `delay_ms` for late_drop, machine time after the cycle's end."""
ANSWER_LATE_MS = 500
"""Default of `delay_ms` for answer_late, real: past VBP's 200 ms and XY's 100 ms."""
CYCLES = 1_000_000_000


class Fault(BaseModel):
    """One fault, as a scenario or the control socket names it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kind: str
    lane: int | None = Field(default=None, ge=0, le=0xFFFF)
    cycle: int | None = Field(default=None, ge=1, le=CYCLES)
    at: float | None = Field(default=None, ge=0, le=1e9, strict=False)
    probability: float | None = Field(default=None, gt=0, le=1, strict=False)
    times: int | None = Field(default=None, ge=1, le=CYCLES)
    seconds: float | None = Field(default=None, ge=0, le=1e6, strict=False)
    """How long a state lasts, real seconds; item_on_eye: machine seconds."""
    delay_ms: float | None = Field(default=None, ge=0, le=1e7, strict=False)
    """late_drop: machine time after the cycle's end. answer_late: real time."""
    after_ms: float | None = Field(default=None, ge=0, le=1e7, strict=False)
    """Machine time after the motor's start for a state or act in mid-cycle."""
    code: int | None = Field(default=None, ge=0, le=255)
    """status, error_then_ff: the 04 code to send."""
    started: bool | None = None
    """status, error_then_ff: whether the motor runs and 01 is sent before the code."""
    count: int | None = Field(default=None, ge=1, le=1000)
    """How many: frames of a storm, items of motor_runs_on, repeats of a status."""

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"no fault is called {kind[:40]!r}; there are {', '.join(KINDS)}")
        return kind

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key, kinds in TAKEN_BY.items():
            if getattr(self, key) is not None and self.kind not in kinds:
                raise ValueError(f"{self.kind} takes no {key}: remove it")
        if self.kind == "status" and self.code is None:
            raise ValueError("status needs code = the 04 code to send")
        return self

    @property
    def scope(self) -> Scope:
        return KINDS[self.kind].scope

    @property
    def is_addressed(self) -> bool:
        return self.lane is not None or self.cycle is not None

    @property
    def strikes_in_a_cycle(self) -> bool:
        """A state or act that waits for a cycle instead of striking at once or at its time."""
        return self.scope in {Scope.STATE, Scope.ACT} and (
            self.is_addressed or self.probability is not None or self.kind == RESET
        )

    @property
    def moment(self) -> Moment:
        return Moment.MIDDLE if self.after_ms is not None else KINDS[self.kind].moment

    @property
    def lasts(self) -> float | None:
        return self.seconds if self.seconds is not None else KINDS[self.kind].seconds


@dataclass(frozen=True, slots=True)
class Opportunity:
    """A drive frame for a lane: where a fault that is addressed to a cycle may strike."""

    lane: int
    lane_cycle: int
    """Counting this one, from the emulator's start."""
    board_cycle: int
    seconds: float
    """Real, since the emulator's start."""

    def fits(self, fault: Fault) -> bool:
        cycle = self.board_cycle if fault.lane is None else self.lane_cycle
        return fault.lane in {None, self.lane} and fault.cycle in {None, cycle}


CyclePlan = dict[str, Fault]
"""The faults that struck one cycle, by kind."""

ARMED_LIMIT = 1_000
"""Faults waiting at once: the control socket must not grow the process without bound."""


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int | None
    rng: random.Random
    """Its own stream: how often another fault had its chance does not change this one's."""


class Faults:
    """Armed faults, and the states that are active. Asked at each opportunity."""

    def __init__(self, faults: Iterable[Fault], seed: str) -> None:
        self._seed = seed
        self._armed_so_far = 0
        self._armed: list[_Armed] = []
        self.active: dict[str, Fault] = {}
        """States in effect, by kind."""
        self.coming: list[Fault] = []
        """States and acts whose cycle runs and whose moment in it has not come."""
        for fault in faults:
            self.arm(fault)

    def arm(self, fault: Fault) -> None:
        """Raises ValueError when too many wait already."""
        if len(self._armed) >= ARMED_LIMIT:
            raise ValueError(f"{ARMED_LIMIT} faults are armed already: lift some")
        endless = fault.probability is not None and fault.times is None
        self._armed_so_far += 1
        rng = random.Random(f"{self._seed}/{self._armed_so_far}")
        self._armed.append(_Armed(fault, None if endless else fault.times or 1, rng))

    def lift(self, kind: str | None = None, lane: int | None = None) -> list[Fault]:
        """Disarm and deactivate; returns the states that ended."""

        def named(fault: Fault) -> bool:
            return kind in {None, fault.kind} and lane in {None, fault.lane}

        self._armed = [armed for armed in self._armed if not named(armed.fault)]
        self.coming = [fault for fault in self.coming if not named(fault)]
        ended = [fault for fault in self.active.values() if named(fault)]
        for fault in ended:
            del self.active[fault.kind]
        return ended

    def is_on(self, kind: str) -> bool:
        return kind in self.active

    def waiting(self) -> list[Fault]:
        return [armed.fault for armed in self._armed]

    def before_cycle(self, where: Opportunity) -> list[Fault]:
        """States and acts that strike when the drive frame arrives, and a frame lost."""
        return self._take(
            lambda fault: (
                (fault.kind == LOST or (fault.strikes_in_a_cycle and fault.moment is Moment.BEFORE))
                and where.fits(fault)
            ),
            where.seconds,
        )

    def of_cycle(self, where: Opportunity) -> CyclePlan:
        """What will be wrong with this cycle, and with the answer to its drive frame."""
        struck = self._take(
            lambda fault: (
                (
                    (fault.scope is Scope.CYCLE and fault.kind != LOST)
                    or (fault.scope is Scope.ANSWER and fault.is_addressed)
                )
                and where.fits(fault)
            ),
            where.seconds,
        )
        return {fault.kind: fault for fault in struck}

    def in_middle(self, where: Opportunity) -> list[Fault]:
        """States and acts that strike while this cycle's motor runs."""
        return self._take(
            lambda fault: (
                fault.strikes_in_a_cycle and fault.moment is Moment.MIDDLE and where.fits(fault)
            ),
            where.seconds,
        )

    def of_answer(self, seconds: float, *, poll: bool) -> list[Fault]:
        """What will be wrong with the frame being sent now.

        A board's poll is no answer: it is struck only by a fault with a probability.
        """
        return self._take(
            lambda fault: (
                fault.scope is Scope.ANSWER
                and not fault.is_addressed
                and (fault.probability is not None or not poll)
            ),
            seconds,
        )

    def take(self, fault: Fault) -> bool:
        """Use up this one: its time has come. False when it was lifted meanwhile."""
        for armed in self._armed:
            if armed.fault is fault:
                self._use(armed)
                return True
        return False

    def _take(self, wanted: Callable[[Fault], bool], seconds: float) -> list[Fault]:
        struck = []
        for armed in list(self._armed):
            fault = armed.fault
            if not wanted(fault) or (fault.at is not None and seconds < fault.at):
                continue
            if fault.probability is not None and armed.rng.random() >= fault.probability:
                continue
            self._use(armed)
            struck.append(fault)
        return struck

    def _use(self, armed: _Armed) -> None:
        if armed.left is None:
            return
        armed.left -= 1
        if armed.left <= 0:
            self._armed.remove(armed)
