"""The arithmetic of a lane's goods (P10): stock + gone + uncertain + adjusted = loaded.

Pure. `adjusted` holds what a person's count or a machine without a kept count
found to be different: it may be negative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.model import Outcome


@dataclass(frozen=True, slots=True)
class Tally:
    stock: int
    gone: int
    uncertain: int
    adjusted: int
    loaded: int

    @property
    def balanced(self) -> bool:
        return self.stock + self.gone + self.uncertain + self.adjusted == self.loaded


def _taken(tally: Tally, items: int) -> Tally:
    """Items leave the stock; those that our count does not know are an adjustment."""
    known = min(items, tally.stock)
    return replace(tally, stock=tally.stock - known, adjusted=tally.adjusted - (items - known))


def _delivered(tally: Tally, items: int) -> Tally:
    taken = _taken(tally, items)
    return replace(taken, gone=taken.gone + items)


def booked(tally: Tally, outcome: Outcome, drops: int) -> Tally:
    """A cycle ended. Delivered without a sensor's count is one item."""
    if outcome is Outcome.DELIVERED:
        return _delivered(tally, max(1, drops))
    if outcome is Outcome.UNKNOWN:
        taken = _taken(tally, 1)
        return replace(taken, uncertain=taken.uncertain + 1)
    return tally


def rebooked(tally: Tally, old: Outcome, new: Outcome, drops: int, *, counted: bool) -> Tally:
    """A later fact replaced a cycle's outcome.

    `counted`: a person counted the lane since that cycle, so its stock is right
    already and only the ledger of what is gone learns something.
    """
    items = max(1, drops)
    if counted:
        if new is not Outcome.DELIVERED:
            return tally
        return replace(tally, gone=tally.gone + items, adjusted=tally.adjusted - items)
    if old is Outcome.UNKNOWN:
        settled = replace(tally, uncertain=tally.uncertain - 1, stock=tally.stock + 1)
        return booked(settled, new, drops)
    return booked(tally, new, drops)


def more_dropped(tally: Tally, items: int, *, counted: bool) -> Tally:
    """Further items of a delivered cycle became known."""
    if counted:
        return replace(tally, gone=tally.gone + items, adjusted=tally.adjusted - items)
    return _delivered(tally, items)


def put_back(tally: Tally, items: int) -> Tally:
    """Items that a test vend dropped lie in the lane again. Never more than are gone."""
    items = min(items, tally.gone)
    return replace(tally, stock=tally.stock + items, gone=tally.gone - items)


def recounted(tally: Tally, stock: int) -> Tally:
    """A person says what lies in the lane: nothing is uncertain any more.

    More than we knew of was loaded; less is an adjustment.
    """
    difference = stock - tally.stock - tally.uncertain
    if difference >= 0:
        return replace(tally, stock=stock, uncertain=0, loaded=tally.loaded + difference)
    return replace(tally, stock=stock, uncertain=0, adjusted=tally.adjusted - difference)
