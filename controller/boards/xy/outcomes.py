"""What an XY board's words mean for a cycle: the tables of the protocol's page, and whose
status it is. Pure: a status comes in, a new state and events go out.

A status code does not say enough by itself. Whether the same code is *not
delivered* or *unknown* depends on what came before it: with no sign of motion an
error is a refusal; after one it may have dropped something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from controller.boards.xy.frames import Dispensing, DispensingStatus, name_of
from controller.dispensing.interfaces import Conflicting, CycleEvent, Ended, Moving
from controller.model import Evidence, Finding, Outcome, Reason

FF_WAIT_S = 10.0
"""The protocol's page: after an error that waits for FF, so long; then the error counts."""

PROGRESS = frozenset(
    {
        Dispensing.STARTED,
        Dispensing.ELEVATOR_UP,
        Dispensing.ELEVATOR_DOWN,
        Dispensing.DELIVERY_DOOR_CLOSING,
        Dispensing.INLET_OPENING,
        Dispensing.PUSHING_BOX_IN,
        Dispensing.INLET_CLOSING,
        Dispensing.HEATING,
        Dispensing.HEATING_SECONDS_LEFT,
        Dispensing.DELIVERY_DOOR_OPENING,
    }
)
HEATING = frozenset({Dispensing.HEATING, Dispensing.HEATING_SECONDS_LEFT})
"""After one of these an early 02 is not final; 24 is."""
LANELESS = frozenset({Dispensing.HEATING_SECONDS_LEFT})
"""Its lane field carries seconds."""
ELEVATOR_ERRORS = frozenset(
    {
        Dispensing.ELEVATOR_ERROR,
        Dispensing.ELEVATOR_UP_ERROR,
        Dispensing.ELEVATOR_DOWN_ERROR,
        Dispensing.ELEVATOR_ENTER_OVEN_ERROR,
        Dispensing.ELEVATOR_EXIT_OVEN_ERROR,
    }
)
WAIT_FOR_FF = ELEVATOR_ERRORS | {
    Dispensing.NO_MOTOR,
    Dispensing.DELIVERY_DOOR_CLOSE_ERROR,
    Dispensing.INLET_OPEN_ERROR,
    Dispensing.INLET_CLOSE_ERROR,
    Dispensing.NO_BOX_DETECTED,
    Dispensing.STAY_POLE_RETURN_ERROR,
    Dispensing.DELIVERY_DOOR_OPEN_ERROR,
    Dispensing.STAY_POLE_PUSH_ERROR,
    Dispensing.PUSH_ROD_PUSH_ERROR,
    Dispensing.PUSH_ROD_RETURN_ERROR,
}
"""Remembered; the cycle ends with them when FF comes, or FF_WAIT_S after the first."""
SUCCESS = frozenset({Dispensing.SUCCESS, Dispensing.TAKE_THE_BOX_OUT})

DELIVERED = Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR, drops=1)
DELIVERED_BY_MOTOR = Finding(Outcome.DELIVERED, None, Evidence.MOTOR)
JAMMED = Finding(
    Outcome.NOT_DELIVERED,
    Reason.JAMMED,
    Evidence.BOARD_RECORD,
    counts_as_failure=True,
    may_repeat=False,
)
JAMMED_UNKNOWN = Finding(Outcome.UNKNOWN, Reason.JAMMED, counts_as_failure=True)
DID_NOT_STOP = Finding(
    Outcome.UNKNOWN, Reason.MOTOR_DID_NOT_STOP, counts_as_failure=True, cabinet_fault=True
)
TERMINATED = Finding(Outcome.UNKNOWN, Reason.TERMINATED)
REFUSED = Finding(
    Outcome.NOT_DELIVERED, Reason.BOARD_REFUSED, Evidence.BOARD_RECORD, left_home=False
)

Columns = tuple[Finding, Finding]
"""(with drop sensor, without)"""

AT_ANY_TIME: dict[int, Columns] = {
    Dispensing.SUCCESS: (DELIVERED, DELIVERED_BY_MOTOR),
    Dispensing.TAKE_THE_BOX_OUT: (DELIVERED, DELIVERED_BY_MOTOR),
    Dispensing.JAMMED: (JAMMED, JAMMED_UNKNOWN),
    Dispensing.MOTOR_DID_NOT_STOP: (DID_NOT_STOP, DID_NOT_STOP),
}
BEFORE_MOTION: dict[int, Finding] = {
    Dispensing.LANE_INVALID: replace(REFUSED, reason=Reason.LANE_DISABLED),
    Dispensing.NO_MOTOR: replace(REFUSED, reason=Reason.MOTOR_MISSING, counts_as_failure=True),
    Dispensing.LANE_EMPTY: replace(REFUSED, reason=Reason.LANE_EMPTY, counts_as_failure=True),
    Dispensing.LANE_PAUSED: replace(REFUSED, reason=Reason.LANE_DISABLED),
    Dispensing.SALE_PAUSED: REFUSED,
    Dispensing.TERMINATED: REFUSED,
    **dict.fromkeys(ELEVATOR_ERRORS, REFUSED),
}
"""With no 01 before. Every other code, and all of these after motion: TERMINATED."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How this machine's statuses are to be read: two facts of its setup."""

    drop_sensor: bool
    jam_is_unknown: bool
    """Setting `jam_means = "unknown"`: do not take 03 for *turned, nothing fell*."""


def finding_of(status: int, reading: Reading, *, moved: bool, ended_by: int | None) -> Finding:
    """The verdict on a cycle that ends with `status`. `moved`: a 01 or other progress came, or
    may have come.

    `ended_by` is the FF that closed a remembered error, None otherwise.
    """
    if status in AT_ANY_TIME:
        finding = AT_ANY_TIME[status][0 if reading.drop_sensor else 1]
        if finding is JAMMED and reading.jam_is_unknown:
            finding = JAMMED_UNKNOWN
    elif not moved and status in BEFORE_MOTION:
        finding = BEFORE_MOTION[status]
    else:
        finding = TERMINATED
    raw: dict[str, Any] = {
        "protocol": "xy",
        "status": f"{status:02X}",
        "name": name_of(Dispensing, status),
    }
    if ended_by is not None:
        raw["then"] = f"{ended_by:02X}"
    return replace(finding, raw=raw)


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of one cycle so far."""

    lane: int
    acked: bool = False
    started: bool = False
    """Its 01 came."""
    moved: bool = False
    """Its 01 or any other progress came: an error is no refusal any more."""
    gap: bool = False
    """The line was lost, or garbled, after its frame left: its 01 may have been told unheard."""
    heating: bool = False
    error: int | None = None
    """Remembered until FF."""
    over: bool = False

    @property
    def may_have_moved(self) -> bool:
        return self.moved or self.gap


Step = tuple[Heard, CycleEvent | None]


def hear(heard: Heard, status: DispensingStatus, reading: Reading, frame: bytes) -> Step:
    """Take in one 04. The event is None for progress that changes nothing."""
    code = status.status
    doubt = _doubt(heard, status)
    if doubt:
        return heard, Conflicting(frame=frame, note=doubt)
    if code in PROGRESS or (code == Dispensing.SUCCESS and heard.heating):
        started = heard.started or code == Dispensing.STARTED
        now = replace(heard, started=started, moved=True, heating=heard.heating or code in HEATING)
        return now, None if heard.moved else Moving(frame=frame)
    if code in WAIT_FOR_FF:
        return (heard if heard.error is not None else replace(heard, error=code)), None
    if code == Dispensing.TERMINATED and heard.error is not None:
        return close_with_error(heard, reading, frame, ended_by=code)
    return _end(heard, finding_of(code, reading, moved=heard.may_have_moved, ended_by=None), frame)


def close_with_error(
    heard: Heard, reading: Reading, frame: bytes = b"", ended_by: int | None = None
) -> Step:
    """End with the remembered error: FF came, or it did not come in FF_WAIT_S."""
    error = Dispensing.TERMINATED if heard.error is None else heard.error
    return _end(
        heard, finding_of(error, reading, moved=heard.may_have_moved, ended_by=ended_by), frame
    )


def _end(heard: Heard, finding: Finding, frame: bytes) -> Step:
    return replace(heard, over=True), Ended(frame=frame, finding=finding)


def _doubt(heard: Heard, status: DispensingStatus) -> str:
    """Why a status cannot be this cycle's; empty when it can (P5)."""
    code = status.status
    name = name_of(Dispensing, code)
    if status.lane not in (0, heard.lane) and code not in LANELESS:
        return f"{name} for lane {status.lane}, not {heard.lane}"
    for codes, satisfied, lacking in NEEDS:
        if code in codes and not satisfied(heard):
            return f"{name} {lacking}"
    return ""


NEEDS: tuple[tuple[frozenset[int], Callable[[Heard], bool], str], ...] = (
    (frozenset({Dispensing.SUCCESS}), lambda h: h.acked or h.started, "with neither ACK nor 01"),
    (frozenset({Dispensing.TAKE_THE_BOX_OUT}), lambda h: h.started, "without its 01"),
)
"""`02` counts only after the cycle's ACK or 01; `24`, which boards repeat, only after its 01."""
