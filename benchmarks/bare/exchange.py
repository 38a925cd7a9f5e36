"""The bytes of one cycle on each protocol, made once, as a driver and a board exchange them.

A bare host writes `requests` in turn and reads an answer of known length after each;
a bare board knows each request by its bytes. `MOTION` stands where the motor turns:
the board says the next thing by itself after the time that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.boards.vbp import frames as vbp
from controller.boards.xy import frames as xy

CYCLE = 1_763_900_000 << 32 | 7
LANE = 1


@dataclass(frozen=True, slots=True)
class Turn:
    """The host says `request`; the board answers with `answer`, at once."""

    request: bytes
    answer: bytes = b""
    later: bytes = b""
    """What the board says by itself when the motion is over; the host waits for it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """`before` the opening commit, then `cycle` with the motion, then `after` the closing one."""

    before: tuple[Turn, ...]
    cycle: tuple[Turn, ...]
    after: tuple[Turn, ...]

    def turns(self) -> tuple[Turn, ...]:
        return self.before + self.cycle + self.after


def _turn(request: vbp.Payload, answer: vbp.Payload, seq: int, later: bytes = b"") -> Turn:
    return Turn(vbp.encode(request, seq), vbp.encode(answer, seq), later)


_RUNNING = vbp.ResultAnswer(CYCLE, vbp.RecordState.RUNNING)
_DONE = vbp.ResultAnswer(
    CYCLE, vbp.RecordState.DONE, vbp.Motor.HOME, vbp.Drop.SEEN, 1, 400, 300, 400
)
_FINISHED = vbp.encode(vbp.Event(7, vbp.EventKind.CYCLE_FINISHED, cycle_id=CYCLE), 0)

VBP = Exchange(
    before=(_turn(vbp.ReadEye(), vbp.ReadEyeAnswer(0, 0, 3, vbp.SelfTest.NOT_RUN), 2),),
    cycle=(
        _turn(
            vbp.Dispense(CYCLE, LANE, vbp.Option.WATCH_EYE, 1000, 500, 9000),
            vbp.DispenseAnswer(vbp.Verdict.ACCEPTED),
            3,
        ),
        _turn(vbp.GetResult(CYCLE), _RUNNING, 4, later=_FINISHED),
        _turn(vbp.GetResult(CYCLE), _DONE, 5),
    ),
    after=(
        _turn(vbp.Release(CYCLE), vbp.ReleaseAnswer(CYCLE), 6),
        _turn(vbp.EventAck(7), vbp.EventAckAnswer(7), 7),
    ),
)


def _status(code: int, pack_no: int) -> bytes:
    return xy.DispensingStatus(code, LANE).encode(pack_no)


_ACK = xy.encode_frame(xy.ACK)
XY = Exchange(
    before=(),
    cycle=(
        # The board's ACK and its 01 in one write: the host answers the 01.
        Turn(
            xy.Drive(LANE, drop_sensor=False).encode(9),
            _ACK + _status(xy.Dispensing.STARTED, 0x30),
        ),
        Turn(_ACK, later=_status(xy.Dispensing.SUCCESS, 0x31)),
        Turn(_ACK),
    ),
    after=(),
)

EXCHANGES = {"vbp": VBP, "xy": XY}
