"""Crashes without a pause: a scenario in which hardly a daemon lives for three seconds.

What `scenario.generate` makes looks like a bad day; this is for numbers: many crashes,
orders and faults for little virtual time, and most of them while something is under way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from tests.sim import matrix, scenario
from tests.sim.ambush import behind
from tests.sim.scenario import Happening, Made, Scenario

LASTS_S = 150.0
MEAN_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Between two crashes: a cycle takes one to two seconds, a start a third of one."""
JOURNALS_LOST = 0.15
"""Share of storms: a new journal refuses what was ordered before it, and waits for a count."""
FILL_EVERY_S = 15.0
"""24 items lie in a cabinet, and a storm sells about one a second."""
A_VISIT = (("accept_board", 0.0, 0.0), ("recount", 0.0, 0.0), ("enable", 0.0, 0.0),
           ("enable", 0.4, 0.0), ("enable", 0.7, 0.0), ("fill", 0.0, 0.5))  # fmt: skip
"""All three lanes sell again: kind, which, seconds after the first. Who has counted may fill."""
CLOCKS_AWAITED = 0.15
"""Share of storms in which nothing moves before the network's time came, at each power cut."""
COPY_AT_S = 40.0
"""A backup, for a journal that goes back."""
STOPS = 0.1
"""Of the stops in order: each takes a daemon half a minute that was to crash in it."""
SHORT_S = 2.0
"""Nothing that disturbs lasts longer, or it would be all that is seen."""


def storm(seed: int, layout: str | None = None) -> Scenario:
    chance = random.Random(f"storm/{seed}")
    where = layout or chance.choice(scenario.LAYOUTS)
    pause_s = chance.choice(MEAN_PAUSES_S)
    happenings = behind(chance, where, matrix.BOUNDARIES)
    if chance.random() > JOURNALS_LOST:
        happenings = [h for h in happenings if h.more["made"][0] != "lose_journal"]
    happenings.append(Happening(COPY_AT_S, "copy_journal", {}))
    at = 0.5
    while at < LASTS_S:
        happenings += [Happening(round(at, 3), *made) for made in _gust(chance, where)]
        at += chance.expovariate(1 / pause_s)
    for number in range(1, int(LASTS_S / FILL_EVERY_S)):
        happenings += [
            Happening(
                number * FILL_EVERY_S + after,
                kind,
                {"which": which, "board": board, "lasts_s": 0.0},
            )
            for board in scenario.BOARDS[where]
            for kind, which, after in A_VISIT
        ]
    visits, service = scenario.service_modes(random.Random(f"storm/{seed}/service"), LASTS_S)
    books = random.Random(f"storm/{seed}/books")
    visits += scenario.at_the_books(books, where, LASTS_S, most=12)
    happenings += [replace(visit, more=_short(visit.more)) for visit in visits]
    happenings.sort(key=lambda happening: happening.at)
    second_cycles, require_sync = chance.choice((0, 0, 0, 1)), chance.random() < CLOCKS_AWAITED
    parallel = chance.choice((1, 2))
    made = tuple(happenings)
    return Scenario(seed, where, second_cycles, require_sync, parallel, made, service)


def _gust(chance: random.Random, layout: str) -> list[Made]:
    """An order, a crash somewhere in it, and what else goes wrong at the same time."""
    made = [scenario._orders(chance, layout)]
    kind, more = scenario._crashes(chance, layout)
    if kind != "stop" or chance.random() < STOPS:
        made.append((kind, {**more, "away_s": 0.1}))
    for maker, share in (
        (scenario._repeats, 0.3),
        (scenario._faults, 0.5),
        (scenario._broker, 0.2),
        (scenario._hands, 0.03),
        (scenario.disk, 0.1),
        (scenario._nonsense, 0.05),
    ):
        if chance.random() < share:
            kind, more = maker(chance, layout)
            made.append((kind, _short(more)))
    return made


def _short(more: Mapping[str, object]) -> dict[str, object]:
    return {
        name: min(value, SHORT_S) if name in {"lasts_s", "away_s"} else value  # type: ignore[type-var]
        for name, value in more.items()
    }
