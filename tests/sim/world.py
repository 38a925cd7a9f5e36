"""Everything around the daemon: boards, broker, platform, hands, power; and the story of it.

`World(scenario, directory).play()` plays a scenario to its end: the happenings at their
times, then everything is mended and the machine comes to rest, then the judge has the
last word. A breach of a promise at any step raises `Breach`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from controller import config
from firmware_sim.board import EmulatedBoard, build_board
from firmware_sim.faults import Fault
from firmware_sim.scenario import BoardSettings, LaneSettings
from tests.disk.layer import Disk, Op, Where, is_preloaded, seed_sqlite
from tests.sim import clocks, hands, matrix, memories, rest, visits
from tests.sim.ambush import Ambushes
from tests.sim.books import YEAR_S
from tests.sim.bounce import Bounces
from tests.sim.broker import Broker, ModelLink, Stored
from tests.sim.clocks import WallClock
from tests.sim.invariants import Breach, Judge
from tests.sim.loops import START, SimLoop, Timeline
from tests.sim.machine import Cable, Machine, fresh_directory
from tests.sim.scenario import Made, Scenario
from tests.sim.settings import BAUDRATES, PLANS, settings_text
from tests.system.platform_client import Message

MACHINE_NO = "16327129"
ROOT = f"vending/v1/{MACHINE_NO}"
EPOCH = 1_763_900_000.0
BOUNCE_S = 0.1
"""Between a short life and the next: as in a storm, too short for boards to come to rest."""
"""Unix seconds at the beginning."""

REST_WITHIN_S = 900.0
"""After the last fault: twice the longest cycle timeout for a quarantine, orders of 90 s
behind it, a minute for a broker's refusals, twice over."""

SYSTEMD_RESTART_S = 5.0
"""The unit's RestartSec."""


SLOW_MS = 24_000
"""A turn beyond the cycle timeout of 20 s, on every fourth machine: its success comes when nobody
waits any more."""

WRITES = {"before_write": Where.BEFORE, "half_write": Where.HALF, "after_write": Where.AFTER}
"""Where in a call of the disk the daemon dies, by a happening's `on`."""
ACTS: Mapping[str, Callable[..., None]] = {
    "clock_step": clocks.step,
    "clock_drift": clocks.drift,
    "no_battery": clocks.no_battery,
    **memories.ACTS,
    **hands.ACTS,
    **visits.ACTS,
}
"""Happenings that have a file of their own; the others are the world's `do_` methods."""


@contextlib.contextmanager
def unheard_coroutines() -> Iterator[None]:
    """What the coroutines of a dead process say when they are let go of is nobody's business."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def collected_at_the_end() -> Iterator[None]:
    """Dead processes are cycles of objects, let go of in one go: a collector that runs in between
    looks at all that lives each time, and costs a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


class World:
    def __init__(self, scenario: Scenario, directory: Path) -> None:
        self.scenario = scenario
        self.chance = random.Random(f"world/{scenario.seed}")
        self.timeline = Timeline(scenario.seed)
        self.loop = self.timeline.loop("world")
        self.story: list[str] = []
        self.broken = ""
        """What ended the play, "" when it came to its end."""
        self.broker = Broker(self.loop, random.Random(f"broker/{scenario.seed}"))
        self.commands: list[dict[str, Any]] = []
        """Every dispense command that was sent, oldest first."""
        self.plan = PLANS[scenario.layout]
        self.copies: list[memories.Copy] = []
        self.boards = {name: self._board(name) for name in self.plan}
        self.cables = {
            name: Cable(board, self.loop, BAUDRATES[board.settings.protocol])
            for name, board in self.boards.items()
        }
        for name, board in self.boards.items():
            board.on_plug = self.cables[name].set_plugged
        file = fresh_directory(directory) / "vendingd.toml"
        file.write_text(settings_text(scenario, directory / "state"), encoding="utf-8")
        settings, _warnings = config.load(file)
        self.clock = WallClock(self.wall)
        link = type("WorldLink", (ModelLink,), {"broker": self.broker})
        self.disk = self._disk(directory) if is_preloaded() else None
        self.machine = Machine(self.timeline, settings, self.cables, link, self.clock, self.disk)
        self.ambushes = Ambushes(self._perform)
        self.bounces = Bounces()
        self.judge = Judge(self)
        self.broker.on_publish = self._heard
        self.broker.on_acknowledged = self._acknowledged
        self.broker.on_will = lambda state: self.judge.losses.read(state, self.now)
        self.broker.on_arrival = self._arrived
        for name, board in self.boards.items():
            board.ledger.watchers.append(self._watcher(name))
        self._waits_for = ""
        """The boundary from which the callbacks before the doom are counted; "" counting."""
        self._doom: tuple[int, Callable[[], None]] | None = None
        self._refused = 0
        """Calls of the disk that have failed."""
        self._refused_before = 0
        """As many of them when the newest daemon started."""

    def _disk(self, directory: Path) -> Disk:
        seed_sqlite(self.scenario.seed % (1 << 31) + 1)
        return Disk(directory, self.scenario.seed)

    # ------------------------------------------------------------------ time and story

    @property
    def now(self) -> float:
        return self.timeline.now - START

    def wall(self) -> float:
        """The true time."""
        return EPOCH + self.now

    def tell(self, actor: str, what: str) -> None:
        self.story.append(f"{self.now:9.3f} s  {actor:10} {what}")

    def _board(self, name: str) -> EmulatedBoard:
        plan = self.plan[name]
        slow = plan.protocol == "xy" and self.scenario.seed % 4 == 2
        lanes = tuple(
            LaneSettings(
                number=number,
                kind=plan.kind,
                goods=hands.GOODS,
                run_ms=SLOW_MS if slow and number == 1 else 800,
                fall_ms=300,
            )
            for number in plan.lanes.values()
        )
        settings = BoardSettings(
            protocol=plan.protocol, name=name, lane=lanes,
            seed=self.scenario.seed + list(self.plan).index(name),  # a memory_id of its own
            **({} if plan.drop_sensor else {"eye": False}),
        )  # fmt: skip
        return build_board(settings, seed=self.scenario.seed, loop=self.loop, wall=self.wall)

    def _watcher(self, name: str) -> Callable[[Mapping[str, Any]], None]:
        def watch(line: Mapping[str, Any]) -> None:
            more = {k: v for k, v in line.items() if k not in {"event", "machine_ms", "at"}}
            self.tell(name, f"{line['event']} {more}")
            self.judge.physical(name, line)
            if line["event"] == "drive_frame":
                self.boundary("drive")

        return watch

    # ------------------------------------------------------------------ what the platform hears

    def _heard(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001
        name = topic.removeprefix(ROOT + "/")
        if name in {"result", "order", "event"}:
            self.tell("platform", f"hears {name} {payload.decode()[:400]}")
            self.judge.heard(Message(name, payload, retained, self.wall()))
            self.boundary("publish")

    def _arrived(self, stored: Stored) -> None:
        self.judge.arrived(stored)
        self.boundary("arrival")

    def _acknowledged(self, stored: Stored) -> None:
        self.judge.acknowledged(stored)
        self.boundary("ack")

    # ------------------------------------------------------------------ the run

    def play(self) -> None:
        """Raises Breach, or Deadlock when nothing would ever happen again."""
        seams = self.machine.seams(self.scenario.seed)
        with unheard_coroutines(), seams, collected_at_the_end():
            try:
                self._play()
            finally:
                with contextlib.ExitStack() as ends:
                    if self.disk is not None:
                        ends.callback(self.disk.stop)
                    self.machine.crash()
                for board in self.boards.values():
                    board.close()

    def _play(self) -> None:
        self.machine.boot()
        for happening in self.scenario.happenings:
            self._run_to(happening.at)
            self._perform((happening.kind, happening.more))
        self._mend()
        self._rest()
        rest.last_word(self.judge)

    def _perform(self, made: Made) -> None:
        kind, more = made
        self.tell("*", " ".join([kind, *(f"{name}={value}" for name, value in more.items())]))
        act = ACTS.get(kind)
        if act is not None:
            act(self, **more)
        else:
            getattr(self, f"do_{kind}")(**more)

    def _run_to(self, at: float) -> None:
        limit = START + at
        while self.timeline.now < limit:
            self._step(limit)

    def _step(self, limit: float = math.inf) -> None:
        stepped = self.timeline.step(limit)
        if stepped is not None:
            self._count_down(stepped)
        if self.disk is not None and stepped is not self.loop:
            self._look_at_disk(self.disk)
        if self.loop.failures:
            raise self.loop.failures[0]
        self.judge.step()

    def _mend(self) -> None:
        """The world calms down: nothing is broken any more, and power, cable, broker are there."""
        self.tell("*", "everything is mended")
        self._disarm()
        self.ambushes.lift()
        self.bounces.lift()
        if self.disk is not None:
            self._mend_disk(self.disk)
        self.broker.weather = type(self.broker.weather)()
        self.broker.start()
        self.clock.set_right()
        memories.uncross(self)
        for board in self.boards.values():
            board.lift()
            board.block_eye(on=False)
        if not self.machine.alive:
            self._start_again()
        if self.judge.time.most_ahead > YEAR_S:
            visits.accept_clock(self)

    def _rest(self) -> None:
        limit = self.now + REST_WITHIN_S
        looked = 0.0
        while True:
            if self.now - looked >= 1.0:
                looked = self.now
                if rest.at_rest(self.judge):
                    return
            self.judge.must(self.now <= limit, "liveness", f"at rest within {REST_WITHIN_S} s")
            self._step()

    # ------------------------------------------------------------------ happenings: the platform

    def do_order(self, lines: list[dict[str, Any]], ttl: int, age: int) -> None:
        number = len(self.commands) + 1
        issued = int(self.wall()) - age
        self._send(
            {
                "order_id": number,
                "trade_id": f"trade-{number}",
                "issued_at": issued,
                "expires_at": issued + ttl,
                "products": lines,
            }
        )

    def do_again(self, which: float) -> None:
        if self.commands:
            self._send(self.commands[int(which * len(self.commands))], new=False)

    def do_anew(self, which: float) -> None:
        """The same command with newer times, as a platform does after a rejection."""
        if self.commands:
            known = self.commands[int(which * len(self.commands))]
            if self.judge.losses.generation:
                # mqtt.md: after silence or a lost journal a command is never stamped anew.
                self._send(known, new=False)
                return
            issued = int(self.wall())
            self._send({**known, "issued_at": issued, "expires_at": issued + 90}, new=False)

    def do_conflict(self, which: float) -> None:
        if self.commands:
            known = self.commands[int(which * len(self.commands))]
            other = [{**known["products"][0], "quantity": 4}]
            self._send({**known, "products": other}, new=False)

    def do_cancel(self, which: float) -> None:
        number = int(which * (len(self.commands) + 2)) + 1
        body = {
            "order_id": number,
            "trade_id": f"trade-{number}",
            "issued_at": int(self.wall()),
        }
        self.broker.publish(f"{ROOT}/cancel", json.dumps(body).encode())

    def do_cancel_newest(self) -> None:
        if self.commands:
            self.do_cancel((len(self.commands) - 0.5) / (len(self.commands) + 2))

    def do_retained(self, which: float) -> None:
        if self.commands:
            known = self.commands[int(which * len(self.commands))]
            self.broker.publish(f"{ROOT}/dispense", json.dumps(known).encode(), retain=True)

    def do_nonsense(self, which: float) -> None:
        bad = (b"", b"{", b"\xff\xfe", b"[1]", b'{"order_id": true}', b"9" * 70_000)
        self.broker.publish(f"{ROOT}/dispense", bad[int(which * len(bad))])

    def _send(self, command: dict[str, Any], *, new: bool = True) -> None:
        if new:
            self.commands.append(command)
        self.judge.sent(command)
        self.broker.publish(f"{ROOT}/dispense", json.dumps(command).encode())

    # ------------------------------------------------------------------ happenings: crashes

    def do_kill(self, away_s: float, on: str, steps: int) -> None:
        self._when(on, steps, lambda: self._crash(away_s))

    def do_power(self, away_s: float, on: str, steps: int) -> None:
        self._when(on, steps, lambda: self._crash(away_s, power=True))

    def do_power_all(self, away_s: float, on: str, steps: int) -> None:
        """Daemon and boards together."""

        def cut() -> None:
            self.judge.matrix.trouble(matrix.POWER_ALL)
            self._crash(away_s, power=True)
            for board in self.boards.values():
                board.strike(Fault(kind="power_cut", seconds=away_s))

        self._when(on, steps, cut)

    def do_stop(self, away_s: float) -> None:
        machine = self.machine
        if machine.stop is not None and machine.loop is not None:
            machine.loop.call_soon(machine.stop.set)
            self._later_start(away_s + 30.0)

    def _when(self, on: str, steps: int, act: Callable[[], None]) -> None:
        """Behind so many callbacks of the daemon, counted from the next thing of that kind.

        A kind of `WRITES`: in so many changes of its disk, before, in the middle of or behind
        that one. Newest wins: a happening that waits when another comes is let go.
        """
        self._disarm()
        self._waits_for = on
        self._doom = (steps, act)
        if on in WRITES and self.disk is not None:
            self.disk.die_at(steps + 1, WRITES[on])
        elif on in WRITES or on == "now":
            self._waits_for = ""

    def _disarm(self) -> None:
        self._doom = None
        if self.disk is not None:
            self.disk.die_at(0)

    def boundary(self, where: str) -> None:
        """Something passed: arrival of a command, commit, drive, board's word, publish, ack."""
        if where == self._waits_for:
            self._waits_for = ""

    def do_ambush(self, boundary: str, steps: int, made: Made) -> None:
        self.ambushes.lay(boundary, steps, made)

    def do_bounce(self, lives: list[tuple[int, bool]]) -> None:
        self.bounces.lay(lives)
        self._crash(BOUNCE_S)

    def _count_down(self, stepped: SimLoop) -> None:
        if stepped is not self.machine.loop:
            return
        if (end := self.bounces.tick()) is not None:
            self._crash(BOUNCE_S, power=end[1])
            return
        self.ambushes.tick()
        if self._doom is None or self._waits_for:
            return
        left, act = self._doom
        self._doom = (left - 1, act)
        if left <= 0:
            self._doom = None
            act()

    def _crash(self, away_s: float, *, power: bool = False) -> None:
        if not self.machine.alive:
            return
        self.tell("computer", "loses its power" if power else "the daemon is killed")
        if self.machine.is_dead():
            self.judge.matrix.trouble(matrix.KILL_IN_WRITE)
        else:
            self.judge.matrix.trouble(matrix.POWER if power else matrix.KILL)
        self.machine.crash(self.chance.getrandbits(63) if power else None)
        self.judge.crashed()
        if self.disk is not None:
            self._refused = self.disk.refused  # by its death, not by a fault
        if power:
            self.machine.boot_id = f"boot-{self.machine.lives + 1}"
        self._later_start(away_s, power=power)

    def _later_start(self, away_s: float, *, power: bool = False) -> None:
        def start() -> None:
            if power:
                clocks.power_came_back(self)
            self._start_again()

        self.loop.call_later(away_s, start)

    def _start_again(self) -> None:
        if not self.machine.alive:
            self.tell("computer", f"the daemon starts, life {self.machine.lives + 1}")
            self.machine.boot()
            self.bounces.born()
        elif self.machine.stop is not None and self.machine.stop.is_set():
            self.loop.call_later(5.0, self._start_again)

    # ------------------------------------------------------------------ happenings: the disk

    def do_disk_fails(self, op: str, n: int, error: int) -> None:
        """The n-th next call of that kind fails."""
        if self.disk is not None:
            self.disk.fail(Op[op], n, error)

    def do_disk_full(self, room: int, lasts_s: float) -> None:
        if self.disk is not None:
            self.judge.matrix.trouble(matrix.DISK_FULL)
            self.disk.capacity(self.disk.used + room)
            self.loop.call_later(lasts_s, self.disk.capacity, None)

    def do_disk_read_only(self, lasts_s: float) -> None:
        if self.disk is not None:
            self.disk.read_only(on=True)
            self.loop.call_later(lasts_s, partial(self.disk.read_only, on=False))

    def _mend_disk(self, disk: Disk) -> None:
        for op in Op:
            disk.fail(op, 0, 0)
        disk.capacity(None)
        disk.read_only(on=False)

    def _look_at_disk(self, disk: Disk) -> None:
        """Whether a call of the disk was the daemon's last, or sent it away with a remedy."""
        refused, dead = disk.refused, disk.dead
        if refused > self._refused and not dead:
            self.judge.matrix.trouble(matrix.DISK_FAILS)
        self._refused = refused
        if dead and self._doom is not None:
            _, act = self._doom
            self._doom = None
            act()
        elif self.machine.ended is not None and self._may_give_up(disk):
            self.tell("computer", f"the daemon gives up: {self.machine.ended}")
            self.judge.counts["gave_up"] += 1
            self.judge.crashed()
            self.machine.crash()
            self.machine.ended = None
            self._later_start(SYSTEMD_RESTART_S)
        if not self.machine.alive:
            self._refused_before = disk.refused

    def _may_give_up(self, disk: Disk) -> bool:
        """A full disk alone stops a daemon only where it cannot make a journal (P12, P13)."""
        without = not (self.machine.state_dir / "journal.db").exists()
        return disk.refused > self._refused_before or without

    # ------------------------------------------------------------------ happenings: boards

    def do_fault(
        self,
        board: str,
        name: str,
        probability: float | None = None,
        lasts_s: float | None = None,
        delay_ms: float | None = None,
        started: bool | None = None,  # noqa: FBT001  (a scenario's own words)
        lane: int | None = None,
    ) -> None:
        self.judge.matrix.trouble(matrix.FAULT_GROUPS[name])
        hit = self.boards[board]
        seconds = lasts_s if probability is None else None
        fault = Fault(
            kind=name,
            probability=probability,
            seconds=seconds,
            delay_ms=delay_ms,
            started=started,
            lane=lane,
        )
        hit.arm(fault)
        if probability is not None and lasts_s is not None:
            self.loop.call_later(lasts_s, lambda: hit.lift(name))

    # ------------------------------------------------------------------ happenings: the broker

    def do_broker_cut(self) -> None:
        self.judge.matrix.trouble(matrix.BROKER)
        self.broker.cut()

    def do_broker_repeats(self) -> None:
        self.broker.repeat()

    def do_broker_away(self, away_s: float, forget: bool) -> None:  # noqa: FBT001
        self.judge.matrix.trouble(matrix.FORGOT if forget else matrix.BROKER)
        self.broker.stop(forget=forget)
        self.loop.call_later(away_s, self.broker.start)

    def do_broker_weather(self, name: str, probability: float, lasts_s: float) -> None:
        setattr(self.broker.weather, name, probability)
        self.loop.call_later(lasts_s, setattr, self.broker.weather, name, 0.0)

    # ------------------------------------------------------------------ hands

    def _act(self, call: Callable[[Any], Any]) -> None:
        """A technician's act on the running daemon; a refusal is an answer too."""
        daemon, loop = self.machine.daemon, self.machine.loop
        if daemon is None or loop is None:
            return
        operations = daemon.operations

        async def act() -> None:
            try:
                await call(operations)
            except Breach as broken:
                self.judge.broken = broken  # raised in a commit of this act
            except Exception as refused:  # noqa: BLE001
                self.tell("technician", f"is refused: {refused}")

        self.judge.hands.append(loop.create_task(act()))
