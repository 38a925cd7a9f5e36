"""The machine while it changes: what `vendctl watch` shows, as lines that tell only changes.

Nobody pays while nobody watches. Each watcher has the picture that it was told last, and
hears how the present one differs: a slow one misses steps in between and never a state,
and holds no more memory than one picture. The journal is read only after it was written.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from controller.dispensing.bell import Bell
from controller.dispensing.cabinet import CabinetWorker, Running
from controller.dispensing.dispenser import Dispenser
from controller.dispensing.interfaces import Clock, LaneState
from controller.errors import JournalError
from controller.journal.journal import Journal
from controller.service import shapes

LOOK_S = 0.2
"""Between two looks, and so often while a cycle runs, whose states ring no bell: five a second
are as fast as a person reads."""

REST_S = 1.0
"""While nothing runs: the outbox drains, and the broker comes and goes, without our bell."""

STATE_OF: Mapping[str, str] = {
    "frame_written": "written",
    "acknowledged": "accepted",
    "moving": "moving",
    "ended": "ended",
}
"""Events of a cycle's trace -> the state that the first of its kind leads to."""

MOMENTS_KEPT = 64
"""Remembered for one watcher: a cabinet has one cycle at a time, and a board one quarantine."""

Moments = dict[tuple[str, int], float]
SERVICE_ENDS = ("service mode ends", 0)
STEADY_S = 0.5
"""A sum of two clocks and a rounding that differs by less is the same moment."""

Part = dict[str, Any]
Parts = dict[str, Part]


class Live:
    def __init__(
        self,
        dispenser: Dispenser,
        journal: Journal,
        clock: Clock,
        status: Callable[[Mapping[str, Any]], shapes.Status],
        lane: Callable[[LaneState], shapes.LaneView],
        awaited: Callable[[str, Sequence[str]], str],
    ) -> None:
        """`status(facts)`, `lane(state)` and `awaited(channel, running)` are
        the words of `operations`, so that a watcher and `vendctl status` are told the same."""
        self._dispenser = dispenser
        self._journal = journal
        self._clock = clock
        self._status = status
        self._lane = lane
        self._awaited = awaited

    async def watch(self) -> AsyncGenerator[Mapping[str, Any], None]:
        """`shapes.WatchLine`s, for ever: a snapshot, then what changed."""
        told: Parts = {}
        facts: dict[str, Any] | None = None
        commits = -1
        moments: Moments = {}
        while True:
            tick = self._dispenser.bell.tick()
            if commits != self._journal.commits or facts is None:
                commits = self._journal.commits
                facts = await self._facts() or facts
            now = self._look(facts or NOTHING_READ, moments)
            at = round(self._clock.wall(), 3)
            if not told:
                yield {"part": "snapshot", "at": at, "data": now}
            else:
                for part, data in now.items():
                    if changed := difference(told[part], data):
                        yield {"part": part, "at": at, "data": changed}
            told = now
            await self._clock.sleep(LOOK_S)
            if not self._dispenser.running():
                await Bell.wait(tick, self._clock, REST_S - LOOK_S)

    async def _facts(self) -> dict[str, Any] | None:
        """None: it can't be read now, which `machine` shows as the journal's problem."""
        try:
            return await self._journal.at_hand()
        except JournalError:
            return None

    def _look(self, facts: Mapping[str, Any], moments: Moments) -> Parts:
        status = self._status(facts)
        machine: Part = {
            name: value
            for name, value in status.items()
            if name not in ("boards", "cabinets", "moving_lanes", "lanes_down", "unknown")
        }
        machine["clock"] = {name: status["clock"][name] for name in ("believed", "newest")}
        machine["stopping"] = self._dispenser.floor.stopping
        machine["service_mode"] = self._service_mode(status["service_mode"], moments)
        return {
            "cycles": {
                name: self._cycle(worker, moments)
                for name, worker in self._dispenser.workers.items()
            },
            "machine": machine,
            "boards": {
                name: self._board(name, board, moments) for name, board in status["boards"].items()
            },
            "cabinets": dict(status["cabinets"]),
            "lanes": {
                channel: self._lane(state) for channel, state in self._dispenser.floor.lanes.items()
            },
            "unknown": facts["unknown"],
            "messages": facts["messages"],
            "events": facts["events"],
        }

    def _service_mode(
        self, view: shapes.ServiceModeView | None, moments: Moments
    ) -> dict[str, Any] | None:
        """With the moment at which it leaves by itself, told anew when an act moved it."""
        if view is None:
            return None
        until = round(self._clock.wall() + view["idle_left_s"], 1)
        told = moments.get(SERVICE_ENDS, 0.0)
        if abs(told - until) > STEADY_S:
            told = moments[SERVICE_ENDS] = until
        return {"who": view["who"], "since": view["since"], "until": told}

    def _board(self, name: str, board: shapes.BoardView, moments: Moments) -> Part:
        """With the moment at which a quarantine ends instead of what is left of it, which
        would be another number at each look."""
        station = self._dispenser.stations[name]
        view = {key: value for key, value in board.items() if key != "quarantined_until_s"}
        view["quarantined_until"] = None
        if station.quarantine is not None:
            ends = "quarantine", station.quarantine.cycle.cycle_id
            view["quarantined_until"] = self._moment(moments, ends, station.quarantine.until)
        view["eye_changes"] = [[round(at, 3), level] for at, level in station.eye_changes]
        return view

    def _moment(self, moments: Moments, name: tuple[str, int], monotonic: float) -> float:
        """Wall time of a monotonic moment: computed once, for it would be another microsecond
        at each look."""
        if name not in moments:
            if len(moments) >= MOMENTS_KEPT:
                moments.pop(next(iter(moments)))
            left = monotonic - self._clock.monotonic()
            moments[name] = round(self._clock.wall() + left, 3)
        return moments[name]

    def _cycle(self, worker: CabinetWorker, moments: Moments) -> Part | None:
        """The cabinet's cycle: the one that runs, or waits to begin, or ran last."""
        job, newest = worker.current, worker.newest
        closing = newest is not None and newest.job is job and newest.life.finding is not None
        if job is not None and worker.running is None and not closing:
            running = [each.job.name for each in self._dispenser.running()]
            return {
                "channel": job.channel,
                "purpose": job.name,
                "state": "waiting",
                "why": self._awaited(job.channel, running),
            }
        return None if newest is None else self._life(newest, moments)

    def _life(self, cycle: Running, moments: Moments) -> Part:
        life = cycle.life
        opened = self._moment(moments, ("opened", cycle.cycle_id), cycle.started)
        times = {"opened": opened}
        for line in cycle.trace:
            if (state := STATE_OF.get(line["event"])) is not None:
                times.setdefault(state, line["at"])
        finding = life.finding
        refused = life.refusal.reason if life.refusal else life.withdrawal
        reason = finding.reason if finding else refused
        return {
            "channel": cycle.job.channel,
            "purpose": cycle.job.name,
            "cycle_id": cycle.cycle_id,
            "state": life.state.value,
            "times": times,
            "line_up": life.line_up,
            "outcome": finding.outcome.value if finding else None,
            "reason": reason.value if reason else None,
            "evidence": finding.evidence.value if finding else None,
            "drops": finding.drops if finding else 0,
        }


NOTHING_READ: Mapping[str, Any] = {
    "totals": {"open_orders": 0, "open_units": 0},
    "waiting": {},
    "unknown": {},
    "stopped_by": {},
    "messages": {},
    "events": {},
}


def difference(told: Mapping[str, Any], now: Mapping[str, Any]) -> Part:
    """What is new or other in `now`; None for what is gone."""
    changed = {key: value for key, value in now.items() if key not in told or told[key] != value}
    return {**changed, **{key: None for key in told if key not in now}}
