"""The uplink on the real journal: what was durable is what leaves, byte for byte."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest_asyncio

from controller.clock import LoopClock
from controller.dispensing.interfaces import LaneState, Placement, Rejection
from controller.journal.journal import Journal, open_journal
from controller.model import Cabinet, CabinetKind, Code, Lane, Order
from controller.uplink.messages import OrderMessage, Payloads
from tests.uplink.conftest import MACHINE, Build, Platform, command, until

CABINET = Cabinet(
    "A", CabinetKind.SPIRAL, "main", drop_sensor=False, lanes=(Lane("A1", 1, 121, 8, "A", 8),)
)


@pytest_asyncio.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    # A journal born a minute ago: its commands are issued now.
    clock = LoopClock(wall=lambda: time.time() - 60)
    made, _ = open_journal(
        tmp_path / "state",
        clock=clock,
        announcer=Payloads(MACHINE),
        boot="b",
        skew_s=30,
        retention_days=400,
        reserve_bytes=65_536,
    )
    await made.sync_lanes([CABINET])
    yield made
    await made.close()


class PlanningDesk:
    """The heart at its seam: everything goes onto A1."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def submit(self, order: Order) -> Rejection | None:
        def plan(asked: Order, _lanes: Sequence[LaneState]) -> tuple[Placement, ...] | Rejection:
            if asked.lines[0].product_id != 121:
                return Rejection(Code.UNKNOWN_PRODUCT, "no lane holds it")
            return tuple(
                Placement(number + 1, 121, "A1", named=False, record_id=None)
                for number in range(asked.units)
            )

        accepted = await self._journal.accept(order, plan)
        return accepted if isinstance(accepted, Rejection) else None

    async def cancel(self, cancellation: Any) -> Code:
        code, _ = await self._journal.cancel(cancellation)
        return code


async def test_accepted_rejected_cancelled_and_replayed(
    build: Build, platform: Platform, journal: Journal
) -> None:
    """P8, P9: one execution; every repeat is answered with the stored bytes."""
    machine = build(wall=time.time, real=journal, real_desk=PlanningDesk(journal))
    await machine.uplink.session.ready()
    now = int(time.time())
    good = command(1, issued_at=now)
    platform.send("dispense", good)
    accepted = (await until(lambda: platform.on("order")))[0]
    assert OrderMessage.model_validate_json(accepted.payload).status == "accepted"
    platform.send("dispense", good)
    await until(lambda: len(platform.on("order")) == 2)
    assert platform.on("order")[1].payload == accepted.payload
    platform.send("dispense", command(1, issued_at=now, trade_id="other"))
    platform.send("dispense", command(2, issued_at=now - 1000, expires_at=now + 50))
    platform.send(
        "dispense", command(3, issued_at=now, products=[{"product_id": 9, "quantity": 1}])
    )
    platform.send("cancel", {"order_id": 1, "trade_id": "trade-1", "issued_at": now})
    platform.send("cancel", {"order_id": 4, "trade_id": "trade-4", "issued_at": now})
    platform.send("dispense", command(4, issued_at=now))
    platform.send("dispense", b"nonsense")
    await until(lambda: [m for m in platform.on("order") if m.json["order_id"] == 4][1:])
    said = {(m.json["order_id"], m.json["status"], m.json["code"]) for m in platform.on("order")}
    assert {
        (1, "rejected", "conflict"),
        (2, "rejected", "journal_reset"),
        (3, "rejected", "unknown_product"),
        (1, "cancelled", "ok"),
        (4, "cancelled", "unknown_order"),
        (4, "rejected", "cancelled"),
    } <= said
    for message in platform.on("order"):
        OrderMessage.model_validate_json(message.payload)
    event = (await until(lambda: platform.on("event")))[0].json
    assert (event["kind"], event["detail"]["code"]) == ("dispense_rejected", "bad_json")
    await until(lambda: machine.uplink.pumps[1].counters["sent"] >= 8)
