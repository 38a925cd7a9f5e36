"""A small fleet, and that its verdict sees what it is for. The large one: `make fleet`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from platform_sim import codes
from tests.fleet import verdict
from tests.fleet.merchant import Sale
from tests.fleet.play import Fleet, told

MACHINES = 20
SELL_S, RATE, OUTAGE_S = 1.2, 20.0, 0.3


@pytest.mark.slow
@pytest.mark.system
def test_a_small_fleet_loses_nothing_and_doubles_nothing(short_dir: Path) -> None:
    """P8, P9: through a restart of the broker, a killed platform, cut lines, stopped and killed
    daemons."""
    fleet = Fleet(short_dir, MACHINES, seed=1)
    try:
        report = fleet.play(SELL_S, RATE, OUTAGE_S)
    finally:
        fleet.close()
    assert report.breaches == [], told(report)
    assert report.outcomes["delivered"] > SELL_S, told(report)
    assert set(report.rejected) <= {str(codes.OFFLINE.number)}, told(report)
    assert len(report.back) == MACHINES
    assert min(report.killed, report.stopped, report.cut) > 0


def a_sale() -> Sale:
    """Two units of product 121 in order: one delivered at once, one by a later revision."""
    return Sale(
        "10000001", 121, 2, asked_at=1.0, accepted_at=1.1, ended_at=2.0, ends=1,
        told={"delivered": 2, "not_delivered": 0, "unknown": 0}, told_revision=2,
        units={1: {1: "delivered"}, 2: {1: "unknown", 2: "delivered"}},
    )  # fmt: skip


def a_ledger(**changes: Any) -> verdict.Ledgers:
    return {"10000001": {"drives": {"121": 2}, "falls": {"121": 2}, "driven_twice": []} | changes}


def test_a_good_sale_is_no_breach() -> None:
    assert verdict.breaches([a_sale()], a_ledger()) == []


def _rejected_and_executed(sale: Sale) -> None:
    sale.code = "busy"


@pytest.mark.parametrize(
    ("word", "spoil"),
    [
        ("0 ends", lambda sale: setattr(sale, "ends", 0)),
        ("2 ends", lambda sale: setattr(sale, "ends", 2)),
        ("not a result for each unit", lambda sale: sale.units.pop(2)),
        ("other counts", lambda sale: sale.units.update({2: {1: "unknown"}})),
        ("told of again", lambda sale: sale.units.update({1: {1: "delivered", 2: "unknown"}})),
        ("rejected, and accepted", _rejected_and_executed),
    ],
)
def test_a_spoilt_book_is_told(word: str, spoil: Callable[[Sale], Any]) -> None:
    sale = a_sale()
    spoil(sale)
    assert any(word in sentence for sentence in verdict.breaches([sale], a_ledger()))


@pytest.mark.parametrize(
    ("word", "changes"),
    [
        ("1 fell", {"falls": {"121": 1}}),
        ("3 fell", {"falls": {"121": 3}}),
        ("3 drives for 2 units", {"drives": {"121": 3}}),
        ("driven more than once", {"driven_twice": [7]}),
    ],
)
def test_a_board_that_did_something_else_is_told(word: str, changes: dict[str, Any]) -> None:
    found = verdict.breaches([a_sale()], a_ledger(**changes))
    assert any(word in sentence for sentence in found)


def test_a_herd_is_told() -> None:
    assert verdict.herd([1.0, 1.05, 1.1])
    assert verdict.herd([1.0, 1.05, 1.2]) == []
    assert verdict.herd([1.0 + each / 1000 for each in range(500)])
    assert verdict.herd([1.0 + each / 300 for each in range(500)]) == []
