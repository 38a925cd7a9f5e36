"""The stream of one VBP cycle: from the drive frame to the board's record.

The drive frame is written once; the link repeats the same bytes within its
window, which the board answers from memory. Silence after it is no refusal: the
board may have started, so the record decides, over any loss of the line and any
restart of the board.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

from controller.boards.vbp.frames import (
    Dispense,
    DispenseAnswer,
    ErrorCode,
    Option,
    RecordState,
    ResultAnswer,
    Verdict,
    encode,
    ms16,
)
from controller.boards.vbp.link import Exchange, NotServed
from controller.boards.vbp.outcomes import (
    FORGOT,
    NOT_STARTED,
    OTHER_REFUSAL,
    REFUSALS,
    finding_of,
)
from controller.boards.vbp.session import FRAME_LIFE_S, UPTIME_MODULO, Session, is_past
from controller.dispensing.interfaces import (
    Acknowledged,
    Clock,
    Collision,
    CycleEvent,
    DriveOrder,
    Ended,
    FrameWritten,
    LineBack,
    LineLost,
    Moving,
    NotWritten,
    RefusedBeforeMotion,
    Ticket,
)
from controller.errors import BoardError, BoardOffline
from controller.model import Finding, Outcome, Reason

POLL_S = 1.0
"""The board says when a cycle is finished; this is for the event that got lost."""
FORGET_WAIT_S = 10.0
"""How long to wait for a frame's *not after* on the board's clock before its answer
*unknown id* is read as forgotten. 3 s are a frame's life; more only after a restart,
whose clock began anew, and a customer stands before the machine."""

KNOWN_AFTER_RESEND = Finding(Outcome.UNKNOWN, Reason.CONFLICTING_EVIDENCE)
"""`known` to a frame that was sent more than once: a collision, or a board that
does not keep its own rule and has started at the first send. Nobody can say, and
that record is never read as this cycle's."""


@dataclass(slots=True)
class Stream:
    """One open `drive` or `recall`."""

    cycle_id: int
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    """Something changed: the link, or the board said that the cycle is finished."""
    ended: bool = False
    """`Ended` was yielded: the record belongs to the heart until it releases it."""
    disputed: bool = False
    """The record under this id is never read as this cycle's (rule 1)."""
    elsewhere: bool = False
    """It ended without its board, which went: nothing of it is to be released here."""


class Owner(Protocol):
    """What a stream needs of its driver."""

    @property
    def session(self) -> Session | None: ...
    def reported(self, cycle_id: int) -> Finding | None: ...


def dispense_frame(order: DriveOrder, ticket: Ticket) -> Dispense:
    options = (Option.WATCH_EYE if order.watch_eye else 0) | (
        Option.SERVICE_TEST if order.service else 0
    )
    return Dispense(
        order.cycle_id,
        order.lane,
        options,
        ms16(order.max_run_ms),
        ms16(order.drop_wait_ms),
        int(ticket["not_after"]) % UPTIME_MODULO,
    )


async def drive_cycle(
    owner: Owner, stream: Stream, order: DriveOrder, ticket: Ticket, clock: Clock
) -> AsyncGenerator[CycleEvent, None]:
    session = owner.session
    if session is None or not _same_boot(session, ticket):
        yield NotWritten(reason=Reason.BOARD_OFFLINE)
        return
    async with session.link.turn(dispense_frame(order, ticket)) as exchange:
        if clock.monotonic() >= order.deadline:
            yield NotWritten(reason=Reason.EXPIRED)
            return
        try:
            session.link.send(exchange)
        except BoardOffline:
            yield NotWritten(reason=Reason.BOARD_OFFLINE)
            return
        yield FrameWritten(frame=exchange.frame)
        event = await _verdict(session, exchange)
    if event is not None:
        yield event
        if not isinstance(event, Acknowledged):
            stream.ended = stream.disputed = isinstance(event, Ended)
            return
    accepted = event is not None
    async with aclosing(
        recall_cycle(owner, stream, order, ticket, clock, accepted=accepted)
    ) as rest:
        async for learned in rest:
            yield learned


async def _verdict(session: Session, exchange: Exchange) -> CycleEvent | None:
    """The answer to the drive frame; None where only the record can tell."""
    first = exchange.sends
    try:
        answer = await session.link.answer(exchange, DispenseAnswer)
    except BoardOffline:
        return None
    except NotServed as refused:
        session.judge(refused)
        resent = exchange.sends > first
        if refused.code == ErrorCode.NOT_NOW and resent:
            return None  # it restarted in between: the first send may have started it
        lane = refused.code == ErrorCode.UNKNOWN_LANE
        refusal = REFUSALS[Verdict.NO_SUCH_LANE] if lane else OTHER_REFUSAL
        return RefusedBeforeMotion(
            frame=exchange.answer_frame,
            reason=refusal.reason,
            retry=refused.code == ErrorCode.NOT_NOW,
            raw={"protocol": "vbp", "error": refused.code},
        )
    frame = exchange.answer_frame
    if answer.verdict == Verdict.ACCEPTED:
        return Acknowledged(frame=frame)
    if answer.verdict == Verdict.KNOWN:
        if exchange.sends == first:
            return Collision(frame=frame)
        return Ended(frame=frame, finding=KNOWN_AFTER_RESEND)
    refusal = REFUSALS.get(answer.verdict, OTHER_REFUSAL)
    raw = {"protocol": "vbp", "verdict": answer.verdict}
    return RefusedBeforeMotion(frame=frame, reason=refusal.reason, retry=refusal.retry, raw=raw)


async def recall_cycle(
    owner: Owner,
    stream: Stream,
    order: DriveOrder,
    ticket: Ticket,
    clock: Clock,
    *,
    accepted: bool = False,
) -> AsyncGenerator[CycleEvent, None]:
    """Ask until the board has a last word. Never writes a drive frame.

    `accepted`: the board said that it took the command, so `unknown id` is no proof of rest.
    """
    line_up = True
    moving = False
    frame_dead_in: Session | None = None
    while True:
        session = owner.session
        if session is None:
            if line_up:
                line_up = False
                yield LineLost()
            await stream.stirred.wait()
            stream.stirred.clear()
            continue
        if not line_up:
            line_up = True
            yield LineBack()
        stream.stirred.clear()
        known = owner.reported(order.cycle_id)
        if known is not None:
            stream.ended = True
            yield Ended(finding=known)
            return
        try:
            frame_dead = frame_dead_in is session
            look = await _look(session, order, ticket, frame_dead=frame_dead, accepted=accepted)
        except BoardError:
            # The link went down, or the board refused the question: look again, in time.
            await _rest(stream, clock, 0.0 if owner.session is None else POLL_S)
            continue
        if isinstance(look.event, Ended):
            stream.ended, stream.elsewhere = True, look.elsewhere
            yield look.event
            return
        if look.event is not None and not moving:
            moving = accepted = True
            yield look.event
        frame_dead_in = session if look.frame_dead else None
        await _rest(stream, clock, look.pause_s)


@dataclass(frozen=True, slots=True)
class _Look:
    """One question for the record, and what to do next."""

    event: CycleEvent | None = None
    pause_s: float = POLL_S
    frame_dead: bool = False
    """The board's clock is past the drive frame's *not after*: a further `unknown id` is final."""
    elsewhere: bool = False
    """Not the board that was driven: what it has under this id is another cycle's."""


async def _look(
    session: Session, order: DriveOrder, ticket: Ticket, *, frame_dead: bool, accepted: bool
) -> _Look:
    record = await session.result(order.cycle_id)
    if not _same_memory(session, ticket):
        return _Look(_ended(record, FORGOT), elsewhere=True)
    match record.state:
        case RecordState.DONE | RecordState.INTERRUPTED:
            return _Look(_ended(record, finding_of(record, watch_eye=order.watch_eye)))
        case RecordState.RUNNING:
            return _Look(Moving(frame=encode(record, 0)))
        case RecordState.UNKNOWN_ID:
            if accepted:
                return _Look(_ended(record, FORGOT))
            if frame_dead:
                return _Look(_ended(record, NOT_STARTED))
            # The clock first, then the id again: a frame may have been taken in between.
            wait = await _until_frame_is_dead(session, ticket)
            if wait > FORGET_WAIT_S:
                return _Look(_ended(record, FORGOT))
            return _Look(pause_s=wait, frame_dead=wait == 0)
        case _:
            return _Look()


def _ended(record: ResultAnswer, finding: Finding) -> Ended:
    raw = finding.raw or {"protocol": "vbp", "state": record.state}
    return Ended(frame=encode(record, 0), finding=replace(finding, raw=raw))


async def _until_frame_is_dead(session: Session, ticket: Ticket) -> float:
    """Seconds until the board's clock has passed the ticket's *not after*; 0 when it has."""
    uptime = await session.refresh()
    not_after = int(ticket["not_after"])
    if is_past(uptime, not_after):
        return 0.0
    return (not_after - uptime) % UPTIME_MODULO / 1000


async def _rest(stream: Stream, clock: Clock, seconds: float) -> None:
    try:
        async with clock.timeout(seconds):
            await stream.stirred.wait()
    except TimeoutError:
        return


def _same_memory(session: Session, ticket: Ticket) -> bool:
    """Whether the record memory is the one that was journalled with the cycle."""
    return (
        ticket.get("memory_id") == session.hello.memory_id and type(ticket.get("not_after")) is int
    )


def _same_boot(session: Session, ticket: Ticket) -> bool:
    """Whether the ticket's *not after* is meant for the clock of this boot: further ahead than
    a frame lives, it was taken from another, whatever the boot_id."""
    if not _same_memory(session, ticket) or ticket.get("boot_id") != session.hello.boot_id:
        return False
    not_after = int(ticket["not_after"])
    ahead_ms = (not_after - session.uptime_ms) % UPTIME_MODULO
    return is_past(session.uptime_ms, not_after) or ahead_ms <= FRAME_LIFE_S * 1000
