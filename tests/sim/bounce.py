"""A start that is cut short, again and again: a supply that bounces, a start that is killed.

A storm lets most lives come to work; what a start leaves when it dies in its first
hundred callbacks, and what the next start makes of that, is met here.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

from tests.sim.scenario import Happening, Scenario

LIVES = (1, 2, 3, 5, 8)
"""That die one after the other."""
LONGEST = 400
"""Callbacks of a daemon: about as many as its start, its link and its first cycle take."""
EVERY_S = 4.0
"""Mean, between two bounces: orders arrive meanwhile, one or two a second."""
POWER = 0.3
"""Share of the short lives that a power cut ends, the others end by a kill."""

Life = tuple[int, bool]
"""Callbacks until it dies, and whether the power goes with it."""


class Bounces:
    """The lives that will be short."""

    def __init__(self) -> None:
        self._lives: list[Life] = []
        self._left: Life | None = None

    def lay(self, lives: list[Life]) -> None:
        self._lives.extend(lives)

    def born(self) -> None:
        """A daemon starts: the next short life, if there is one, is its own."""
        self._left = self._lives.pop(0) if self._lives else None

    def tick(self) -> Life | None:
        """A callback of the daemon has run. What it dies of when that was its last."""
        if self._left is None:
            return None
        steps, power = self._left
        self._left = None if steps <= 0 else (steps - 1, power)
        return (steps, power) if steps <= 0 else None

    def lift(self) -> None:
        self._lives.clear()
        self._left = None


def bouncing(storm: Scenario) -> Scenario:
    """The same storm, with starts cut short all over it."""
    chance = random.Random(f"bounce/{storm.seed}")
    last = storm.happenings[-1].at if storm.happenings else 0.0
    laid, at = [], 1.0
    while at < last:
        laid.append(Happening(round(at, 3), "bounce", {"lives": _lives(chance)}))
        at += chance.expovariate(1 / EVERY_S)
    made = sorted((*storm.happenings, *laid), key=lambda happening: happening.at)
    return replace(storm, happenings=tuple(made))


def _lives(chance: random.Random) -> list[Life]:
    """As many of 1 or 2 callbacks as of 200 to 400: a start does most things at its beginning."""
    return [
        (int(math.exp(chance.uniform(0.0, math.log(LONGEST)))), chance.random() < POWER)
        for _ in range(chance.choice(LIVES))
    ]
