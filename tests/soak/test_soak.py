"""A short soak, and that a leak is seen. The long ones: `make soak`, docs/soak.md."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.uplink.mailbox import Mailbox
from tests.soak import memory
from tests.soak.flat import Growth, growths, table

SHORT_H, WARM_UP_H = 2.0, 0.5
LEAKY_H, LEAKY_WARM_UP_H = 1.0, 0.25


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


def test_a_line_that_climbs_grows_and_one_odd_sample_does_not() -> None:
    hours = [float(hour) for hour in range(24)]
    series = {
        "tasks": [20.0 + hour for hour in hours],
        "threads": [3.0 if hour == 12 else 1.0 for hour in hours],
        "descriptors": [9.0 if hour < 2 else 8.0 for hour in hours],
    }
    flat = {growth.name: growth.is_flat for growth in growths(hours, series, 2.0)}
    assert flat == {"tasks": False, "threads": True, "descriptors": True}
