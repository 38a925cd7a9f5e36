"""An XY board that plays a written story, by the protocol's page. Strict: what comes outside
an answer window is kept in `outside`, and no test wants anything there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.boards.xy import frames
from controller.boards.xy.frames import ACK, POLL, Command, Decoder, Frame, encode_frame

WINDOW_S = 0.1


@dataclass
class ScriptedXy:
    story: list[tuple[float, int, int]] = field(default_factory=lambda: [(0.1, 1, 0), (2.0, 2, 0)])
    """(seconds after the drive, status, lane) of every cycle; lane 0 is the drive's, -1 is 0."""
    boot: bool = False
    """Begin with a 31."""
    ack: bool = True
    poll_s: float = 0.2
    lanes: int = 3
    drives: list[bytes] = field(default_factory=list)
    """The truth: each drive frame that came in its window."""
    heard: list[Frame] = field(default_factory=list)
    outside: list[bytes] = field(default_factory=list)
    answer_delays: list[float] = field(default_factory=list)
    poll_gap_until: float = 0.0
    before_ack: Frame | None = None
    """A data frame that slips in between a command and its ACK."""
    ack_frame: Frame = ACK

    def __post_init__(self) -> None:
        self.write: Callable[[bytes], None] = lambda _data: None
        self.decoder = Decoder()
        self.queue: deque[tuple[bytes, int]] = deque()
        self.pack_no = 0x30
        self.window_at = float("-inf")
        self.sending: tuple[bytes, int] | None = None
        self.ticking: asyncio.TimerHandle | None = None
        self.alive = True
        self.unanswered_polls = 0

    def connect(self, write: Callable[[bytes], None]) -> None:
        self.write = write
        self.decoder = Decoder()
        if self.ticking is None:
            if self.boot:
                self.data(Command.SYNC)
            self.tick()

    # what it says

    def data(self, command: int, text: bytes = b"", pack_no: int | None = None) -> bytes:
        self.pack_no = frames.next_pack_no(self.pack_no)
        frame = encode_frame(Frame(command, pack_no or self.pack_no, text))
        self.queue.append((frame, 0))
        return frame

    def status(self, code: int, lane: int) -> bytes:
        return self.data(Command.DISPENSING, bytes((code,)) + frames.lane_bytes(lane))

    def restart(self) -> None:
        self.queue.clear()
        self.sending = None
        self.data(Command.SYNC)

    def tick(self) -> None:
        loop = asyncio.get_running_loop()
        self.ticking = loop.call_later(self.poll_s, self.tick)
        if not self.alive or loop.time() < self.poll_gap_until:
            return
        if self.sending is not None:
            self.say(*self.sending)
        elif self.queue:
            self.say(*self.queue.popleft())
        else:
            if self.window_at > float("-inf"):
                self.unanswered_polls += 1
            self.open_window()
            self.write(encode_frame(POLL))

    def say(self, frame: bytes, sends: int) -> None:
        self.sending = (frame, sends + 1) if sends < 4 else None
        self.open_window()
        self.write(frame)

    def open_window(self) -> None:
        self.window_at = asyncio.get_running_loop().time()

    # what it hears

    def on_bytes(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if now - self.window_at > WINDOW_S or not self.alive:
            self.outside.append(data)
            return
        for frame in self.decoder.feed(data):
            self.answer_delays.append(now - self.window_at)
            self.window_at = float("-inf")
            self.heard.append(frame)
            if frame.command == Command.ACK:
                self.sending = None
            else:
                self.command(frame)

    def command(self, frame: Frame) -> None:
        if frame.command == Command.DRIVE:
            self.drives.append(encode_frame(frame))
            lane = frames.lane_of(frame.text[2:4])
            loop = asyncio.get_running_loop()
            for after, code, named in self.story:
                loop.call_later(after, self.status, code, lane if named == 0 else max(0, named))
        if frame.command == Command.SYNC:
            for lane in range(1, self.lanes + 1):
                self.data(Command.LANE_REPORT, frames.REPORT.pack(lane, 350, 5, 8, 1, 0))
        if frame.command == Command.ASK_STATUS:
            status = frames.MachineStatus(temperature=-5, door=1, machine_number="0000012345")
            self.queue.append((status.encode(self.pack_no), 0))
            self.pack_no = frames.next_pack_no(self.pack_no)
        if self.before_ack is not None:
            self.open_window()
            self.write(encode_frame(self.before_ack))
            self.before_ack = None
            asyncio.get_running_loop().call_later(0.05, self.acknowledge)
        elif self.ack:
            self.acknowledge()

    def acknowledge(self) -> None:
        self.write(encode_frame(self.ack_frame))
