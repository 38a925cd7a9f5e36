"""What each journalled state becomes when the daemon starts (P4, P11).

One table. The cabinets and stations carry it out; other boards work meanwhile.

    found in the journal        | same boot of the machine | another boot
    ----------------------------+--------------------------+---------------------------
    unit waiting, no cycle yet  | resume, deadline permits | not_delivered, power_lost
    unit between two cycles     | keep its last outcome    | keep its last outcome
    cycle open, board remembers | ask, wait while it runs  | ask, wait while it runs
    cycle open, board forgets   | listen for its timeout   | listen for its timeout
    cycle closed, quarantined   | quarantine again         | quarantine again

*Asking* and *listening* end in the board's word, or after the cycle's timeout
counted from the daemon's start in `unknown`; the quarantine of P5 runs on, to
twice that timeout. A unit between two cycles (P2) is not driven again: its
late-drop window may have passed unseen.
"""

from __future__ import annotations

from enum import StrEnum

from controller.dispensing.interfaces import Capabilities, OpenCycle, UnitJob
from controller.model import Evidence, Finding, Outcome, Reason


class Found(StrEnum):
    WAITING = "waiting"
    BETWEEN_CYCLES = "between_cycles"
    OPEN_ASKABLE = "open_askable"
    OPEN_MUTE = "open_mute"
    QUARANTINED = "quarantined"


class Action(StrEnum):
    RESUME = "resume"
    POWER_LOST = "power_lost"
    KEEP_LAST = "keep_last"
    ASK = "ask"
    LISTEN = "listen"
    QUARANTINE = "quarantine"


TABLE: dict[tuple[Found, bool], Action] = {
    # (what was found, whether the machine rebooted since)
    (Found.WAITING, False): Action.RESUME,
    (Found.WAITING, True): Action.POWER_LOST,
    (Found.BETWEEN_CYCLES, False): Action.KEEP_LAST,
    (Found.BETWEEN_CYCLES, True): Action.KEEP_LAST,
    (Found.OPEN_ASKABLE, False): Action.ASK,
    (Found.OPEN_ASKABLE, True): Action.ASK,
    (Found.OPEN_MUTE, False): Action.LISTEN,
    (Found.OPEN_MUTE, True): Action.LISTEN,
    (Found.QUARANTINED, False): Action.QUARANTINE,
    (Found.QUARANTINED, True): Action.QUARANTINE,
}

POWER_LOST = Finding(Outcome.NOT_DELIVERED, Reason.POWER_LOST, Evidence.NONE, left_home=False)


def unit_action(job: UnitJob, *, boot: str, resume_after_reboot: bool) -> Action:
    found = Found.BETWEEN_CYCLES if job.cycles else Found.WAITING
    action = TABLE[found, job.accepted_boot != boot]
    if action is Action.POWER_LOST and resume_after_reboot:
        return Action.RESUME  # the operator sets it so (P4); the deadline still judges
    return action


def cycle_action(cycle: OpenCycle, capabilities: Capabilities, *, boot: str) -> Action:
    if cycle.closed:
        found = Found.QUARANTINED
    elif capabilities.remembers_cycles:
        found = Found.OPEN_ASKABLE
    else:
        found = Found.OPEN_MUTE
    return TABLE[found, cycle.boot != boot]
