"""The heart assembled: stations, cabinets' workers, and the desk where orders come in.

`run` settles what the journal holds by the table of `recovery`, then serves for
ever; it ends by cancellation. `drain` lets running cycles end first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from controller.dispensing.bell import Bell
from controller.dispensing.cabinet import CabinetWorker, Running
from controller.dispensing.floor import Floor, not_started
from controller.dispensing.interfaces import (
    Board,
    Cancellation,
    Clock,
    CycleEnd,
    Journal,
    OpenCycle,
    Plan,
    Rejection,
    UnitJob,
)
from controller.dispensing.job import (
    PAUSE_S,
    TEST_STARTS_WITHIN_S,
    Job,
    OrderRun,
    TestVend,
    order_run,
)
from controller.dispensing.planner import plan_order
from controller.dispensing.recovery import POWER_LOST, Action, unit_action
from controller.dispensing.station import Rules, Station, until_durable
from controller.errors import BoardError, JournalError, JournalUnwritable, Refused, UnitDecided
from controller.model import (
    Cabinet,
    Code,
    Finding,
    LaneHealth,
    Order,
    OrderKey,
    Outcome,
    Reason,
)

log = logging.getLogger("vending.orders")

STOP_AGAIN_S = 0.2
"""Between two STOPs to a motor that has to rest: as long as a board may take for an answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of intake that the heart judges."""

    max_units_per_order: int = 50
    max_queued_orders: int = 100
    max_parallel_cycles: int = 1


@dataclass(frozen=True, slots=True)
class TestStop:
    """A test vend that was told to stop, and what becomes of its motor."""

    __test__ = False  # no test case of pytest's

    channel: str
    motor: Literal["untouched", "stopping", "runs_on"]


class Dispenser:
    """Implements interfaces.OrderDesk."""

    def __init__(
        self,
        cabinets: Sequence[Cabinet],
        boards: Sequence[Board],
        journal: Journal,
        clock: Clock,
        rules: Rules,
        limits: Limits,
    ) -> None:
        self.bell = Bell()
        self._open = asyncio.Event()
        """Set once what the journal held is queued: a command that came in before would have
        its units queued twice, once as new and once as found waiting."""
        self.tests: dict[str, TestVend] = {}
        """Test vends that somebody waits for, by their test_id."""
        self._helpers: asyncio.TaskGroup | None = None
        self._settling: dict[int, OrderRun] = {}
        """Cycles found open -> their orders, which go on while those are settled (P4)."""
        self._journal = journal
        self._clock = clock
        self._rules = rules
        self._limits = limits
        self.stations = {
            board.name: Station(
                board,
                journal,
                clock,
                rules,
                self.bell,
                _sensed_channels(cabinets, board.name),
                self._refresh,
                self._settled,
            )
            for board in boards
        }
        self.floor = Floor(
            cabinets,
            self.stations,
            journal,
            clock,
            rules,
            self.bell,
            limits.max_parallel_cycles,
        )
        self.workers = {
            cabinet.name: CabinetWorker(cabinet, self.floor, self._move, self._served)
            for cabinet in cabinets
        }

    # ------------------------------------------------------------------ life

    async def run(self) -> None:
        self.floor.service = await self._journal.service_mode()
        await self.floor.refresh()
        found = await self._journal.open_cycles()
        waiting = await self._journal.waiting_units()
        async with asyncio.TaskGroup() as group:
            self._helpers = group
            for name, station in self.stations.items():
                cycles = [cycle for cycle in found if cycle.board == name]
                group.create_task(station.run(cycles), name=f"station {name}")
            group.create_task(self._orphans(found), name="orphans")
            ended = [(unit, end) for unit in waiting if (end := self._take_up(unit))]
            self._go_on(found)
            self._open.set()
            group.create_task(self._end_found(ended), name="units found")
            for name, worker in self.workers.items():
                group.create_task(worker.run(), name=f"cabinet {name}")

    async def drain(self, seconds: float) -> bool:
        """Begin no further cycle; True once none runs, False when the time is over."""
        self.floor.stopping = True
        self.bell.ring()
        limit = self._clock.monotonic() + seconds
        while any(worker.current is not None for worker in self.workers.values()):
            tick = self.bell.tick()
            left = limit - self._clock.monotonic()
            if left <= 0:
                return False
            await Bell.wait(tick, self._clock, left)
        return True

    async def boards_known(self, seconds: float) -> None:
        """Until each board is up, or for so long: then the rest is absent."""
        limit = self._clock.monotonic() + seconds
        while not all(station.up for station in self.stations.values()):
            tick = self.bell.tick()
            left = limit - self._clock.monotonic()
            if left <= 0:
                return
            await Bell.wait(tick, self._clock, left)

    def _take_up(self, unit: UnitJob) -> Finding | None:
        """A unit found waiting (P4): queued, or how it ends, by the table of recovery."""
        action = unit_action(
            unit, boot=self._rules.boot, resume_after_reboot=self._rules.resume_after_reboot
        )
        fields = {"order": unit.ref, "channel": unit.channel, "action": action}
        log.info("unit_found_waiting", extra={"fields": fields})
        if unit.channel not in self.floor.lanes:
            return unit.last_finding or not_started(Reason.LANE_DISABLED)
        if action is Action.KEEP_LAST:
            return unit.last_finding or not_started(Reason.NOT_STARTED)
        if action is Action.POWER_LOST:
            return POWER_LOST
        self._enqueue(unit)
        self.floor.runs[unit.ref.key].found = True
        return None

    def _go_on(self, found: Sequence[OpenCycle]) -> None:
        """P4: an order whose cycle was found open runs until that one is settled; not where
        the machine, or the daemon for too long, stood still since."""
        for cycle in found:
            run = self.floor.runs.get(cycle.unit.key) if cycle.unit else None
            if run is None or cycle.closed or cycle.board not in self.stations:
                continue
            pause = self._clock.wall() - cycle.opened_at
            if run.judged and cycle.boot == self._rules.boot and pause <= PAUSE_S:
                run.running += 1
                self._settling[cycle.cycle_id] = run

    def _settled(self, cycle: OpenCycle, finding: Finding) -> None:
        """A cycle whose motor certainly never moved did not begin its order."""
        run = self._settling.pop(cycle.cycle_id, None)
        if run is not None:
            run.running -= 1
            if finding.left_home:
                run.active = self._clock.monotonic()

    async def _end_found(self, ended: Sequence[tuple[UnitJob, Finding]]) -> None:
        for unit, finding in ended:
            write = partial(self._journal.finish_unit, unit.ref, finding)
            try:
                await until_durable(self._clock, write)
            except UnitDecided:
                continue
        await self.floor.refresh()

    async def _orphans(self, found: Sequence[OpenCycle]) -> None:
        """Open cycles of boards that the settings no longer name: nobody can be asked."""
        for cycle in found:
            if cycle.board in self.stations or cycle.closed:
                continue
            lost = Finding(Outcome.UNKNOWN, Reason.NO_ANSWER)
            end = CycleEnd(lost, [], final=True, failure_limit=self._rules.lane_failure_limit)
            await until_durable(
                self._clock, partial(self._journal.close_cycle, cycle.cycle_id, end)
            )

    # ------------------------------------------------------------------ OrderDesk

    async def submit(self, order: Order) -> Rejection | None:
        """Mode, bounds, then products and stock; accepted as a whole or not at all."""
        await self._open.wait()
        if self.floor.stopping:
            return Rejection(Code.SHUTTING_DOWN, "the daemon is stopping; send it again")
        if self.floor.service is not None:
            return Rejection(Code.SERVICE_MODE, "")
        if order.units > self._limits.max_units_per_order:
            most = self._limits.max_units_per_order
            return Rejection(Code.TOO_MANY_UNITS, f"{order.units} units; at most {most}")
        if len(self.floor.runs) >= self._limits.max_queued_orders:
            return Rejection(Code.BUSY, f"{len(self.floor.runs)} orders are waiting already")
        await self.floor.refresh()
        shop = self.floor.shop()
        plan: Plan = lambda asked, lanes: plan_order(asked, lanes, shop)  # noqa: E731
        try:
            accepted = await self._journal.accept(order, plan)
        except JournalUnwritable as trouble:
            self.floor.unwritable = str(trouble)
            raise
        if isinstance(accepted, Rejection):
            return accepted
        for unit in accepted:
            self._enqueue(unit)
        await self._refresh()
        return None

    async def cancel(self, cancellation: Cancellation) -> Code:
        await self._open.wait()
        code, ended = await self._journal.cancel(cancellation)
        gone = set(ended)
        for worker in self.workers.values():
            for job in [job for job in worker.queue if job.ref in gone]:
                worker.queue.remove(job)
        self._forget_unless_open(cancellation.key)
        log.info("order_cancelled", extra={"fields": {"order": cancellation.key, "code": code}})
        await self._refresh()
        return code

    async def _refresh(self) -> None:
        """After a write that is durable: that it can't be read back now undoes nothing of it."""
        try:
            await self.floor.refresh()
        except JournalError as trouble:
            log.warning("lanes_not_read", extra={"fields": {"error": str(trouble)}})

    def _served(self, job: Job) -> None:
        if job.key is not None:
            self._forget_unless_open(job.key)

    def _forget_unless_open(self, key: OrderKey) -> None:
        """An order is open while a worker still has a unit of it."""
        jobs = (job for worker in self.workers.values() for job in (worker.current, *worker.queue))
        if not any(job is not None and job.key == key for job in jobs):
            self.floor.runs.pop(key, None)

    def _enqueue(self, unit: UnitJob) -> None:
        key = unit.ref.key
        run = self.floor.runs.setdefault(key, order_run(unit, self._clock))
        cabinet = self.floor.cabinet_of(unit.channel)
        self.workers[cabinet.name].queue.append(Job(unit.channel, run, unit=unit))
        self.bell.ring()

    def _move(self, job: Job, channel: str) -> None:
        """To the worker of another lane; ahead of younger orders, for it came first."""
        unit = replace(job.unit, channel=channel) if job.unit else None
        worker = self.workers[self.floor.cabinet_of(channel).name]
        worker.queue.appendleft(replace(job, channel=channel, unit=unit))
        self.bell.ring()

    # ------------------------------------------------------------------ technicians

    async def may_test(self, channel: str) -> None:
        """Raises Refused, with the remedy, where a test vend of the lane can't begin now."""
        await self._open.wait()
        if self.floor.stopping:
            raise Refused("shutting_down", "the daemon is stopping")
        if self._rules.tests_need_service_mode and self.floor.service is None:
            raise Refused(
                "not_in_service_mode",
                "test vends need service mode here ([service] tests_need_service_mode): "
                "`vendctl service on` first",
            )
        lane = self.floor.lanes.get(channel)
        if lane is None:
            raise Refused("unknown_channel", "there is no lane {lane}", lane=channel)
        if lane.health is LaneHealth.UNRESOLVED:
            raise Refused(
                "unresolved",
                "lane {lane} has {count} unit(s) of unknown outcome: "
                "something may hang in it. Look, count, then `vendctl stock set {lane} N`",
                lane=channel,
                count=lane.uncertain,
            )
        cabinet = self.floor.cabinet_of(channel)
        trouble = self.floor.cabinet_trouble(cabinet)
        if trouble:
            if cabinet.name in self.floor.stopped:
                raise Refused(
                    "out_of_service",
                    "cabinet {cabinet}: {trouble}; `vendctl cabinet start {cabinet}` when its "
                    "motors may turn again",
                    cabinet=cabinet.name,
                    trouble=trouble,
                )
            raise Refused(
                "out_of_service",
                "cabinet {cabinet}: {trouble}; `vendctl link` says why",
                cabinet=cabinet.name,
                trouble=trouble,
            )
        station = self.stations[cabinet.board]
        if station.quarantine is not None or station.recovering:
            raise _wait_for(station, self._clock.monotonic())
        worker = self.workers[cabinet.name]
        if not self._free_for_test(worker):
            before = [job for job in (worker.current, *worker.queue) if job is not None]
            if any(job.test for job in before):
                raise Refused(
                    "busy",
                    "cabinet {cabinet} serves a test vend; wait for its end",
                    cabinet=cabinet.name,
                )
            raise Refused(
                "busy", "cabinet {cabinet} serves an order; wait for its end", cabinet=cabinet.name
            )

    async def test(
        self,
        channel: str,
        test_id: str,
        who: str,
        progress: Callable[[str, Mapping[str, Any]], None],
    ) -> Finding:
        """One test vend (P6): the rules of every vend, ahead of the queue.

        Cancelled while it waits, it never moves the motor; a cycle that runs goes on to
        its end. Raises Refused when the lane can't be tested now.
        """
        await self.may_test(channel)
        worker = self.workers[self.floor.cabinet_of(channel).name]
        done: asyncio.Future[Finding] = asyncio.get_running_loop().create_future()
        vend = self.tests[test_id] = TestVend(test_id, channel, who, done, progress)
        run = OrderRun(self._clock.monotonic() + TEST_STARTS_WITHIN_S)
        worker.queue.appendleft(Job(channel, run, test=vend))
        self.bell.ring()
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            run.expires = float("-inf")  # no deadline passes while a cycle of it runs
            self.bell.ring()
            raise
        finally:
            del self.tests[test_id]

    def stop_test(self, test_id: str) -> TestStop:
        """No (further) cycle of this test vend. What becomes of its motor:

        `untouched`: no cycle of it is open, and none will be. `stopping`: the board is told, again
        and again until its cycle is over. `runs_on`: its board knows no such command.
        Refused (`unknown_test`): nothing of that id runs. A customer's cycle has no test_id.
        """
        vend = self.tests.get(test_id)
        if vend is None:
            raise Refused("unknown_test", "no test {test} runs here: it is over", test=test_id[:40])
        worker = next((each for each in self.workers.values() if each.runs(vend)), None)
        channel = vend.channel
        again, vend.stop_asked = vend.stop_asked, True
        self.bell.ring()
        if worker is None:
            return TestStop(channel, "untouched")
        if not self.floor.stations[worker.cabinet.board].board.capabilities.can_stop:
            return TestStop(channel, "runs_on")
        if not again and self._helpers is not None:
            self._helpers.create_task(self._stop_motor(worker, vend), name=f"stop {test_id}")
        return TestStop(channel, "stopping")

    async def _stop_motor(self, worker: CabinetWorker, vend: TestVend) -> None:
        """STOP means nothing to a board that has not begun with the cycle yet, and a line may be
        lost: it is said until the cycle has its outcome."""
        board = self.floor.stations[worker.cabinet.board].board
        while (running := worker.running) is not None and worker.runs(vend):
            tick = self.bell.tick()
            try:
                await board.stop(running.cycle_id)
            except BoardError as trouble:
                log.warning("stop_unheard", extra={"fields": {"error": str(trouble)[:200]}})
            await Bell.wait(tick, self._clock, STOP_AGAIN_S)

    def _free_for_test(self, worker: CabinetWorker) -> bool:
        """Nobody is before it; or, in service mode, only customers' units that wait for its end."""
        before = [job for job in (worker.current, *worker.queue) if job is not None]
        if self.floor.service is None or worker.running is not None:
            return not before
        return all(job.test is None for job in before)

    def testing(self) -> bool:
        """Whether a test vend waits or runs."""
        jobs = (job for worker in self.workers.values() for job in (worker.current, *worker.queue))
        return any(job is not None and job.test is not None for job in jobs)

    # ------------------------------------------------------------------ for people

    def running(self) -> list[Running]:
        return [worker.running for worker in self.workers.values() if worker.running]


def _wait_for(station: Station, now: float) -> Refused:
    """Of a board that owes its word on an earlier cycle: what a technician may do about it."""
    name, quarantine = station.board.name, station.quarantine
    if quarantine is None:
        return Refused(
            "quarantined",
            "board {board}: a cycle that was found open at the start is being settled; "
            "`vendctl status` says when it is over",
            board=name,
        )
    return Refused(
        "quarantined",
        "board {board} has not told what became of cycle {cycle} (lane {lane}), and its motor "
        "may still turn: nothing is driven there for {seconds:.0f} s more, or until it tells",
        board=name,
        cycle=quarantine.cycle.cycle_id,
        lane=quarantine.cycle.channel,
        seconds=max(0.0, quarantine.until - now),
    )


def _sensed_channels(cabinets: Sequence[Cabinet], board: str) -> frozenset[str]:
    return frozenset(
        lane.channel
        for cabinet in cabinets
        if cabinet.board == board and cabinet.drop_sensor
        for lane in cabinet.lanes
    )
