"""What people and tools may ask of the running daemon, answered from heart and journal.

Implements service.machine.Machine. Acting verbs write their audit row in the same
transaction as their effect; this module only brings the heart's picture up to date
afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from controller import __version__, prose
from controller.books import Books
from controller.checkup import Checkup
from controller.dispensing.dispenser import Dispenser
from controller.dispensing.floor import not_started
from controller.dispensing.interfaces import Clock, LaneState
from controller.dispensing.job import TestVend
from controller.dispensing.station import Station
from controller.errors import JournalError, Refused
from controller.eye_watch import watch_eye
from controller.journal.journal import Journal
from controller.journal.opening import Opening
from controller.lane_verdict import COMPARED
from controller.live import Live
from controller.model import Cabinet, Finding, LaneHealth, OrderKey, Outcome, Reason
from controller.service import shapes
from controller.service_mode import ServiceSwitch
from controller.test_outcome import outcome_step
from controller.tracing import Tracing
from controller.uplink.requests import StoredMessage
from controller.uplink.uplink import Uplink
from controller.view import View

WAITING_S = 0.5
"""Between two words of a test vend that waits, which are also the moments at which it can be
left: so soon after a Ctrl-C a hand is not yet in the machine."""

MOST_EYES = 2
"""Each look at an eye, 50 times a second, takes a sixth of its board's line."""

HISTORY = 20
"""Newest cycles of a lane that are shown: a lane's trouble shows in its last few."""


class Operations(Books):
    def __init__(
        self,
        machine_no: str,
        dispenser: Dispenser,
        journal: Journal,
        opening: Opening,
        view: View,
        clock: Clock,
        broker: Callable[[], shapes.BrokerStatus],
        ports: Mapping[str, str],
        service_mode: ServiceSwitch,
        tracing: Tracing,
        uplink: Callable[[], Uplink],
        checkup: Checkup,
    ) -> None:
        """`ports`: board -> the configured port, for `link`."""
        self._machine_no = machine_no
        self._dispenser = dispenser
        self._journal = journal
        self._opening = opening
        self._view = view
        self._clock = clock
        self._broker = broker
        self._ports = ports
        self._service_mode = service_mode
        self._eyes_watched = 0
        self._tracing = tracing
        self._uplink = uplink
        self._checkup = checkup
        self._live = Live(dispenser, journal, clock, self._status, self._lane, self._awaited)

    # ------------------------------------------------------------------ reading

    async def status(self) -> Mapping[str, Any]:
        return self._status(await self._journal.at_hand())

    def watch(self) -> AsyncGenerator[Mapping[str, Any], None]:
        return self._live.watch()

    def _status(self, facts: Mapping[str, Any]) -> shapes.Status:
        """`facts`: as the journal's `at_hand`."""
        totals = facts["totals"]
        floor = self._dispenser.floor
        moving: list[shapes.MovingLane] = [
            {
                "channel": running.job.channel,
                "cabinet": floor.cabinet_of(running.job.channel).name,
                "board": floor.cabinet_of(running.job.channel).board,
                "cycle_id": running.cycle_id,
                "purpose": running.job.name,
                "since": self._wall_of(running.started),
            }
            for running in self._dispenser.running()
        ]
        answer: shapes.Status = {
            "mode": self._view.mode(),  # type: ignore[typeddict-item]
            "machine_no": self._machine_no,
            "version": __version__,
            "since": self._view.since,
            "moving": bool(moving),
            "moving_lanes": moving,
            "may_start": self._may_start(),
            "broker": self._broker(),
            "boards": {
                name: self._view.board(station)
                for name, station in self._dispenser.stations.items()
            },
            "cabinets": self._view.cabinets(),
            "open_orders": totals["open_orders"],
            "open_units": totals["open_units"],
            "outbox": dict(facts["waiting"]),
            "last_stop": self._opening.last_stop,
            "clock": self._clock_view(),
            "journal": {
                "birth": self._journal.birth,
                "last_seq": self._journal.last_seq,
                "writable": not floor.unwritable,
                "problem": floor.unwritable,
                "lost": self._opening.lost,
                "set_aside": str(self._opening.set_aside) if self._opening.set_aside else None,
            },
            "service_mode": self._service_mode.view(),
            "lanes_down": {
                state.lane.channel: {"health": state.health.value, "reason": state.health_reason}
                for state in self._in_order()
                if state.health is not LaneHealth.OK
            },
            "stopped_by": facts["stopped_by"],
            "unknown": facts["unknown"],
        }
        return answer

    def _may_start(self) -> list[shapes.MayStart]:
        """P3: a motor that starts by itself hurts as one that turns."""
        running = [each.job.name for each in self._dispenser.running()]
        return [
            {
                "cabinet": name,
                "channel": jobs[0].channel,
                "purpose": jobs[0].name,
                "why": self._awaited(jobs[0].channel, running),
                "jobs": len(jobs),
            }
            for name, worker in self._dispenser.workers.items()
            if name not in self._dispenser.floor.stopped and (jobs := worker.waiting())
        ]

    async def orders(self, limit: int, before: int | None) -> Mapping[str, Any]:
        return await self._journal.orders(limit, before)

    async def order(self, order_id: int, delivery_id: str | None) -> Mapping[str, Any]:
        return {"orders": await self._journal.order(order_id, delivery_id)}

    async def lanes(self) -> Mapping[str, Any]:
        await self._dispenser.floor.refresh()
        return {"lanes": [self._lane(state) for state in self._in_order()]}

    async def lane(self, channel: str) -> Mapping[str, Any]:
        await self._dispenser.floor.refresh()
        state = self._dispenser.floor.lanes.get(channel)
        if state is None:
            raise Refused(
                "unknown_channel", "there is no lane {lane}; `vendctl lanes` lists", lane=channel
            )
        return {**await self._journal.lane(channel, HISTORY), "lane": self._lane(state)}

    async def link(self) -> Mapping[str, Any]:
        return {"ports": [self._port(name, st) for name, st in self._dispenser.stations.items()]}

    async def events(self, limit: int) -> Mapping[str, Any]:
        return {"events": await self._journal.events(limit)}

    def trace(
        self, seconds: int, board: str | None, *, follow: bool, quiet: bool
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        return self._tracing.told(seconds, board, follow=follow, quiet=quiet)

    async def doctor(self) -> Mapping[str, Any]:
        return await self._checkup.facts()

    async def journal_extract(self, rows: int) -> Mapping[str, Any]:
        return {"tables": await self._journal.extract(rows)}

    # ------------------------------------------------------------------ acting

    async def lane_enable(self, channel: str, reason: str, who: str) -> Mapping[str, Any]:
        return await self._lane_acted(
            channel, await self._journal.enable_lane(channel, reason, who)
        )

    async def lane_disable(self, channel: str, reason: str, who: str) -> Mapping[str, Any]:
        return await self._lane_acted(
            channel, await self._journal.disable_lane(channel, reason, who)
        )

    async def stock_set(self, channel: str, stock: int, who: str) -> Mapping[str, Any]:
        lane = self._dispenser.floor.lanes.get(channel)
        if lane is not None and stock > lane.lane.capacity:
            raise Refused(
                "over_capacity",
                "lane {lane} holds {capacity} at most, not {stock}",
                lane=channel,
                capacity=lane.lane.capacity,
                stock=stock,
            )
        return await self._lane_acted(channel, await self._journal.set_stock(channel, stock, who))

    async def stock_fill(self, cabinet: str | None, who: str) -> Mapping[str, Any]:
        if cabinet is not None:
            self._cabinet(cabinet)
        filled = await self._journal.fill(cabinet, who)
        await self._dispenser.floor.refresh()
        return {"lanes": [self._lane(state) for state in filled]}

    async def cabinet_stop(self, name: str, reason: str, who: str) -> Mapping[str, Any]:
        cabinet = self._cabinet(name)
        await self._journal.stop_cabinet(name, reason, who)
        await self._dispenser.floor.refresh()
        return self._cabinet_acted(cabinet)

    async def cabinet_start(self, name: str, who: str) -> Mapping[str, Any]:
        cabinet = self._cabinet(name)
        await self._journal.start_cabinet(name, who)
        await self._dispenser.floor.refresh()
        return self._cabinet_acted(cabinet)

    async def board_accept(self, name: str, who: str) -> Mapping[str, Any]:
        station = self._dispenser.stations.get(name)
        if station is None:
            names = ", ".join(self._dispenser.stations)
            raise Refused(
                "unknown_board",
                "there is no board {board}; there is {names}",
                board=name,
                names=names,
            )
        if not station.out_of_service:
            raise Refused("nothing_to_accept", "board {board} is in service as it is", board=name)
        await station.accept(who)
        return {"name": name, "board": self._view.board(station)}

    async def clock_accept(self, who: str) -> Mapping[str, Any]:
        await self._journal.accept_clock(who)
        self._dispenser.bell.ring()
        return {"clock": self._clock_view()}

    async def service_on(self, who: str) -> Mapping[str, Any]:
        await self._service_mode.on(who)
        return await self._service_acted()

    async def service_off(self, who: str) -> Mapping[str, Any]:
        await self._service_mode.off(who)
        return await self._service_acted()

    async def _service_acted(self) -> Mapping[str, Any]:
        moving = bool(self._dispenser.running())  # as it is before the count is waited for
        totals = await self._journal.totals()
        answer: shapes.ServiceActed = {
            "service_mode": self._service_mode.view(),
            "moving": moving,
            "open_units": totals["open_units"],
        }
        return answer

    async def test_lane(
        self, channel: str, cycles: int, who: str
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Steps as service.machine.Machine describes. Closed while no cycle is open, it begins
        none; a cycle that began is followed to its end."""
        counts = dict.fromkeys(Outcome, 0)
        for cycle in range(1, cycles + 1):
            test_id = f"{int(self._clock.wall())}-{secrets.token_hex(4)}"
            steps: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
            head = {"test_id": test_id, "cycle": cycle, "of": cycles, "channel": channel}
            await self._dispenser.may_test(channel)
            await self._journal.note_test(channel, test_id, who, "lane_test")

            def told(
                step: str,
                detail: Mapping[str, Any],
                steps: asyncio.Queue[Mapping[str, Any]] = steps,
                head: Mapping[str, Any] = head,
            ) -> None:
                event = "started" if step == "cycle_opened" else "progress"
                steps.put_nowait({"event": event, **head, "note": step, **detail})

            vend = asyncio.create_task(self._dispenser.test(channel, test_id, who, told))
            vend.add_done_callback(partial(_end_of, steps))
            cycle_id: int | None = None
            tested: TestVend | None = None
            try:
                while step := await self._step(steps, head):
                    cycle_id = step.get("cycle_id", cycle_id)
                    tested = self._dispenser.tests.get(test_id, tested)
                    yield step
                finding: Finding = await vend
            except Refused as refusal:
                # Noted already, and no cycle of it was opened: it has an outcome all the same.
                ended = replace(not_started(Reason.NOT_STARTED), raw={"why": refusal.code})
                with contextlib.suppress(JournalError):
                    await self._journal.finish_test(test_id, channel, ended)
                raise
            finally:
                vend.cancel()  # left while it waits; nothing happens to one that is over
            counts[finding.outcome] += 1
            eye = tested.eye if tested is not None and cycle_id is not None else None
            times = await self._journal.motor_times(channel, COMPARED + 1)
            yield outcome_step(head, finding, cycle_id, times, eye)
            if finding.outcome is Outcome.UNKNOWN:
                break  # something may hang there, or still turn: a person looks first
            if tested is not None and tested.stop_asked:
                break
        yield {"event": "finished", "channel": channel, **{str(k): n for k, n in counts.items()}}

    async def stop_test(self, test_id: str, who: str) -> Mapping[str, Any]:
        """The motor first, then the note of who stopped it: a full disk stops no STOP."""
        told = self._dispenser.stop_test(test_id)
        with contextlib.suppress(JournalError):
            await self._journal.note_test(told.channel, test_id, who, "test_stop")
        answer: shapes.TestStopped = {
            "test_id": test_id,
            "channel": told.channel,
            "motor": told.motor,
        }
        return answer

    async def eye(self, name: str, seconds: int) -> AsyncGenerator[Mapping[str, Any], None]:
        cabinet = self._cabinet(name)
        if self._eyes_watched >= MOST_EYES:
            raise Refused("busy", "{count} people look at a light eye already", count=MOST_EYES)
        self._eyes_watched += 1
        try:
            station = self._dispenser.stations[cabinet.board]
            lines = watch_eye(cabinet, station, self._clock, seconds)
            async with contextlib.aclosing(lines):
                async for line in lines:
                    yield line
        finally:
            self._eyes_watched -= 1

    async def _step(
        self, steps: asyncio.Queue[Mapping[str, Any]], head: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The next step of a test vend, `waiting` while none of its cycles is open; empty: over."""
        while True:
            try:
                async with self._clock.timeout(WAITING_S):
                    return await steps.get()
            except TimeoutError:
                running = [each.job.name for each in self._dispenser.running()]
                if f"test:{head['test_id']}" not in running:
                    return {
                        "event": "waiting",
                        **head,
                        "note": self._awaited(head["channel"], running),
                    }

    def _awaited(self, channel: str, running: Sequence[str]) -> str:
        """What a test vend of this lane waits for, as far as it shows from here."""
        cabinet = self._dispenser.floor.cabinet_of(channel)
        status = self._dispenser.stations[cabinet.board].board.status()
        if running:
            return prose.A_CYCLE_RUNS.format(job=running[0])
        if cabinet.drop_sensor and status.eye not in ("clear", "unverified"):
            return prose.EYE_IS.format(eye=status.eye)
        return self._view.cabinet(cabinet)["reason"] or prose.ITS_TURN

    # ------------------------------------------------------------------ shapes

    def _clock_view(self) -> shapes.ClockView:
        return {
            "believed": self._clock.believed(),
            "wall": self._clock.wall(),
            "newest": self._journal.newest_time or None,
        }

    def _wall_of(self, monotonic: float) -> float:
        return self._clock.wall() - (self._clock.monotonic() - monotonic)

    def _in_order(self) -> list[LaneState]:
        lanes = self._dispenser.floor.lanes
        cabinets = self._dispenser.floor.cabinets.values()
        return [
            lanes[lane.channel]
            for cabinet in cabinets
            for lane in cabinet.lanes
            if lane.channel in lanes
        ]

    def _lane(self, state: LaneState) -> shapes.LaneView:
        return {
            "channel": state.lane.channel,
            "cabinet": state.lane.cabinet,
            "board": self._dispenser.floor.cabinet_of(state.lane.channel).board,
            "number": state.lane.number,
            "product_id": state.lane.product_id,
            "capacity": state.lane.capacity,
            "stock": state.stock,
            "reserved": state.reserved,
            "free": state.free,
            "gone": state.gone,
            "uncertain": state.uncertain,
            "adjusted": state.adjusted,
            "loaded": state.loaded,
            "health": state.health.value,
            "health_reason": state.health_reason,
            "failures": state.failures,
            "cycles": state.cycles,
            "last_cycle_at": state.last_cycle_at,
        }

    async def _lane_acted(self, channel: str, state: LaneState) -> Mapping[str, Any]:
        await self._dispenser.floor.refresh()
        return {"lane": self._lane(self._dispenser.floor.lanes.get(channel, state))}

    def _cabinet(self, name: str) -> Cabinet:
        cabinet = self._dispenser.floor.cabinets.get(name)
        if cabinet is None:
            names = ", ".join(self._dispenser.floor.cabinets)
            raise Refused(
                "unknown_cabinet",
                "there is no cabinet {cabinet}; there is {names}",
                cabinet=name[:20],
                names=names,
            )
        return cabinet

    def _cabinet_acted(self, cabinet: Cabinet) -> Mapping[str, Any]:
        moving = self._dispenser.workers[cabinet.name].running is not None
        view = self._view.cabinet(cabinet)
        return {"name": cabinet.name, "cabinet": view, "moving": moving}

    def _port(self, name: str, station: Station) -> shapes.PortView:
        status = station.board.status()
        counters = dict(status.counters)
        last, mean = (counters.pop(f"round_trip_{each}_us", 0) for each in ("last", "mean"))
        trip: shapes.RoundTrip | None = None
        if counters.get("round_trips"):
            trip = {"last": last / 1000, "mean": mean / 1000}
        return {
            "board": name,
            "protocol": station.board.protocol,
            "port": self._ports.get(name, ""),
            "up": station.up,
            "since": self._wall_of(station.since),
            "counters": counters,
            "round_trip_ms": trip,
            "resets": [{"at": reset["at"], "cause": reset["cause"]} for reset in station.resets],
            "problem": str(status.detail.get("why", "")),
        }


def _end_of(steps: asyncio.Queue[Mapping[str, Any]], _vend: asyncio.Task[Finding]) -> None:
    steps.put_nowait({})


class StoredReports:
    """What the journal stored, for `request/results` (uplink.requests.Reports)."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def of_order(
        self, key: OrderKey, after: tuple[int, int], limit: int
    ) -> Sequence[StoredMessage] | None:
        found = await self._journal.messages_of(key, after, limit)
        return None if found is None else [StoredMessage(*message) for message in found]

    async def since(self, after: tuple[int, int], limit: int) -> Sequence[StoredMessage]:
        return [StoredMessage(*found) for found in await self._journal.messages_since(after, limit)]
