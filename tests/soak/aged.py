"""A daemon that is weeks old: its bounded memories are full from the start.

What these entries weigh counts as the daemon's own (`figures.OWNERS`): real ones take their place
one by one, and that is no growth. So each weighs what a real one does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from controller.boards.base import REMEMBERED
from controller.boards.vbp.driver import VbpBoard
from controller.dispensing.dispenser import Dispenser
from controller.journal.journal import REPLAY_KEYS, Journal
from controller.model import OrderKey

LONG_AGO = 1_700_000_000
"""Unix seconds; November 2023."""


WEEKS = 4
"""So many times as many entries as are kept pass through: a table that lives on additions and
removals is laid out anew now and then, larger than one that was only filled, and stays so."""


def age(journal: Journal, dispenser: Dispenser) -> None:
    """Fill the bounded memories to their bounds, as weeks would: what still grows then
    has no bound. The oldest entries are of orders, cycles and events that there never were."""
    replays = (
        (("reject", OrderKey(-1000 - number, ""), LONG_AGO - number, "expired"), -float(number))
        for number in range(WEEKS * REPLAY_KEYS)
    )
    _pass(journal._replays.last, REPLAY_KEYS, replays)
    for station in dispenser.stations.values():
        if isinstance(station.board, VbpBoard):
            _age_vbp(station.board)


def _age_vbp(driver: VbpBoard) -> None:
    cycles = [(1 << 40) + number for number in range(WEEKS * REMEMBERED)]  # over 32 bits, as real
    _pass(driver._watched, REMEMBERED, ((cycle, True) for cycle in cycles))
    _pass(driver._resting, REMEMBERED, ((cycle, -float(cycle)) for cycle in cycles))
    _pass(driver._late._heard, REMEMBERED, ((cycle, None) for cycle in cycles))
    events = (f"vbp:{1 << 31}:{number}:{number}" for number in range(WEEKS * REMEMBERED))
    _pass(driver._known_events, REMEMBERED, ((event, None) for event in events))


def _pass(memory: OrderedDict[Any, Any], bound: int, entries: Iterable[tuple[Any, Any]]) -> None:
    """What is real in it is still the newest afterwards."""
    for key, value in [*entries, *memory.items()]:
        memory[key] = value
        memory.move_to_end(key)
        while len(memory) > bound:
            memory.popitem(last=False)
