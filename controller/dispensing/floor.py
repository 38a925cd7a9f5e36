"""What all cabinets share: lanes as the journal counts them, stations, stops, deadlines.

The floor answers one question for every job: *what stands in its way now?*
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from controller import prose
from controller.dispensing.bell import Bell
from controller.dispensing.interfaces import Clock, HeartJournal, LaneState, ServiceMode
from controller.dispensing.job import Job, OrderRun, TestVend
from controller.dispensing.planner import Shop, alternative
from controller.dispensing.station import Rules, Station, until_durable
from controller.errors import JournalUnwritable, UnitDecided
from controller.model import (
    Cabinet,
    Evidence,
    Finding,
    LaneHealth,
    OrderKey,
    Outcome,
    Reason,
)

log = logging.getLogger("vending.cabinet")

BOARD_GRACE_S = 5.0
"""A link that is back sooner was a plug touched; the service waits as long before READY."""

CLOCK_LOOK_S = 1.0
"""How soon a waiting unit looks again whether the clock is believed: nobody rings for that."""

BOARD_GIVEN_UP_S = 30.0
"""architecture.md: a board absent so long ends its waiting units as board_offline."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a job can't start now."""

    why: str
    reason: Reason = Reason.EXPIRED
    """What the unit ends with when `final`."""
    elsewhere: bool = False
    """Another lane of the product may take it."""
    final: bool = False
    look_again_at: float | None = None
    """Monotonic; the bell may ring earlier."""


def not_started(reason: Reason) -> Finding:
    """The motor was not touched for this unit."""
    return Finding(Outcome.NOT_DELIVERED, reason, Evidence.NONE, left_home=False)


class Floor:
    def __init__(
        self,
        cabinets: Sequence[Cabinet],
        stations: Mapping[str, Station],
        journal: HeartJournal,
        clock: Clock,
        rules: Rules,
        bell: Bell,
        max_parallel_cycles: int,
    ) -> None:
        self.cabinets = {cabinet.name: cabinet for cabinet in cabinets}
        self.stations = stations
        self.journal = journal
        self.clock = clock
        self.rules = rules
        self.bell = bell
        self.slots = asyncio.Semaphore(max_parallel_cycles)
        self.lanes: dict[str, LaneState] = {}
        self.stopped: dict[str, str] = {}
        """Cabinets that wait for a technician, and why; durable in the journal."""
        self.service: ServiceMode | None = None
        """A technician has the machine; durable in the journal."""
        self.runs: dict[OrderKey, OrderRun] = {}
        self.stopping = False
        self.found_wait_until = float("-inf")
        """Monotonic: units that the start found in the journal wait so long, see `daemon`."""
        self.unwritable = ""
        """Why the journal can't be written now, "" while it can (P12)."""
        self._lane_cabinet = {
            lane.channel: cabinet for cabinet in cabinets for lane in cabinet.lanes
        }

    def cabinet_of(self, channel: str) -> Cabinet:
        return self._lane_cabinet[channel]

    def station_of(self, channel: str) -> Station:
        return self.stations[self.cabinet_of(channel).board]

    async def refresh(self) -> None:
        """Read again what technicians and revisions change: lanes and stopped cabinets."""
        self.lanes = {
            state.lane.channel: state
            for state in await self.journal.lane_states()
            if state.lane.channel in self._lane_cabinet
        }
        self.stopped = dict(await self.journal.stopped_cabinets())
        self.bell.ring()

    def board_trouble(self, cabinet: Cabinet) -> str:
        """Why the cabinet's board takes no new orders, "" when it does or soon may."""
        station = self.stations[cabinet.board]
        if station.out_of_service:
            return prose.BOARD_TROUBLE.format(board=cabinet.board, why=station.out_of_service)
        if station.absent_for() >= BOARD_GRACE_S:
            return prose.BOARD_SILENT.format(board=cabinet.board)
        return ""

    def cabinet_trouble(self, cabinet: Cabinet) -> str:
        stopped = self.stopped.get(cabinet.name)
        if stopped is None:
            return self.board_trouble(cabinet)
        return prose.STOPPED_FOR.format(why=stopped) if stopped else "stopped"

    def shop(self) -> Shop:
        closed = {
            cabinet.name: why
            for cabinet in self.cabinets.values()
            if (why := self.cabinet_trouble(cabinet))
        }
        return Shop(closed, self.rules.enforce_stock)

    def obstacle(self, job: Job) -> Obstacle | None:
        """The first thing in the way of this job, in the order in which it matters."""
        now = self.clock.monotonic()
        if job.unit is not None:
            job.run.judge(job.unit, self.clock)
        cabinet = self.cabinet_of(job.channel)
        station = self.stations[cabinet.board]
        if job.test is not None and job.test.stop_asked:
            return Obstacle("it was stopped", Reason.CANCELLED, final=True)
        if now >= job.run.deadline:
            return Obstacle("its deadline has passed", Reason.EXPIRED, final=True)
        if self.stopping:
            return Obstacle("the daemon is stopping", look_again_at=job.run.deadline)
        if cabinet.name in self.stopped:
            why = f"cabinet {cabinet.name} is stopped"
            return Obstacle(why, Reason.SERVICE_MODE, elsewhere=True, final=True)
        lane = self.lanes.get(job.channel)
        if job.unit and (lane is None or lane.health is not LaneHealth.OK):
            why = f"lane {job.channel} is {lane.health if lane else 'gone'}"
            return Obstacle(why, Reason.LANE_DISABLED, elsewhere=True, final=True)
        if job.unit and lane is not None and lane.lane.product_id != job.unit.product_id:
            why = f"lane {job.channel} holds another product since the settings changed"
            return Obstacle(why, Reason.LANE_DISABLED, elsewhere=True, final=True)
        if job.unit and lane is not None and lane.stock < 1 and self.rules.enforce_stock:
            why = f"lane {job.channel} was counted empty"
            return Obstacle(why, Reason.LANE_EMPTY, elsewhere=True, final=True)
        if job.unit and self.service is not None:
            ends = self.rules.service_ends_orders
            why = f"the machine is in service mode ({self.service.who})"
            return Obstacle(why, Reason.SERVICE_MODE, final=ends, look_again_at=job.run.deadline)
        return self._station_obstacle(station, job)

    def _station_obstacle(self, station: Station, job: Job) -> Obstacle | None:
        deadline = job.run.deadline
        name = station.board.name
        if station.out_of_service:
            why = f"board {name} is out of service: {station.out_of_service}"
            return Obstacle(why, Reason.BOARD_OFFLINE, elsewhere=True, final=True)
        absent = station.absent_for()
        if absent >= BOARD_GIVEN_UP_S:
            why = f"board {name} does not answer"
            return Obstacle(why, Reason.BOARD_OFFLINE, elsewhere=True, final=True)
        if not station.up:
            limit = BOARD_GRACE_S if absent < BOARD_GRACE_S else BOARD_GIVEN_UP_S
            return Obstacle(
                f"board {name} is absent",
                Reason.BOARD_OFFLINE,
                elsewhere=absent >= BOARD_GRACE_S,
                look_again_at=min(deadline, station.since + limit),
            )
        if station.quarantine is not None:
            why = f"board {name} is quarantined"
            return Obstacle(why, elsewhere=True, look_again_at=deadline)
        if station.recovering:
            return Obstacle(f"board {name} is being settled", look_again_at=deadline)
        if job.run.found and self.clock.monotonic() < self.found_wait_until:
            why = "whether the journal is an old copy is not known yet"
            return Obstacle(why, look_again_at=min(deadline, self.found_wait_until))
        if not self.clock.believed():
            soon = self.clock.monotonic() + CLOCK_LOOK_S
            return Obstacle("the clock is not believed", look_again_at=min(deadline, soon))
        return None

    def elsewhere(self, job: Job) -> str | None:
        """Another lane for a customer's unit, None where there is none: one that it would not
        have to leave again for the same kind of reason."""
        if job.unit is None:
            return None
        lanes = [state for state in self.lanes.values() if self._stays(job, state.lane.channel)]
        return alternative(job.unit, lanes, self.shop())

    def _stays(self, job: Job, channel: str) -> bool:
        obstacle = self.obstacle(replace(job, channel=channel))
        return obstacle is None or not obstacle.elsewhere

    async def finish(self, job: Job, finding: Finding) -> None:
        """End a job without a (further) cycle."""
        if job.unit is None:
            if job.test is not None:
                await self._finish_test(job.test, job.channel, finding)
            return
        ref = job.unit.ref
        if job.unit.last_finding is not None:
            finding = job.unit.last_finding
        try:
            closed = await until_durable(self.clock, lambda: self.journal.finish_unit(ref, finding))
        except UnitDecided:
            return
        self.book(closed.lane)
        log.info(
            "unit_finished",
            extra={
                "fields": {
                    "order": ref,
                    "channel": job.channel,
                    "outcome": finding.outcome,
                    "reason": finding.reason,
                }
            },
        )

    async def _finish_test(self, test: TestVend, channel: str, finding: Finding) -> None:
        """P6: without a cycle, too, its outcome is an event; the motor was not touched, so that
        a journal that takes nothing holds nobody up."""
        with contextlib.suppress(JournalUnwritable):
            await self.journal.finish_test(test.test_id, channel, finding)
        if not test.done.done():
            test.done.set_result(finding)

    def book(self, lane: LaneState) -> None:
        """Keep our picture in step with what a closing transaction wrote."""
        self.lanes[lane.lane.channel] = lane
        self.bell.ring()
