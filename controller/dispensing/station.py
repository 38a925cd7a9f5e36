"""One board, as the heart sees it: whether it takes a drive now, and what it says unasked.

A station is closed for drives while its board is absent, while a cycle found
open at start is being settled (P11), while a silent cycle quarantines it (P5),
and while it is out of service (swapped, or a collision of cycle ids). Its
`turn` is held by the one cabinet whose cycle runs: at most one open cycle a
board.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from controller.dispensing.bell import Bell
from controller.dispensing.cycle import CycleLife, CycleState, after_a_crash
from controller.dispensing.follow import Trace, follow
from controller.dispensing.interfaces import (
    Board,
    BoardNote,
    Clock,
    CycleEnd,
    DoorChanged,
    DriveOrder,
    EyeChanged,
    HeartJournal,
    Identity,
    LaneFault,
    LateDrop,
    Notice,
    OpenCycle,
    Ticket,
)
from controller.errors import JournalUnwritable, Refused
from controller.model import Evidence, Finding, Outcome

log = logging.getLogger("vending.board")

WRITE_AGAIN_S = 1.0
"""Between tries to make an outcome durable while the disk refuses: short beside a
cycle, long beside a failing write."""

SWAPPED = "board_swapped"
"""Another record memory answers on the port (VBP rule 6): `board accept` after a look."""

RESETS_KEPT = 20

EYE_CHANGES_KEPT = 32
"""As many edges as an eye's trace shows on one line: some ten items that fell."""

MOTOR_MAY_TURN = "motor_may_turn"
"""The board said that a motor did not stop: nobody reaches in before a technician looked."""

EYE_REST_S = 5.0
"""An eye that changes within this time of a cycle's end is that cycle's item passing."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings that hold for every board and cabinet."""

    boot: str
    late_drop_window_s: float = 30.0
    lane_failure_limit: int = 3
    enforce_stock: bool = True
    resume_after_reboot: bool = False
    service_ends_orders: bool = False
    """Service mode ends the units that wait; else they wait on, to their deadline."""
    tests_need_service_mode: bool = False


@dataclass(frozen=True, slots=True)
class Quarantine:
    cycle: OpenCycle
    until: float
    """Monotonic."""


T = TypeVar("T")


async def until_durable(clock: Clock, write: Callable[[], Awaitable[T]]) -> T:
    """Repeat a write that must not be given up while the disk is full or read-only (P12), or
    while the journal waits for its birth (P13)."""
    while True:
        try:
            return await write()
        except JournalUnwritable as trouble:
            log.error("outcome_waits_for_journal", extra={"fields": {"error": str(trouble)}})  # noqa: TRY400
            await clock.sleep(WRITE_AGAIN_S)


def recall_order(cycle: OpenCycle, *, watch_eye: bool) -> DriveOrder:
    """What a driver needs to ask or listen for a journalled cycle; never driven."""
    return DriveOrder(
        cycle_id=cycle.cycle_id,
        lane=cycle.lane,
        watch_eye=watch_eye,
        deadline=0.0,
        cycle_timeout_s=cycle.cycle_timeout_s,
        max_run_ms=0,
        drop_wait_ms=0,
    )


class Station:
    """Implements interfaces.BoardDesk for its driver."""

    def __init__(
        self,
        board: Board,
        journal: HeartJournal,
        clock: Clock,
        rules: Rules,
        bell: Bell,
        sensed_channels: frozenset[str],
        booked: Callable[[], Awaitable[None]],
        settled: Callable[[OpenCycle, Finding], None],
    ) -> None:
        """`sensed_channels`: the lanes of cabinets that have a drop sensor. `booked` is
        awaited after each change of lanes that was written here, past the cabinets;
        `settled` is told of each cycle found open, and how it ended."""
        self.board = board
        self.turn = asyncio.Lock()
        self._naming = asyncio.Lock()
        """Whose board answers is judged one word at a time: a person's, or a board's HELLO."""
        self.up = False
        self.since = clock.monotonic()
        """Monotonic: since when it is up, or gone. A board not yet opened counts as gone since
        our start, so that an order which comes first finds it within its grace."""
        self.recovering = True
        self.quarantine: Quarantine | None = None
        self.out_of_service = ""
        self.cycle_open = False
        self.last_cycle_end = float("-inf")
        self.identity: Identity | None = None
        self.resets: list[dict[str, Any]] = []
        """Restarts of the board that were seen, newest last, for people."""
        self.eye_changes: deque[tuple[float, str]] = deque(maxlen=EYE_CHANGES_KEPT)
        """Wall time of hearing, and the new level of the light eye; newest last, for people."""
        self._journal = journal
        self._clock = clock
        self._rules = rules
        self._bell = bell
        self._sensed = sensed_channels
        self._booked = booked
        self._settled = settled
        self._watchers: asyncio.TaskGroup | None = None
        self._seen = False

    # ------------------------------------------------------------------ for the cabinets

    def absent_for(self) -> float:
        """Seconds since the link was last usable; 0 while it is."""
        return 0.0 if self.up else self._clock.monotonic() - self.since

    def watches_eye(self, channel: str) -> bool:
        return channel in self._sensed

    def begin_quarantine(self, cycle: OpenCycle, until: float) -> None:
        """P5: silence closes the whole board; what it says meanwhile is that cycle's."""
        self.quarantine = Quarantine(cycle, until)
        log.warning(
            "board_quarantined",
            extra={
                "fields": {
                    "board": self.board.name,
                    "cycle": cycle.cycle_id,
                    "seconds": round(until - self._clock.monotonic(), 1),
                }
            },
        )
        self._bell.ring()
        if self._watchers is not None:
            self._watchers.create_task(
                self._watch(cycle, until), name=f"quarantine {self.board.name}"
            )

    async def put_out_of_service(self, reason: str) -> None:
        """Durable until a technician accepts the board."""
        self.out_of_service = reason
        self._bell.ring()
        await until_durable(
            self._clock,
            lambda: self._journal.remember_board(self.board.name, {"out_of_service": reason}),
        )

    async def accept(self, who: str) -> None:
        """`board accept`: what answers on the port now is this machine's board.

        Refused where another one answered before that was durable: nobody accepted it.
        """
        async with self._naming:
            seen = self.identity
            memory_id = seen.memory_id if seen is not None else None
            await self._journal.accept_board(self.board.name, who, memory_id)
            while self.identity is not seen:
                seen = self.identity
                if seen is not None and not await self._is_ours(seen):
                    raise Refused(SWAPPED, "another board answered meanwhile: look again")
            self.out_of_service = ""
        self._bell.ring()

    # ------------------------------------------------------------------ its life

    async def run(self, found: Sequence[OpenCycle]) -> None:
        """Settle what the journal holds of this board, and run its driver, for ever."""
        memory = await self._journal.board_memory(self.board.name)
        self.out_of_service = str(memory.get("out_of_service") or "")
        async with asyncio.TaskGroup() as group:
            self._watchers = group
            settling = group.create_task(self._settle_all(found), name=f"settle {self.board.name}")
            # The recalls must stand before the driver hears its board's first word.
            await asyncio.sleep(0)
            group.create_task(self.board.run(self), name=f"driver {self.board.name}")
            await settling

    async def _settle_all(self, found: Sequence[OpenCycle]) -> None:
        started = self._clock.monotonic()
        for cycle in found:
            if cycle.closed:
                self.begin_quarantine(cycle, started + 2 * cycle.cycle_timeout_s)
            else:
                await self._settle(cycle, started)
        self.recovering = False
        self._bell.ring()

    async def _settle(self, cycle: OpenCycle, started: float) -> None:
        """A cycle found open at start (P11): ask or listen, then the outcome."""
        fields = {"board": self.board.name, "cycle": cycle.cycle_id, "unit": str(cycle.unit)}
        log.warning("cycle_found_open", extra={"fields": fields})
        trace: Trace = [*map(dict, cycle.trace)]
        life = await self._listen(cycle, started + cycle.cycle_timeout_s, trace)
        finding = life.finding or Finding(Outcome.UNKNOWN, settled=False)
        finding = after_a_crash(finding, rebooted=cycle.boot != self._rules.boot)
        end = CycleEnd(
            finding=finding,
            trace=trace,
            final=True,
            failure_limit=self._rules.lane_failure_limit,
            quarantined=not finding.settled,
        )
        await until_durable(self._clock, lambda: self._journal.close_cycle(cycle.cycle_id, end))
        self._settled(cycle, finding)
        await self._booked()
        log.warning(
            "cycle_settled",
            extra={"fields": {**fields, "outcome": finding.outcome, "reason": finding.reason}},
        )
        if finding.settled:
            await self.board.release(cycle.cycle_id)
        else:
            self.begin_quarantine(cycle, started + 2 * cycle.cycle_timeout_s)

    async def _listen(self, cycle: OpenCycle, until: float, trace: Trace) -> CycleLife:
        life = CycleLife(CycleState.WRITTEN)
        order = recall_order(cycle, watch_eye=self.watches_eye(cycle.channel))
        await follow(
            life,
            self.board.recall(order, cycle.ticket),
            self._clock,
            guard_until=until,
            cycle_timeout_s=cycle.cycle_timeout_s,
            trace=trace,
        )
        self.last_cycle_end = self._clock.monotonic()
        return life

    async def _watch(self, cycle: OpenCycle, until: float) -> None:
        """The quarantine: until the board's last word on that cycle, a restart, or time."""
        life = await self._listen(cycle, until, [])
        finding = life.finding
        if finding is None or not finding.settled or finding.outcome is Outcome.UNKNOWN:
            await until_durable(self._clock, lambda: self._journal.lift_quarantine(cycle.cycle_id))
        else:
            word = finding
            await until_durable(
                self._clock,
                lambda: self._journal.revise(cycle.cycle_id, word, word.raw, lift=True),
            )
            await self.board.release(cycle.cycle_id)
        if finding is not None and finding.cabinet_fault:
            await self._stop_cabinet(cycle.channel[0])
        await self._booked()
        if self.quarantine is not None and self.quarantine.cycle.cycle_id == cycle.cycle_id:
            self.quarantine = None
        log.info(
            "quarantine_over",
            extra={
                "fields": {
                    "board": self.board.name,
                    "cycle": cycle.cycle_id,
                    "by": finding.reason or finding.outcome if finding else "time",
                }
            },
        )
        self._bell.ring()

    async def _stop_cabinet(self, cabinet: str) -> None:
        """Durable; a cabinet that the settings do not name any more has nobody reaching in."""
        stop = partial(self._journal.stop_cabinet, cabinet, MOTOR_MAY_TURN, self.board.name)
        with contextlib.suppress(Refused):
            await until_durable(self._clock, stop)

    # ------------------------------------------------------------------ BoardDesk

    async def identified(self, identity: Identity) -> None:
        was, self.identity = self.identity, identity
        if was is not None and was.boot_id != identity.boot_id:
            cause = identity.reset_cause or "unknown"
            self.resets.append({"at": self._clock.wall(), "cause": cause})
            del self.resets[:-RESETS_KEPT]
        async with self._naming:
            if self.out_of_service != SWAPPED:
                await self._is_ours(identity)

    async def _is_ours(self, identity: Identity) -> bool:
        """The memory that the journal knows. A first one is learned, another closes the board."""
        if identity.memory_id is None:
            return True
        name = self.board.name
        known = (await self._journal.board_memory(name)).get("memory_id")
        if known is None:
            await self._journal.remember_board(name, {"memory_id": identity.memory_id})
        if known in {None, identity.memory_id}:
            return True
        detail = {"board": name, "was": f"{known:08X}", "is": f"{identity.memory_id:08X}"}
        await self._journal.event("board_swapped", detail)
        log.error("board_swapped", extra={"fields": detail})
        await self.put_out_of_service(SWAPPED)
        return False

    async def went(self, *, up: bool, why: str) -> None:
        if up == self.up:
            return
        self.up = up
        self.since = self._clock.monotonic()
        self._bell.ring()
        first, self._seen = not self._seen, True
        kind = "board_back" if up else "board_lost"
        log.log(
            logging.INFO if up else logging.WARNING,
            kind,
            extra={"fields": {"board": self.board.name, "why": why}},
        )
        if first:
            return  # its first word since our start is no news
        try:
            await self._journal.event(kind, {"board": self.board.name, "why": why[:200]})
        except JournalUnwritable:
            return  # worth a line in the log, not worth stopping a board

    async def recorded(self, cycle_id: int, finding: Finding, raw: Mapping[str, Any]) -> bool:
        if self.out_of_service == SWAPPED:
            return False  # another machine's, as long as nobody said that it is ours now
        cycle = await self._journal.cycle(cycle_id)
        if cycle is None or self._of_another_memory(cycle):
            detail = {"board": self.board.name, "cycle_id": cycle_id, "record": dict(raw)}
            key = f"foreign:{self.board.name}:{cycle_id}"
            await self._journal.event("foreign_record", detail, key)
        elif not cycle.closed:
            # Its outcome is being written this moment; the board must keep the record till then.
            raise JournalUnwritable(f"cycle {cycle_id} is not closed yet: ask again")
        else:
            await self._journal.revise(cycle_id, finding, raw, lift=True)
            await self._booked()
            if self.quarantine is not None and self.quarantine.cycle.cycle_id == cycle_id:
                self.quarantine = None
        self._bell.ring()
        return True

    def _of_another_memory(self, cycle: OpenCycle) -> bool:
        """It was driven on a board that was swapped since: the record under its id is not its."""
        driven = cycle.ticket.get("memory_id")
        now = self.identity.memory_id if self.identity is not None else None
        return None not in (driven, now) and driven != now

    async def notice(self, notice: Notice, key: str | None = None) -> None:
        name = self.board.name
        match notice:
            case LateDrop():
                await self._late_drop(notice, key)
            case DoorChanged(open=is_open):
                await self._journal.event("door", {"board": name, "open": is_open}, key)
            case EyeChanged(level=level):
                self.eye_changes.append((self._clock.wall(), level))
                at_rest = self._clock.monotonic() - self.last_cycle_end > EYE_REST_S
                if at_rest and not self.cycle_open:
                    await self._journal.event("eye", {"board": name, "level": level}, key)
            case LaneFault(lane=lane, note=text):
                detail = {"board": name, "lane": lane, "note": text}
                await self._journal.event("lane_fault", detail, key)
            case BoardNote(kind=kind, detail=detail):
                await self._journal.event(kind, {"board": name, **detail}, key)
        self._bell.ring()

    async def last_ticket(self) -> Ticket | None:
        return await self._journal.last_ticket(self.board.name)

    async def _late_drop(self, drop: LateDrop, key: str | None) -> None:
        """A revision within the window and before the board's next cycle, else an event."""
        cycle = await self._journal.cycle(drop.cycle_id)
        if cycle is not None and not cycle.closed:
            # Its outcome is being written this moment: told again, the drop is a revision of it.
            raise JournalUnwritable(f"cycle {drop.cycle_id} is not closed yet: tell it again")
        newest = await self._journal.newest_cycle(self.board.name)
        known = cycle.finding if cycle is not None else None
        counts = (
            known is not None
            and known.left_home
            and newest is not None
            and newest.cycle_id == drop.cycle_id
            and drop.after_ms <= self._rules.late_drop_window_s * 1000
        )
        detail: dict[str, Any] = {
            "board": self.board.name,
            "cycle_id": drop.cycle_id,
            "after_ms": drop.after_ms,
            "unit": str(cycle.unit) if cycle and cycle.unit else None,
            "channel": cycle.channel if cycle else None,
        }
        revised = False
        if known is not None and counts:
            total = known.drops + 1
            fell = Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR, drops=total)
            raw = {"late_drop_ms": drop.after_ms}
            revised = await self._journal.revise(drop.cycle_id, fell, raw, lift=False)
            await self._booked()
        await self._journal.event("late_drop", {**detail, "revised": revised}, key)
