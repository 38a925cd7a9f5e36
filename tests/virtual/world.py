"""A machine in one process and in virtual time: real heart, journal, drivers, intake and
outbox pumps; emulated boards behind links in memory; a broker that is only a list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from controller.boards import make_board
from controller.clock import LoopClock
from controller.dispensing.dispenser import Dispenser, Limits
from controller.dispensing.station import Rules
from controller.journal.journal import Journal, open_journal
from controller.journal.opening import Opening
from controller.model import Cabinet, CabinetKind, Lane
from controller.uplink.intake import Disposition, Intake, IntakeSettings
from controller.uplink.link import PublishResult
from controller.uplink.messages import Payloads
from controller.uplink.outbox import pumps
from controller.uplink.session import USUAL_PACE
from firmware_sim.board import EmulatedBoard, build_board
from firmware_sim.scenario import BoardSettings, LaneSettings
from tests.boards.support import MemoryPort
from tests.mqtt_contract import complaints_of_each_kind
from tests.virtual_time import virtual_wall

MACHINE_NO = "16327129"
BOOT = "virtual-boot"

TRACK = Cabinet(
    name="A",
    kind=CabinetKind.TRACK,
    board="main",
    drop_sensor=True,
    lanes=(Lane("A1", 1, 121, 8, "A", 8), Lane("A2", 2, 122, 8, "A", 8)),
)
SPIRAL = Cabinet(
    name="B",
    kind=CabinetKind.SPIRAL,
    board="side",
    drop_sensor=False,
    lanes=(Lane("B1", 1, 221, 8, "B", 8),),
    cycle_timeout_s=30.0,
    drop_wait_ms=0,
)
PROTOCOLS = {"main": "vbp", "side": "xy", "third": "xy"}


@dataclass
class MemorySession:
    """What the pumps need of a session; a broker that takes everything at once."""

    published: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    pace: Any = USUAL_PACE
    settings: Any = field(default_factory=lambda: SimpleNamespace(root="root"))

    async def ready(self, other_than: int = 0) -> int:
        if other_than:
            await asyncio.get_running_loop().create_future()
        return 1

    async def publish(self, topic: str, payload: bytes, **_: Any) -> PublishResult:
        await asyncio.sleep(0)
        self.published.append((topic.rsplit("/", 1)[-1], json.loads(payload)))
        return PublishResult(0)


@dataclass
class World:
    dispenser: Dispenser
    journal: Journal
    intake: Intake
    boards: Mapping[str, EmulatedBoard]
    ports: Mapping[str, MemoryPort]
    session: MemorySession
    opening: Opening
    clock: LoopClock

    async def order(self, order_id: int, *lines: tuple[int, int], ttl: int = 90) -> Disposition:
        now = int(virtual_wall())
        body = {
            "order_id": order_id,
            "trade_id": f"t{order_id}",
            "issued_at": now,
            "expires_at": now + ttl,
            "products": [{"product_id": p, "quantity": q} for p, q in lines],
        }
        return await self.intake.dispense(json.dumps(body).encode(), retained=False)

    def of(self, topic: str, order_id: int | None = None) -> list[dict[str, Any]]:
        return [
            body
            for name, body in self.session.published
            if name == topic and order_id in (None, body.get("order_id"))
        ]

    async def rest(self, seconds: float = 300.0) -> None:
        """Until no order is open and all is published; virtual seconds."""
        async with asyncio.timeout(seconds):
            while await self._busy():
                await asyncio.sleep(0.1)

    async def _busy(self) -> bool:
        totals = await self.journal.totals()
        waiting = await self.journal.waiting()
        return bool(totals["open_orders"]) or any(waiting.values())

    def fell(self) -> int:
        return sum(
            line["event"] == "product_fell"
            for board in self.boards.values()
            for line in board.ledger.lines
        )


def emulated(cabinet: Cabinet, seed: int = 1) -> EmulatedBoard:
    lanes = tuple(
        LaneSettings(number=lane.number, kind=cabinet.kind.value, goods=lane.initial_stock)
        for lane in cabinet.lanes
    )
    settings = BoardSettings(
        protocol=PROTOCOLS[cabinet.board], name=cabinet.board, seed=seed, lane=lanes
    )
    return build_board(settings, wall=virtual_wall)


@asynccontextmanager
async def world(
    state_dir: Path,
    cabinets: Sequence[Cabinet] = (TRACK, SPIRAL),
    *,
    boards: Mapping[str, EmulatedBoard] | None = None,
    boot: str = BOOT,
    rules: Mapping[str, Any] | None = None,
    parallel: int = 1,
    clock: LoopClock | None = None,
    first: Callable[[World], Coroutine[Any, Any, Any]] | None = None,
) -> AsyncIterator[World]:
    """`first` begins before the heart does: what a broker brings at once on connection."""
    clock = clock or LoopClock(lambda: True, virtual_wall)
    payloads = Payloads(MACHINE_NO)
    journal, opening = open_journal(
        state_dir,
        clock=clock,
        announcer=payloads,
        boot=boot,
        skew_s=30,
        retention_days=400,
        inline=True,
    )
    await journal.sync_lanes(cabinets)
    emulators = dict(boards or {cabinet.board: emulated(cabinet) for cabinet in cabinets})
    ports = {name: MemoryPort(board) for name, board in emulators.items()}
    drivers = [
        make_board(name, PROTOCOLS[name], "memory:", {}, clock, lambda *_, p=port: p)
        for name, port in ports.items()
    ]
    dispenser = Dispenser(
        cabinets,
        drivers,
        journal,
        clock,
        Rules(boot=boot, **(rules or {})),
        Limits(max_parallel_cycles=parallel),
    )
    session = MemorySession()

    async def publish_now(_topic: str, _payload: bytes) -> bool:
        return True

    intake = Intake(IntakeSettings(MACHINE_NO), journal, dispenser, clock, payloads, publish_now)
    machine = World(dispenser, journal, intake, emulators, ports, session, opening, clock)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(first(machine))] if first else []
        tasks.append(group.create_task(dispenser.run()))
        tasks += [
            group.create_task(pump.run())
            for pump in pumps(session, journal, clock)  # type: ignore[arg-type]
        ]
        await dispenser.boards_known(5)
        try:
            yield machine
            assert complaints_of_each_kind(session.published) == []
        finally:
            for task in tasks:
                task.cancel()
    journal.abandon()
