"""A daemon that is weeks old: its bounded memories are full from the start.

What these entries weigh counts as the daemon's own (`figures.OWNERS`): real ones take their place
one by one, and that is no growth. So each weighs what a real one does.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from controller.boards.base import REMEMBERED
from controller.boards.vbp.driver import VbpBoard
from controller.dispensing.dispenser import Dispenser
from controller.journal.journal import REPLAY_KEYS, Journal
from controller.model import OrderKey

LONG_AGO = 1_700_000_000
"""Unix seconds; November 2023."""


def age(journal: Journal, dispenser: Dispenser) -> None:
    """Fill the bounded memories to their bounds, as weeks would: what still grows then
    has no bound. The oldest entries are of orders, cycles and events that there never were."""
    for number in range(REPLAY_KEYS - len(journal._replays.last)):
        key = OrderKey(-1000 - number, "")
        answer = ("reject", key, LONG_AGO - number, "expired")
        _put_first(journal._replays.last, answer, -float(number))
    for station in dispenser.stations.values():
        if isinstance(station.board, VbpBoard):
            _age_vbp(station.board)


def _age_vbp(driver: VbpBoard) -> None:
    cycles = [(1 << 40) + number for number in range(REMEMBERED)]  # of 32 bits and more, as real
    _fill(driver._watched, dict.fromkeys(cycles, True))
    _fill(driver._resting, {cycle: -float(at) for at, cycle in enumerate(cycles)})
    _fill(driver._late._heard, dict.fromkeys(cycles))
    events = (f"vbp:{1 << 31}:{number}:{number}" for number in range(REMEMBERED))
    _fill(driver._known_events, dict.fromkeys(events))


def _fill(memory: OrderedDict[Any, Any], entries: dict[Any, Any]) -> None:
    for key, value in entries.items():
        if len(memory) >= REMEMBERED:
            return
        _put_first(memory, key, value)


def _put_first(memory: OrderedDict[Any, Any], key: object, value: object = None) -> None:
    memory[key] = value
    memory.move_to_end(key, last=False)
