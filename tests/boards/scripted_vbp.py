"""A VBP board of a hundred lines that plays what a test wants, by the protocol's page.

Independent of the emulator: where both driver and emulator misread the page, this
third reading disagrees. Motors take `run_s`; records live in `memory`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.boards.vbp import frames
from controller.boards.vbp.frames import Decoder, Event, Frame, Payload, RecordState, ResultAnswer


@dataclass
class ScriptedVbp:
    run_s: float = 2.0
    boot_id: int = 0xCAFE
    memory_id: int = 0xB0A7
    verdict: int = 0
    motor: int = 0
    drop: int = 1
    drops: int = 1
    uptime_base_ms: int = 5000
    eye: int = 0
    mute: int = 0
    """Answers that the board swallows; -1: all."""
    mute_types: tuple[int, ...] = ()
    """Only answers to these requests are swallowed; empty: any."""
    send_finished: bool = True
    started: list[int] = field(default_factory=list)
    """Cycle ids whose motor turned: the truth."""
    released: list[int] = field(default_factory=list)
    records: dict[int, ResultAnswer] = field(default_factory=dict)
    pending: dict[int, Event] = field(default_factory=dict)
    seen: list[Payload] = field(default_factory=list)
    """Requests in their order, repeats included."""

    def __post_init__(self) -> None:
        self.write: Callable[[bytes], None] = lambda _data: None
        self.decoder = Decoder()
        self.greeted = False
        self.last: tuple[bytes, bytes] | None = None
        self.event_number = 0
        self.booted_at: float | None = None

    def connect(self, write: Callable[[bytes], None]) -> None:
        self.write = write
        self.decoder = Decoder()

    def uptime(self) -> int:
        now = asyncio.get_running_loop().time()
        if self.booted_at is None:
            self.booted_at = now
        return (self.uptime_base_ms + int((now - self.booted_at) * 1000)) % 2**32

    def restart(self, boot_id: int) -> None:
        """Power cut and back: accepted cycles become interrupted, the link is forgotten."""
        self.boot_id, self.greeted, self.last = boot_id, False, None
        self.booted_at = None
        self.uptime_base_ms = 0
        for cycle_id, record in self.records.items():
            if record.state in (RecordState.ACCEPTED, RecordState.RUNNING):
                self.records[cycle_id] = ResultAnswer(cycle_id, RecordState.INTERRUPTED)

    def on_bytes(self, data: bytes) -> None:
        for frame in self.decoder.feed(data):
            self.take(frame)

    def take(self, frame: Frame) -> None:
        request = frames.parse(frame)
        self.seen.append(request)
        wire = frames.encode_frame(frame)
        if self.last is not None and self.last[0] == wire:
            answer = self.last[1]
        else:
            answer = frames.encode(self.answer(request), frame.seq)
            self.last = None if isinstance(request, frames.Hello) else (wire, answer)
        swallow = not self.mute_types or frame.type in self.mute_types
        if self.mute and swallow:
            self.mute -= 1 if self.mute > 0 else 0
            return
        self.write(answer)

    def answer(self, request: Payload) -> Payload:
        if isinstance(request, frames.Hello):
            self.greeted = True
            return frames.HelloAnswer(
                "scripted", self.boot_id, self.memory_id, 1, self.uptime(), 60, 0x9F, 32
            )
        if not self.greeted:
            return frames.ErrorAnswer(frames.ErrorCode.NOT_NOW)
        match request:
            case frames.Status():
                return frames.StatusAnswer(self.uptime(), 0, self.eye, 0, 0, 1, 0)
            case frames.Dispense():
                return frames.DispenseAnswer(self.dispense(request))
            case frames.GetResult(cycle_id=cycle_id):
                return self.records.get(cycle_id) or ResultAnswer(cycle_id, RecordState.UNKNOWN_ID)
            case frames.Release(cycle_id=cycle_id):
                record = self.records.get(cycle_id)
                if record is not None and record.state == RecordState.RUNNING:
                    return frames.ErrorAnswer(frames.ErrorCode.NOT_NOW)
                if self.records.pop(cycle_id, None) is not None:
                    self.released.append(cycle_id)
                return frames.ReleaseAnswer(cycle_id)
            case frames.ListOpen():
                return frames.ListOpenAnswer(tuple(self.records)[:24])
            case frames.EventAck(event=event):
                self.pending.pop(event, None)
                return frames.EventAckAnswer(event)
            case frames.ReadEye():
                return frames.ReadEyeAnswer(self.eye, 0, 7, 2)
            case frames.Stop(cycle_id=cycle_id):
                self.finish(cycle_id, motor=5, drop=2)
                return frames.StopAnswer(cycle_id)
            case _:
                return frames.ErrorAnswer(frames.ErrorCode.UNKNOWN_TYPE)

    def dispense(self, request: frames.Dispense) -> int:
        if self.verdict:
            return self.verdict
        if (self.uptime() - request.not_after_ms) % 2**32 < 2**31:
            return frames.Verdict.EXPIRED
        self.started.append(request.cycle_id)
        self.records[request.cycle_id] = ResultAnswer(request.cycle_id, RecordState.RUNNING)
        loop = asyncio.get_running_loop()
        loop.call_later(self.run_s, self.finish, request.cycle_id)
        return frames.Verdict.ACCEPTED

    def finish(self, cycle_id: int, motor: int | None = None, drop: int | None = None) -> None:
        record = self.records.get(cycle_id)
        if record is None or record.state != RecordState.RUNNING:
            return
        self.records[cycle_id] = ResultAnswer(
            cycle_id,
            RecordState.DONE,
            self.motor if motor is None else motor,
            self.drop if drop is None else drop,
            self.drops if self.drop == 1 else 0,
        )
        if self.send_finished:
            self.tell(frames.EventKind.CYCLE_FINISHED, cycle_id=cycle_id)

    def tell(self, kind: int, **fields: int) -> None:
        """An event, repeated every 500 ms until it is acknowledged."""
        self.event_number += 1
        event = self.pending[self.event_number] = Event(self.event_number, kind, **fields)
        self.repeat(event)

    def repeat(self, event: Event) -> None:
        if event.event in self.pending:
            if self.greeted:
                self.write(frames.encode(event, 0))
            asyncio.get_running_loop().call_later(0.5, self.repeat, event)

    def count(self, kind: type[Payload]) -> int:
        return sum(isinstance(request, kind) for request in self.seen)
