"""Visits and little else: each act at the books meets each kind of trouble behind its commit.

In the other kinds an act is one thing among many, and the rarer troubles hardly ever meet it.
"""

from __future__ import annotations

import random

from tests.sim import matrix, scenario
from tests.sim.ambush import STEPS, TROUBLES
from tests.sim.scenario import Happening, Scenario

LASTS_S = 300.0
VISITS = 10
AMBUSHES = 4
"""Of one kind of trouble, behind each act: about as many as come to a commit."""


def visiting(seed: int, layout: str | None = None) -> Scenario:
    """The kinds of trouble take turns with the seeds."""
    chance = random.Random(f"visiting/{seed}")
    where = layout or chance.choice(scenario.LAYOUTS)
    column = matrix.COLUMNS[seed % len(matrix.COLUMNS)]
    laid = [
        Happening(
            0.0,
            "ambush",
            {
                "boundary": act,
                "steps": chance.choice(STEPS),
                "made": TROUBLES[column](chance, where),
            },
        )
        for act in matrix.ACTS
        for _ in range(AMBUSHES)
    ]
    visits: list[Happening] = []
    while not visits:  # half of the draws have none
        visits = scenario.at_the_books(chance, where, LASTS_S, most=VISITS)
    orders = [
        Happening(round(chance.uniform(0, LASTS_S), 3), *scenario._orders(chance, where))
        for _ in range(4)
    ]
    happenings = sorted((*laid, *visits, *orders), key=lambda happening: happening.at)
    return Scenario(
        seed,
        where,
        second_cycles=0,
        require_sync=False,
        max_parallel=1,
        happenings=tuple(happenings),
    )
