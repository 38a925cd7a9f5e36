"""The journal: every durable fact of the daemon, behind the interfaces of the heart.

`Journal` implements HeartJournal, CommandJournal and Outbox of
`dispensing.interfaces`, and what a technician and the daemon itself need. Each
method that writes is one transaction, durable when it returns; it raises
JournalUnwritable when it could not be (P12), and nothing of it is kept then.
`open_journal` is how one comes into being.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.dispensing.interfaces import (
    Announcer,
    Cancellation,
    Clock,
    ClosedUnit,
    CommandJournal,
    CycleEnd,
    CycleIntent,
    HeartJournal,
    LaneState,
    OpenCycle,
    OrderBook,
    Outbox,
    OutboxRow,
    Plan,
    Rejection,
    RequestClaimed,
    RequestTold,
    ServiceMode,
    Standing,
    Ticket,
    UnitJob,
)
from controller.errors import JournalUnwritable, Refused
from controller.journal import (
    begun_tests,
    boards,
    cycles,
    doctor,
    events,
    lanes,
    motor_times,
    orders,
    outbox,
    queries,
    requests,
    service_mode,
    technician,
    units,
    watching,
)
from controller.journal.files import Files, for_people, make_folder, take_lock
from controller.journal.limits import Bucket, Pause
from controller.journal.opening import Found, Opening, find_or_create
from controller.journal.reserve import RESERVE_BYTES, Reserve
from controller.journal.transaction import Transaction, storable
from controller.journal.visits import Visits
from controller.model import (
    Cabinet,
    Code,
    Executed,
    Finding,
    Order,
    OrderKey,
    UnitRef,
)

REPLAY_PAUSE_S = 2.0
"""A command's stored rows are armed at most so often: a broker that redelivers in a loop is
answered, and does not make us answer in a loop."""
REPLAY_KEYS = 1_000

REJECTIONS_AT_ONCE = 100
"""A platform that clears a queue of stale orders is answered for each."""
REJECTIONS_PER_S = 2.0
"""Stored beyond that: some 170,000 a day at worst, of which `retention` keeps a bounded number.
What comes faster is answered past the journal."""


def open_journal(
    state_dir: Path,
    *,
    clock: Clock,
    announcer: Announcer,
    boot: str,
    skew_s: float,
    retention_days: float,
    inline: bool = False,
    reserve_bytes: int = RESERVE_BYTES,
) -> tuple[Journal, Opening]:
    """Lock the directory, find or create the journal, give it a birth if the clock is believed.

    `boot` is the kernel's boot id. Raises StateDirInUse, JournalUnreadable (a person
    must act), JournalUnwritable (no journal exists and none can be created).
    """
    files = Files(state_dir)
    reserve = Reserve(files.reserve, reserve_bytes)
    with for_people(state_dir):
        make_folder(state_dir)
        lock = take_lock(files)
        try:
            found = find_or_create(files, announcer, clock.wall(), reserve)
        except BaseException:
            os.close(lock)
            raise
    journal = Journal(
        found,
        files,
        lock,
        clock=clock,
        announcer=announcer,
        boot=boot,
        skew_s=skew_s,
        retention_days=retention_days,
        inline=inline,
        reserve=reserve,
    )
    try:
        return journal, journal.begin(found)
    except BaseException:
        journal.abandon()
        raise


class Journal(Visits):
    """See the module. Made by `open_journal` only."""

    def __init__(self, found: Found, files: Files, lock: int, **settings: Any) -> None:
        super().__init__(found, files, lock, **settings)
        self._replays = Pause(REPLAY_PAUSE_S, REPLAY_KEYS)
        self._rejections = Bucket(REJECTIONS_AT_ONCE, REJECTIONS_PER_S)
        self.limited = 0
        """Rejections that were told past the journal since the start, for there were too many."""

    # ------------------------------------------------------------------ HeartJournal

    async def waiting_units(self) -> Sequence[UnitJob]:
        return await self._read(units.waiting_units)

    async def open_cycles(self) -> Sequence[OpenCycle]:
        return await self._read(cycles.open_cycles)

    async def cycle(self, cycle_id: int) -> OpenCycle | None:
        return await self._read(lambda tx: cycles.cycle(tx, cycle_id))

    async def open_cycle(self, intent: CycleIntent) -> OpenCycle:
        return await self._write_with_room(lambda tx: cycles.open_cycle(tx, intent))

    async def renumber(self, cycle_id: int, board: str) -> OpenCycle:
        return await self._write(lambda tx: cycles.renumber(tx, cycle_id, board))

    async def close_cycle(self, cycle_id: int, end: CycleEnd) -> ClosedUnit:
        return await self._write(lambda tx: cycles.close_cycle(tx, cycle_id, end), rescued=True)

    async def withdraw_cycle(self, cycle_id: int, *, written: bool) -> None:
        await self._write(
            lambda tx: cycles.withdraw_cycle(tx, cycle_id, written=written), rescued=True
        )

    async def finish_unit(self, ref: UnitRef, finding: Finding) -> ClosedUnit:
        return await self._write(lambda tx: cycles.finish_unit(tx, ref, finding))

    async def revise(
        self, cycle_id: int, finding: Finding, raw: Mapping[str, Any], *, lift: bool
    ) -> bool:
        return await self._write(
            lambda tx: cycles.revise(tx, cycle_id, finding, raw, lift=lift), rescued=True
        )

    async def lift_quarantine(self, cycle_id: int) -> None:
        await self._write(lambda tx: cycles.lift_quarantine(tx, cycle_id))

    async def reassign(self, ref: UnitRef, channel: str, *, free: bool = False) -> bool:
        return await self._write(lambda tx: cycles.reassign(tx, ref, channel, free=free))

    async def lane_states(self) -> Sequence[LaneState]:
        return await self._read(lanes.lane_states)

    async def suspend_lane(self, channel: str, reason: str) -> None:
        await self._write(lambda tx: lanes.suspend(tx, channel, storable(reason)))

    async def stop_cabinet(self, cabinet: str, reason: str, who: str) -> None:
        await self._write(lambda tx: technician.stop_cabinet(tx, cabinet, reason, who))

    async def stopped_cabinets(self) -> Mapping[str, str]:
        return await self._read(lanes.stopped_cabinets)

    async def service_mode(self) -> ServiceMode | None:
        return await self._read(service_mode.current)

    async def board_memory(self, board: str) -> Mapping[str, Any]:
        return await self._read(lambda tx: boards.board_memory(tx, board))

    async def remember_board(self, board: str, memory: Mapping[str, Any]) -> None:
        await self._write(lambda tx: boards.remember_board(tx, board, memory))

    async def last_ticket(self, board: str) -> Ticket | None:
        return await self._read(lambda tx: cycles.last_ticket(tx, board))

    async def newest_cycle(self, board: str) -> OpenCycle | None:
        return await self._read(lambda tx: cycles.newest_cycle(tx, board))

    async def event(self, kind: str, detail: Mapping[str, Any], key: str | None = None) -> None:
        await self._write(lambda tx: events.raise_event(tx, kind, detail, key))

    async def finish_test(self, test_id: str, channel: str, finding: Finding) -> None:
        await self._write(lambda tx: begun_tests.tell(tx, test_id, channel, finding, None))

    # ------------------------------------------------------------------ CommandJournal

    async def look_up(self, order: Order) -> Standing:
        return await self._read(lambda tx: orders.look_up(tx, order))

    async def replay(self, order: Order) -> None:
        if self._replays.over(("dispense", order.key), self._clock.monotonic()):
            await self._write(lambda tx: orders.replay(tx, order))

    async def accept(self, order: Order, plan: Plan) -> tuple[UnitJob, ...] | Rejection:
        return await self._write_with_room(lambda tx: orders.accept(tx, order, plan))

    async def reject(
        self,
        key: OrderKey,
        trade_id: str,
        issued_at: int,
        rejection: Rejection,
        *,
        executed: Executed,
        units: int,
    ) -> bool:
        now = self._clock.monotonic()
        key = OrderKey(key.order_id, storable(key.delivery_id))
        trade_id = storable(trade_id)
        again = self._replays.over(("reject", key, issued_at, rejection.code), now)

        def work(tx: Transaction) -> bool:
            told = orders.is_told(tx, key, "dispense", issued_at, trade_id, rejection.code)
            if told is not None:
                if again:
                    outbox.arm(tx, told)
                return True
            tx.born()
            if not self._rejections.take(now):
                return False
            orders.reject(tx, key, trade_id, issued_at, rejection, executed=executed, count=units)
            return True

        stored = await self._write(work)
        self.limited += not stored
        return stored

    async def cancel(self, cancellation: Cancellation) -> tuple[Code, tuple[UnitRef, ...]]:
        key = OrderKey(cancellation.key.order_id, storable(cancellation.key.delivery_id))
        asked = replace(cancellation, key=key, trade_id=storable(cancellation.trade_id))
        again = self._replays.over(("cancel", key, asked.issued_at), self._clock.monotonic())
        return await self._write(lambda tx: orders.cancel(tx, asked, arm_again=again))

    # ------------------------------------------------------------------ RequestJournal

    async def claim_request(self, request_id: str, content: str) -> RequestClaimed | None:
        return await self._write_with_room(lambda tx: requests.claim(tx, request_id, content))

    async def known_request(self, request_id: str, content: str) -> RequestClaimed | None:
        return await self._read(lambda tx: requests.find(tx, request_id, content))

    async def settle_request(self, request_id: str, told: RequestTold) -> None:
        await self._write(lambda tx: requests.settle(tx, request_id, told))

    # ------------------------------------------------------------------ Outbox

    async def oldest(self, topic: str, limit: int) -> Sequence[OutboxRow]:
        return await self._read(lambda tx: outbox.oldest(tx, topic, limit))

    async def sent(self, rows: Sequence[OutboxRow]) -> None:
        await self._write(lambda tx: outbox.sent(tx, rows))

    def signal(self, topic: str) -> asyncio.Event:
        return self._signals[topic]

    async def waiting(self) -> Mapping[str, int]:
        return await self._read(outbox.waiting)

    # ------------------------------------------------------------------ the technician

    async def sync_lanes(self, cabinets: Sequence[Cabinet]) -> None:
        """Make the lanes those of the settings; at start, before anything is accepted.

        After JournalUnwritable nothing new begins until a later call succeeded (P12).
        """
        try:
            await self._write(lambda tx: lanes.sync_lanes(tx, cabinets))
        except JournalUnwritable:
            self._lanes_due = True
            raise
        self._lanes_due = False

    async def has_room(self) -> None:
        """Whether something new could begin now. Raises JournalUnwritable (P12)."""
        await self._write_with_room(lambda _tx: None)

    async def set_stock(self, channel: str, stock: int, who: str) -> LaneState:
        """Refused: unknown_channel, cycle_open, over_capacity."""
        return await self._write(lambda tx: technician.set_stock(tx, channel, stock, who))

    async def fill(self, cabinet: str | None, who: str) -> Sequence[LaneState]:
        """Refused: unknown_cabinet, cycle_open (then nothing is changed)."""
        return await self._write(lambda tx: technician.fill(tx, cabinet, who))

    async def enable_lane(self, channel: str, reason: str, who: str) -> LaneState:
        """Refused: unknown_channel."""
        return await self._write(lambda tx: technician.enable_lane(tx, channel, reason, who))

    async def disable_lane(self, channel: str, reason: str, who: str) -> LaneState:
        """Refused: unknown_channel."""
        return await self._write(lambda tx: technician.disable_lane(tx, channel, reason, who))

    async def note_test(self, channel: str, test_id: str, who: str, action: str) -> None:
        """Who tests the lane, or stops that test: durable before its motor may move."""
        await self._write(lambda tx: technician.note_test(tx, channel, test_id, who, action))

    async def start_cabinet(self, cabinet: str, who: str) -> None:
        """Refused: unknown_cabinet, stock_unconfirmed."""
        await self._write(lambda tx: technician.start_cabinet(tx, cabinet, who))

    async def accept_board(self, board: str, who: str, memory_id: int | None = None) -> None:
        """Refused: unknown_board. `memory_id` is what answers on the port now."""
        await self._write(lambda tx: technician.accept_board(tx, board, who, memory_id))

    async def accept_clock(self, who: str) -> None:
        """Refused: nothing_to_accept, where it is not behind what was written."""
        if self._clock.wall() >= self.newest_time - self._skew_s:
            raise Refused("nothing_to_accept", "the clock is not behind what the journal knows")
        await self._write(lambda tx: technician.accept_clock(tx, who, self._skew_s))

    async def service_on(self, who: str) -> ServiceMode:
        return await self._write(lambda tx: service_mode.turn_on(tx, who))

    async def service_off(self, who: str, why: str) -> None:
        await self._write(lambda tx: service_mode.turn_off(tx, who, why))

    # ------------------------------------------------------------------ questions

    async def order_book(self, key: OrderKey) -> OrderBook | None:
        return await self._read(lambda tx: orders.book(tx, key))

    async def orders(self, limit: int, before: int | None = None) -> dict[str, Any]:
        return await self._read(lambda tx: queries.orders(tx, limit, before))

    async def order(self, order_id: int, delivery_id: str | None = None) -> list[dict[str, Any]]:
        return await self._read(lambda tx: queries.order(tx, order_id, delivery_id))

    async def lanes(self) -> list[dict[str, Any]]:
        return await self._read(queries.lanes)

    async def lane(self, channel: str, limit: int = 20) -> dict[str, Any]:
        return await self._read(lambda tx: queries.lane(tx, channel, limit))

    async def motor_times(self, channel: str, limit: int) -> list[dict[str, Any]]:
        """How long the lane's motor ran in its newest cycles, see `journal.motor_times`."""
        return await self._read(lambda tx: motor_times.motor_times(tx, channel, limit))

    async def events(self, limit: int) -> list[dict[str, Any]]:
        return await self._read(lambda tx: queries.events(tx, limit))

    @property
    def commits(self) -> int:
        """Grows with each transaction that was written."""
        return self._store.commits

    async def at_hand(self) -> dict[str, Any]:
        """What a live view shows; see `watching`."""
        return await self._read(watching.at_hand)

    async def totals(self) -> dict[str, int]:
        limited = self.limited
        found = await self._read(queries.totals)
        return {**found, "rejections_limited": limited}

    async def checkup(self) -> dict[str, Any]:
        """What `vendctl doctor` asks for: see `journal.doctor`."""
        return await self._read(doctor.checkup)

    async def extract(self, rows: int) -> dict[str, list[dict[str, Any]]]:
        """The newest rows of each table, for support."""
        return await self._read(lambda tx: doctor.extract(tx, rows))

    async def messages_of(
        self, key: OrderKey, after: tuple[int, int], limit: int
    ) -> list[queries.Message] | None:
        """Stored messages about a command behind (journal, seq); None: unknown command."""
        return await self._read(lambda tx: queries.messages_of(tx, key, after, limit))

    async def messages_since(self, after: tuple[int, int], limit: int) -> list[queries.Message]:
        """All stored messages behind (journal, seq), in the order of that pair."""
        return await self._read(lambda tx: queries.messages_since(tx, after, limit))


if TYPE_CHECKING:
    _HEART: type[HeartJournal] = Journal
    _COMMANDS: type[CommandJournal] = Journal
    _OUTBOX: type[Outbox] = Journal
