"""Settings of a `[[board]]` with protocol xy: what the maker's document leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from controller.boards.base import BAUDRATES, check_choice, check_flag, check_number
from controller.boards.xy.frames import DRIVE_LENGTHS, POLL_INTERVAL_MS

JAM_MEANINGS = ("not_delivered", "unknown")
DOOR_MEANINGS = ("unknown", "nonzero_open", "nonzero_closed")


@dataclass(frozen=True, slots=True)
class XyOptions:
    """
    baudrate            1200..4000000, default 57600 (the maker's; without meaning on a pty or TCP)
    drive_length        5, 6 or 7, default 5: the length of the drive frame 06 that the
                        firmware takes; a wrong one is answered with silence
    jam_means           "not_delivered" (default) or "unknown": how status 03 is read where the
                        cabinet has a drop sensor; without one it is always unknown
    resend_same_packno  0..4, default 0: repeats of an unacknowledged drive frame in the following
                        polls. Only for a firmware that is known to drop the repeat: any
                        other turns the motor twice
    elevator            true or false, default false: the machine has a lift
    door_means          "unknown" (default), "nonzero_open" or "nonzero_closed": how the door
                        byte of the machine status 52 is to be read
    poll_ms             100..2000, default 200: the interval that the board polls in; the
                        link counts as lost after max(3 s, 5 intervals) of silence
    status_every_s      0..3600, default 60: how often the machine status is asked for; 0: only
                        before the first drive after a restart of the daemon
    """

    baudrate: int = 57_600
    drive_length: int = 5
    jam_means: str = "not_delivered"
    resend_same_packno: int = 0
    elevator: bool = False
    door_means: str = "unknown"
    poll_ms: int = POLL_INTERVAL_MS
    status_every_s: int = 60

    def __post_init__(self) -> None:
        check_number("baudrate", self.baudrate, BAUDRATES)
        check_number("drive_length", self.drive_length, range(DRIVE_LENGTHS[0], 8))
        check_choice("jam_means", self.jam_means, JAM_MEANINGS)
        check_number("resend_same_packno", self.resend_same_packno, range(5))
        check_flag("elevator", self.elevator)
        check_choice("door_means", self.door_means, DOOR_MEANINGS)
        check_number("poll_ms", self.poll_ms, range(100, 2001))
        check_number("status_every_s", self.status_every_s, range(3601))
