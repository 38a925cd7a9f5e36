"""How a VBP board of a capture is played to a live host: what corresponds, what is rewritten.

The host chooses the seq of each request and the cycle ids. An answer gets the seq
of the live request that stands for the recorded one; a recorded cycle id becomes
the one of the live DISPENSE that stands for the recorded one, wherever it occurs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from controller.boards.vbp import frames as vbp
from controller.boards.vbp.frames import ANSWER_BIT, Frame, Payload, RecordState, Type
from controller.boards.vbp.words import word_of

QUESTIONS = frozenset(
    (Type.HELLO, Type.STATUS, Type.GET_RESULT, Type.LIST_OPEN, Type.READ_EYE, Type.LANE_INFO)
)
FLOATING = frozenset((Type.EVENT_ACK, Type.RELEASE))
"""They wait for the host's journal."""
ECHOED = frozenset((Type.EVENT_ACK, Type.RELEASE, Type.STOP, Type.OUTPUT))
"""Their answer repeats the request's payload."""
UNDER_WAY = frozenset((RecordState.ACCEPTED, RecordState.RUNNING))
EVERY_CAPABILITY = 0xFF


class VbpSide:
    drops_repeats = True
    poll_s: float | None = None

    def __init__(self) -> None:
        self._decoder = vbp.Decoder()
        self._seqs: dict[int, int] = {}
        self._ids: dict[int, int] = {}
        self._told: dict[int, Payload] = {}
        """Type of an answer -> the newest one told; at first the first of the capture."""
        self._uptime_ms = 0

    def frames_of(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def frame_of(self, raw: bytes) -> Frame | None:
        return next(iter(vbp.Decoder().feed(raw)), None)

    def learn(self, answers: Iterable[Frame]) -> None:
        uptimes = []
        for frame in answers:
            payload = _payload(frame)
            if isinstance(payload, vbp.HelloAnswer | vbp.StatusAnswer):
                uptimes.append(payload.uptime_ms)
            if isinstance(payload, vbp.HelloAnswer | vbp.ReadEyeAnswer):
                self._told.setdefault(frame.type, payload)
        self._uptime_ms = uptimes[0] if uptimes else 1_000

    def same(self, recorded: Frame, live: Frame) -> bool:
        if recorded.type != live.type:
            return False
        was, is_now = _payload(recorded), _payload(live)
        if isinstance(was, vbp.Dispense) and isinstance(is_now, vbp.Dispense):
            watched = (was.options ^ is_now.options) & vbp.Option.WATCH_EYE
            return was.lane == is_now.lane and not watched
        if isinstance(was, vbp.CycleIdPayload) and isinstance(is_now, vbp.CycleIdPayload):
            return self._ids.get(was.cycle_id, was.cycle_id) == is_now.cycle_id
        return recorded.payload == live.payload

    def idle(self, frame: Frame) -> bool:
        if frame.type in QUESTIONS:
            return True
        payload = _payload(frame)
        if isinstance(payload, vbp.ResultAnswer):
            return payload.state in UNDER_WAY
        if isinstance(payload, vbp.ListOpenAnswer):
            return not payload.cycle_ids
        return frame.type & ~ANSWER_BIT in QUESTIONS

    def floating(self, frame: Frame) -> bool:
        return frame.type in FLOATING

    def matched(self, recorded: Frame, live: Frame) -> None:
        self._seqs[recorded.seq] = live.seq
        was, is_now = _payload(recorded), _payload(live)
        if isinstance(was, vbp.Dispense) and isinstance(is_now, vbp.Dispense):
            self._ids[was.cycle_id] = is_now.cycle_id

    def rewritten(self, frame: Frame, raw: bytes) -> bytes:  # noqa: ARG002  XY's need
        seq = frame.seq if frame.type == Type.EVENT else self._seqs.get(frame.seq, frame.seq)
        payload = _payload(frame)
        if payload is None:
            return vbp.encode_frame(replace(frame, seq=seq))
        payload = self._with_live_ids(payload)
        self._told[frame.type] = payload
        if isinstance(payload, vbp.HelloAnswer | vbp.StatusAnswer):
            self._uptime_ms = payload.uptime_ms
        return vbp.encode(payload, seq)

    def _with_live_ids(self, payload: Any) -> Payload:
        changed: Payload = payload
        for name in ("cycle_id", "running_cycle"):
            if hasattr(payload, name):
                recorded = getattr(payload, name)
                changed = replace(payload, **{name: self._ids.get(recorded, recorded)})
        if isinstance(payload, vbp.ListOpenAnswer):
            ids = tuple(self._ids.get(each, each) for each in payload.cycle_ids)
            changed = vbp.ListOpenAnswer(ids)
        return changed

    def answer(self, live: Frame) -> bytes | None:
        kind = live.type
        if kind in ECHOED:
            return vbp.encode_frame(Frame(kind | ANSWER_BIT, live.seq, live.payload))
        payload = _payload(live)
        told = self._told.get(kind | ANSWER_BIT)
        answer: Payload | None = None
        match payload:
            case vbp.Hello():
                known = told if isinstance(told, vbp.HelloAnswer) else None
                answer = known or vbp.HelloAnswer("replay", 1, 1, 1, 0, 0, EVERY_CAPABILITY, 32)
                answer = replace(answer, uptime_ms=self._uptime_ms)
            case vbp.Status():
                answer = told or vbp.StatusAnswer(self._uptime_ms, 0, 0, 0, 0, 0, 0)
            case vbp.ReadEye():
                answer = told or vbp.ReadEyeAnswer(0, 0, 0, vbp.SelfTest.NOT_RUN)
            case vbp.ListOpen():
                answer = vbp.ListOpenAnswer(())
            case vbp.Dispense(cycle_id=cycle_id):
                refused = vbp.DispenseAnswer(vbp.Verdict.NO_SUCH_LANE)  # nothing will move here
                answer = told if told is not None and self._driven(cycle_id) else refused
            case vbp.GetResult(cycle_id=cycle_id):
                fits = isinstance(told, vbp.ResultAnswer) and told.cycle_id == cycle_id
                known_state = RecordState.RUNNING if self._driven(cycle_id) else RecordState(0)
                answer = told if fits else vbp.ResultAnswer(cycle_id, known_state)
            case _:
                return None
        return vbp.encode(answer, live.seq) if answer is not None else None

    def _driven(self, cycle_id: int) -> bool:
        return cycle_id in self._ids.values()

    def words(self, frame: Frame) -> str:
        word = word_of(frame, b"")
        return f"{word.name} {word.meaning}"

    def poll(self) -> bytes:
        return b""


def _payload(frame: Frame) -> Payload | None:
    try:
        return vbp.parse(frame)
    except ValueError:
        return None
