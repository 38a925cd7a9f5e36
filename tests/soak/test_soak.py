"""A short soak, and that a leak is seen. The long ones: `make soak`, docs/soak.md."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any

import pytest

from controller.uplink.mailbox import Mailbox
from tests.sim.scenario import Happening
from tests.soak import day, memory, shop
from tests.soak.flat import Growth, growths, table

SHORT_H, WARM_UP_H = 2.0, 0.5
LEAKY_H, LEAKY_WARM_UP_H = 1.0, 0.25
ODD_ORDERS = 20
"""By so many may two watches differ, of 22 orders each: in two of them a leak is over it."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def played(directory: Path, hours: float, warm_up_h: float) -> list[Growth]:
    """Without allocations: tracing them takes three times as long."""
    day = memory.play(1, hours, "both", directory, trace=False)
    assert day.shop.orders > 80 * hours
    assert day.shop.machine.lives == 1
    return day.verdict(warm_up_h)


@pytest.mark.slow
def test_two_hours_of_selling_leave_nothing_in_memory(tmp_path: Path) -> None:
    found = played(tmp_path, SHORT_H, WARM_UP_H)
    assert all(growth.is_flat for growth in found), table(found)


@pytest.mark.slow
def test_a_leak_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mailbox that keeps each message."""
    kept: list[Any] = []
    offer = Mailbox.offer

    def keep(self: Mailbox, message: Any) -> bool:
        kept.append(message)
        return offer(self, message)

    monkeypatch.setattr(Mailbox, "offer", keep)
    found = played(tmp_path, LEAKY_H, LEAKY_WARM_UP_H)
    grown = {growth.name for growth in found if not growth.is_flat}
    assert "objects controller.uplink.link.Inbound" in grown


def test_a_board_that_forgot_sells_again_once_the_round_accepted_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge knows who accepted it: he takes no drive on a board that nobody accepted."""

    def watch(seed: int, number: int, layout: str, rates: day.Rates) -> list[Happening]:
        forgets = Happening(rates.watch_s / 2, "fault", {"board": "main", "name": "forget_memory"})
        others = [each for each in day.watch(seed, number, layout, rates) if each.kind != "fault"]
        return sorted([*others, *([forgets] if number == 0 else [])], key=lambda each: each.at)

    monkeypatch.setattr(shop, "watch", watch)
    there = shop.Shop(1, "vbp", tmp_path, day.BUSY, memory.RETENTION_DAYS)
    fell: list[int] = []
    before = there.boards["main"].memory.memory_id
    there.sell(0.5, lambda: fell.append(there.judge.counts["product_fell"]))
    assert there.boards["main"].memory.memory_id != before
    assert fell[1] > fell[0] > 0


def test_the_judge_keeps_nothing_of_a_watch_that_is_over_for_long(tmp_path: Path) -> None:
    """What he kept of each order would be told as the product's."""
    there = shop.Shop(1, "vbp", tmp_path, day.BUSY, memory.RETENTION_DAYS)
    sizes: list[dict[str, int]] = []

    def look() -> None:
        kept = vars(there.judge).items()
        sizes.append({name: len(each) for name, each in kept if isinstance(each, Sized)})

    there.sell(0.75, look)
    first, _, third = sizes
    assert {name: third[name] for name in first if third[name] > first[name] + ODD_ORDERS} == {}


def test_a_line_that_climbs_grows_and_one_odd_sample_does_not() -> None:
    hours = [float(hour) for hour in range(24)]
    series = {
        "tasks": [20.0 + hour for hour in hours],
        "threads": [3.0 if hour == 12 else 1.0 for hour in hours],
        "descriptors": [9.0 if hour < 2 else 8.0 for hour in hours],
    }
    flat = {growth.name: growth.is_flat for growth in growths(hours, series, 2.0)}
    assert flat == {"tasks": False, "threads": True, "descriptors": True}
