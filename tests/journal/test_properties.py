"""Whatever happens in whatever order: sums, results, seq and reservations hold.

A random walk over the real journal on a real file, with crashes in between, and
a small model beside it that knows only what was asked and answered.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.dispensing.interfaces import Cancellation, Rejection
from controller.errors import Refused, UnitDecided
from controller.journal.journal import Journal
from controller.model import Evidence, Finding, Outcome, Reason

from .conftest import (
    DELIVERED,
    JAMMED,
    PLAN,
    SILENT,
    Bench,
    balanced,
    cabinet,
    ending,
    intent,
    make_order,
)

FINDINGS = (
    DELIVERED,
    JAMMED,
    SILENT,
    Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR, drops=3),
    Finding(Outcome.NOT_DELIVERED, Reason.NO_DROP, Evidence.BOARD_RECORD),
    Finding(Outcome.UNKNOWN, Reason.CYCLE_TIMEOUT),
    Finding(Outcome.NOT_DELIVERED, Reason.JAMMED, Evidence.TECHNICIAN),
)
NOTHING = Finding(Outcome.NOT_DELIVERED, Reason.EXPIRED, left_home=False)
CHANNELS = ("A1", "A2", "A3")


def expect(refused: Refused, code: str) -> None:
    assert refused.code == code


class Walk:
    """One random life of a journal."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.dice = random.Random(seed)
        self.bench = Bench(folder)
        self.bench.inline = self.dice.random() < 0.5
        self.journal: Journal
        self.orders = 0
        self.open: list[int] = []
        self.closed: list[int] = []

    async def run(self, steps: int) -> None:
        self.journal = await self.bench.ready(cabinet(stock=6))
        try:
            for _ in range(steps):
                self.bench.clock.now += self.dice.choice([0, 1, 40])
                await self.dice.choice(self.ACTS)(self)
                await self.check()
            for cycle in await self.journal.open_cycles():
                if not cycle.closed:
                    await self.journal.close_cycle(cycle.cycle_id, ending(SILENT))
            for job in await self.journal.waiting_units():
                await self.journal.finish_unit(job.ref, NOTHING)
            await self.check()
            assert all(state.reserved == 0 for state in await self.journal.lane_states())
        finally:
            self.journal.abandon()

    # what may happen

    async def order(self) -> None:
        self.orders += 1
        asked = make_order(
            self.orders, self.dice.randint(1, 4), channel=self.dice.choice(CHANNELS),
            issued_at=self.bench.clock.now,
        )  # fmt: skip
        answer = await self.journal.accept(asked, PLAN)
        assert isinstance(answer, Rejection) or len(answer) == asked.units

    async def repeat(self) -> None:
        if self.orders:
            number = self.dice.randint(1, self.orders)
            await self.journal.replay(make_order(number))

    async def begin(self) -> None:
        waiting = await self.journal.waiting_units()
        if not waiting:
            return
        job = self.dice.choice(waiting)
        board = self.dice.choice(["main", "other"])
        channel = self.dice.choice(CHANNELS)
        try:
            opened = await self.journal.open_cycle(intent(job.ref, channel=channel, board=board))
        except Refused as refused:
            expect(refused, "board_busy")
        else:
            self.open.append(opened.cycle_id)

    async def begin_test(self) -> None:
        try:
            opened = await self.journal.open_cycle(
                intent(None, test_id=f"t{self.dice.random()}", channel="A2")
            )
        except Refused as refused:
            expect(refused, "board_busy")
        else:
            self.open.append(opened.cycle_id)

    async def end(self) -> None:
        if self.open:
            cycle_id = self.open.pop(self.dice.randrange(len(self.open)))
            final = self.dice.random() < 0.7
            end = ending(
                self.dice.choice(FINDINGS), final=final, quarantined=self.dice.random() < 0.2
            )
            await self.journal.close_cycle(cycle_id, end)
            self.closed.append(cycle_id)

    async def withdraw(self) -> None:
        if self.open and self.dice.random() < 0.3:
            await self.journal.withdraw_cycle(self.open.pop(), written=False)

    async def renumber(self) -> None:
        if self.open and self.dice.random() < 0.3:
            cycle = await self.journal.cycle(self.open[-1])
            assert cycle is not None
            again = await self.journal.renumber(cycle.cycle_id, cycle.board)
            self.open[-1] = again.cycle_id

    async def late_word(self) -> None:
        if self.closed:
            cycle_id = self.dice.choice(self.closed)
            await self.journal.revise(cycle_id, self.dice.choice(FINDINGS), {"x": 1}, lift=True)

    async def give_up(self) -> None:
        waiting = await self.journal.waiting_units()
        if waiting:
            job = self.dice.choice(waiting)
            await self.journal.finish_unit(job.ref, NOTHING)
            try:
                await self.journal.finish_unit(job.ref, NOTHING)
            except UnitDecided:
                return
            raise AssertionError("a unit was decided twice")

    async def move(self) -> None:
        waiting = await self.journal.waiting_units()
        if waiting:
            await self.journal.reassign(self.dice.choice(waiting).ref, self.dice.choice(CHANNELS))

    async def cancel(self) -> None:
        number = self.dice.randint(1, self.orders + 3)
        await self.journal.cancel(
            Cancellation(make_order(number).key, "", int(self.bench.clock.now))
        )

    async def count(self) -> None:
        try:
            await self.journal.set_stock(self.dice.choice(CHANNELS), self.dice.randint(0, 20), "t")
        except Refused as refused:
            expect(refused, "cycle_open")

    async def publish(self) -> None:
        for topic in ("result", "order", "event"):
            await self.journal.sent(await self.journal.oldest(topic, self.dice.randint(1, 5)))

    async def crash(self) -> None:
        if self.dice.random() < 0.3:
            self.bench.crash()
            self.journal, opening = self.bench.open()
            assert not opening.lost
            open_now = await self.journal.open_cycles()
            assert {c.cycle_id for c in open_now if not c.closed} == set(self.open)

    ACTS = (
        order, order, repeat, begin, begin, begin, end, end, end, begin_test, withdraw, renumber,
        late_word, late_word, give_up, move, cancel, count, publish, crash,
    )  # fmt: skip

    # what must hold

    async def check(self) -> None:
        waiting = await self.journal.waiting_units()
        reserved = Counter(job.channel for job in waiting)
        for cycle in await self.journal.open_cycles():
            if not cycle.closed:
                reserved[cycle.channel] += 1
        for state in await self.journal.lane_states():
            assert balanced(state)
            assert min(state.stock, state.gone, state.uncertain, state.loaded) >= 0
            assert state.reserved == reserved[state.lane.channel]
        stored = await self.journal.messages_since((0, 0), 500)
        assert [seq for _, _, seq, _ in stored] == list(range(1, len(stored) + 1)), "a gap in seq"
        assert len(stored) == self.journal.last_seq
        self.check_messages([json.loads(payload) for *_, payload in stored])

    def check_messages(self, messages: list[dict[str, Any]]) -> None:
        """One result per unit and revision; `delivered` is final; counts are the units'."""
        revisions: dict[tuple[str, int], list[str]] = {}
        for message in messages:
            if message["is"] != "result":
                continue
            told = revisions.setdefault((message["order"], message["unit"]), [])
            assert message["revision"] == len(told) + 1
            assert not told or told[-1] != "delivered", "delivered was revised"
            told.append(message["outcome"])
        finished = {m["order"]: m for m in messages if m.get("status") == "finished"}
        for order, message in finished.items():
            last = Counter(told[-1] for (of, _), told in revisions.items() if of == order)
            assert message["counts"] == [
                last.total(), last["delivered"], last["not_delivered"], last["unknown"],
            ]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_a_random_life_keeps_every_promise(seed: int) -> None:
    """P8, P9, P10: seq without gaps, one final result per unit, sums, reservations freed."""
    folder = Path(tempfile.mkdtemp(prefix="journal-walk-"))
    try:
        asyncio.run(Walk(seed, folder / "state").run(steps=40))
    finally:
        shutil.rmtree(folder)


async def test_the_model_notices_a_gap(tmp_path: Path) -> None:
    """The check of the walk can fail: a message taken away is a gap in seq."""
    walk = Walk(1, tmp_path / "state")
    walk.journal = await walk.bench.ready(cabinet(stock=6))
    await walk.order()
    await walk.order()
    await walk.check()
    walk.bench.crash()
    with sqlite3.connect(walk.bench.database) as connection:
        connection.execute("DELETE FROM outbox WHERE seq = 1")
    connection.close()
    walk.journal, _ = walk.bench.open()
    with pytest.raises(AssertionError, match="gap"):
        await walk.check()
    walk.journal.abandon()
