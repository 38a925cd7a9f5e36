"""What a VBP board tells unasked, in the heart's words."""

from __future__ import annotations

from controller.boards.vbp.frames import Door, Event, EventKind, Eye, Motor, ReadEyeAnswer, SelfTest
from controller.boards.vbp.session import eye_level
from controller.dispensing.interfaces import (
    BoardNote,
    DoorChanged,
    EyeChanged,
    EyeReading,
    LaneFault,
    LateDrop,
    Notice,
)

SELFTESTS: dict[int, str] = {SelfTest.OK: "ok", SelfTest.FAULT: "fault"}


def notice_of(event: Event) -> Notice | None:
    """None for what needs no journal: a finished cycle, whose record stays on the board until
    it is released, and a door without a switch."""
    match event.kind:
        case EventKind.CYCLE_FINISHED:
            return None
        case EventKind.EYE_CHANGED:
            return EyeChanged(eye_level(event.eye))
        case EventKind.LATE_DROP:
            return LateDrop(event.cycle_id, event.after_ms)
        case EventKind.DOOR_CHANGED:
            known = event.door in (Door.CLOSED, Door.OPEN)
            return DoorChanged(event.door == Door.OPEN) if known else None
        case EventKind.LANE_FAULT:
            name = Motor(event.motor).name.lower() if event.motor in set(Motor) else "unknown"
            return LaneFault(event.lane, f"motor: {name}")
        case _:
            detail = {"kind": event.kind, "bytes": event.rest.hex(" ").upper()}
            return BoardNote("unknown_board_event", detail)


def eye_reading(answer: ReadEyeAnswer) -> EyeReading:
    return EyeReading(
        blocked=bool(answer.eye & Eye.BLOCKED),
        faulty=bool(answer.eye & Eye.FAULTY) or answer.selftest == SelfTest.FAULT,
        absent=bool(answer.eye & Eye.ABSENT),
        blocked_ms=answer.blocked_ms,
        pulses=answer.pulses,
        selftest=SELFTESTS.get(answer.selftest, "not_run"),
    )
