"""The conversation with a VBP board: the one kind that can be asked what became of a cycle.

HELLO on every open, then three things side by side until the line is gone:
events (durable first, then EVENT_ACK), the upkeep (STATUS once a second when
nothing else is said, records that no stream waits for, releases that a lost link
held up), and whatever the heart asks. A restart of the board is treated like a
lost line: reopen, HELLO, and the open streams ask for their records.

Who releases a record. An id with an open stream belongs to that stream, and
after its `Ended` to the heart, which calls `release` when the outcome is
durable. Everything else that LIST_OPEN shows goes to `desk.recorded`, and is
released when that has returned True.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller import prose
from controller.boards.base import (
    BAUDRATES,
    RECENT_LOSSES,
    LinkCounters,
    check_number,
    remember,
)
from controller.boards.port import Port, reopen_for_ever
from controller.boards.vbp.cycles import Stream, drive_cycle, recall_cycle
from controller.boards.vbp.frames import (
    Drop,
    ErrorCode,
    Event,
    EventAck,
    EventAckAnswer,
    EventKind,
    Payload,
    ReadEye,
    ReadEyeAnswer,
    RecordState,
    Release,
    ReleaseAnswer,
    Stop,
    StopAnswer,
)
from controller.boards.vbp.late import LateDrops
from controller.boards.vbp.link import AnswerT, NotServed, VbpLink
from controller.boards.vbp.notices import eye_reading, notice_of
from controller.boards.vbp.outcomes import finding_of
from controller.boards.vbp.session import (
    FRAME_LIFE_S,
    UPTIME_MODULO,
    Session,
    capabilities_of,
    identity_of,
    is_past,
    say_hello,
)
from controller.dispensing.interfaces import (
    BoardDesk,
    BoardNote,
    BoardStatus,
    Capabilities,
    Clock,
    CycleEvent,
    DriveOrder,
    Ended,
    EyeChanged,
    EyeReading,
    Ticket,
)
from controller.errors import BoardError, BoardOffline, JournalError
from controller.model import Finding

log = logging.getLogger("vending.boards")

KEEP_ALIVE_S = 1.0
"""A silent board is asked this often: a restart or a dead line is known within 1.6 s."""
FRESH_UPTIME_S = 0.5
"""An uptime younger than this may date a ticket; older ones would cost a frame its 3 s."""
STREAM_GRACE_S = 5.0
"""After a stream was closed, its record is left alone this long: the heart, which
closed it, writes the outcome and asks again by `recall`."""
JOURNAL_RETRY_S = 2.0
"""Between tries to hand over records while the journal takes nothing."""
QUEUED_EVENTS = 64
"""Events wait here for the journal; what does not fit is repeated by the board in 500 ms."""

DEFAULT_CAPABILITIES = Capabilities(
    watches_eye=True,
    reads_eye=True,
    remembers_cycles=True,
    drops_duplicates=True,
    reports_door=True,
    can_stop=True,
)
"""Before the first HELLO: what the protocol can do."""


@dataclass(frozen=True, slots=True)
class VbpOptions:
    """Settings of a `[[board]]` with protocol vbp.

    baudrate   1200..4000000, default 115200 (the protocol's; without meaning on a pty, TCP, USB)
    """

    baudrate: int = 115_200

    def __post_init__(self) -> None:
        check_number("baudrate", self.baudrate, BAUDRATES)


class VbpBoard:
    """Implements interfaces.Board."""

    protocol = "vbp"

    def __init__(self, name: str, port: Port, clock: Clock) -> None:
        self.name = name
        self.port = port
        self.counters = LinkCounters()
        self._clock = clock
        self._session: Session | None = None
        self._why_down = prose.PORT_NOT_OPENED
        self._capabilities = DEFAULT_CAPABILITIES
        self._last_boot: int | None = None
        self._last_uptime_ms = 0
        self._last_cause = ""
        self._recent_losses: deque[str] = deque(maxlen=RECENT_LOSSES)
        self._events: asyncio.Queue[Event] = asyncio.Queue(QUEUED_EVENTS)
        self._work = asyncio.Event()
        self._streams: dict[int, Stream] = {}
        self._resting: OrderedDict[int, float] = OrderedDict()
        """Ids whose stream was closed, and when: see STREAM_GRACE_S; inf after `Ended`."""
        self._reported: OrderedDict[int, Finding] = OrderedDict()
        """Records that the desk has: a `recall` that comes later still gets its answer."""
        self._to_release: OrderedDict[int, None] = OrderedDict()
        self._disputed: OrderedDict[int, None] = OrderedDict()
        """Ids whose record is another cycle's, though our journal has the id too (rule 1)."""
        self._elsewhere: OrderedDict[int, None] = OrderedDict()
        """Ids whose record, if there is one, went with another board."""
        self._known_events: OrderedDict[str, None] = OrderedDict()
        self._late = LateDrops()
        self._late_held: OrderedDict[int, Event] = OrderedDict()
        """Late drops of cycles that are the heart's: told once their outcome is durable."""
        self._desk: BoardDesk | None = None
        self._watched: OrderedDict[int, bool] = OrderedDict()
        """By cycle: whether its cabinet has a drop sensor. For others the newest has to do."""

    # ------------------------------------------------------------------ Board

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def session(self) -> Session | None:
        """The live session; None while the link is down."""
        session = self._session
        return session if session is not None and session.live else None

    def status(self) -> BoardStatus:
        session = self.session
        counters = self.counters.as_mapping(self.port.traffic)
        detail: dict[str, Any] = {
            "port": self.port.spec,
            "last_reset_cause": self._last_cause,
            "recent_losses": list(self._recent_losses),
        }
        if session is None:
            detail["why"] = self._why_down[:200]
            return BoardStatus(up=False, detail=detail, counters=counters)
        hello = session.hello
        detail |= {
            "boot_id": hello.boot_id,
            "memory_id": hello.memory_id,
            "lanes": hello.lanes,
            "records_free": hello.records_free,
            "uptime_ms": session.uptime_ms,
        }
        return BoardStatus(
            up=True,
            text=hello.text,
            eye=session.eye,
            door=session.door,
            detail=detail,
            counters=counters,
        )

    async def run(self, desk: BoardDesk) -> None:
        self._desk = desk

        async def troubled(why: str) -> None:
            self._why_down = why
            await desk.went(up=False, why=why)

        await reopen_for_ever(self._clock, lambda: self._converse(desk), troubled)

    async def prepare(self, order: DriveOrder) -> Ticket:
        session = self._live()
        if session.age() > FRESH_UPTIME_S:
            try:
                await session.refresh()
            except BoardError as error:
                raise BoardOffline(f"{self.name}: {error}") from error
        left = max(0.0, min(order.deadline - self._clock.monotonic(), FRAME_LIFE_S))
        return {
            "memory_id": session.hello.memory_id,
            "boot_id": session.hello.boot_id,
            "not_after": (session.uptime_ms + int(left * 1000)) % UPTIME_MODULO,
            "watch_eye": order.watch_eye,
        }

    async def drive(self, order: DriveOrder, ticket: Ticket) -> AsyncGenerator[CycleEvent, None]:
        with self._stream(order.cycle_id) as stream:
            remember(self._watched, order.cycle_id, order.watch_eye)
            self._reported.pop(order.cycle_id, None)  # told before it: of another use of this id
            events = drive_cycle(self, stream, order, ticket, self._clock)
            async with contextlib.aclosing(events):
                async for event in events:
                    self._note_end(order.cycle_id, event)
                    yield event

    async def recall(self, order: DriveOrder, ticket: Ticket) -> AsyncGenerator[CycleEvent, None]:
        with self._stream(order.cycle_id) as stream:
            remember(self._watched, order.cycle_id, order.watch_eye)
            events = recall_cycle(self, stream, order, ticket, self._clock)
            async with contextlib.aclosing(events):
                async for event in events:
                    self._note_end(order.cycle_id, event)
                    yield event

    async def release(self, cycle_id: int) -> None:
        self._resting.pop(cycle_id, None)
        self._reported.pop(cycle_id, None)
        if cycle_id in self._elsewhere:
            del self._elsewhere[cycle_id]
            self._look_for_records()
            return
        if cycle_id in self._disputed:
            self._look_for_records()  # nobody has read it yet (rule 4)
            return
        remember(self._to_release, cycle_id)
        session = self.session
        if session is not None:
            with contextlib.suppress(BoardOffline):
                await self._release_all(session)

    async def read_eye(self, *, selftest: bool = False) -> EyeReading:
        """*Not now* is no restart here: a board may keep its eye to itself while a cycle runs.
        STATUS, which is always served, tells the two apart."""
        session = self._live()
        try:
            return eye_reading(await session.link.ask(ReadEye(int(selftest)), ReadEyeAnswer))
        except NotServed as refused:
            if refused.code == ErrorCode.NOT_NOW:
                await session.refresh()
            raise BoardOffline(f"{self.name}: {refused}") from refused

    async def stop(self, cycle_id: int) -> None:
        await self._ask(Stop(cycle_id), StopAnswer)

    # ------------------------------------------------------------------ for the streams

    def reported(self, cycle_id: int) -> Finding | None:
        """What the desk was told of this cycle, before a stream asked for it."""
        return self._reported.get(cycle_id)

    def _note_end(self, cycle_id: int, event: CycleEvent) -> None:
        if isinstance(event, Ended):
            self._late.read(cycle_id, event.finding.drops)

    def _live(self) -> Session:
        session = self.session
        if session is None:
            raise BoardOffline(f"{self.name}: no link to the board: {self._why_down}")
        return session

    async def _ask(self, request: Payload, answer: type[AnswerT]) -> AnswerT:
        """Raises BoardOffline also when the board does not serve the request now."""
        session = self._live()
        try:
            return await session.link.ask(request, answer)
        except NotServed as refused:
            session.judge(refused)
            raise BoardOffline(f"{self.name}: {refused}") from refused

    @contextlib.contextmanager
    def _stream(self, cycle_id: int) -> Iterator[Stream]:
        stream = self._streams[cycle_id] = Stream(cycle_id)
        self._resting.pop(cycle_id, None)
        try:
            yield stream
        finally:
            if self._streams.get(cycle_id) is stream:
                del self._streams[cycle_id]
            if stream.disputed:
                remember(self._disputed, cycle_id)
            if stream.elsewhere:
                remember(self._elsewhere, cycle_id)
            rest_until = float("inf") if stream.ended else self._clock.monotonic() + STREAM_GRACE_S
            remember(self._resting, cycle_id, rest_until)

    def _stir(self) -> None:
        for stream in self._streams.values():
            stream.stirred.set()

    # ------------------------------------------------------------------ one conversation

    async def _converse(self, desk: BoardDesk) -> bool:
        link = VbpLink(self._clock, self.counters, self._take_event)
        await link.open(self.port)
        try:
            session = await say_hello(link, self._clock)
            while not self._events.empty():  # of another boot, or another board, for all we know
                self._events.get_nowait()
            self._late.session_begins(self._clock.monotonic())
            await self._introduce(desk, session)
            self._session = session
            self._stir()
            await desk.went(up=True, why=session.hello.text)
            # A mistake of ours in a helper ends the driver with its name on it, never silently.
            async with asyncio.TaskGroup() as helpers:
                helping = [
                    helpers.create_task(self._pass_on_events(session, desk), name="vbp events"),
                    helpers.create_task(self._keep(session, desk), name="vbp upkeep"),
                ]
                await link.down.wait()
                for task in helping:
                    task.cancel()
        finally:
            link.end("the conversation ended")
            self._session = None
            self._why_down = link.down_because
            self._stir()
        self._last_uptime_ms = session.uptime_ms
        self.counters.downs += 1
        self._recent_losses.append(link.down_because[:200])
        await desk.went(up=False, why=link.down_because)
        return True

    async def _introduce(self, desk: BoardDesk, session: Session) -> None:
        """Who answers, and whether it is the boot that we knew; durable before it is used."""
        hello = session.hello
        identity = identity_of(hello)
        self._last_cause = identity.reset_cause or ""
        self._capabilities = capabilities_of(hello.capabilities)
        if self._last_boot is None:
            ticket = await desk.last_ticket() or {}
            remember(self._watched, 0, bool(ticket.get("watch_eye", True)))
        await desk.identified(identity)
        new_boot = self._last_boot not in (None, hello.boot_id)
        went_back = not is_past(hello.uptime_ms, self._last_uptime_ms)
        if new_boot or (self._last_boot is not None and went_back):
            detail = {"reset_cause": identity.reset_cause, "uptime_ms": hello.uptime_ms}
            key = f"vbp:{hello.boot_id:08x}:boot" if new_boot else None
            await desk.notice(BoardNote("board_restarted", detail), key)
            self.counters.resets += 1
        self._last_boot = hello.boot_id
        self._last_uptime_ms = hello.uptime_ms

    # ------------------------------------------------------------------ events

    def _take_event(self, event: Event) -> None:
        if event.kind == EventKind.LATE_DROP:
            self._late.heard(event.cycle_id, self._clock.monotonic())
        if event.kind == EventKind.CYCLE_FINISHED:
            stream = self._streams.get(event.cycle_id)
            if stream is not None:
                stream.stirred.set()
            else:
                self._look_for_records()
        with contextlib.suppress(asyncio.QueueFull):
            self._events.put_nowait(event)

    async def _pass_on_events(self, session: Session, desk: BoardDesk) -> None:
        with contextlib.suppress(BoardOffline):
            while True:
                event = await self._events.get()
                if event.kind == EventKind.LATE_DROP and self._belongs_to_heart(event.cycle_id):
                    # Its outcome is not durable yet: nothing is there that it could revise.
                    remember(self._late_held, event.cycle_id, event)
                    continue
                await self._pass_on(session, desk, event)

    async def _tell_held(self, session: Session, cycle_id: int) -> None:
        """At once: a late drop counts only before the next cycle of the board."""
        event = self._late_held.pop(cycle_id, None)
        if event is not None and self._desk is not None:
            await self._pass_on(session, self._desk, event)

    async def _pass_on(self, session: Session, desk: BoardDesk, event: Event) -> None:
        """Durable, then acknowledged. What fails is repeated by the board."""
        try:
            await self._make_durable(session, desk, event)
            await session.link.ask(EventAck(event.event), EventAckAnswer)
        except JournalError as trouble:
            log.warning("event_not_durable", extra=self._fields(error=str(trouble)[:200]))
        except NotServed as refused:
            session.judge(refused)

    async def _make_durable(self, session: Session, desk: BoardDesk, event: Event) -> None:
        # A late drop is known again by its cycle: a board that restarts may number it anew.
        late = event.kind == EventKind.LATE_DROP
        key = f"vbp:late:{event.cycle_id}" if late else _event_key(session, event.event)
        notice = notice_of(event)
        if late and self._late.in_record(event.cycle_id):
            detail = {"cycle_id": event.cycle_id, "after_ms": event.after_ms, "in_record": True}
            notice = BoardNote("late_drop", detail)
        if notice is not None and key not in self._known_events:
            if isinstance(notice, EyeChanged):
                session.eye = notice.level  # sooner than the next STATUS tells it
            await desk.notice(notice, key)
            remember(self._known_events, key)

    # ------------------------------------------------------------------ upkeep

    def _look_for_records(self) -> None:
        """LIST_OPEN soon; without a session it is due anyway."""
        if self._session is not None:
            self._session.records_pending = True
            self._work.set()

    async def _keep(self, session: Session, desk: BoardDesk) -> None:
        while session.live:
            pause = KEEP_ALIVE_S
            try:
                await self._release_all(session)
                if session.records_pending:
                    session.records_pending = False
                    if await self._hand_over_records(session, desk):
                        session.records_pending = True
                if session.age() >= FRESH_UPTIME_S:
                    await session.refresh()
            except JournalError as trouble:
                session.records_pending = True
                log.warning("record_not_durable", extra=self._fields(error=str(trouble)[:200]))
                pause = JOURNAL_RETRY_S
            except NotServed as refused:
                log.warning("board_refused", extra=self._fields(error=str(refused)))
            except BoardError:
                return  # no answer, or a restart: the link has ended
            await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        self._work.clear()
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(seconds):
                await self._work.wait()

    async def _hand_over_records(self, session: Session, desk: BoardDesk) -> bool:
        """Rule 5: until LIST_OPEN shows nothing that is ours to settle. True: look again."""
        tried: set[int] = set()
        while True:
            waiting = False
            handed = 0
            for cycle_id in await session.open_ids():
                if cycle_id in tried:
                    continue
                if self._belongs_to_heart(cycle_id):
                    waiting = True
                    continue
                record = await session.result(cycle_id)
                if record.state not in (RecordState.DONE, RecordState.INTERRUPTED):
                    waiting = waiting or record.state != RecordState.UNKNOWN_ID
                    continue
                if self._belongs_to_heart(cycle_id):  # a stream opened meanwhile
                    waiting = True
                    continue
                newest = next(reversed(self._watched.values()), True)
                watched = self._watched.get(cycle_id, newest) or record.drop != Drop.NOT_WATCHED
                tried.add(cycle_id)
                if not await self._report(desk, cycle_id, finding_of(record, watch_eye=watched)):
                    waiting = True
                    continue
                await self._release_one(session, cycle_id)
                handed += 1
            if not handed:
                return waiting

    async def _report(self, desk: BoardDesk, cycle_id: int, finding: Finding) -> bool:
        """Durable when it returns True; False: the board keeps it."""
        if cycle_id in self._disputed:
            detail = {"cycle_id": cycle_id, "record": finding.raw}
            key = f"foreign:{self.name}:{cycle_id}"
            await desk.notice(BoardNote("foreign_record", detail), key)
            return True
        remember(self._reported, cycle_id, finding)
        self._late.read(cycle_id, finding.drops)
        taken = False
        try:
            taken = await desk.recorded(cycle_id, finding, finding.raw)
        finally:
            if not taken:
                self._reported.pop(cycle_id, None)
        return taken

    def _belongs_to_heart(self, cycle_id: int) -> bool:
        if cycle_id in self._streams or cycle_id in self._to_release:
            return True
        until = self._resting.get(cycle_id)
        return until is not None and self._clock.monotonic() < until

    async def _release_all(self, session: Session) -> None:
        for cycle_id in list(self._to_release):
            await self._tell_held(session, cycle_id)
            await self._release_one(session, cycle_id)
            self._to_release.pop(cycle_id, None)

    async def _release_one(self, session: Session, cycle_id: int) -> None:
        try:
            await session.link.ask(Release(cycle_id), ReleaseAnswer)
        except NotServed as refused:
            # A running id, or a board that waits for a HELLO: LIST_OPEN shows it again.
            session.records_pending |= refused.code == ErrorCode.NOT_NOW
            log.warning("release_refused", extra=self._fields(cycle=cycle_id, error=str(refused)))

    def _fields(self, **fields: object) -> Mapping[str, Any]:
        return {"fields": {"board": self.name, **fields}}


def _event_key(session: Session, event: int) -> str:
    return f"vbp:{session.hello.boot_id:08x}:{event}"
