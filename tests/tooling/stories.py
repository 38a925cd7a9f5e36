"""Real messages of the contract: a machine in virtual time plays stories, and what it says is kept.

Heart, journal, drivers, intake, requests and payload builders are the daemon's own; the boards
are emulated, and time is virtual, so the same stories give the same bytes on each run.
`docs/examples/mqtt` is written from them (`tests.tooling.contract`).
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from controller.model import OrderKey, Outcome, UnitRef
from controller.operations import Operations, StoredReports
from controller.remote import RemoteHand
from controller.service_mode import ServiceSwitch
from controller.tracing import Tracing
from controller.uplink.link import Inbound, PublishResult
from controller.uplink.messages import Payloads
from controller.uplink.remote import ACTS, Remote
from controller.uplink.requests import Requests
from controller.view import View
from firmware_sim.faults import Fault
from tests.virtual.world import MACHINE_NO, SPIRAL, TRACK, World, world
from tests.virtual_time import run_virtual, virtual_wall

TRADE = "3f2a58ad69b74e86b8a1a3da6fd7{:04d}"
JAMMED_LANE, SILENT_LANE = 2, 1


@dataclass
class Told:
    """What one side said: `name` is the example's file, `message` the schema that it must fit."""

    message: str
    what: str
    payload: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.message}-{self.what}"


@dataclass
class Answers:
    """What Requests needs of a session: where it is, and a broker that takes everything."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(
            root=f"vending/v1/{MACHINE_NO}", prefix="vending/v1"
        )
    )

    async def publish(self, _topic: str, payload: bytes, **_: Any) -> PublishResult:
        self.answers.append(json.loads(payload))
        return PublishResult(0)


@dataclass
class Stage:
    """A machine with a view and its requests, and the examples that came of it so far."""

    machine: World
    view: View
    requests: Requests
    session: Answers
    resolve: Callable[..., Any]
    told: list[Told] = field(default_factory=list)

    def keep(self, message: str, what: str, payload: Mapping[str, Any]) -> None:
        self.told.append(Told(message, what, dict(payload)))

    async def dispense(
        self, what: str | None, order_id: int, products: Sequence[Mapping[str, Any]], **more: Any
    ) -> dict[str, Any]:
        """Send a command and keep it as an example, where it has a name."""
        now = int(virtual_wall())
        command = {
            "order_id": order_id,
            "delivery_id": f"173320000000{order_id % 10_000:04d}",
            "trade_id": TRADE.format(order_id % 10_000),
            "machine_no": MACHINE_NO,
            "issued_at": now,
            "expires_at": now + 90,
            "products": list(products),
            **more,
        }
        if what is not None:
            self.keep("dispense", what, command)
        await self.machine.intake.dispense(json.dumps(command).encode(), retained=False)
        return command

    async def cancel(self, what: str | None, order_id: int) -> None:
        command = {
            "order_id": order_id,
            "delivery_id": f"173320000000{order_id % 10_000:04d}",
            "trade_id": TRADE.format(order_id % 10_000),
            "issued_at": int(virtual_wall()),
        }
        if what is not None:
            self.keep("cancel", what, command)
        await self.machine.intake.cancel(json.dumps(command).encode(), retained=False)

    async def ask(self, verb: str, what: str, **fields: Any) -> None:
        """Send a request; keep it and its answer."""
        request = {"request_id": f"{verb}-{what}", **fields}
        if verb in ACTS:
            now = int(virtual_wall())
            request |= {"issued_at": now, "expires_at": now + 30}
        topic = f"{self.session.settings.root}/request/{verb}"
        payload = json.dumps(request).encode()
        await self.requests.handle(Inbound(None, 1, 1, topic, payload, retained=False))  # type: ignore[arg-type]
        schema = "response" if verb not in {*ACTS, *READS} else f"response.{verb}"
        if schema != "response":
            self.keep(f"request.{verb}", what, request)
        self.keep(schema, what, self.session.answers[-1])

    def state(self, what: str, *, online: bool = True) -> None:
        payloads = Payloads(MACHINE_NO)
        self.keep("state", what, json.loads(payloads.state(self.view.state(), online=online)))

    def told_of(self, topic: str, order_id: int, **wanted: Any) -> dict[str, Any]:
        """The newest message about this order that says all this."""
        fits = [
            body
            for body in self.machine.of(topic, order_id)
            if all(body[key] == value for key, value in wanted.items())
        ]
        return fits[-1]

    def event(self, kind: str) -> None:
        bodies = [body for body in self.machine.of("event") if body["kind"] == kind]
        self.keep("event", kind, bodies[-1])


READS = ("status", "inventory", "results", "diagnostics")


async def a_good_sale(stage: Stage) -> None:
    """Three units of two products, one item a cycle."""
    products = [
        {"product_id": 121, "quantity": 1},
        {"product_id": 122, "quantity": 2, "channel": "A2", "record_id": 78},
    ]
    await stage.dispense("three_units", 1111111, products)
    await asyncio.sleep(1)
    stage.state("dispensing")
    await stage.machine.rest()
    stage.keep("order", "accepted", stage.told_of("order", 1111111, status="accepted"))
    stage.keep("result", "delivered", stage.told_of("result", 1111111, unit=1))
    stage.keep("result", "delivered_with_record", stage.told_of("result", 1111111, unit=3))
    stage.keep("order", "finished", stage.told_of("order", 1111111, status="finished"))
    await stage.ask("results", "one_order", order_id=1111111, delivery_id="1733200000001111")
    await stage.ask("results", "page", journal=stage.machine.journal.birth, seq=0, limit=2)


async def a_spiral_sale(stage: Stage) -> None:
    """A cabinet without a light eye: the motor's own completion counts. Absent is empty: the
    command has nothing but what it must have."""
    now = int(virtual_wall())
    least = {
        "order_id": 1111112,
        "trade_id": TRADE.format(1112),
        "issued_at": now,
        "products": [{"product_id": 221, "quantity": 1}],
    }
    stage.keep("dispense", "least", least)
    await stage.machine.intake.dispense(json.dumps(least).encode(), retained=False)
    await stage.machine.rest()
    stage.keep("result", "delivered_by_motor", stage.told_of("result", 1111112))


async def a_jam(stage: Stage) -> None:
    """The motor turned against something; the board says that nothing fell."""
    stage.machine.boards["main"].arm(Fault(kind="jam", lane=JAMMED_LANE, cycle=3))
    await stage.dispense(None, 1111113, [{"product_id": 122, "quantity": 1}])
    await stage.machine.rest()
    stage.keep("result", "jammed", stage.told_of("result", 1111113))
    stage.keep("order", "finished_jammed", stage.told_of("order", 1111113, status="finished"))
    stage.event("jam")


async def cancellations(stage: Stage) -> None:
    """A cancel in mid-order, one that comes too late, and one before its order."""
    await stage.dispense(None, 1111114, [{"product_id": 121, "quantity": 2}])
    await asyncio.sleep(1)
    await stage.cancel("an_order", 1111114)
    await stage.machine.rest()
    stage.keep("order", "cancelled", stage.told_of("order", 1111114, status="cancelled"))
    stage.keep("result", "cancelled", stage.told_of("result", 1111114, unit=2))
    stage.keep("order", "finished_cancelled", stage.told_of("order", 1111114, status="finished"))
    await stage.cancel(None, 1111114)
    await stage.cancel(None, 1111115)
    await stage.machine.rest()
    stage.keep("order", "cancelled_too_late", stage.told_of("order", 1111114, code="too_late"))
    stage.keep(
        "order", "cancelled_unknown_order", stage.told_of("order", 1111115, code="unknown_order")
    )
    await stage.dispense(None, 1111115, [{"product_id": 121, "quantity": 1}])
    await stage.machine.rest()
    stage.keep("order", "rejected_cancelled", stage.told_of("order", 1111115, status="rejected"))


async def rejections(stage: Stage) -> None:
    """Nothing of these moved, and the machine says why."""
    one = [{"product_id": 121, "quantity": 1}]
    now = int(virtual_wall())
    await stage.dispense(None, 1111120, [{"product_id": 121, "quantity": 50}])
    await stage.dispense(None, 1111121, one, issued_at=now - 20, expires_at=now - 10)
    await stage.dispense(None, 1111122, one, trade_id=TRADE.format(1111))
    await stage.dispense(None, 1111123, one, issued_at=(stage.machine.journal.birth or 0) - 1)
    await stage.machine.intake.dispense(b'{"order_id": 1111124, ', retained=False)
    await stage.machine.rest()
    for order_id, code in (
        (1111120, "out_of_stock"),
        (1111121, "expired"),
        (1111122, "conflict"),
        (1111123, "journal_reset"),
    ):
        stage.keep("order", f"rejected_{code}", stage.told_of("order", order_id, code=code))
    stage.event("dispense_rejected")


async def an_unknown_and_its_revision(stage: Stage) -> None:
    """Silence after the drive frame; later a technician looks into the lane."""
    stage.machine.boards["side"].arm(Fault(kind="ack_no_status", lane=SILENT_LANE, cycle=2))
    await stage.dispense("one_unit", 1111130, [{"product_id": 221, "quantity": 1}])
    await stage.machine.rest()
    stage.keep("result", "unknown", stage.told_of("result", 1111130))
    stage.keep("order", "finished_unknown", stage.told_of("order", 1111130, status="finished"))
    stage.state("degraded")
    await asyncio.sleep(600)
    ref = UnitRef(OrderKey(1111130, "1733200000001130"), 1)
    await stage.resolve(ref, Outcome.DELIVERED, 1, "the tray was empty", "wang")
    await stage.machine.rest()
    stage.keep("result", "unknown_resolved", stage.told_of("result", 1111130, revision=2))
    stage.keep("order", "finished_resolved", stage.told_of("order", 1111130, revision=2))
    stage.event("outcome_revised")


async def requests(stage: Stage) -> None:
    """Each verb, and what a machine refuses."""
    stage.state("ready")
    stage.state("last_will", online=False)
    payloads, now = Payloads(MACHINE_NO), virtual_wall()
    stage.keep("inventory", "lanes", json.loads(payloads.inventory(stage.view.inventory(), now)))
    stage.keep(
        "telemetry", "heartbeat", json.loads(payloads.telemetry(stage.view.telemetry(), now))
    )
    await stage.ask("status", "asked")
    await stage.ask("inventory", "asked")
    await stage.ask("diagnostics", "asked")
    await stage.ask("results", "no_such_order", order_id=9999999)
    await stage.ask("results", "nothing_after", journal=stage.machine.journal.birth, seq=4711)
    await stage.ask("open.door", "unknown_verb")
    await asyncio.sleep(30)
    await stage.ask("stock.set", "counted", channel="A1", stock=8)
    await stage.ask("lane.disable", "recalled", channel="A1", reason="product recalled")
    await stage.ask("lane.enable", "back", channel="A1", reason="recall is over")
    await stage.ask("mode.set", "service", mode="service")
    await stage.ask("lane.test", "one_vend", channel="A1")
    await asyncio.sleep(60)
    stage.event("test_vend")
    await stage.ask("mode.set", "ready", mode="ready")
    await stage.ask("lane.enable", "no_such_lane", channel="A9", reason="")
    stage.requests.remote.allowed = ()
    await stage.ask("lane.test", "not_allowed", channel="A1")


STORIES = (
    a_good_sale,
    a_spiral_sale,
    a_jam,
    cancellations,
    rejections,
    an_unknown_and_its_revision,
    requests,
)
"""In this order on one machine: lanes count their cycles, and faults name them."""


def _stage(machine: World, directory: Path) -> Stage:
    clock, journal = machine.clock, machine.journal
    counters: Counter[str] = Counter(connections=1)
    view = View(
        machine.dispenser, journal, machine.opening, clock, "virtual-boot", lambda: counters
    )

    def broker() -> Any:
        return {
            "connected": True, "since": virtual_wall(), "host": "localhost", "port": 1883,
            "protocol": "5", "problem": "",
        }  # fmt: skip

    operations = Operations(
        MACHINE_NO,
        machine.dispenser,
        journal,
        machine.opening,
        view,
        clock,
        broker,
        dict.fromkeys(machine.ports, "memory:"),
        ServiceSwitch(machine.dispenser, journal, clock, 600),
        Tracing(directory, [], clock),
        lambda: None,  # type: ignore[arg-type,return-value]  # no verb of these stories asks it
        None,  # type: ignore[arg-type]  # likewise
    )
    session = Answers()
    remote = Remote(RemoteHand(operations), journal, clock, tuple(ACTS))
    asked = Requests(
        session,  # type: ignore[arg-type]
        view,
        StoredReports(journal),
        Payloads(MACHINE_NO),
        clock,
        remote,
    )
    return Stage(machine, view, asked, session, journal.resolve)


async def _play(directory: Path) -> list[Told]:
    async with world(directory, (TRACK, SPIRAL)) as machine:
        stage = _stage(machine, directory)
        for story in STORIES:
            await story(stage)
            await machine.journal.fill(None, "technician")
            await machine.dispenser.floor.refresh()
        return stage.told


_CHANCE = re.compile(r"(\d{10}-)[0-9a-f]{8}")
"""The random half of a test_id: the only thing that differs from run to run."""


def told() -> list[Told]:
    """Every example, the same on each run."""
    with tempfile.TemporaryDirectory(prefix="stories-") as directory:
        examples = run_virtual(lambda: _play(Path(directory)))
    for example in examples:
        text = _CHANCE.sub(r"\g<1>5f0c7a12", json.dumps(example.payload))
        example.payload = json.loads(text)
    return examples
