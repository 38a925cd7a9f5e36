"""What VBP's words mean for a unit: the tables of the protocol's page, and nothing else.

A record has two facts, what the motor did and what the eye saw; whether the eye
was to be watched decides between two columns. `Row(None, None)` never happens:
a pair that no row names is `unknown`, conflicting_evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from controller.boards.vbp.frames import Drop, Motor, RecordState, ResultAnswer, Verdict
from controller.model import Evidence, Finding, Outcome, Reason

DELIVERED = Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR)
DELIVERED_LANE_SUSPENDED = replace(DELIVERED, suspend_lane=True)
DELIVERED_BY_MOTOR = Finding(Outcome.DELIVERED, None, Evidence.MOTOR)
DELIVERED_BY_RECORD = Finding(Outcome.DELIVERED, None, Evidence.BOARD_RECORD)
NO_DROP = Finding(
    Outcome.NOT_DELIVERED, Reason.NO_DROP, Evidence.DROP_SENSOR, counts_as_failure=True
)
JAMMED = Finding(Outcome.NOT_DELIVERED, Reason.JAMMED, Evidence.DROP_SENSOR, counts_as_failure=True)
MOTOR_MISSING = Finding(
    Outcome.NOT_DELIVERED,
    Reason.MOTOR_MISSING,
    Evidence.MOTOR,
    left_home=False,
    counts_as_failure=True,
)
MOTOR_FAULT = replace(MOTOR_MISSING, reason=Reason.MOTOR_FAULT)
CONFLICT = Finding(Outcome.UNKNOWN, Reason.CONFLICTING_EVIDENCE)
CONFLICT_AT_HOME = replace(CONFLICT, left_home=False, counts_as_failure=True)
STOPPED = Finding(Outcome.UNKNOWN, Reason.STOPPED)
EYE_FAILED = Finding(Outcome.UNKNOWN, Reason.EYE_FAILED)
DID_NOT_STOP = Finding(Outcome.UNKNOWN, Reason.MOTOR_DID_NOT_STOP, counts_as_failure=True)
POWER_LOST = Finding(Outcome.UNKNOWN, Reason.POWER_LOST)

NOT_STARTED = Finding(
    Outcome.NOT_DELIVERED, Reason.NOT_STARTED, Evidence.BOARD_RECORD, left_home=False
)
"""Rule 6: the board that was asked has no such id, and the frame's time is over."""
FORGOT = Finding(Outcome.UNKNOWN, Reason.BOARD_FORGOT)
"""Rule 6: no such id, and it cannot be excluded that there was one."""

BY_MOTOR_AND_DROP: dict[tuple[int, int], tuple[Finding, Finding]] = {
    # (motor, drop): with drop sensor, without
    (Motor.HOME, Drop.SEEN): (DELIVERED, DELIVERED),
    (Motor.RAN_TOO_LONG, Drop.SEEN): (DELIVERED_LANE_SUSPENDED, DELIVERED_LANE_SUSPENDED),
    (Motor.OVERCURRENT, Drop.SEEN): (DELIVERED_LANE_SUSPENDED, DELIVERED_LANE_SUSPENDED),
    (Motor.STOPPED_BY_REQUEST, Drop.SEEN): (DELIVERED_LANE_SUSPENDED, DELIVERED_LANE_SUSPENDED),
    (Motor.OPEN_CIRCUIT, Drop.SEEN): (CONFLICT_AT_HOME, CONFLICT_AT_HOME),
    (Motor.DID_NOT_LEAVE_HOME, Drop.SEEN): (CONFLICT_AT_HOME, CONFLICT_AT_HOME),
    (Motor.HOME, Drop.NOT_SEEN): (NO_DROP, NO_DROP),
    (Motor.RAN_TOO_LONG, Drop.NOT_SEEN): (JAMMED, JAMMED),
    (Motor.OVERCURRENT, Drop.NOT_SEEN): (JAMMED, JAMMED),
    (Motor.STOPPED_BY_REQUEST, Drop.NOT_WATCHED): (STOPPED, STOPPED),
    (Motor.STOPPED_BY_REQUEST, Drop.NOT_SEEN): (STOPPED, STOPPED),
    (Motor.OPEN_CIRCUIT, Drop.NOT_WATCHED): (MOTOR_MISSING, MOTOR_MISSING),
    (Motor.OPEN_CIRCUIT, Drop.NOT_SEEN): (MOTOR_MISSING, MOTOR_MISSING),
    (Motor.DID_NOT_LEAVE_HOME, Drop.NOT_WATCHED): (MOTOR_FAULT, MOTOR_FAULT),
    (Motor.DID_NOT_LEAVE_HOME, Drop.NOT_SEEN): (MOTOR_FAULT, MOTOR_FAULT),
    (Motor.HOME, Drop.NOT_WATCHED): (EYE_FAILED, DELIVERED_BY_MOTOR),
    (Motor.RAN_TOO_LONG, Drop.NOT_WATCHED): (DID_NOT_STOP, DID_NOT_STOP),
    (Motor.OVERCURRENT, Drop.NOT_WATCHED): (DID_NOT_STOP, DID_NOT_STOP),
    **{
        (motor, drop): (EYE_FAILED, DELIVERED_BY_MOTOR if motor == Motor.HOME else EYE_FAILED)
        for motor in Motor
        for drop in (Drop.EYE_FAILED, Drop.NOT_KNOWN)
    },
}
"""Records in state 3, done."""

NEVER_MOVED = frozenset({Motor.OPEN_CIRCUIT, Motor.DID_NOT_LEAVE_HOME})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A verdict other than 0: what the unit ends with when no retry is left."""

    reason: Reason
    retry: bool


REFUSALS: dict[int, Refusal] = {
    Verdict.BUSY: Refusal(Reason.BOARD_REFUSED, retry=True),
    Verdict.EXPIRED: Refusal(Reason.EXPIRED, retry=True),
    Verdict.NO_SUCH_LANE: Refusal(Reason.LANE_DISABLED, retry=False),
    Verdict.EYE_BLOCKED: Refusal(Reason.EYE_BLOCKED, retry=True),
    Verdict.EYE_FAULTY_OR_ABSENT: Refusal(Reason.EYE_FAULTY, retry=False),
    Verdict.DOOR_OPEN: Refusal(Reason.DOOR_OPEN, retry=False),
    Verdict.NO_RECORD_FREE: Refusal(Reason.BOARD_REFUSED, retry=True),
    Verdict.IN_SERVICE: Refusal(Reason.BOARD_REFUSED, retry=False),
}
OTHER_REFUSAL = Refusal(Reason.BOARD_REFUSED, retry=False)
"""A verdict of a newer firmware: only 0 moves a motor."""


def finding_of(record: ResultAnswer, *, watch_eye: bool) -> Finding:
    """The verdict of a record in state 3 or 4. `watch_eye`: the cabinet has a drop sensor.

    `drops` is kept: 2 or more is a double drop, and its lane waits for a technician.
    """
    finding = _row(record, watch_eye=watch_eye)
    drops = record.drops if record.drop == Drop.SEEN else 0
    if finding.outcome is Outcome.DELIVERED and record.drop == Drop.SEEN:
        drops = max(1, drops)
    return replace(
        finding,
        drops=drops,
        left_home=finding.left_home and record.motor not in NEVER_MOVED,
        suspend_lane=finding.suspend_lane or drops > 1,
        raw=raw_of(record),
    )


def _row(record: ResultAnswer, *, watch_eye: bool) -> Finding:
    if record.state == RecordState.INTERRUPTED:
        return DELIVERED_BY_RECORD if record.drop == Drop.SEEN else POWER_LOST
    columns = BY_MOTOR_AND_DROP.get((record.motor, record.drop))
    if columns is None:
        return CONFLICT
    return columns[0] if watch_eye else columns[1]


def raw_of(record: ResultAnswer) -> dict[str, Any]:
    """The record as it is, for `result.raw` and for people."""
    return {
        "protocol": "vbp",
        "motor": record.motor,
        "drop": record.drop,
        "drops": record.drops,
        "first_drop_ms": record.first_drop_ms,
        "run_ms": record.run_ms,
        "peak_ma": record.peak_ma,
        "state": record.state,
    }
