"""One worker per cabinet: it takes the next unit and runs one cycle at a time (P3).

The way of one job:

    what stands in its way?  --- nothing ---> the board's turn, a power slot,
      |  wait for the bell, plan elsewhere,    the eye clear (where it can be read),
      |  or end the unit                       the ticket, the journal's commit,
      <--- refused before motion -----------   then the drive frame, once
                                               ... the cycle's life ...
                                               the closing commit, then the board may forget
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from typing import Any

from controller import prose
from controller.dispensing.bell import Bell
from controller.dispensing.cycle import CycleLife, CycleState
from controller.dispensing.eye import EyeTrace, watched
from controller.dispensing.floor import Floor, Obstacle, not_started
from controller.dispensing.follow import Trace, event_name, follow
from controller.dispensing.interfaces import (
    CycleEnd,
    CycleEvent,
    CycleIntent,
    DriveOrder,
    OpenCycle,
    Ticket,
)
from controller.dispensing.job import PAUSE_S, Job, TestVend
from controller.dispensing.station import WRITE_AGAIN_S, Station, until_durable
from controller.errors import BoardError, InServiceMode, JournalUnwritable, UnitDecided
from controller.model import Cabinet, Finding, Outcome, Reason

log = logging.getLogger("vending.cabinet")

EYE_POLL_S = 0.1
"""Between two looks at a blocked eye: an item is taken out within seconds, and ten
requests a second are a thirtieth of what a 115200 baud line carries."""

SHORTEST_WAIT_S = 0.001
"""A moment that rounds to now may not be over yet by another sum of the same numbers: looking
again at once would find the same for as long as the clock stands still."""

LOOK_AGAIN_S = 0.05
"""After a try that moved nothing: the station hears a moment later than a request fails that
its link is gone, and a loop that turns without a pause would starve it."""

UNSENT_GUARD_S = 5.0
"""A driver gives up at the deadline by itself; this long after it, we do not wait for its word."""

LINK_PROVEN_S = 1.0
"""A board repeats an event each 500 ms (VBP): a link up for two of those has none pending."""


class Step(Enum):
    DONE = auto()
    """The job is decided, or is not ours any more."""
    LOOK_AGAIN = auto()
    """Nothing moved: see again what stands in the way."""
    REFUSED = auto()
    """The board refused before motion: ask again within the eye's bound (P2)."""


@dataclass(frozen=True, slots=True)
class Running:
    """The cycle in flight, for people."""

    job: Job
    life: CycleLife
    cycle_id: int
    started: float
    trace: Trace
    """What was heard of it so far."""


class CabinetWorker:
    def __init__(
        self,
        cabinet: Cabinet,
        floor: Floor,
        move: Callable[[Job, str], None],
        served: Callable[[Job], None],
    ) -> None:
        """`move(job, channel)` hands a unit to the worker of another lane; `served(job)`
        is told when this worker has done with a job, whatever became of it."""
        self.cabinet = cabinet
        self.queue: deque[Job] = deque()
        self.running: Running | None = None
        self.newest: Running | None = None
        """The running cycle, and once it is over the one that ran last: for people."""
        self.current: Job | None = None
        self._floor = floor
        self._clock = floor.clock
        self._move = move
        self._served = served
        self._station: Station = floor.stations[cabinet.board]
        self._refusal = not_started(Reason.BOARD_REFUSED)

    async def run(self) -> None:
        """Serve the queue for ever; between cycles when the daemon stops."""
        while True:
            tick = self._floor.bell.tick()
            if self._floor.stopping or not self.queue:
                await Bell.wait(tick, self._clock, None)
                continue
            job = self.current = self.queue.popleft()
            try:
                await self._serve(job)
            finally:
                self.current = None
                self._served(job)
                self._floor.bell.ring()

    def waiting(self) -> list[Job]:
        """What may turn a motor here without a further word: behind a cycle too, and between
        a unit's two cycles."""
        first = [self.current] if self.current is not None and self.running is None else []
        return [*first, *self.queue]

    def runs(self, vend: TestVend) -> bool:
        """Whether the cycle that is open here is this test vend's."""
        return self.running is not None and self.running.job.test is vend

    async def _serve(self, job: Job) -> None:
        """Until the job is decided, given to another lane, or left for the next start."""
        floor = self._floor
        while True:
            tick = floor.bell.tick()
            obstacle = floor.obstacle(job)
            if obstacle is None:
                again = await self._attempt(job)
                if again is None:
                    return
                if again is job:
                    await self._clock.sleep(LOOK_AGAIN_S)
                job = self.current = again
                continue
            if not obstacle.final and self._lets_go(job):
                return
            if obstacle.elsewhere and (channel := floor.elsewhere(job)) is not None:
                if await self._give_away(job, channel):
                    return
                continue
            if obstacle.final:
                await floor.finish(job, not_started(obstacle.reason))
                return
            if not await self._pass_one_on():
                await self._wait(job, obstacle, tick)

    def _lets_go(self, job: Job) -> bool:
        """A job that waits: the daemon stops, or in service mode a test vend goes before it."""
        if self._floor.stopping:
            job.leave()
            return True
        testing = bool(self.queue) and self.queue[0].test is not None
        if testing and job.unit is not None and self._floor.service is not None:
            self.queue.insert(1, job)
            return True
        return False

    async def _wait(self, job: Job, obstacle: Obstacle, tick: asyncio.Event) -> None:
        wait = None
        if obstacle.look_again_at is not None:
            wait = max(SHORTEST_WAIT_S, obstacle.look_again_at - self._clock.monotonic())
        log.info(
            "unit_waits",
            extra={"fields": {"order": job.name, "channel": job.channel, "why": obstacle.why}},
        )
        await Bell.wait(tick, self._clock, wait)

    async def _give_away(self, job: Job, channel: str) -> bool:
        """To another lane; False when its last free item went to somebody else meanwhile."""
        if job.ref is None:
            return True
        move = partial(
            self._floor.journal.reassign,
            job.ref,
            channel,
            free=self._floor.rules.enforce_stock,
        )
        try:
            moved = await until_durable(self._clock, move)
        except UnitDecided:
            return True
        if not moved:
            await self._floor.refresh()
            return False
        log.info(
            "unit_replanned",
            extra={"fields": {"order": job.name, "from": job.channel, "to": channel}},
        )
        await self._floor.refresh()
        self._move(job, channel)
        return True

    async def _pass_one_on(self) -> bool:
        """While the first of the queue waits: the next behind it that another lane can take."""
        floor = self._floor
        for job in self.queue:
            obstacle = floor.obstacle(job)
            channel = floor.elsewhere(job) if obstacle is not None and obstacle.elsewhere else None
            if channel is None:
                continue
            if await self._give_away(job, channel) and job in self.queue:
                self.queue.remove(job)
            return True
        return False

    async def _attempt(self, job: Job) -> Job | None:
        """One try with the board's turn held. None: the job is done with here."""
        async with self._station.turn:
            await self._settle()
            give_up = self._clock.monotonic() + self.cabinet.eye_clear_timeout_s
            self._refusal = not_started(Reason.BOARD_REFUSED)
            eye_event = False
            while True:
                async with self._floor.slots:
                    if self._floor.obstacle(job) is not None:
                        return job
                    step = await self._eye() or await self._cycle(job)
                if isinstance(step, Job):
                    return await self._before_second_cycle(step)
                if step is not Step.REFUSED:
                    return job if step is Step.LOOK_AGAIN else None
                if not eye_event and self._refusal.reason is Reason.EYE_BLOCKED:
                    eye_event = True
                    await self._tell("eye_blocked", {"order": job.name})
                if self._clock.monotonic() >= min(give_up, job.run.deadline):
                    await self._floor.finish(job, self._refusal)
                    return None
                await self._clock.sleep(EYE_POLL_S)

    async def _settle(self) -> None:
        """P3: the pause after a cycle, also after one that was found open at the start, where
        only the board sees the eye."""
        rest = self._station.last_cycle_end + self.cabinet.settle_s - self._clock.monotonic()
        if rest > 0:
            await self._clock.sleep(rest)

    async def _eye(self) -> Step | None:
        """None: clear, or nobody can read it. P3's look before each cycle."""
        board = self._station.board
        if not (self.cabinet.one_item_per_eye and board.capabilities.reads_eye):
            return None
        try:
            eye = await board.read_eye()
        except BoardError:
            return Step.LOOK_AGAIN
        if eye.faulty or eye.absent:
            self._refusal = not_started(Reason.EYE_FAULTY)
            return Step.REFUSED
        if eye.blocked:
            self._refusal = not_started(Reason.EYE_BLOCKED)
            return Step.REFUSED
        return None

    def _order(self, job: Job) -> DriveOrder:
        lane = next(ln for ln in self.cabinet.lanes if ln.channel == job.channel)
        return DriveOrder(
            cycle_id=0,
            lane=lane.number,
            watch_eye=self.cabinet.drop_sensor,
            deadline=min(job.run.deadline, self._clock.monotonic() + PAUSE_S),
            cycle_timeout_s=self.cabinet.cycle_timeout_s,
            max_run_ms=self.cabinet.max_run_ms,
            drop_wait_ms=self.cabinet.drop_wait_ms,
            service=job.test is not None,
        )

    async def _cycle(self, job: Job) -> Step | Job:
        """Ticket, commit, drive frame, life, commit. A Job: it may have a second cycle."""
        floor, board = self._floor, self._station.board
        order = self._order(job)
        try:
            ticket = await board.prepare(order)
            opened = await self._open(job, order, ticket)
        except BoardError:
            return Step.LOOK_AGAIN
        except InServiceMode:
            return Step.LOOK_AGAIN
        except UnitDecided:
            return Step.DONE
        except JournalUnwritable as trouble:
            floor.unwritable = str(trouble)
            log.error("journal_unwritable", extra={"fields": {"error": str(trouble)}})  # noqa: TRY400
            await self._clock.sleep(WRITE_AGAIN_S)
            return Step.LOOK_AGAIN
        floor.unwritable = ""
        if floor.obstacle(job) is not None:
            # While eye, ticket and commit were waited for, a person stopped the cabinet or the
            # deadline passed. From here to `running` nothing waits: who asks then sees it move.
            await self._withdraw(opened, written=False)
            return Step.LOOK_AGAIN
        trace: Trace = []
        life, opened, written = await self._drive(job, order, ticket, opened, trace)
        if life.finding is not None:
            return await self._close(job, opened, life.finding, trace, written)
        await self._withdraw(opened, written=written is not None)
        if life.state is CycleState.REFUSED and life.refusal is not None:
            refusal = life.refusal
            self._refusal = replace(not_started(refusal.reason), raw=refusal.raw)
            if refusal.retry:
                return Step.REFUSED
            await floor.finish(job, self._refusal)
            return Step.DONE
        if life.state is CycleState.COLLIDED:
            await self._tell("cycle_id_collision", {"cycle_id": opened.cycle_id})
            await self._station.put_out_of_service(prose.CYCLE_IDS_COLLIDE)
        return Step.LOOK_AGAIN

    async def _withdraw(self, opened: OpenCycle, *, written: bool) -> None:
        withdraw = partial(self._floor.journal.withdraw_cycle, opened.cycle_id, written=written)
        await until_durable(self._clock, withdraw)

    async def _open(self, job: Job, order: DriveOrder, ticket: Ticket) -> OpenCycle:
        opened = await self._floor.journal.open_cycle(
            CycleIntent(
                unit=job.ref,
                test_id=job.test.test_id if job.test else None,
                channel=job.channel,
                board=self.cabinet.board,
                lane=order.lane,
                ticket=ticket,
                cycle_timeout_s=order.cycle_timeout_s,
                who=job.test.who if job.test else "",
            )
        )
        log.info(
            "cycle_opened",
            extra={"fields": {"order": job.name, "channel": job.channel, "cycle": opened.cycle_id}},
        )
        return opened

    async def _drive(
        self, job: Job, order: DriveOrder, ticket: Ticket, opened: OpenCycle, trace: Trace
    ) -> tuple[CycleLife, OpenCycle, float | None]:
        """The cycle's life; a collision of ids is answered once with a new id (VBP rule 1)."""
        run = job.run
        run.running += 1
        self._station.cycle_open = True
        try:
            life, written = await self._live(job, order, ticket, opened, trace)
            if life.state is CycleState.COLLIDED:
                await self._tell("cycle_id_collision", {"cycle_id": opened.cycle_id})
                renumber = partial(
                    self._floor.journal.renumber, opened.cycle_id, self.cabinet.board
                )
                opened = await until_durable(self._clock, renumber)
                life, again = await self._live(job, order, ticket, opened, trace)
                written = written if again is None else again
        finally:
            self.running = None
            self._station.cycle_open = False
            self._station.last_cycle_end = self._clock.monotonic()
            run.running -= 1
        if life.finding is not None and life.finding.left_home:
            run.active = self._station.last_cycle_end
        return life, opened, written

    async def _live(
        self, job: Job, order: DriveOrder, ticket: Ticket, opened: OpenCycle, trace: Trace
    ) -> tuple[CycleLife, float | None]:
        life = CycleLife()
        cycle_id = opened.cycle_id
        self.running = self.newest = Running(job, life, cycle_id, self._clock.monotonic(), trace)
        eye: EyeTrace | None = None
        if job.test is not None:
            job.test.progress("cycle_opened", {"cycle_id": cycle_id})
            if self.cabinet.drop_sensor:
                eye = job.test.eye = EyeTrace(self._clock.monotonic())
        self._floor.bell.ring()
        async with watched(self._station.board, self._clock, eye):
            written = await follow(
                life,
                self._station.board.drive(replace(order, cycle_id=cycle_id), ticket),
                self._clock,
                guard_until=order.deadline + UNSENT_GUARD_S,
                cycle_timeout_s=order.cycle_timeout_s,
                trace=trace,
                told=partial(_tell_step, job.test),
            )
        return life, written

    async def _close(
        self,
        job: Job,
        opened: OpenCycle,
        finding: Finding,
        trace: Trace,
        written: float | None,
    ) -> Step | Job:
        """The outcome is durable before its result leaves and before the board may forget."""
        floor = self._floor
        if job.test is not None and job.test.eye is not None and job.test.eye.pulses:
            widths = [pulse.width_ms for pulse in job.test.eye.pulses]
            finding = replace(finding, raw={**finding.raw, "eye_pulses_ms": widths})
        second = (
            job.unit is not None
            and finding.outcome is Outcome.NOT_DELIVERED
            and finding.may_repeat
            and job.unit.cycles < self.cabinet.second_cycles
        )
        end = CycleEnd(
            finding=finding,
            trace=trace,
            final=not second,
            failure_limit=floor.rules.lane_failure_limit,
            quarantined=not finding.settled,
        )
        closed = await until_durable(
            self._clock, lambda: floor.journal.close_cycle(opened.cycle_id, end)
        )
        log.info(
            "cycle_closed",
            extra={
                "fields": {
                    "order": job.name,
                    "channel": job.channel,
                    "cycle": opened.cycle_id,
                    "outcome": finding.outcome,
                    "reason": finding.reason,
                    "evidence": finding.evidence,
                    "lane_health": closed.lane.health,
                }
            },
        )
        floor.book(closed.lane)
        if finding.cabinet_fault:
            await floor.refresh()
        if finding.settled:
            await self._station.board.release(opened.cycle_id)
        else:
            since = self._clock.monotonic() if written is None else written
            self._station.begin_quarantine(opened, since + 2 * opened.cycle_timeout_s)
        if job.test is not None and not job.test.done.done():
            job.test.done.set_result(finding)
        return job.after_cycle(finding) if second else Step.DONE

    async def _before_second_cycle(self, job: Job) -> Job:
        """P2: the late-drop window passes, with the board's turn held, and events are drained.
        A daemon that stops does not wait for it: the next start keeps the first outcome."""
        began = self._clock.monotonic()
        over = began + self._floor.rules.late_drop_window_s
        while not self._floor.stopping and (left := over - self._clock.monotonic()) > 0:
            await Bell.wait(self._floor.bell.tick(), self._clock, left)
        while not self._floor.stopping:
            tick = self._floor.bell.tick()
            if self._station.absent_for() > 0 and self._floor.obstacle(job) is not None:
                break
            proven = self._clock.monotonic() - self._station.since
            if proven >= LINK_PROVEN_S:
                break
            await Bell.wait(tick, self._clock, LINK_PROVEN_S - proven)
        if job.run.active is not None:
            # The window is no pause of the order's (P4), and does not begin one either.
            now = self._clock.monotonic()
            job.run.active = min(now, job.run.active + now - began)
        return job

    async def _tell(self, kind: str, detail: dict[str, Any]) -> None:
        detail = {"cabinet": self.cabinet.name, "board": self.cabinet.board, **detail}
        log.warning(kind, extra={"fields": detail})
        try:
            await self._floor.journal.event(kind, detail)
        except JournalUnwritable:
            return  # an event is worth less than the vend it tells of


def _tell_step(test: TestVend | None, event: CycleEvent) -> None:
    """A technician follows their test vend step by step, the frame beside its meaning."""
    if test is not None:
        test.progress(event_name(event), {"frame": event.frame.hex(" ").upper()})
