"""A bare VBP board: answers each request at once and sleeps where a motor would turn.

    python -m benchmarks.bare.vbp_board LINK MOTION_MS

LINK becomes a symbolic link to the pty. It keeps no records and judges nothing, so that
the daemon and the bare host can be measured on the same board, and a board's own cost
is small on both sides. Every motion lasts exactly MOTION_MS. Runs until it is ended.
"""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

from benchmarks.bare.board import READ_BYTES, open_pty
from controller.boards.vbp import frames as vbp

BOOT_ID = 1
MEMORY_ID = 2
CAPABILITIES = (
    vbp.Capability.WATCHES_EYE | vbp.Capability.READS_EYE | vbp.Capability.REMEMBERS_CYCLES
)
RUN_MS = 300


class BareVbpBoard:
    def __init__(self, line: int, motion_s: float) -> None:
        self._line = line
        self._motion_s = motion_s
        self._decoder = vbp.Decoder()
        self._cycle = 0
        self._ends_at: float | None = None
        self._events = 0

    def serve(self) -> None:
        """For ever. Waits in the kernel until a request comes or the motion is over."""
        while True:
            wait = None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())
            if select.select([self._line], [], [], wait)[0]:
                for frame in self._decoder.feed(os.read(self._line, READ_BYTES)):
                    self._say(self._answer(vbp.parse(frame)), frame.seq)
            elif self._ends_at is not None:
                self._ends_at = None
                self._events += 1
                finished = vbp.EventKind.CYCLE_FINISHED
                self._say(vbp.Event(self._events, finished, cycle_id=self._cycle), 0)

    def _say(self, payload: vbp.Payload, seq: int) -> None:
        os.write(self._line, vbp.encode(payload, seq))

    def _answer(self, request: vbp.Payload) -> vbp.Payload:
        match request:
            case vbp.Hello():
                now = self._uptime_ms()
                cause = vbp.ResetCause.POWER_ON
                return vbp.HelloAnswer("bare", BOOT_ID, MEMORY_ID, cause, now, 1, CAPABILITIES, 32)
            case vbp.Status():
                return vbp.StatusAnswer(self._uptime_ms(), 0, 0, vbp.Door.NO_SWITCH, 0, 0, 0)
            case vbp.ListOpen():
                return vbp.ListOpenAnswer(())
            case vbp.ReadEye():
                return vbp.ReadEyeAnswer(0, 0, 0, vbp.SelfTest.NOT_RUN)
            case vbp.Dispense():
                self._cycle = request.cycle_id
                self._ends_at = time.monotonic() + self._motion_s
                return vbp.DispenseAnswer(vbp.Verdict.ACCEPTED)
            case vbp.GetResult():
                if self._ends_at is not None:
                    return vbp.ResultAnswer(request.cycle_id, vbp.RecordState.RUNNING)
                record = (vbp.RecordState.DONE, vbp.Motor.HOME, vbp.Drop.SEEN)
                return vbp.ResultAnswer(request.cycle_id, *record, 1, RUN_MS, RUN_MS)
            case vbp.Release():
                return vbp.ReleaseAnswer(request.cycle_id)
            case vbp.EventAck():
                return vbp.EventAckAnswer(request.event)
            case _:
                return vbp.ErrorAnswer(vbp.ErrorCode.UNKNOWN_TYPE)

    @staticmethod
    def _uptime_ms() -> int:
        return int(time.monotonic() * 1000) % (1 << 32)


def main() -> None:
    link, motion_ms = sys.argv[1:]
    BareVbpBoard(open_pty(Path(link)), float(motion_ms) / 1000).serve()


if __name__ == "__main__":
    main()
