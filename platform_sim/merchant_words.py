"""From what a machine says to what the platform tells: one table of reasons.

The platform knows four things of a failed unit: deliver_status, floor_status (the state of the
channel) and a text, of which its documents show examples of boards ("Goods are Stuck"). The list is
open; where it has no word for a case, the text is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OK, JAM, MOTOR, SILENT, MISSING = "1", "2", "3", "47", "0"
"""floor_status: normal, jammed, motor fault, serial communication timeout, no such channel."""


@dataclass(frozen=True)
class Words:
    floor: str
    """floor_status; empty: it says nothing about the channel."""
    text: str


REASONS: Mapping[str, Words] = {
    "jammed": Words(JAM, "Goods are Stuck"),
    "no_drop": Words(JAM, "Goods are Stuck"),
    "lane_empty": Words(OK, "Sold Out"),
    "not_started": Words(MOTOR, "Feedback Error"),
    "eye_blocked": Words(OK, "Dlv Detect Error"),
    "eye_faulty": Words(OK, "Dlv Detect Error"),
    "eye_failed": Words(OK, "Dlv Detect Error"),
    "motor_missing": Words(MOTOR, "Load No Current"),
    "motor_fault": Words(MOTOR, "Over Current"),
    "motor_did_not_stop": Words(MOTOR, "Feedback Error"),
    "lane_disabled": Words("", "Channel Disabled"),
    "unknown_channel": Words(MISSING, "Slot Invalid"),
    "unknown_product": Words(MISSING, "Slot Invalid"),
    "out_of_stock": Words("", "Sold Out"),
    "board_offline": Words(SILENT, "Slave Comm Error"),
    "no_answer": Words(SILENT, "Slave Comm Error"),
    "board_refused": Words(MOTOR, "Slot Type Error"),
    "door_open": Words("", "Door Open"),
    "expired": Words("", "Command Expired"),
    "cancelled": Words("", "Cancelled"),
    "service_mode": Words("", "Under Maintenance"),
    "out_of_service": Words("", "Out Of Service"),
    "power_lost": Words("", "Power Lost"),
    "timeout": Words("", "Timeout"),
}

HEALTHS: Mapping[str, str] = {"ok": OK, "suspended": MOTOR}
"""Of a lane, as the machine names it; the other healths are no fault of the channel."""


def of(reason: str) -> Words:
    """A reason without a row is told by its own name."""
    return REASONS.get(reason, Words("", reason.replace("_", " ").title()))
