"""What a test vend says about its lane: facts -> one code, which vendctl words for a technician.

One table, its first row that fits. A code names what was seen and where to look; the
outcome of the cycle itself (delivered, not_delivered, unknown) stands beside it and is
never changed by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from controller.model import Evidence, Finding, Outcome, Reason

COMPARED = 50
"""Newest earlier cycles: some weeks of a lane that sells, so that wear of years still shows."""

ENOUGH = 5
"""Earlier full turns before a lane has a usual time; with fewer, one odd turn would be the rule."""

SLOW, FAST = 1.5, 0.5
"""Times the usual. A gear motor on a battery or mains supply that is 15 % off runs 15 % off."""

SPREADS = 4
"""...and further off than so many times the lane's own median deviation."""

VBP_OVERCURRENT = 3
"""`motor` of a VBP record: the board cut an overload off; 1 is a motor that ran too long."""


class LaneVerdict(StrEnum):
    GOOD = "good"
    GOOD_BY_MOTOR = "good_by_motor"
    ITEM_IN_EYE = "item_in_eye"
    DOUBLE_DROP = "double_drop"
    FELL_NOT_HOME = "fell_not_home"
    SLOW_MOTOR = "slow_motor"
    FAST_MOTOR = "fast_motor"
    NOTHING_FELL = "nothing_fell"
    JAM = "jam"
    OVERLOAD = "overload"
    MOTOR_OPEN = "motor_open"
    MOTOR_STUCK = "motor_stuck"
    BOARD_SAYS_EMPTY = "board_says_empty"
    BOARD_LANE_OFF = "board_lane_off"
    EYE_BLOCKED = "eye_blocked"
    EYE_FAULTY = "eye_faulty"
    DOOR_OPEN = "door_open"
    BOARD_REFUSED = "board_refused"
    BOARD_OFFLINE = "board_offline"
    NOT_BEGUN = "not_begun"
    STOPPED = "stopped"
    MOTOR_RUNS_ON = "motor_runs_on"
    NO_ANSWER = "no_answer"
    RESTARTED = "restarted"
    EYE_FAILED = "eye_failed"
    CONTRADICTION = "contradiction"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Usual:
    """Of the lane's earlier full turns, in milliseconds; `spread_ms` is the median deviation."""

    median_ms: int
    spread_ms: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Facts:
    outcome: Outcome
    reason: Reason | None = None
    evidence: Evidence = Evidence.NONE
    drops: int = 0
    run_ms: int | None = None
    usual: Usual | None = None
    full_turn: bool = True
    eye_left_blocked: bool = False
    """The eye was dark when the cycle was over."""
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slow(self) -> bool:
        return self._off(lambda usual, run: run > usual.median_ms * SLOW)

    @property
    def fast(self) -> bool:
        return self._off(lambda usual, run: run < usual.median_ms * FAST)

    def _off(self, beyond: Callable[[Usual, int], bool]) -> bool:
        if self.usual is None or self.run_ms is None:
            return False
        apart = abs(self.run_ms - self.usual.median_ms)
        return beyond(self.usual, self.run_ms) and apart > SPREADS * self.usual.spread_ms


def usual_of(earlier: Sequence[Mapping[str, Any]], measured: str) -> Usual | None:
    """From rows of `journal.motor_times`, of the same measure; None while there are too few."""
    times = [
        row["run_ms"]
        for row in earlier
        if row["full_turn"] and row["run_ms"] is not None and row["measured"] == measured
    ]
    if len(times) < ENOUGH:
        return None
    import statistics  # late: vendctl reads the codes alone, and is to start in milliseconds

    median = statistics.median(times)
    spread = statistics.median(abs(each - median) for each in times)
    return Usual(round(median), round(spread), len(times))


def facts_of(
    finding: Finding,
    cycle_id: int | None,
    times: Sequence[Mapping[str, Any]],
    *,
    eye_left_blocked: bool,
) -> tuple[Facts, str]:
    """The cycle's facts, and who measured its time; `times` are the lane's newest cycles, with
    this one among them."""
    own = next((row for row in times if row["cycle_id"] == cycle_id), None)
    measured = str(own["measured"]) if own else "board"
    earlier = [row for row in times if row is not own]
    facts = Facts(
        outcome=finding.outcome,
        reason=finding.reason,
        evidence=finding.evidence,
        drops=finding.drops,
        run_ms=own["run_ms"] if own else None,
        usual=usual_of(earlier, measured),
        full_turn=bool(own["full_turn"]) if own else True,
        eye_left_blocked=eye_left_blocked,
        raw=finding.raw,
    )
    return facts, measured


# --------------------------------------------------------------------------- the table

Row = tuple[Outcome, frozenset[Reason | None], Callable[[Facts], bool], LaneVerdict]


def _always(_facts: Facts) -> bool:
    return True


def _row(
    outcome: Outcome,
    reasons: Reason | tuple[Reason | None, ...] | None,
    verdict: LaneVerdict,
    when: Callable[[Facts], bool] = _always,
) -> Row:
    given = reasons if isinstance(reasons, tuple) else (reasons,)
    return outcome, frozenset(given), when, verdict


FELL, NOT, DOUBT = Outcome.DELIVERED, Outcome.NOT_DELIVERED, Outcome.UNKNOWN
_OVERLOADED: Callable[[Facts], bool] = lambda f: f.raw.get("motor") == VBP_OVERCURRENT  # noqa: E731

TABLE: tuple[Row, ...] = (
    _row(FELL, None, LaneVerdict.DOUBLE_DROP, lambda f: f.drops > 1),
    _row(FELL, None, LaneVerdict.FELL_NOT_HOME, lambda f: not f.full_turn),
    _row(FELL, None, LaneVerdict.ITEM_IN_EYE, lambda f: f.eye_left_blocked),
    _row(FELL, None, LaneVerdict.SLOW_MOTOR, lambda f: f.slow),
    _row(FELL, None, LaneVerdict.FAST_MOTOR, lambda f: f.fast),
    _row(FELL, None, LaneVerdict.GOOD_BY_MOTOR, lambda f: f.evidence is Evidence.MOTOR),
    _row(FELL, None, LaneVerdict.GOOD),
    _row(NOT, Reason.NO_DROP, LaneVerdict.NOTHING_FELL),
    _row(NOT, Reason.JAMMED, LaneVerdict.OVERLOAD, _OVERLOADED),
    _row(NOT, Reason.JAMMED, LaneVerdict.JAM),
    _row(NOT, Reason.MOTOR_MISSING, LaneVerdict.MOTOR_OPEN),
    _row(NOT, Reason.MOTOR_FAULT, LaneVerdict.MOTOR_STUCK),
    _row(NOT, Reason.LANE_EMPTY, LaneVerdict.BOARD_SAYS_EMPTY),
    _row(NOT, Reason.LANE_DISABLED, LaneVerdict.BOARD_LANE_OFF),
    _row(NOT, Reason.EYE_BLOCKED, LaneVerdict.EYE_BLOCKED),
    _row(NOT, Reason.EYE_FAULTY, LaneVerdict.EYE_FAULTY),
    _row(NOT, Reason.DOOR_OPEN, LaneVerdict.DOOR_OPEN),
    _row(NOT, Reason.BOARD_REFUSED, LaneVerdict.BOARD_REFUSED),
    _row(NOT, Reason.BOARD_OFFLINE, LaneVerdict.BOARD_OFFLINE),
    _row(NOT, tuple(Reason), LaneVerdict.NOT_BEGUN),
    _row(DOUBT, Reason.STOPPED, LaneVerdict.STOPPED),
    _row(DOUBT, Reason.MOTOR_DID_NOT_STOP, LaneVerdict.MOTOR_RUNS_ON),
    _row(DOUBT, (Reason.NO_ANSWER, Reason.CYCLE_TIMEOUT), LaneVerdict.NO_ANSWER),
    _row(
        DOUBT,
        (Reason.POWER_LOST, Reason.BOARD_RESTARTED, Reason.BOARD_FORGOT),
        LaneVerdict.RESTARTED,
    ),
    _row(DOUBT, Reason.JAMMED, LaneVerdict.JAM),
    _row(DOUBT, Reason.EYE_FAILED, LaneVerdict.EYE_FAILED),
    _row(DOUBT, Reason.CONFLICTING_EVIDENCE, LaneVerdict.CONTRADICTION),
)


def verdict_of(facts: Facts) -> LaneVerdict:
    for outcome, reasons, when, verdict in TABLE:
        if facts.outcome is outcome and facts.reason in reasons and when(facts):
            return verdict
    return LaneVerdict.UNCLEAR
