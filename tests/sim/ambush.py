"""Trouble that waits for a write of the journal, and strikes a few callbacks behind it.

Chance alone reaches the frequent places often and the rare ones hardly ever. A storm lays
an ambush behind each kind of write, and whichever comes meets its trouble.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable

from tests.sim import matrix, scenario
from tests.sim.scenario import Happening, Made

STEPS = (0, 0, 1, 2, 3, 5, 8, 13, 21)
"""Callbacks of the daemon behind the write; most of what follows from it happens in these."""
BEHIND_EACH = 2
RARE = ("revise", "withdraw_cycle", "reassign", "finish_unit")
"""Writes that come about on a quiet day rather than in a storm."""


class Ambushes:
    def __init__(self, perform: Callable[[Made], None]) -> None:
        self._perform = perform
        self._laid: dict[str, list[tuple[int, Made]]] = defaultdict(list)
        self._sprung: list[tuple[int, Made]] = []

    def lay(self, boundary: str, steps: int, made: Made) -> None:
        self._laid[boundary].append((steps, made))

    def passed(self, boundary: str) -> None:
        """That write became durable: the one that has waited longest there is sprung."""
        if laid := self._laid[boundary]:
            self._sprung.append(laid.pop(0))

    def tick(self) -> None:
        """A callback of the daemon has run."""
        if not self._sprung:
            return
        due = [made for steps, made in self._sprung if steps <= 0]
        self._sprung = [(steps - 1, made) for steps, made in self._sprung if steps > 0]
        for made in due:
            self._perform(made)

    def lift(self) -> None:
        self._laid.clear()
        self._sprung.clear()


def behind(chance: random.Random, layout: str, boundaries: Iterable[str]) -> list[Happening]:
    """Laid at the beginning: trouble behind each of these writes."""
    return [
        Happening(
            0.0,
            "ambush",
            {"boundary": boundary, "steps": chance.choice(STEPS), "made": trouble(chance, layout)},
        )
        for boundary in boundaries
        for _ in range(BEHIND_EACH)
    ]


def rare(chance: random.Random, layout: str, *, loses_journal: bool) -> list[Happening]:
    """Trouble behind the writes of a quiet day."""
    laid = behind(chance, layout, RARE)
    if loses_journal:
        boundary = chance.choice((*RARE, "event"))
        made = TROUBLES[matrix.JOURNAL](chance, layout)
        laid.insert(0, Happening(0.0, "ambush", {"boundary": boundary, "steps": 0, "made": made}))
    return laid


def trouble(chance: random.Random, layout: str) -> Made:
    """Any column of the matrix."""
    return TROUBLES[chance.choice(matrix.COLUMNS)](chance, layout)


def _crash(kind: str, *on: str) -> Callable[[random.Random, str], Made]:
    def made(chance: random.Random, _layout: str) -> Made:
        steps = 0 if on == ("now",) else chance.choice((0, 1, 2, 3, 5))
        return kind, {"away_s": 0.1, "on": chance.choice(on), "steps": steps}

    return made


def _of_board(column: str) -> Callable[[random.Random, str], Made]:
    known = scenario.FAULTS + scenario.XY_FAULTS
    names = [name for name in known if matrix.FAULT_GROUPS[name] == column]

    def made(chance: random.Random, layout: str) -> Made:
        return scenario.one_fault(chance, chance.choice(scenario.BOARDS[layout]), names)

    return made


def _away(chance: random.Random, _layout: str) -> Made:
    return chance.choice((("broker_cut", {}), ("broker_away", {"away_s": 0.5, "forget": False})))


def _forgot(_chance: random.Random, _layout: str) -> Made:
    return "broker_away", {"away_s": 0.5, "forget": True}


def _disk(kind: str) -> Callable[[random.Random, str], Made]:
    def made(chance: random.Random, layout: str) -> Made:
        while True:
            found, more = scenario.disk(chance, layout)
            if found == kind:
                return found, more | ({"lasts_s": 2.0} if "lasts_s" in more else {})

    return made


def _clock(chance: random.Random, _layout: str) -> Made:
    # Not far ahead: set right again, such a clock is believed by a person's word only.
    by_s = chance.choice((2.0, 20.0, -2.0, -45.0, -3_600.0, -31_536_000.0))
    return "clock_step", {"by_s": by_s, "lasts_s": chance.choice((1.0, 3.0))}


def _journal(chance: random.Random, _layout: str) -> Made:
    how = chance.choice(("directory", "database", "corrupt", "older", "older_directory"))
    return "lose_journal", {"how": how, "which": chance.random(), "away_s": 0.1}


TROUBLES: dict[str, Callable[[random.Random, str], Made]] = {
    matrix.KILL: _crash("kill", "now"),
    matrix.KILL_IN_WRITE: _crash("kill", *scenario.IN_WRITES),
    matrix.POWER: _crash("power", "now"),
    matrix.POWER_ALL: _crash("power_all", "now"),
    matrix.DISK_FAILS: _disk("disk_fails"),
    matrix.DISK_FULL: _disk("disk_full"),
    matrix.BROKER: _away,
    matrix.FORGOT: _forgot,
    matrix.CYCLE: _of_board(matrix.CYCLE),
    matrix.LINE: _of_board(matrix.LINE),
    matrix.EYE: _of_board(matrix.EYE),
    matrix.RESET: _of_board(matrix.RESET),
    matrix.SWAPPED: _of_board(matrix.SWAPPED),
    matrix.CLOCK: _clock,
    matrix.JOURNAL: _journal,
}
