"""The conversation with an XY board, which polls us and forgets its cycles.

The link is down until a valid POLL comes, and lost after a while without any
valid frame. A 31 of the board is its restart: an open cycle ends there, and the
link is up again after the synchronisation (our 31, then the board's lane
reports until 2 s of silence). Against a board that was running before us there
is no 31, and the first POLL is enough.

`SlaveLine` decides when to speak, `outcomes.hear` what a status means; this
module keeps the one cycle that statuses may belong to, and tells the desk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

from controller import prose
from controller.boards.base import RECENT_LOSSES, LinkCounters
from controller.boards.port import Port, reopen_for_ever
from controller.boards.xy import frames
from controller.boards.xy.cycle import Cycle
from controller.boards.xy.frames import (
    MAX_SENDS,
    Command,
    DispensingStatus,
    ElevatorAnswer,
    ElevatorState,
    Frame,
    LaneReport,
    MachineStatus,
    name_of,
    next_pack_no,
)
from controller.boards.xy.line import LineCounters, Listener, Outgoing, Rank, SlaveLine
from controller.boards.xy.options import XyOptions
from controller.boards.xy.outcomes import Heard, Reading
from controller.dispensing.interfaces import (
    Acknowledged,
    BoardDesk,
    BoardNote,
    BoardStatus,
    Capabilities,
    Clock,
    CycleEvent,
    DoorChanged,
    DriveOrder,
    EyeReading,
    FrameWritten,
    Identity,
    LineBack,
    Notice,
    NotWritten,
    Restarted,
    Ticket,
)
from controller.errors import BoardOffline, BoardRefused, FrameError, JournalError
from controller.model import Reason

log = logging.getLogger("vending.boards")

SILENCE_S = 3.0
SILENCE_POLLS = 5
"""The protocol's page: lost after max(3 s, 5 poll intervals) without any valid frame."""
SYNC_SILENCE_S = 2.0
SYNC_LIMIT_S = 120.0
"""The protocol's page: lane reports are collected until 2 s of silence, at most 120 s."""
REOPEN_SILENT_S = 10.0
"""A line that stays silent this long is opened anew: a half-open TCP connection never says so."""
WATCH_S = 0.25
"""How often silence is looked at: short beside 2 s, long beside an idle processor."""
NEWS_LIMIT = 64
"""Notices that wait for the journal; more in this time is a storm, and only its start is kept."""
LANES_LIMIT = 1_000
"""Lane reports kept; the protocol's own numbering ends below."""
SAME_NOTE_S = 60.0
"""The same stray status is told once in this time."""
NOTE_KINDS = 64


class Link(Enum):
    DOWN = "down"
    SYNCING = "synchronising"
    UP = "up"


class XyBoard:
    """Implements interfaces.Board."""

    protocol = "xy"

    def __init__(self, name: str, port: Port, clock: Clock, options: XyOptions) -> None:
        self.name = name
        self.port = port
        self.counters = LinkCounters()
        self.line_counters = LineCounters()
        self._options = options
        self._clock = clock
        self._line: SlaveLine | None = None
        self._link = Link.DOWN
        self._told_up = False
        self._why = prose.NO_POLL
        self._last_heard = 0.0
        self._syncing_since = 0.0
        self._sync_heard = 0.0
        self._pack_no: int | None = None
        self._greeted = True
        """A packet of this process went to the board, or no other process sent one before."""
        self._last_data: Frame | None = None
        """The newest data frame of lines that are closed, also of an earlier process."""
        self._cycle: Cycle | None = None
        self._drive_said: Outgoing | None = None
        """The drive frame of the newest cycle of this process."""
        self._lanes: dict[int, LaneReport] = {}
        self._machine: MachineStatus | None = None
        self._elevator = ""
        self._asked_at = float("-inf")
        self._news: deque[tuple[Notice, str | None]] = deque()
        self._identity_due = False
        self._stir = asyncio.Event()
        self._gone = asyncio.Event()
        self._noted: dict[str, float] = {}
        self._recent_losses: deque[str] = deque(maxlen=RECENT_LOSSES)

    # ------------------------------------------------------------------ Board

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            watches_eye=True,
            reports_door=self._options.door_means != "unknown",
            reports_temperature=True,
        )

    def status(self) -> BoardStatus:
        counters = self.counters.as_mapping(self.port.traffic)
        own = self.line_counters
        counters |= {"polls": own.polls, "late": own.late}
        counters |= {"acks_in": own.acks_in, "acks_out": own.acks_out}
        detail: dict[str, Any] = {
            "port": self.port.spec,
            "link": self._link.value,
            "lanes": len(self._lanes),
            "pack_no": self._pack_no,
            "recent_losses": list(self._recent_losses),
        }
        if self._link is not Link.UP:
            detail["why"] = self._why[:200]
        if self._elevator:
            detail["elevator"] = self._elevator
        machine = None if self._link is Link.DOWN else self._machine
        return BoardStatus(
            up=self._link is Link.UP,
            text=self._text(),
            door="unknown" if machine is None else self._door(machine),
            temperature_c=None if machine is None else machine.temperature,
            detail=detail,
            counters=counters,
        )

    async def run(self, desk: BoardDesk) -> None:
        async def troubled(why: str) -> None:
            self._why = why
            await desk.went(up=False, why=why)

        await reopen_for_ever(self._clock, lambda: self._converse(desk), troubled)

    async def prepare(self, order: DriveOrder) -> Ticket:  # noqa: ARG002  the interface's
        """Reserves the PackNO of the drive frame: no other frame will carry it. The newest frame
        that was heard goes along, for it may be how the cycle before ended: a daemon that begins
        anew must not take the board's repeat of it for a word about this one."""
        self._need_link()
        if not self._greeted:
            self._greet()
        return {"pack_no": self._take_pack_no(), "heard": self._last_heard_hex()}

    async def drive(self, order: DriveOrder, ticket: Ticket) -> AsyncGenerator[CycleEvent, None]:
        line = self._line
        if line is None or self._link is not Link.UP:
            yield NotWritten(reason=Reason.BOARD_OFFLINE)
            return
        cycle = Cycle(order.cycle_id, self._reading(order), Heard(order.lane))
        entry = self._drive_entry(cycle, order, int(ticket["pack_no"]))
        self._cycle, self._drive_said = cycle, entry
        if not line.say(entry):
            cycle.tell(NotWritten(reason=Reason.BOARD_OFFLINE))
        try:
            async with contextlib.aclosing(cycle.events()) as events:
                async for event in events:
                    yield event
        finally:
            line.withdraw(entry)
            if not cycle.written and self._cycle is cycle:
                self._cycle = None

    async def recall(
        self,
        order: DriveOrder,
        ticket: Ticket,  # noqa: ARG002  the interface's
    ) -> AsyncGenerator[CycleEvent, None]:
        """Only listens. What this process knows of the cycle is kept; of a cycle of an earlier
        process neither ACK nor 01 can be excluded, so its errors are no refusals."""
        cycle = self._cycle
        if cycle is None or cycle.cycle_id != order.cycle_id:
            heard = Heard(order.lane, acked=True, started=True, moved=True)
            cycle = Cycle(order.cycle_id, self._reading(order), heard, written=True)
            self._cycle = cycle
        async with contextlib.aclosing(cycle.events()) as events:
            async for event in events:
                yield event

    async def release(self, cycle_id: int) -> None:
        """The board keeps nothing."""

    async def read_eye(self, *, selftest: bool = False) -> EyeReading:  # noqa: ARG002  the interface's
        raise BoardRefused(f"{self.name}: an XY board does not let its host read the eye")

    async def stop(self, cycle_id: int) -> None:  # noqa: ARG002  the interface's
        raise BoardRefused(f"{self.name}: an XY board has no stop")

    # ------------------------------------------------------------------ a drive

    def _reading(self, order: DriveOrder) -> Reading:
        return Reading(order.watch_eye, self._options.jam_means == "unknown")

    def _drive_entry(self, cycle: Cycle, order: DriveOrder, pack_no: int) -> Outgoing:
        drive = frames.Drive(order.lane, order.watch_eye, self._options.elevator)
        frame = drive.encode(pack_no, self._options.drive_length)

        def written() -> None:
            cycle.written = True
            cycle.garbled = self.line_counters.garbled
            cycle.tell(FrameWritten(frame=frame))

        def acked(ack: bytes) -> None:
            cycle.heard = replace(cycle.heard, acked=True)
            cycle.tell(Acknowledged(frame=ack))

        return Outgoing(
            Rank.DRIVE,
            frame,
            resends=self._options.resend_same_packno,
            deadline=order.deadline,
            written=written,
            acked=acked,
            dropped=lambda reason: cycle.tell(NotWritten(reason=reason)),
        )

    def _take_pack_no(self) -> int:
        self._pack_no = next_pack_no(self._pack_no or 0)
        return self._pack_no

    def _greet(self) -> None:
        """A question before the first drive of this process. The journal knows the number of the
        last drive, not those of the questions after it: a board that drops repeats by the number
        alone could take this drive for one of those, acknowledge it, and do nothing."""

        def not_said(_reason: Reason) -> None:
            self._greeted = False

        if self._line is not None:
            self._greeted = True
            frame = frames.ask_status(self._take_pack_no())
            greeting = Outgoing(Rank.GREETING, frame, resends=MAX_SENDS - 1, dropped=not_said)
            self._line.say(greeting)

    def _last_heard_hex(self) -> str:
        heard = self._last_data if self._line is None else self._line.last_data
        return "" if heard is None else frames.encode_frame(heard).hex()

    def _need_link(self) -> None:
        if self._link is not Link.UP:
            raise BoardOffline(f"{self.name}: no link to the board: {self._why}")

    # ------------------------------------------------------------------ one conversation

    async def _converse(self, desk: BoardDesk) -> bool:
        if self._pack_no is None:
            ticket = await desk.last_ticket() or {}
            last = ticket.get("pack_no")
            self._pack_no = last if isinstance(last, int) else 0
            self._greeted = last is None
            self._last_data = _frame_of(ticket.get("heard"))
        self._gone.clear()
        hears = Listener(self._alive, self._data, self._lost)
        line = self._line = SlaveLine(self.counters, self.line_counters, hears, self._last_data)
        heard_before = self.counters.frames_in
        try:
            await line.open(self.port)
            self._why = prose.NO_POLL
            self._last_heard = self._clock.monotonic()
            # A mistake of ours in a helper ends the driver with its name on it, never silently.
            async with asyncio.TaskGroup() as helpers:
                helping = [
                    helpers.create_task(self._watch(), name="xy silence"),
                    helpers.create_task(self._tell_desk(desk), name="xy news"),
                ]
                await self._gone.wait()
                for task in helping:
                    task.cancel()
        finally:
            line.close()
            self._last_data = line.last_data
            self._line = None
            self._go_down(self._why)
            self._told_up = False
        await desk.went(up=False, why=self._why)
        return self.counters.frames_in > heard_before

    def _lost(self, why: str) -> None:
        self._go_down(why)
        self._gone.set()

    def _go_down(self, why: str) -> None:
        self._why = why
        was, self._link = self._link, Link.DOWN
        if was is not Link.UP:
            return
        self.counters.downs += 1
        self._recent_losses.append(why[:200])
        if self._line is not None:
            self._line.drop_all()
        if self._cycle is not None:
            self._cycle.line_lost()
        self._stir.set()

    def _go_up(self) -> None:
        self._link = Link.UP
        self._identity_due = True
        self._asked_at = float("-inf")
        if self._cycle is not None:
            self._cycle.tell(LineBack())
        self._stir.set()

    # ------------------------------------------------------------------ from the line

    def _alive(self, poll: bool) -> None:  # noqa: FBT001  the line's callback
        self._last_heard = self._clock.monotonic()
        if poll and self._link is Link.DOWN:
            self._go_up()

    def _data(self, frame: Frame, raw: bytes) -> None:
        if frame.command == Command.SYNC:
            self._restarted(raw)
            return
        try:
            payload = frames.parse(frame)
        except FrameError:
            self.counters.frames_bad += 1
            return
        match payload:
            case DispensingStatus():
                self._status_came(payload, raw)
            case LaneReport():
                self._sync_heard = self._last_heard
                if payload.lane in self._lanes or len(self._lanes) < LANES_LIMIT:
                    self._lanes[payload.lane] = payload
            case MachineStatus():
                self._machine_status_came(payload)
            case ElevatorAnswer(state=state):
                self._elevator = name_of(ElevatorState, state)
            case _:
                self.counters.stray += 1

    def _restarted(self, raw: bytes) -> None:
        """A 31: the board began anew, and a cycle that it ran is over without a word."""
        self.counters.resets += 1
        self._go_down(prose.SYNCHRONISES)
        line, cycle = self._line, self._cycle
        if line is not None:
            line.drop_all()
        if cycle is not None:
            cycle.tell(Restarted(frame=raw))
        self._link = Link.SYNCING
        self._syncing_since, self._sync_heard = self._last_heard, float("inf")
        self._lanes.clear()
        if line is not None:
            frame = frames.sync(self._take_pack_no())
            line.say(Outgoing(Rank.SYNC, frame, resends=MAX_SENDS - 1, written=self._sync_written))

    def _sync_written(self) -> None:
        """From here on the board's silence says that it has no more lanes to tell."""
        self._greeted = True
        self._sync_heard = self._clock.monotonic()

    def _status_came(self, status: DispensingStatus, raw: bytes) -> None:
        cycle = self._cycle
        if cycle is not None and cycle.listening:
            if self._line is not None and self._drive_said is not None:
                self._line.withdraw(self._drive_said)  # something turns: no resend for want of ACK
            cycle.hear(status, raw, self.line_counters.garbled)
            if cycle.readers:
                return
        self.counters.stray += 1
        if cycle is None or not cycle.was_its_last_word(status):
            name = name_of(frames.Dispensing, status.status)
            detail = {"status": f"{status.status:02X}", "name": name, "lane": status.lane}
            self._note(BoardNote("stray_status", detail))

    def _machine_status_came(self, machine: MachineStatus) -> None:
        before, self._machine = self._machine, machine
        door = self._door(machine)
        if before is None or before.machine_number != machine.machine_number:
            self._identity_due = True
            self._stir.set()
        if door != "unknown" and (before is None or self._door(before) != door):
            self._tell(DoorChanged(door == "open"))

    def _door(self, machine: MachineStatus) -> str:
        means = self._options.door_means
        if means == "unknown":
            return means
        return "open" if (machine.door != 0) == (means == "nonzero_open") else "closed"

    def _text(self) -> str:
        number = self._machine.machine_number if self._machine is not None else ""
        shown = "".join(c if c.isalnum() else "?" for c in number)
        return f"xy {shown}".strip()

    # ------------------------------------------------------------------ silence, questions, news

    async def _watch(self) -> None:
        lost_after = max(SILENCE_S, SILENCE_POLLS * self._options.poll_ms / 1000)
        while True:
            await self._clock.sleep(WATCH_S)
            now = self._clock.monotonic()
            silent = now - self._last_heard
            if self._link is not Link.DOWN and silent >= lost_after:
                self._go_down(prose.NOTHING_HEARD.format(seconds=f"{lost_after:g}"))
            if self._link is Link.DOWN and silent >= lost_after + REOPEN_SILENT_S:
                self._gone.set()
                return
            if self._link is Link.SYNCING and (
                now - self._sync_heard >= SYNC_SILENCE_S
                or now - self._syncing_since >= SYNC_LIMIT_S
            ):
                self._go_up()
            if self._line is not None:
                self._line.drop_expired()
            self._ask_in_time(now)

    def _ask_in_time(self, now: float) -> None:
        every = self._options.status_every_s
        if self._link is not Link.UP or every == 0 or now - self._asked_at < every:
            return
        line, cycle = self._line, self._cycle
        if line is None or (cycle is not None and cycle.readers and cycle.final is None):
            return  # a running cycle has the line for itself
        self._asked_at = now
        asks = [frames.ask_status, frames.ask_elevator]
        for ask in asks if self._options.elevator else asks[:1]:
            frame = ask(self._take_pack_no())
            line.say(Outgoing(Rank.QUESTION, frame, resends=1, deadline=now + every))

    def _note(self, note: BoardNote) -> None:
        """Tell once in SAME_NOTE_S: a storm of statuses is one event."""
        now = self._clock.monotonic()
        key = repr(note)
        if now - self._noted.get(key, float("-inf")) < SAME_NOTE_S:
            return
        if len(self._noted) >= NOTE_KINDS:
            self._noted.clear()
        self._noted[key] = now
        self._tell(note)

    def _tell(self, notice: Notice, key: str | None = None) -> None:
        if len(self._news) < NEWS_LIMIT:
            self._news.append((notice, key))
            self._stir.set()

    async def _tell_desk(self, desk: BoardDesk) -> None:
        """The line's callbacks cannot wait for the journal; this does."""
        while True:
            await self._stir.wait()
            self._stir.clear()
            try:
                await self._tell_what_changed(desk)
            except JournalError as trouble:
                fields: Mapping[str, Any] = {"board": self.name, "error": str(trouble)[:200]}
                log.warning("notice_not_durable", extra={"fields": fields})

    async def _tell_what_changed(self, desk: BoardDesk) -> None:
        if self._identity_due and self._link is Link.UP:
            self._identity_due = False
            # The board numbers no boots; we count its 31s.
            await desk.identified(Identity(self._text(), boot_id=self.counters.resets))
        up = self._link is Link.UP
        if up != self._told_up:
            self._told_up = up
            await desk.went(up=up, why=self._text() if up else self._why)
        while self._news:
            notice, key = self._news.popleft()
            await desk.notice(notice, key)


def _frame_of(told: object) -> Frame | None:
    """Out of a ticket; None where there is none, or none that can be read."""
    try:
        data = bytes.fromhex(told) if isinstance(told, str) else b""
    except ValueError:
        return None
    return next(iter(frames.Decoder().feed(data)), None)
