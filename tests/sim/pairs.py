"""Two or three rare things in one cycle: chance alone brings them together too seldom.

Each is a tuple of happenings; the board that they are about and the callbacks that pass
(`steps`) are filled in from the seed, and an order of that board follows.
"""

from __future__ import annotations

import errno
from typing import Any

Made = tuple[str, dict[str, Any]]
Pair = tuple[Made, ...]

OF_A_BOARD = frozenset({"fault", "stop_cabinet"})
IN_STEPS = frozenset({"kill", "power", "ambush"})
"""`steps` of their own where they name none."""

SYNC_FAILS: Made = ("disk_fails", {"op": "SYNC", "n": 1, "error": errno.EIO})


def kill(on: str, away_s: float = 0.1, **more: Any) -> Made:
    return "kill", {"away_s": away_s, "on": on, **more}


def behind(boundary: str, made: Made) -> Made:
    return "ambush", {"boundary": boundary, "made": made}


EVERYWHERE: tuple[Pair, ...] = (
    # killed between the arrival of a command and what follows from it
    (kill("arrival", 1.0),),
    # killed about the end of a cycle, or between two of one order
    (kill("answer", 1.0),),
    (behind("close_cycle", kill("now", steps=0)),),
    # the order is refused because its commit could not be synced, and nothing is written after it
    (SYNC_FAILS, kill("publish", 1.0)),
    (SYNC_FAILS, kill("arrival", 1.0)),
    (SYNC_FAILS, kill("ack", 1.0)),
    # found waiting by a clock that stands years back; when it is right, the order is too old
    (
        behind("accept", ("clock_step", {"by_s": -31_536_000.0, "lasts_s": 120.0})),
        kill("publish", 1.0),
    ),
    # cancelled while a unit runs, and the cabinet stopped between two
    (behind("open_cycle", ("cancel_newest", {})),),
    (behind("close_cycle", ("stop_cabinet", {"which": 0.0, "lasts_s": 15.0})),),
    (behind("accept", ("stop_cabinet", {"which": 0.0, "lasts_s": 15.0})),),
)
VBP: tuple[Pair, ...] = (
    # the board forgets its records, and so does the daemon
    (("fault", {"name": "forget_memory", "lane": 1}), kill("drive", 5.0)),
    (("fault", {"name": "forget_memory", "lane": 2}), kill("drive", 5.0)),
    # the command is lost, and the daemon as well
    (("fault", {"name": "lose_command"}), kill("commit")),
    (("fault", {"name": "lose_command"}), behind("open_cycle", kill("now", steps=0))),
    # the frame arrives, the answer does not, and the daemon dies
    (
        ("fault", {"name": "dont_answer", "probability": 1.0, "lasts_s": 1.0}),
        kill("drive", 2.0),
    ),
)
XY: tuple[Pair, ...] = (
    # neither the ACK of the drive frame is heard nor its 01
    (
        ("fault", {"name": "no_ack", "lasts_s": 5.0}),
        ("fault", {"name": "corrupt", "probability": 0.7, "lasts_s": 2.0}),
    ),
    (
        ("fault", {"name": "no_ack"}),
        ("fault", {"name": "corrupt", "probability": 1.0, "lasts_s": 0.4}),
    ),
    # its 01 is told to nobody, then an error
    (
        ("fault", {"name": "error_then_ff", "started": True}),
        ("fault", {"name": "unplug", "lane": 1, "lasts_s": 4.0}),
    ),
    (
        ("fault", {"name": "error_then_ff", "started": True}),
        ("fault", {"name": "corrupt", "probability": 0.7, "lasts_s": 2.0}),
    ),
    (kill("drive"),),
    # it turns on and on, and says nothing while it does
    (
        ("fault", {"name": "motor_runs_on"}),
        ("fault", {"name": "ack_no_status"}),
    ),
    (
        ("fault", {"name": "motor_runs_on"}),
        ("fault", {"name": "go_silent", "lasts_s": 10.0}),
    ),
    # the last word of a cycle is not acknowledged before the next is opened
    (behind("close_cycle", kill("now", steps=10)), behind("close_cycle", kill("now", steps=0))),
    (behind("close_cycle", ("power", {"away_s": 0.1, "on": "now", "steps": 0})),),
    # acknowledged, and no word after it while the lane turns
    (("fault", {"name": "ack_no_status"}),),
    (("fault", {"name": "ack_no_status"}), kill("drive", 1.0)),
)
