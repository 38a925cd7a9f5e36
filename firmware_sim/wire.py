"""What leaves the board, on its way to the host: where the faults of the line strike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

from firmware_sim.faults import ANSWER_LATE_MS, CyclePlan, Fault, Faults, Scope
from firmware_sim.timeline import Timeline

BYTE_GAP_S = 0.002
"""Between the bytes of a split frame: far below every inter-byte time-out."""
MERGE_WAIT_S = 0.25
"""A frame that waits to be merged goes alone after this."""
NOISE_BYTES = (1, 12)

Write = Callable[[bytes], None]


class Wire:
    """`write` is the link's; without one the bytes are gone, as on a cable that is out."""

    def __init__(self, timeline: Timeline, faults: Faults, rng: random.Random) -> None:
        self.write: Write | None = None
        self.plugged = True
        self.powered = True
        self.on_fault: Callable[[Fault], None] = lambda _fault: None
        self.bytes_sent = 0
        self.bytes_lost = 0
        self._timeline = timeline
        self._faults = faults
        self._rng = rng
        self._held = b""
        """A frame that waits for the next one, to leave in one write with it."""
        self._busy_until = 0.0
        """Real seconds since the start: a split frame is on the line until then."""
        self._under_way: set[asyncio.TimerHandle] = set()

    @property
    def open(self) -> bool:
        return self.plugged and self.powered and not self._faults.is_on("go_silent")

    def send(self, frame: bytes, *, plan: CyclePlan | None = None, poll: bool = False) -> None:
        """Send one frame. `plan`: it answers the drive command of this cycle."""
        kinds = {kind: fault for kind, fault in (plan or {}).items() if fault.scope is Scope.ANSWER}
        for fault in self._faults.of_answer(self._timeline.seconds(), poll=poll):
            kinds[fault.kind] = fault
            self.on_fault(fault)
        if "dont_answer" in kinds:
            self.bytes_lost += len(frame)
            return
        data = self._garbled(frame, kinds)
        delay = 0.0
        if "answer_late" in kinds:
            late = kinds["answer_late"].delay_ms
            delay = (ANSWER_LATE_MS if late is None else late) / 1000
        if "merge_frames" in kinds:
            self._held += data
            self._later(MERGE_WAIT_S, self._flush)
            return
        data, self._held = self._held + data, b""
        pieces = [data[i : i + 1] for i in range(len(data))] if "split_writes" in kinds else [data]
        self._write_all(pieces, delay)

    def fall_dead(self) -> None:
        """The board's program ends: what it had not sent yet is never sent."""
        for timer in self._under_way:
            timer.cancel()
        self._under_way.clear()
        self._held = b""
        self._busy_until = 0.0

    def _garbled(self, frame: bytes, kinds: Iterable[str]) -> bytes:
        data = bytearray(frame)
        if "corrupt" in kinds:
            data[self._rng.randrange(1, len(data) - 1)] ^= 1 << self._rng.randrange(8)
        if "truncate" in kinds:
            del data[self._rng.randrange(1, len(data)) :]
        if "noise" in kinds:
            data[:0] = self._rng.randbytes(self._rng.randint(*NOISE_BYTES))
        return bytes(data) * (2 if "duplicate" in kinds else 1)

    def _write_all(self, pieces: list[bytes], delay: float) -> None:
        """One frame after the other, as on a line; one that is late holds no other back."""
        now = self._timeline.seconds()
        start = now + delay if delay else max(now, self._busy_until)
        if len(pieces) > 1 or start > now + delay:
            self._busy_until = start + len(pieces) * BYTE_GAP_S
        for index, piece in enumerate(pieces):
            wait = start + index * BYTE_GAP_S - now
            if wait > 0:
                self._later(wait, self._write_now, piece)
            else:
                self._write_now(piece)

    def _later(self, seconds: float, call: Callable[..., None], *args: object) -> None:
        def fire() -> None:
            self._under_way.discard(timer)
            call(*args)

        timer = self._timeline.later(seconds, fire)
        self._under_way.add(timer)

    def _flush(self) -> None:
        data, self._held = self._held, b""
        if data:
            self._write_all([data], 0.0)

    def _write_now(self, data: bytes) -> None:
        if self.open and self.write is not None:
            self.bytes_sent += len(data)
            self.write(data)
        else:
            self.bytes_lost += len(data)
