"""The firmware of a VBP board: strict, and it remembers.

What its protocol page calls silent is silent here: frames with a wrong CRC, length
or version. `accepted` is in non-volatile memory before the motor moves, the drop as
soon as the eye saw it, the result after the cycle.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from controller.boards.vbp import frames as vbp
from firmware_sim.faults import CyclePlan, Fault
from firmware_sim.firmware.base import Parts, Timers
from firmware_sim.machine import Halt, Stopped
from firmware_sim.memory import Record

EVENT_REPEAT_S = 0.5
"""Real: an event is repeated until EVENT_ACK."""
SECOND_DROP_MS = 300.0
"""Machine time: after a drop the board waits so long for a second one."""
EYE_DEBOUNCE_MS = 200.0
"""Machine time: a level that lasts longer than any falling item is told as a change."""
LATE_DROP_LIMIT_MS = 60_000.0
"""Machine time: what the eye sees longer after a cycle is no drop of that cycle."""
EVENTS_LIMIT = 64
"""Unacknowledged events kept in RAM; the oldest goes first."""
UPTIME_MODULUS = 1 << 32
HALF_UPTIME = 1 << 31

MOTORS = {
    Halt.HOME: vbp.Motor.HOME,
    Halt.RAN_TOO_LONG: vbp.Motor.RAN_TOO_LONG,
    Halt.OPEN_CIRCUIT: vbp.Motor.OPEN_CIRCUIT,
    Halt.OVERCURRENT: vbp.Motor.OVERCURRENT,
    Halt.STUCK_AT_HOME: vbp.Motor.DID_NOT_LEAVE_HOME,
    Halt.BY_REQUEST: vbp.Motor.STOPPED_BY_REQUEST,
}
LANE_FAULTS = frozenset(
    (
        vbp.Motor.RAN_TOO_LONG,
        vbp.Motor.OPEN_CIRCUIT,
        vbp.Motor.OVERCURRENT,
        vbp.Motor.DID_NOT_LEAVE_HOME,
    )
)
KINDS = {
    "spiral": vbp.LaneKind.SPIRAL,
    "track": vbp.LaneKind.TRACK,
    "locker": vbp.LaneKind.LOCKER,
}


@dataclass(slots=True)
class _Cycle:
    order: vbp.Dispense
    began: float
    """Machine time."""
    stopped_at: float | None = None
    stopped: Stopped | None = None
    drops: int = 0
    first_drop: float = 0.0
    eye_failures: int = 0
    """Of the machine's counter, at its beginning."""
    done_timer: asyncio.TimerHandle | None = None

    @property
    def watched(self) -> bool:
        return bool(self.order.options & vbp.Option.WATCH_EYE)


@dataclass(frozen=True, slots=True)
class _Finished:
    cycle_id: int
    began: float
    ended: float


class VbpFirmware:
    def __init__(self, parts: Parts, *, entropy: int = 0) -> None:
        self._parts = parts
        self._machine = parts.machine
        self._memory = parts.memory
        self._timers = Timers(parts.timeline)
        self._entropy = entropy
        """Makes the boot_ids of two processes differ where no memory file counts boots."""
        self._boots = 0
        self.service = False
        self._alive = False
        self._clear_ram()

    def _clear_ram(self) -> None:
        self._decoder = vbp.Decoder()
        self._hello = False
        self._boot_id = 0
        self._cause = vbp.ResetCause.POWER_ON
        self._booted_at = 0.0
        self._last_request: vbp.Frame | None = None
        self._last_answer = b""
        self._plan: CyclePlan = {}
        """Faults of the cycle that the request being answered began."""
        self._cycle: _Cycle | None = None
        self._finished: _Finished | None = None
        self._events: dict[int, vbp.Event] = {}
        self._event_number = 0
        self._repeating = False
        self._told_eye = 0
        self._eye_timer: asyncio.TimerHandle | None = None
        self._outputs = {vbp.OutputPin.LIGHT: 0, vbp.OutputPin.LOCK: 0}

    # ------------------------------------------------------------------ life

    def start(self, cause: vbp.ResetCause) -> None:
        self._clear_ram()
        self._alive = True
        self._cause = cause
        self._booted_at = self._parts.timeline.seconds()
        self._boots += 1
        self._memory.booted()
        seed = f"{self._parts.settings.seed}/{self._entropy}/{self._memory.boots}/{self._boots}"
        self._boot_id = random.Random(seed).randrange(UPTIME_MODULUS)
        for record in list(self._memory.records.values()):
            if record.state in {vbp.RecordState.ACCEPTED, vbp.RecordState.RUNNING}:
                changed = {"state": int(vbp.RecordState.INTERRUPTED)}
                self._memory.keep(record.model_copy(update=changed))
        self._told_eye = self._eye_bits()

    def halt(self) -> None:
        self._alive = False
        self._timers.cancel_all()
        self._clear_ram()

    def perform(self, fault: Fault) -> None:
        """No act of the vocabulary is this firmware's own."""

    def state(self) -> dict[str, Any]:
        running = self._cycle.order.cycle_id if self._cycle else None
        return {
            "boot_id": self._boot_id,
            "memory_id": self._memory.memory_id,
            "hello": self._hello,
            "uptime_ms": self._uptime() if self._alive else None,
            "running_cycle": running,
            "records": [record.model_dump() for record in self._memory.records.values()],
            "highest_released": self._memory.highest_released,
            "events": len(self._events),
            "service": self.service,
            "frames_ok": self._decoder.frames_ok,
            "frames_bad": self._decoder.frames_bad,
        }

    # ------------------------------------------------------------------ requests

    def on_bytes(self, data: bytes) -> None:
        if not self._alive:
            return
        for frame in self._decoder.feed(data):
            if not frame.type & vbp.ANSWER_BIT:  # an answer is nothing that a host sends
                self._request(frame)

    def _request(self, frame: vbp.Frame) -> None:
        if frame == self._last_request:
            self._parts.wire.send(self._last_answer)
            return
        self._plan = {}
        payload = self._answer(frame)
        if payload is None:
            return
        answer = vbp.encode(payload, frame.seq)
        is_hello = frame.type == vbp.Type.HELLO
        self._last_request, self._last_answer = (None, b"") if is_hello else (frame, answer)
        self._parts.wire.send(answer, plan=self._plan)
        if is_hello and self._hello:
            self._repeat_events()

    def _answer(self, frame: vbp.Frame) -> vbp.Payload | None:
        """None: the frame was lost on the line."""
        if not self._hello and frame.type != vbp.Type.HELLO:
            return vbp.ErrorAnswer(vbp.ErrorCode.NOT_NOW)
        served = SERVED.get(frame.type)
        if served is None or served[0] & ~self._parts.settings.capability_bits():
            return vbp.ErrorAnswer(vbp.ErrorCode.UNKNOWN_TYPE)
        try:
            request = vbp.parse(frame)
        except ValueError:
            return vbp.ErrorAnswer(vbp.ErrorCode.BAD_LENGTH)
        return served[1](self, request)

    def serve_hello(self, _request: vbp.Hello) -> vbp.Payload:
        self._hello = True
        return self._hello_answer()

    def serve_release(self, request: vbp.Release) -> vbp.Payload:
        if self._runs(request.cycle_id):
            return vbp.ErrorAnswer(vbp.ErrorCode.NOT_NOW)
        self._memory.release(request.cycle_id)
        return vbp.ReleaseAnswer(request.cycle_id)

    def serve_list_open(self, _request: vbp.ListOpen) -> vbp.Payload:
        return vbp.ListOpenAnswer(tuple(self._memory.records)[: vbp.OPEN_IDS_LIMIT])

    def serve_stop(self, request: vbp.Stop) -> vbp.Payload:
        if self._runs(request.cycle_id):
            self._machine.stop_motor(Halt.BY_REQUEST)
        return vbp.StopAnswer(request.cycle_id)

    def serve_output(self, request: vbp.Output) -> vbp.Payload:
        if request.output not in self._outputs:
            return vbp.ErrorAnswer(vbp.ErrorCode.NOT_NOW)
        self._outputs[vbp.OutputPin(request.output)] = request.value
        return vbp.OutputAnswer(request.output, request.value)

    def serve_event_ack(self, request: vbp.EventAck) -> vbp.Payload:
        self._events.pop(request.event, None)
        return vbp.EventAckAnswer(request.event)

    def _runs(self, cycle_id: int) -> bool:
        return self._cycle is not None and self._cycle.order.cycle_id == cycle_id

    def _hello_answer(self) -> vbp.HelloAnswer:
        settings = self._parts.settings
        return vbp.HelloAnswer(
            text=settings.text,
            boot_id=self._boot_id,
            memory_id=self._memory.memory_id,
            reset_cause=self._cause,
            uptime_ms=self._uptime(),
            lanes=len(self._machine.lanes),
            capabilities=settings.capability_bits(),
            records_free=max(0, settings.records - len(self._memory.records)),
        )

    def serve_status(self, _request: vbp.Status) -> vbp.StatusAnswer:
        state = vbp.BoardState.CYCLE_RUNS if self._cycle else vbp.BoardState.IDLE
        door = vbp.Door.OPEN if self._machine.door_open else vbp.Door.CLOSED
        return vbp.StatusAnswer(
            uptime_ms=self._uptime(),
            state=vbp.BoardState.SERVICE if self.service else state,
            eye=self._eye_bits(),
            door=door if self._parts.settings.door else vbp.Door.NO_SWITCH,
            running_cycle=self._cycle.order.cycle_id if self._cycle else 0,
            frames_ok=self._decoder.frames_ok % UPTIME_MODULUS,
            frames_bad=self._decoder.frames_bad % UPTIME_MODULUS,
        )

    def serve_get_result(self, request: vbp.GetResult) -> vbp.ResultAnswer:
        cycle_id = request.cycle_id
        record = self._memory.records.get(cycle_id)
        if record is None:
            return vbp.ResultAnswer(cycle_id, vbp.RecordState.UNKNOWN_ID)
        if self._runs(cycle_id):
            return vbp.ResultAnswer(cycle_id, vbp.RecordState.RUNNING)
        return vbp.ResultAnswer(
            cycle_id=cycle_id,
            state=record.state,
            motor=record.motor,
            drop=record.drop,
            drops=record.drops,
            first_drop_ms=record.first_drop_ms,
            run_ms=record.run_ms,
            peak_ma=record.peak_ma,
        )

    def serve_read_eye(self, request: vbp.ReadEye) -> vbp.ReadEyeAnswer:
        result = vbp.SelfTest.NOT_RUN
        if request.selftest and self._cycle is None:
            result = vbp.SelfTest.FAULT if self._machine.eye_faulty else vbp.SelfTest.OK
        return vbp.ReadEyeAnswer(
            eye=self._eye_bits(),
            blocked_ms=int(self._machine.blocked_ms) % UPTIME_MODULUS,
            pulses=self._machine.eye_pulses % UPTIME_MODULUS,
            selftest=result,
        )

    def serve_lane_info(self, request: vbp.LaneInfo) -> vbp.Payload:
        number = request.lane
        lane = self._machine.lanes.get(number)
        if lane is None:
            return vbp.ErrorAnswer(vbp.ErrorCode.UNKNOWN_LANE)
        home = int(lane.at_home and self._machine.running != number)
        return vbp.LaneInfoAnswer(
            number, KINDS[lane.settings.kind], home, runs=lane.runs, faults=lane.faults
        )

    # ------------------------------------------------------------------ a cycle

    def serve_dispense(self, order: vbp.Dispense) -> vbp.Payload | None:
        if order.lane in self._machine.lanes and not self._parts.drive_arrives(order.lane):
            return None
        verdict = self._verdict(order)
        if verdict is vbp.Verdict.ACCEPTED:
            record = Record(
                cycle_id=order.cycle_id,
                lane=order.lane,
                state=vbp.RecordState.ACCEPTED,
                motor=vbp.Motor.NOT_KNOWN,
                drop=vbp.Drop.NOT_KNOWN,
            )
            try:
                self._memory.keep(record)
            except OSError:
                self._memory.records.pop(order.cycle_id, None)
                return vbp.DispenseAnswer(vbp.Verdict.NO_RECORD_FREE)
            self._begin(order)
        return vbp.DispenseAnswer(verdict)

    def _verdict(self, order: vbp.Dispense) -> vbp.Verdict:
        """The first that applies, in the order of their numbers."""
        memory, machine, settings = self._memory, self._machine, self._parts.settings
        watch = bool(order.options & vbp.Option.WATCH_EYE)
        service_test = bool(order.options & vbp.Option.SERVICE_TEST)
        known = order.cycle_id in memory.records or order.cycle_id <= memory.highest_released
        expired = (self._uptime() - order.not_after_ms) % UPTIME_MODULUS < HALF_UPTIME
        eye = self._eye_bits()
        checks = (
            (vbp.Verdict.KNOWN, known),
            (vbp.Verdict.BUSY, self._cycle is not None or machine.running is not None),
            (vbp.Verdict.EXPIRED, expired),
            (vbp.Verdict.NO_SUCH_LANE, order.lane not in machine.lanes),
            (vbp.Verdict.EYE_BLOCKED, watch and eye & vbp.Eye.BLOCKED),
            (vbp.Verdict.EYE_FAULTY_OR_ABSENT, watch and eye & (vbp.Eye.FAULTY | vbp.Eye.ABSENT)),
            (vbp.Verdict.DOOR_OPEN, settings.door and machine.door_open and not service_test),
            (vbp.Verdict.NO_RECORD_FREE, len(memory.records) >= settings.records),
            (vbp.Verdict.IN_SERVICE, self.service),
        )
        return next((verdict for verdict, applies in checks if applies), vbp.Verdict.ACCEPTED)

    def _begin(self, order: vbp.Dispense) -> None:
        self._finished = None
        self._cycle = _Cycle(order, self._parts.timeline.machine_ms())
        self._cycle.eye_failures = self._machine.eye_failures
        self._plan = self._parts.drive_starts(order.lane, cycle_id=order.cycle_id)
        self._machine.start_motor(
            order.lane,
            max_run_ms=order.max_run_ms,
            drop_wait_ms=order.drop_wait_ms,
            plan=self._plan,
        )

    def on_stopped(self, stopped: Stopped) -> None:
        cycle = self._cycle
        if not self._alive or cycle is None:
            return
        cycle.stopped = stopped
        cycle.stopped_at = self._parts.timeline.machine_ms()
        self._await_done(cycle)

    def _await_done(self, cycle: _Cycle) -> None:
        """Done: the motor rests, and a drop is 300 ms old or drop_wait_ms is over."""
        if cycle.stopped_at is None:
            return
        now = self._parts.timeline.machine_ms()
        wait = cycle.stopped_at + cycle.order.drop_wait_ms - now
        if cycle.drops:
            wait = min(wait, cycle.first_drop + SECOND_DROP_MS - now)
        self._timers.cancel(cycle.done_timer)
        cycle.done_timer = self._timers.after_ms(wait, self._done, cycle)

    def _done(self, cycle: _Cycle) -> None:
        now = self._parts.timeline.machine_ms()
        self._cycle = None
        stopped = cycle.stopped
        motor = MOTORS.get(stopped.why, vbp.Motor.NOT_KNOWN) if stopped else vbp.Motor.NOT_KNOWN
        measures = self._parts.settings.capability_bits() & vbp.Capability.MEASURES_CURRENT
        record = Record(
            cycle_id=cycle.order.cycle_id,
            lane=cycle.order.lane,
            state=vbp.RecordState.DONE,
            motor=motor,
            drop=self._drop_of(cycle),
            drops=min(cycle.drops, 0xFF),
            first_drop_ms=vbp.ms16(cycle.first_drop - cycle.began) if cycle.drops else 0,
            run_ms=vbp.ms16(stopped.run_ms) if stopped else 0,
            peak_ma=stopped.peak_ma if stopped and measures else 0,
        )
        self._memory.keep(record)
        if cycle.watched:
            self._finished = _Finished(record.cycle_id, cycle.began, now)
        self._emit(vbp.EventKind.CYCLE_FINISHED, cycle_id=record.cycle_id)
        if motor in LANE_FAULTS:
            self._emit(vbp.EventKind.LANE_FAULT, lane=record.lane, motor=motor)

    def _drop_of(self, cycle: _Cycle) -> vbp.Drop:
        if not cycle.watched:
            return vbp.Drop.NOT_WATCHED
        if cycle.drops:
            return vbp.Drop.SEEN
        failed = self._machine.eye_failures > cycle.eye_failures or self._machine.eye_faulty
        return vbp.Drop.EYE_FAILED if failed else vbp.Drop.NOT_SEEN

    # ------------------------------------------------------------------ eye and door

    def on_eye(self, blocked: bool) -> None:  # noqa: FBT001
        if not self._alive or not self._parts.settings.eye:
            return
        self._timers.cancel(self._eye_timer)
        self._eye_timer = self._timers.after_ms(EYE_DEBOUNCE_MS, self._tell_eye)
        if blocked and not self._machine.eye_faulty:
            self._item_seen()

    def _item_seen(self) -> None:
        now = self._parts.timeline.machine_ms()
        cycle = self._cycle
        if cycle is not None and cycle.watched:
            cycle.drops += 1
            if cycle.drops == 1:
                cycle.first_drop = now
                self._note_drop(cycle.order.cycle_id, now - cycle.began)
            self._await_done(cycle)
        elif cycle is None and self._finished is not None:
            after = now - self._finished.ended
            if after <= LATE_DROP_LIMIT_MS:
                cycle_id = self._finished.cycle_id
                self._note_drop(cycle_id, now - self._finished.began)
                self._emit(vbp.EventKind.LATE_DROP, cycle_id=cycle_id, after_ms=int(after))

    def _note_drop(self, cycle_id: int, since_start_ms: float) -> None:
        """Into the kept record at once: a power cut after it does not lose the drop."""
        record = self._memory.records.get(cycle_id)
        if record is None:
            return
        changed: dict[str, int] = {"drop": vbp.Drop.SEEN, "drops": min(record.drops + 1, 0xFF)}
        if not record.drops:
            changed["first_drop_ms"] = vbp.ms16(since_start_ms)
        self._memory.keep(record.model_copy(update=changed))

    def _tell_eye(self) -> None:
        """The level has lasted: tell the host when it is another than it last heard."""
        bits = self._eye_bits()
        if bits != self._told_eye:
            self._told_eye = bits
            self._emit(vbp.EventKind.EYE_CHANGED, eye=bits)

    def on_door(self, is_open: bool) -> None:  # noqa: FBT001
        if self._alive and self._parts.settings.door:
            door = vbp.Door.OPEN if is_open else vbp.Door.CLOSED
            self._emit(vbp.EventKind.DOOR_CHANGED, door=door)

    def _eye_bits(self) -> int:
        if not self._parts.settings.capability_bits() & vbp.Capability.WATCHES_EYE:
            return vbp.Eye.ABSENT
        blocked = vbp.Eye.BLOCKED if self._machine.eye_blocked else 0
        return blocked | (vbp.Eye.FAULTY if self._machine.eye_faulty else 0)

    # ------------------------------------------------------------------ events

    def _emit(self, kind: vbp.EventKind, **fields: Any) -> None:
        self._event_number += 1
        event = vbp.Event(self._event_number, kind, **fields)
        self._events[event.event] = event
        if len(self._events) > EVENTS_LIMIT:
            del self._events[min(self._events)]
        if self._hello:
            self._send_event(event)
            self._repeat_later()

    def _send_event(self, event: vbp.Event) -> None:
        self._parts.wire.send(vbp.encode(event, 0))

    def _repeat_later(self) -> None:
        if not self._repeating:
            self._repeating = True
            self._timers.later(EVENT_REPEAT_S, self._repeat)

    def _repeat(self) -> None:
        self._repeating = False
        self._repeat_events()

    def _repeat_events(self) -> None:
        for event in list(self._events.values()):
            self._send_event(event)
        if self._events:
            self._repeat_later()

    def _uptime(self) -> int:
        """Real milliseconds since the start, modulo 2^32."""
        since = self._parts.timeline.seconds() - self._booted_at
        first = self._parts.settings.uptime_ms if self._boots == 1 else 0
        return (int(since * 1000) + first) % UPTIME_MODULUS


FREE = vbp.Capability(0)
SERVED: dict[int, tuple[vbp.Capability, Callable[[VbpFirmware, Any], vbp.Payload | None]]] = {
    vbp.Type.HELLO: (FREE, VbpFirmware.serve_hello),
    vbp.Type.STATUS: (FREE, VbpFirmware.serve_status),
    vbp.Type.DISPENSE: (FREE, VbpFirmware.serve_dispense),
    vbp.Type.GET_RESULT: (vbp.Capability.REMEMBERS_CYCLES, VbpFirmware.serve_get_result),
    vbp.Type.RELEASE: (vbp.Capability.REMEMBERS_CYCLES, VbpFirmware.serve_release),
    vbp.Type.LIST_OPEN: (vbp.Capability.REMEMBERS_CYCLES, VbpFirmware.serve_list_open),
    vbp.Type.STOP: (vbp.Capability.CAN_STOP, VbpFirmware.serve_stop),
    vbp.Type.READ_EYE: (vbp.Capability.READS_EYE, VbpFirmware.serve_read_eye),
    vbp.Type.LANE_INFO: (FREE, VbpFirmware.serve_lane_info),
    vbp.Type.OUTPUT: (vbp.Capability.OUTPUTS, VbpFirmware.serve_output),
    vbp.Type.EVENT_ACK: (FREE, VbpFirmware.serve_event_ack),
}
"""The requests that the firmware knows, and the capability without which it does not."""
