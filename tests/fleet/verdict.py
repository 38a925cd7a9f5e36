"""The books of the merchants held against the ledgers of the boards, when everything rests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.fleet.merchant import Sale

Ledgers = Mapping[str, Mapping[str, Any]]
"""machine_no -> `Machine.ledger()`."""


def breaches(sales: Sequence[Sale], ledgers: Ledgers) -> list[str]:
    return [*_ends(sales), *_books(sales, ledgers)]


def _ends(sales: Sequence[Sale]) -> Iterator[str]:
    """Each command has one end, a result for each of its units, and counts that fit them."""
    for sale in sales:
        if sale.ends != 1:
            yield f"{sale.ends} ends (finished or rejected): {sale}"
        elif sale.code:
            if sale.units or sale.accepted_at:
                yield f"rejected, and accepted or executed: {sale}"
        elif sorted(sale.units) != list(range(1, sale.quantity + 1)):
            yield f"not a result for each unit: {sale}"
        elif any(later_than_delivered(revisions) for revisions in sale.units.values()):
            yield f"a unit was delivered, and then told of again: {sale}"
        elif Counter(sale.told) != sale.outcomes():
            yield f"finished with other counts than its results: {sale}"


def later_than_delivered(revisions: Mapping[int, str]) -> bool:
    return "delivered" in [revisions[number] for number in sorted(revisions)[:-1]]


def _books(sales: Sequence[Sale], ledgers: Ledgers) -> Iterator[str]:
    """Each product of each machine: what fell lies between what was booked as delivered and that
    with the unknown ones; no drive without a unit."""
    booked: dict[tuple[str, str], Counter[str]] = {}
    for sale in sales:
        lane = booked.setdefault((sale.machine_no, str(sale.product_id)), Counter())
        lane.update(sale.outcomes())
    for machine_no, ledger in ledgers.items():
        if ledger["driven_twice"]:
            yield f"{machine_no}: cycles {ledger['driven_twice']} were driven more than once"
        for product, fell in ledger["falls"].items():
            told = booked.get((machine_no, product), Counter())
            driven = ledger["drives"][product]
            least, most = told["delivered"], told["delivered"] + told["unknown"]
            if not least <= fell <= most:
                yield f"{machine_no}, product {product}: {fell} fell, booked {dict(told)}"
            if driven > told.total():
                yield f"{machine_no}, product {product}: {driven} drives for {told.total()} units"


AT_ONCE_S, EACH_S = 0.1, 0.002
"""In so long a time, and so much more for each machine, two busy cores take back machines that
all come at one moment."""


def herd(back_s: Sequence[float]) -> list[str]:
    """After the broker's return (seconds of each machine): not all at one moment."""
    if back_s and max(back_s) - min(back_s) < AT_ONCE_S + EACH_S * len(back_s):
        return [f"all {len(back_s)} machines came back at one moment: a herd"]
    return []
