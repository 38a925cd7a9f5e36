"""A machine that sells for simulated days in one life of its daemon.

Its days are watches. A watch: the happenings of `day.py`; then everything is mended, the machine
comes to rest, the judge has his last word, the technician counts, fills and enables, and
what the world itself remembers is let go of. What is in memory then is the product's.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.sim import hands, rest
from tests.sim.hands import GOODS
from tests.sim.scenario import Scenario
from tests.sim.world import REST_WITHIN_S, ROOT, World
from tests.soak.day import LONGEST_LATE_DROP_MS, Rates, watch
from tests.soak.judge import ForgetfulJudge

KEPT_STORY = 500
"""Lines that tell of a breach."""
SETTLE_S = 65.0
"""After the mending: the longest fault, and what hung at an edge, are over."""
assert SETTLE_S * 1000 > LONGEST_LATE_DROP_MS
IDLE_WATCHES = 2
"""A board that forgot its memory waits for the technician; after that it sells again, or what is
counted is a machine that stands."""
VISIT_S = 60.0
"""A technician's acts are some commits each."""


class Shop(World):
    judge: ForgetfulJudge

    def __init__(
        self, seed: int, layout: str, directory: Path, rates: Rates, retention_days: int
    ) -> None:
        super().__init__(
            Scenario(seed, layout, 0, require_sync=False, max_parallel=2, happenings=()), directory
        )
        settings = self.machine.settings
        own = settings.machine.model_copy(update={"result_retention_days": retention_days})
        self.machine.settings = replace(settings, machine=own)
        self.judge = ForgetfulJudge(self)
        self.retention_s = retention_days * 86_400.0
        self.rates = rates
        self.watches = 0
        self.idle = 0
        """Watches in a row in which nothing fell."""
        self.orders = 0
        """Sent so far; the newest one's number."""
        self.old: list[dict[str, Any]] = []
        """The commands of the watch before."""
        self.story: deque[str] = deque(maxlen=KEPT_STORY)  # type: ignore[assignment]
        self.until_s = 0.0
        self.at_rest: Callable[[], None] = lambda: None
        """Called at the end of each watch, when everything rests and the world forgot."""

    def sell(self, hours: float, at_rest: Callable[[], None]) -> None:
        """Raises Breach, or Deadlock."""
        self.until_s = hours * 3600
        self.at_rest = at_rest
        self.play()

    def _play(self) -> None:
        self.machine.boot()
        while self.now < self.until_s:
            self._watch()
            self.judge.must(self.machine.lives == 1, "soak", "the daemon lives on")
            self.at_rest()

    def _watch(self) -> None:
        began, fell = self.now, self.judge.counts["product_fell"]
        for happening in watch(self.scenario.seed, self.watches, self.scenario.layout, self.rates):
            self._run_to(began + happening.at)
            self._perform((happening.kind, happening.more))
        self.idle = 0 if self.judge.counts["product_fell"] > fell else self.idle + 1
        self.judge.must(self.idle <= IDLE_WATCHES, "soak", "the machine sells")
        self._run_to(max(self.now, began + self.rates.watch_s - SETTLE_S))
        self._mend()
        self._run_to(self.now + SETTLE_S)
        self._mend()  # a happening of this watch may have ended in it
        self._rest()
        self.judge.kept_since = self.wall() - self.retention_s
        rest.last_word(self.judge)
        self._visit()
        self._forget()
        self.watches += 1

    def _visit(self) -> None:
        """The technician at a machine that rests: all is counted, filled and in service."""
        assert self.machine.daemon is not None
        assert self.machine.loop is not None
        operations = self.machine.daemon.operations
        stations = self.machine.daemon.dispenser.stations
        plans = self.plan

        async def visit() -> None:
            for name, station in stations.items():
                if station.out_of_service:  # it forgot its memory: perhaps another board
                    await hands.accept(self, operations, name)
            await operations.stock_fill(None, "technician")
            for plan in plans.values():
                for cabinet in plan.cabinets:
                    await operations.cabinet_start(cabinet, "technician")
                for channel in plan.lanes:
                    await operations.lane_enable(channel, "the soak's round", "technician")

        round_ = self.machine.loop.create_task(visit())
        limit = self.now + VISIT_S
        while not round_.done():
            self.judge.must(self.now < limit, "liveness", f"a round within {VISIT_S:g} s")
            self._step()
        round_.result()
        for name, plan in plans.items():
            for number in plan.lanes.values():
                self.boards[name].machine.refill(number, GOODS)
        limit = self.now + REST_WITHIN_S
        while not rest.at_rest(self.judge):  # the events of the round leave
            self.judge.must(self.now < limit, "liveness", "at rest after the round")
            self._step()

    def _forget(self) -> None:
        self.judge.forget()
        for board in self.boards.values():
            board.ledger.lines.clear()
        self.broker.retained.pop(f"{ROOT}/dispense", None)
        self.old, self.commands = self.commands, []

    # ------------------------------------------------------------------ happenings

    def do_order(self, lines: list[dict[str, Any]], ttl: int, age: int) -> None:
        self.orders += 1
        issued = int(self.wall()) - age
        command = {
            "order_id": self.orders,
            "trade_id": f"trade-{self.orders}",
            "issued_at": issued,
            "expires_at": issued + ttl,
            "products": lines,
        }
        self._send(command)

    def do_cancel(self, which: float) -> None:
        """Of an order of this watch, or of one that is still to come."""
        if not self.commands:
            return
        first = self.commands[0]["order_id"]
        number = first + int(which * (self.orders - first + 2))
        body = {
            "order_id": number,
            "trade_id": f"trade-{number}",
            "issued_at": int(self.wall()),
        }
        self.broker.publish(f"{ROOT}/cancel", json.dumps(body).encode())

    def do_again_of_old(self, which: float) -> None:
        """An order of the watch before, as it was: its stored results come again."""
        if self.old:
            known = self.old[int(which * len(self.old))]
            self.broker.publish(f"{ROOT}/dispense", json.dumps(known).encode())

    def do_request(self, verb: str) -> None:
        body = {"request_id": f"soak-{self.now:.0f}", "journal": 0, "seq": 0}
        asked = {key: body[key] for key in body if verb == "results" or key == "request_id"}
        self.broker.publish(f"{ROOT}/request/{verb}", json.dumps(asked).encode())

    def do_look(self) -> None:
        async def look(operations: Any) -> None:
            await operations.status()
            await operations.lanes()
            await operations.link()
            await operations.events(20)
            await operations.lane("A1")
            if self.orders:
                await operations.order(self.orders, None)

        self._act(look)
