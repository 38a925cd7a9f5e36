"""From a merchant's POST to the callback: the real platform, broker, daemon and emulator.

The emulator's ledger is the judge of what really fell.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.platform.killed import POINTS
from tests.platform.merchant import Merchant
from tests.platform.process import MerchantServer, PlatformSim
from tests.system import judge
from tests.system.site import Site
from tests.system.test_books import wait_settled
from tests.system.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.system]

SETTLE_S = 40.0


@pytest.fixture
def told() -> Iterator[MerchantServer]:
    server = MerchantServer()
    yield server
    server.close()


class Stage:
    def __init__(self, site: Site, sim: PlatformSim, told: MerchantServer, http: Any) -> None:
        self.site, self.sim, self.told = site, sim, told
        self.merchant = Merchant(sim.url, http, notify_url=told.url)

    async def online(self) -> None:
        """Until the platform has heard of the machine."""
        while True:
            machines = (await self.merchant.plain("/rent/machines")).data
            if machines[0].get("is_online"):
                return
            await asyncio.sleep(0.05)

    async def stands(self, product: int, stock: int) -> None:
        """Until so many are for sale: the machine's next inventory may be a moment away."""
        while await self.merchant.stock(product) != stock:
            await asyncio.sleep(0.05)

    async def sell(self, trade: str, product: int, quantity: int = 1) -> tuple[int, int, list[str]]:
        """A paid order of one line, each of its deliveries asked for."""
        order_id, (record,) = await self.merchant.paid_order(trade, (product, quantity))
        asked = []
        while (answer := await self.merchant.deliver(order_id, record)).code == 0:
            asked.append(answer.data["delivery_id"])
        assert answer.code == 6034, answer
        return order_id, record, asked

    def told_of(self, order_id: int, times: int = 1) -> list[dict[str, Any]]:
        def enough() -> list[dict[str, Any]]:
            found = self.told.of(order_id)
            return found if len(found) >= times else []

        return wait_for(enough, f"{times} callbacks of order {order_id}", SETTLE_S)


@pytest.fixture
async def stage(
    told: MerchantServer,
) -> AsyncIterator[Stage]:
    directory = Path(tempfile.mkdtemp(prefix="vc-"))  # short, for the path of a Unix socket
    site = Site(directory, service={"remote_verbs": ["lane.test"]})
    sim = PlatformSim(site, directory / "platform")
    try:
        site.up()
        sim.up()
        async with aiohttp.ClientSession() as http:
            made = Stage(site, sim, told, http)
            await asyncio.wait_for(made.online(), 20)
            yield made
    finally:
        sim.end()
        site.close()
        shutil.rmtree(directory, ignore_errors=True)


async def test_the_whole_story(stage: Stage) -> None:
    """A good sale of two items behind the light eye, a jam, a lane's test, and a replay."""
    site, merchant = stage.site, stage.merchant
    order_id, record, asked = await stage.sell("3f2a58ad69b74e86b8a1a3da6fd75cc1", 121, 2)
    assert len(asked) == 2, "one item each, for an item in the eye hides the next"
    told = stage.told_of(order_id, 2)
    assert [(body["record_id"], body["deliver_status"]) for body in told] == [(record, "1")] * 2
    assert {body["delivery_id"] for body in told} == set(asked)
    assert len(site.ledger("A1", judge.FELL)) == 2
    assert (await merchant.query(order_id))["records"][0]["status"] == "IS_SUCCESS"

    site.fault("A2", "jam")
    jammed, _record, _asked = await stage.sell("jam-1", 122)
    (body,) = stage.told_of(jammed)
    assert (body["deliver_status"], body["floor_status"], body["error_msg"]) == (
        "0",
        "2",
        "Goods are Stuck",
    )
    answer = await merchant.signed(
        "/deliveries/debug",
        method="device.delivery.put",
        channel_name="B1",
        notify_url=stage.told.url,
    )
    assert answer.code == 0
    test = wait_for(
        lambda: [b for b in stage.told.told if b["delivery_id"] == answer.data["delivery_id"]],
        "the test's callback",
        SETTLE_S,
    )[0]
    assert (test["deliver_status"], "order_id" in test) == ("1", False)
    site.wait_ledger("B1", judge.FELL, 1)
    drives = len(site.ledger("A1", judge.DRIVE))
    assert (await merchant.deliver(order_id, record)).code == 6034
    assert len(site.ledger("A1", judge.DRIVE)) == drives == 2


async def test_an_unknown_is_a_timeout_until_a_technician_knows(stage: Stage) -> None:
    site = stage.site
    site.fault("B1", "ack_no_status")
    order_id, _record, _asked = await stage.sell("unknown-1", 221)
    (body,) = stage.told_of(order_id)
    assert body["deliver_status"] == "5"
    assert await stage.merchant.stock(221) == 7, "nobody puts back what may have fallen"
    wait_settled(site)
    site.daemon.ctl(
        "resolve", str(order_id), "1", "--delivered", "--reason", "the customer has it", "--yes"
    )
    later = stage.told_of(order_id, 2)[1]
    assert (later["deliver_status"], later["delivered"]) == ("1", 1)


async def test_kill_9_of_the_platform_loses_no_callback_and_sends_nothing_twice(
    stage: Stage,
) -> None:
    """Killed at random instants while it sells; each delivery is told, at least once."""
    chance = random.Random(5)
    sold: list[tuple[int, list[str]]] = []
    for number, product in enumerate((121, 221, 121, 221, 121, 221)):
        order_id, _record, asked = await stage.sell(f"kill-{number}", product)
        sold.append((order_id, asked))
        if number % 2:
            await asyncio.sleep(chance.uniform(0.0, 0.6))
            stage.sim.kill()
            await asyncio.sleep(chance.uniform(0.0, 0.4))
            stage.merchant.url = stage.sim.up()
            await asyncio.wait_for(stage.online(), 20)
    for order_id, asked in sold:
        assert {body["delivery_id"] for body in stage.told_of(order_id)} == set(asked)
    stage.site.wait_rest()
    said = {body["delivery_id"]: body["deliver_status"] for body in stage.told.told}
    fell = sum(len(stage.site.ledger(lane, judge.FELL)) for lane in ("A1", "A3", "B1"))
    driven = sum(len(stage.site.ledger(lane, judge.DRIVE)) for lane in ("A1", "A3", "B1"))
    assert (len(said), fell, driven) == (6, 6, 6)
    assert set(said.values()) == {"1"}
    stage.site.judge(stock=False)
    stage.sim.terminate()
    with sqlite3.connect(stage.sim.database) as database:
        due = database.execute("SELECT count(*) FROM callback WHERE state = 'due'").fetchone()
        open_ = database.execute("SELECT count(*) FROM command").fetchone()
    assert (due[0], open_[0], stage.sim.exit_code) == (0, 0, 0)


async def test_killed_where_the_restart_does_it_again(stage: Stage) -> None:
    """Between the broker's PUBACK and the outbox, between a result's commit and its PUBACK, and
    between the merchant's answer and its row: one drive, one fall, one truth told."""
    site, sim, merchant = stage.site, stage.sim, stage.merchant
    program = sim.command
    for number, point in enumerate(POINTS, start=1):
        sim.terminate()
        sim.command = [sys.executable, "-m", "tests.platform.killed", point, *program[1:]]
        merchant.url = sim.up()
        await asyncio.wait_for(stage.online(), 20)
        order_id, (record,) = await merchant.paid_order(f"at-{point}", (122, 1))
        with contextlib.suppress(aiohttp.ClientError):  # it may die before it has answered
            await merchant.deliver(order_id, record)
        died = wait_for(lambda: sim.exit_code, f"it dies at {point}", SETTLE_S)
        assert died == -signal.SIGKILL
        sim.command = program
        merchant.url = sim.up()
        await asyncio.wait_for(stage.online(), 20)
        told = stage.told_of(order_id, 2 if point == "told" else 1)
        assert {body["deliver_status"] for body in told} == {"1"}
        assert len(site.ledger("A2", judge.DRIVE)) == len(site.ledger("A2", judge.FELL)) == number
        await asyncio.wait_for(stage.stands(122, 8 - number), 10)
        assert (await merchant.deliver(order_id, record)).code == 6034
    site.wait_rest()
    site.judge(stock=False)
