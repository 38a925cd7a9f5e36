"""What happens to a busy machine in one watch: the time between two visits of its technician.

The same happenings as `tests/sim/scenario.py` deals out, at the rates of a busy and unlucky
machine, without the ends of its daemon: memory that grows shows in one long life only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.sim import scenario
from tests.sim.scenario import BOARDS, Happening

LONGEST_LATE_DROP_MS = 8_000
"""What hangs at an edge when the watch ends falls before the technician counts."""


@dataclass(frozen=True)
class Rates:
    """Of one watch: its length in seconds, and how many of each, evenly spread."""

    watch_s: float
    orders: int
    repeats: int = 0
    old_repeats: int = 0
    faults: int = 0
    broker: int = 0
    hands: int = 0
    fills: int = 0
    nonsense: int = 0
    looks: int = 0
    """A technician's `vendctl status`, `lanes`, `orders`, `events`, `link`."""
    requests: int = 0
    """A platform's `request/…`."""


BUSY = Rates(
    watch_s=900, orders=22, repeats=4, old_repeats=1, faults=3, broker=2, hands=2, fills=1,
    nonsense=1, looks=10, requests=3,
)  # fmt: skip
"""An order each 41 s, some of several units: more than any machine in the field sells all day."""
SPARSE = Rates(
    watch_s=3600, orders=12, repeats=2, old_repeats=1, faults=2, broker=1, hands=1, nonsense=1,
    requests=1,
)  # fmt: skip
"""An order each five minutes, for runs over many days."""

REQUESTS = ("status", "inventory", "results", "nonsense")


def watch(seed: int, number: int, layout: str, rates: Rates) -> list[Happening]:
    """The happenings of a watch by their times, counted from its beginning."""
    chance = random.Random(f"soak/{seed}/{number}")
    made = [
        Happening(round(chance.uniform(0, rates.watch_s), 3), kind, more)
        for make, count in (
            (scenario._orders, rates.orders),
            (scenario._repeats, rates.repeats),
            (_old_repeat, rates.old_repeats),
            (_fault, rates.faults),
            (scenario._broker, rates.broker),
            (_hands, rates.hands),
            (scenario._nonsense, rates.nonsense),
            (_look, rates.looks),
            (_request, rates.requests),
        )
        for _ in range(count)
        for kind, more in [make(chance, layout)]
    ]
    for round_ in range(rates.fills):
        at = rates.watch_s * (round_ + 1) / (rates.fills + 1)
        made += [Happening(at, "fill", _hand(chance, board)) for board in BOARDS[layout]]
    return sorted(made, key=lambda happening: happening.at)


def _hand(chance: random.Random, board: str) -> dict[str, Any]:
    return {"which": chance.random(), "board": board, "lasts_s": 15.0}


def _hands(chance: random.Random, layout: str) -> scenario.Made:
    kind = chance.choice(("test", "test", "enable", "disable", "stop_cabinet"))
    return kind, _hand(chance, chance.choice(BOARDS[layout]))


def _fault(chance: random.Random, layout: str) -> scenario.Made:
    kind, more = scenario._faults(chance, layout)
    if "delay_ms" in more:
        more["delay_ms"] = min(more["delay_ms"], LONGEST_LATE_DROP_MS)
    return kind, more


def _old_repeat(chance: random.Random, _layout: str) -> scenario.Made:
    return "again_of_old", {"which": chance.random()}


def _look(_chance: random.Random, _layout: str) -> scenario.Made:
    return "look", {}


def _request(chance: random.Random, _layout: str) -> scenario.Made:
    return "request", {"verb": chance.choice(REQUESTS)}
