"""P8, P9, P10: the real daemon is killed while a technician gives verdicts, cancels and undoes.

Each act is asked over the socket until it is answered, across the kills: it is done once, whole,
with its row in the audit, however often it was asked. The journal of an earlier life is written
by the journal itself: so many unknown units would take a real board minutes of quarantine.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import random
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controller import config
from controller.cli.client import Daemon as Asked
from controller.cli.client import Trouble
from controller.clock import LoopClock, boot_id
from controller.dispensing.interfaces import CycleEnd, CycleIntent, Placement
from controller.journal.journal import Journal, open_journal
from controller.model import Evidence, Finding, Order, OrderKey, OrderLine, Outcome, Reason, UnitRef
from controller.uplink.messages import Payloads
from tests.crash.every_boundary import VBP, XY
from tests.system import judge
from tests.system.site import MACHINE_NO, Site
from tests.system.waiting import wait_for
from tests.torture.machine import changed, wal

pytestmark = pytest.mark.system

ME = getpass.getuser()
UNKNOWN_ORDER, UNKNOWN_UNITS = 1, 9
WAITING_ORDERS = range(101, 106)
"""With one or two units, all on A3: as many as lie there."""
TESTED = {"B1": 2, "B2": 3}
"""Lane -> what own tests dropped there."""
KILLS = 2
DROPPED = Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR, drops=1)
SILENT = Finding(Outcome.UNKNOWN, Reason.NO_ANSWER)
ASKS_AGAIN_S = 0.02
ACTS_TAKE_S = 0.02
"""As long as a handful of acts over the socket: an instant of these is where the kill comes."""


# ------------------------------------------------------------------ the earlier life


async def earlier_life(site: Site) -> None:
    """Nine unknown units, five own tests that dropped, five orders that wait for the end of a
    service mode."""
    settings, _ = config.load(site.daemon.settings)
    journal, _ = open_journal(
        settings.machine.state_dir, clock=LoopClock(), announcer=Payloads(MACHINE_NO),
        boot=boot_id(), skew_s=30.0, retention_days=400,
    )  # fmt: skip
    try:
        await journal.sync_lanes(config.cabinets(settings))
        await accepted(journal, UNKNOWN_ORDER, UNKNOWN_UNITS, "A1")
        for unit in range(1, UNKNOWN_UNITS + 1):
            ref = UnitRef(OrderKey(UNKNOWN_ORDER), unit)
            number = lane_of(unit)
            intent = CycleIntent(ref, None, f"A{number}", "main", number, {}, 5.0)
            await one_cycle(journal, intent, SILENT)
        for channel, tests in TESTED.items():
            for each in range(tests):
                test, number = f"{channel}-{each}", int(channel[1:])
                await journal.note_test(channel, test, ME, "lane_test")
                intent = CycleIntent(None, test, channel, "side", number, {}, 5.0, ME)
                await one_cycle(journal, intent, DROPPED)
        for order in WAITING_ORDERS:
            await accepted(journal, order, 1 + order % 2, "A3")
        await journal.service_on(ME)
    finally:
        await journal.close()


async def accepted(journal: Journal, order: int, units: int, channel: str) -> None:
    now = int(time.time())
    lines = (OrderLine(121, units),)
    asked = Order(OrderKey(order), f"trade-{order}", now, now + 90, lines)
    places = tuple(
        Placement(unit, 121, channel, named=False, record_id=None) for unit in range(1, units + 1)
    )
    await journal.accept(asked, lambda _order, _lanes: places)


async def one_cycle(journal: Journal, intent: CycleIntent, finding: Finding) -> None:
    cycle = await journal.open_cycle(intent)
    await journal.close_cycle(cycle.cycle_id, CycleEnd(finding, [], final=True, failure_limit=0))


# ------------------------------------------------------------------ the technician


@dataclass
class Technician:
    """Asks for each act until it is answered, in a thread of their own."""

    socket: str
    acts: list[tuple[str, dict[str, Any]]]
    """Where, and the body."""
    let: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Acts that may begin."""
    answered: int = 0
    asked_again: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Code -> acts of which an earlier asking had been done, and nobody had heard of it."""
    refused_at_once: list[str] = field(default_factory=list)

    def work(self, over: threading.Event) -> None:
        asked = Asked(self.socket)
        for where, body in self.acts:
            unheard = 0
            self.let.acquire()
            while not over.is_set():
                try:
                    asked.act(where, **body)
                    break
                except Trouble as trouble:
                    if trouble.code in {"unreachable", "connection_lost"}:
                        unheard += trouble.code == "connection_lost"
                        over.wait(ASKS_AGAIN_S)
                        continue
                    if not unheard:
                        self.refused_at_once.append(f"{where}: {trouble}")
                    self.refused[trouble.code] += 1
                    break
            self.asked_again += unheard
            self.answered += 1


@contextlib.contextmanager
def at_work(technician: Technician) -> Iterator[threading.Thread]:
    over = threading.Event()
    thread = threading.Thread(target=technician.work, args=(over,))
    thread.start()
    try:
        yield thread
    finally:
        over.set()
        technician.let.release(len(technician.acts))
        thread.join(30)


def what_they_do(chance: random.Random) -> list[tuple[str, dict[str, Any]]]:
    acts: list[tuple[str, dict[str, Any]]] = [
        (
            f"/v1/orders/{UNKNOWN_ORDER}/units/{unit}/resolve",
            {"outcome": verdict(unit), "revision": 1, "reason": "looked"},
        )
        for unit in range(1, UNKNOWN_UNITS + 1)
    ]
    acts += [(f"/v1/orders/{order}/cancel", {"reason": "wrong"}) for order in WAITING_ORDERS]
    acts += [("/v1/stock/undo-test", {"channel": channel}) for channel in TESTED]
    chance.shuffle(acts)
    return acts


def lane_of(unit: int) -> int:
    """On which an unknown unit was driven."""
    return 1 + unit % 2


def verdict(unit: int) -> str:
    return "delivered" if unit % 3 else "not_delivered"


# ------------------------------------------------------------------ the test


@pytest.fixture
def site() -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="vck-"))
    made = Site(directory, [VBP, XY], service={"open_orders": "wait"})
    yield made
    made.close()
    shutil.rmtree(directory, ignore_errors=True)


def test_killed_while_a_technician_gives_verdicts_cancels_and_undoes(site: Site) -> None:
    seed = random.randrange(10_000)
    print(f"seed {seed}")  # the instants are real ones: it gives the order of the acts again
    chance = random.Random(seed)
    asyncio.run(earlier_life(site))
    site.up()
    technician = Technician(str(site.daemon.control), what_they_do(chance))
    with at_work(technician) as thread:
        for _ in range(KILLS):
            strike(site, chance, technician)
            site.daemon.up()
        technician.let.release(len(technician.acts))
        thread.join(30)
        assert technician.answered == len(technician.acts)
        assert not technician.refused_at_once, "nobody had asked for it before"
    asked = Asked(str(site.daemon.control))
    seq = asked.read("/v1/status")["journal"]["last_seq"]
    site.platform.wait_for(lambda: site.platform.has_all(seq), "all of it is told")
    print(f"asked again {technician.asked_again}, then refused: {dict(technician.refused)}")
    # Of the units of the earlier life no emulator knows.
    site.judge(stock=False, fooled=UNKNOWN_UNITS)
    assert all(site.ledger(channel, "drive_frame") == [] for channel in site.lanes())
    told(site)
    booked(asked.read("/v1/lanes")["lanes"])
    site.daemon.terminate()
    audited(site)


def strike(site: Site, chance: random.Random, technician: Technician) -> None:
    """kill -9 at some instant of the next acts, or as soon as one of them reached the log."""
    committed = changed(lambda: wal(site))
    technician.let.release(len(technician.acts) // (KILLS + 1))
    end = time.monotonic() + chance.uniform(0.0, ACTS_TAKE_S)
    if chance.random() < 0.5:
        wait_for(committed, "a commit")
    else:
        time.sleep(max(0.0, end - time.monotonic()))
    site.daemon.kill()


def told(site: Site) -> None:
    """Each verdict is a revision of its own, the last; each cancelled unit has one result."""
    results = judge.final_results(site.facts())
    for unit, body in results[UNKNOWN_ORDER, ""].items():
        found = (body["outcome"], body["evidence"], body["revision"])
        assert found == (verdict(unit), "technician", 2), unit
    for order in WAITING_ORDERS:
        found = [(body["reason"], body["revision"]) for body in results[order, ""].values()]
        assert found == [("cancelled", 1)] * (1 + order % 2)


def booked(found: Sequence[Mapping[str, Any]]) -> None:
    """The uncertain items are settled, what the tests dropped is back."""
    assert judge.stock_breaches(found) == []
    lanes = {lane["channel"]: lane for lane in found}
    for channel in TESTED:
        assert (lanes[channel]["stock"], lanes[channel]["gone"]) == (8, 0)
    for number in (1, 2, 3):
        units = [unit for unit in range(1, UNKNOWN_UNITS + 1) if lane_of(unit) == number]
        gone = sum(verdict(unit) == "delivered" for unit in units)
        lane = lanes[f"A{number}"]
        assert (lane["stock"], lane["gone"], lane["uncertain"]) == (8 - gone, gone, 0)


def audited(site: Site) -> None:
    """One row for each verdict and each undoing; each cancelled unit stands in one row."""
    with contextlib.closing(sqlite3.connect(site.directory / "state" / "journal.db")) as journal:
        rows = journal.execute("SELECT action, target, detail FROM audit WHERE who = ?", (ME,))
        acts = [(action, target, json.loads(detail)) for action, target, detail in rows]
    verdicts = Counter(target for action, target, _ in acts if action == "resolve")
    units = range(1, UNKNOWN_UNITS + 1)
    assert verdicts == Counter(f"{UNKNOWN_ORDER}#{unit}" for unit in units)
    undone = {target: detail["items"] for action, target, detail in acts if "undo" in action}
    assert undone == TESTED
    assert sum("undo" in action for action, _, _ in acts) == len(TESTED)
    ended = Counter(
        (target, unit)
        for action, target, detail in acts
        if action == "order_cancel"
        for unit in detail["units"]
    )
    assert ended == Counter(
        (str(order), unit) for order in WAITING_ORDERS for unit in range(1, 2 + order % 2)
    )
