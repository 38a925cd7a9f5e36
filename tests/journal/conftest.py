"""Journals on real files. Only the clock is a stand-in: its hands are moved by the tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from controller.dispensing.interfaces import (
    CycleEnd,
    CycleIntent,
    LaneState,
    OpenCycle,
    OrderFacts,
    Placement,
    Plan,
    Rejection,
    ResultFacts,
    UnitJob,
)
from controller.journal.journal import Journal, open_journal
from controller.journal.opening import Opening
from controller.model import (
    Cabinet,
    CabinetKind,
    Code,
    Evidence,
    Finding,
    Lane,
    Order,
    OrderKey,
    OrderLine,
    Outcome,
    Reason,
    UnitRef,
)

NOW = 1_763_900_000.0
BOOT = "11111111-1111-1111-1111-111111111111"
LIMIT = 3

DELIVERED = Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR, drops=1)
JAMMED = Finding(Outcome.NOT_DELIVERED, Reason.JAMMED, Evidence.DROP_SENSOR, counts_as_failure=True)
SILENT = Finding(Outcome.UNKNOWN, Reason.NO_ANSWER, settled=False)


class HandClock:
    """Interface `Clock`; time stands until a test moves it, and no wait takes any."""

    def __init__(self) -> None:
        self.now = NOW
        self.believes = True
        self.slept = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def believed(self) -> bool:
        return self.believes

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        await asyncio.sleep(0)

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        return asyncio.timeout(seconds)


class PlainAnnouncer:
    """Payloads that a test can read again."""

    def result(self, facts: ResultFacts, journal: int, seq: int) -> bytes:
        return json.dumps(
            {
                "is": "result",
                "journal": journal,
                "seq": seq,
                "order": str(facts.key),
                "unit": facts.unit,
                "revision": facts.revision,
                "outcome": facts.outcome,
                "reason": facts.reason,
                "channel": facts.channel,
                "late": facts.late,
                "cycles": facts.cycles,
                "lane_health": facts.lane_health,
                "raw": dict(facts.raw),
            }
        ).encode()

    def order(self, facts: OrderFacts, journal: int | None, seq: int | None) -> bytes:
        return json.dumps(
            {
                "is": "order",
                "journal": journal,
                "seq": seq,
                "order": str(facts.key),
                "status": facts.status,
                "code": facts.code,
                "executed": facts.executed,
                "counts": [facts.units, facts.delivered, facts.not_delivered, facts.unknown],
                "revision": facts.revision,
            }
        ).encode()

    def event(
        self, kind: str, detail: Mapping[str, Any], journal: int | None, event_seq: int, at: float
    ) -> bytes:
        return json.dumps({"is": "event", "kind": kind, "seq": event_seq, **detail}).encode()


def cabinet(name: str = "A", lanes: int = 3, stock: int = 10, board: str = "main") -> Cabinet:
    return Cabinet(
        name,
        CabinetKind.TRACK,
        board,
        drop_sensor=True,
        lanes=tuple(
            Lane(f"{name}{number}", number, 120 + number, 20, name, stock)
            for number in range(1, lanes + 1)
        ),
    )


def make_order(
    order_id: int = 1111111, quantity: int = 1, *, channel: str = "A1", delivery: str = "",
    issued_at: float = NOW, trade: str | None = None,
) -> Order:  # fmt: skip
    return Order(
        OrderKey(order_id, delivery),
        trade or f"trade-{order_id}",
        int(issued_at),
        int(issued_at) + 90,
        (OrderLine(121, quantity, channel),),
    )


def plan_named(order: Order, lanes: Any) -> tuple[Placement, ...] | Rejection:
    """Every line onto the channel that it names; refuses when the free stock is too small."""
    free = {state.lane.channel: state.free for state in lanes}
    placed: list[Placement] = []
    for line in order.lines:
        assert line.channel is not None
        for _ in range(line.quantity):
            if free[line.channel] <= 0:
                return Rejection(Code.OUT_OF_STOCK, f"lane {line.channel} is empty")
            free[line.channel] -= 1
            number = len(placed) + 1
            placed.append(
                Placement(number, line.product_id, line.channel, named=True, record_id=None)
            )
    return tuple(placed)


PLAN: Plan = plan_named


def intent(
    unit: UnitRef | None, *, test_id: str | None = None, channel: str = "A1", board: str = "main"
) -> CycleIntent:
    return CycleIntent(unit, test_id, channel, board, int(channel[1:]), {"pack": 7}, 90.0)


def ending(finding: Finding, *, final: bool = True, quarantined: bool = False) -> CycleEnd:
    trace = [{"at": NOW, "event": "ended", "frame": "00"}]
    return CycleEnd(finding, trace, final=final, failure_limit=LIMIT, quarantined=quarantined)


def balanced(state: LaneState) -> bool:
    return state.stock + state.gone + state.uncertain + state.adjusted == state.loaded


class Bench:
    """One state directory, its clock, and the journals opened there one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.boot = BOOT
        self.inline = False
        self.journals: list[Journal] = []

    def open(self, **options: Any) -> tuple[Journal, Opening]:
        settings: dict[str, Any] = {
            "clock": self.clock,
            "announcer": PlainAnnouncer(),
            "boot": self.boot,
            "skew_s": 30.0,
            "retention_days": 400,
            "inline": self.inline,
            "reserve_bytes": 65_536,
            **options,
        }
        journal, opening = open_journal(self.folder, **settings)
        self.journals.append(journal)
        return journal, opening

    def crash(self) -> None:
        """Leave the files as they lie on the disk now, log and all; the lock is let go.

        Closing the connection merges the log: the files are put back as they were.
        """
        names = ("journal.db", "journal.db-wal")
        lying = {name: (self.folder / name).read_bytes() for name in names}
        self.journals[-1].abandon()
        for name, content in lying.items():
            (self.folder / name).write_bytes(content)

    async def ready(self, *cabinets: Cabinet) -> Journal:
        journal, _ = self.open()
        await journal.sync_lanes(cabinets or (cabinet(),))
        return journal

    @property
    def database(self) -> Path:
        return self.folder / "journal.db"


async def accepted(journal: Journal, order: Order) -> tuple[UnitJob, ...]:
    found = await journal.accept(order, PLAN)
    assert not isinstance(found, Rejection), found
    return found


async def one_cycle(
    journal: Journal, unit: UnitRef | None, finding: Finding, **how: Any
) -> OpenCycle:
    """Open a cycle and close it with the finding."""
    end = {key: how.pop(key) for key in ("final", "quarantined") if key in how}
    opened = await journal.open_cycle(intent(unit, **how))
    await journal.close_cycle(opened.cycle_id, ending(finding, **end))
    return opened


async def unsent(journal: Journal, topic: str) -> list[dict[str, Any]]:
    return [json.loads(row.payload) for row in await journal.oldest(topic, 10_000)]


async def stock_of(journal: Journal, channel: str = "A1") -> LaneState:
    return next(s for s in await journal.lane_states() if s.lane.channel == channel)


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made = Bench(tmp_path / "state")
    yield made
    for journal in made.journals:
        journal.abandon()
