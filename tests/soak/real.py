"""The real daemon with a real broker and an emulator on ptys, at the highest load, for minutes.

As many orders wait as the daemon takes, the motors turn twenty times as fast as real ones,
commands come again, the local service is asked, and the broker is killed now and then.
Its sockets, threads and pages are the real ones, which the simulated day cannot show.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

from tests.soak import figures
from tests.soak.figures import Sample
from tests.soak.flat import Growth, growths
from tests.system.platform_client import Platform
from tests.system.site import SPIRAL_ON_XY, TRACK_ON_VBP, CabinetPlan, Lane, Site
from tests.system.waiting import wait_for

SPEED = 20.0
"""Of the emulated motors: a cycle takes some 30 ms, and the daemon is what is busy."""
GOODS = 250
WAITING = 30
"""Orders sent and not finished: of 64 that the daemon takes, so that none is told `busy`."""
REFILL_S = 30.0
CUT_S = 20.0
"""Between two kills of the broker: each costs sockets, a session and a reconnection."""
ASK_S = 5.0
AGAIN = 0.2
"""Part of the commands that come twice."""
SAMPLE_S = 2.0
WARM_UP = 0.4
"""Part of the time: SQLite's and the allocator's caches fill."""
BOUNDS = (("descriptors", 0.0), ("threads", 0.0), ("KiB resident", 1536.0))
"""Growth from the first third behind the warm-up to the last. On two busy cores five minutes are
1,305 orders, some 520 of them between the middles of those thirds: a leak of 3 KiB an order is
over 1.5 MiB. Descriptors and threads are exact; smaller leaks need the simulated day."""


class Till(Platform):
    """The platform of the tests, which knows at any time which orders have ended."""

    def __init__(self, port: int, machine_no: str) -> None:
        super().__init__(port, machine_no)
        self.ended: set[int] = set()

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        super()._on_message(client, data, message)
        if message.topic.endswith("/order"):
            body = json.loads(message.payload)
            if body["status"] in {"finished", "rejected"}:
                self.ended.add(body["order_id"])


@dataclass
class Minutes:
    seconds: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    emulator: list[Sample] = field(default_factory=list)
    orders: int = 0
    units: int = 0
    cuts: int = 0
    asked: int = 0
    waiting: set[int] = field(default_factory=set)
    """Orders that were sent and have not ended."""
    journal: list[int] = field(default_factory=list)
    """Bytes of database and log."""

    def verdict(self) -> list[Growth]:
        series = {name: [each[name] for each in self.samples] for name in self.samples[0]}
        hours = [second / 3600 for second in self.seconds]
        return growths(hours, series, hours[-1] * WARM_UP, BOUNDS)


def site(directory: Path) -> Site:
    """Both cabinets, each lane as full as a lane can be."""

    def full(plan: CabinetPlan) -> CabinetPlan:
        lanes = tuple(
            Lane(lane.channel, lane.number, lane.product_id, GOODS) for lane in plan.lanes
        )
        return replace(plan, lanes=lanes)

    made = Site(directory, (full(TRACK_ON_VBP), full(SPIRAL_ON_XY)), speed=SPEED)
    made.platform = Till(made.broker.port, made.platform.machine_no)
    return made


def play(directory: Path, minutes: float, seed: int) -> Minutes:
    """AssertionError where a promise is broken; whether anything grew is `verdict`'s."""
    machine = site(directory)
    try:
        machine.up()
        return _load(machine, minutes * 60, random.Random(f"real/{seed}"))
    finally:
        machine.close()


def _load(machine: Site, length_s: float, chance: random.Random) -> Minutes:
    seen, platform = Minutes(), machine.platform
    assert isinstance(platform, Till)
    numbers = itertools.count(1)
    began = time.monotonic()
    due = {_sample: began, _ask: began, _fill: began + REFILL_S, _cut: began + CUT_S}
    while (now := time.monotonic()) < began + length_s:
        chore = next((chore for chore, at in due.items() if now >= at), None)
        if chore is not None:
            chore(machine, seen, now - began)
            due[chore] = time.monotonic() + EVERY_S[chore]
        seen.waiting -= platform.ended
        while len(seen.waiting) < WAITING:
            number = next(numbers)
            quantity = chance.choice((1, 1, 2))
            line = {"product_id": chance.choice((121, 122, 221, 222)), "quantity": quantity}
            command = platform.dispense(number, [line])
            seen.waiting.add(number)
            seen.orders, seen.units = number, seen.units + quantity
            if chance.random() < AGAIN:
                platform.send("dispense", command)
        with platform._news:
            platform._news.wait(0.05)
    wait_for(lambda: platform.ended.issuperset(seen.waiting), "the orders have ended", 60)
    machine.wait_rest(60)
    machine.judge()
    return seen


def _sample(machine: Site, seen: Minutes, at: float) -> None:
    seen.seconds.append(at)
    seen.samples.append(figures.process(machine.daemon.pid))
    seen.emulator.append(figures.process(machine.emulator.pid))
    state = machine.directory / "state"
    seen.journal.append(sum(path.stat().st_size for path in state.glob("journal.db*")))


def _ask(machine: Site, seen: Minutes, _at: float) -> None:
    words = ("status", "lanes", "orders", "events", "link")
    machine.daemon.ctl(words[seen.asked % len(words)])
    seen.asked += 1


def _cut(machine: Site, seen: Minutes, _at: float) -> None:
    machine.broker.save()
    machine.broker.kill()
    machine.broker.up()
    platform = machine.platform
    platform.wait_subscribed()
    seen.cuts += 1


def _fill(machine: Site, seen: Minutes, _at: float) -> None:
    """The technician comes when nothing moves: while it does, nobody may count."""
    platform = machine.platform
    assert isinstance(platform, Till)
    wait_for(lambda: platform.ended.issuperset(seen.waiting), "the orders have ended", 60)
    machine.daemon.ctl("stock", "fill", "--yes")
    for plan in machine.cabinets:
        for lane in plan.lanes:
            machine.emulator.tell(plan.board, do="refill", lane=lane.number, goods=GOODS)


EVERY_S = {_sample: SAMPLE_S, _ask: ASK_S, _fill: REFILL_S, _cut: CUT_S}
"""After the end of the one before: a slow machine does not do chores alone."""
