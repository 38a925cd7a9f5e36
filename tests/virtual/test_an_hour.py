"""All waiting goes through one injected clock: an hour of orders takes seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.virtual.world import World, world
from tests.virtual_time import run_virtual

HOUR_S = 3600.0


async def an_hour(state_dir: Path) -> tuple[World, float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with world(state_dir) as machine:
        number = 0
        while loop.time() - began < HOUR_S:
            number += 1
            await machine.order(number, (121, 2), (221, 1))
            await machine.rest()
            if number % 3 == 0:
                await machine.journal.fill(None, "technician")
                for board in machine.boards.values():
                    for lane in board.settings.lanes:
                        board.machine.refill(lane.number, 8)
            await asyncio.sleep(20)
        await machine.rest()
        return machine, loop.time() - began


def test_an_hour_of_orders_without_touching_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.perf_counter()

    def forbidden(*_: object) -> float:
        raise AssertionError("somebody looked at the wall clock or slept")

    logging.disable(logging.CRITICAL)  # the library stamps its records with time.time
    with monkeypatch.context() as patched:
        for name in ("time", "monotonic", "sleep", "time_ns", "monotonic_ns"):
            patched.setattr(time, name, forbidden)
        machine, virtual = run_virtual(lambda: an_hour(tmp_path))
    logging.disable(logging.NOTSET)
    real = time.perf_counter() - began
    finished = [body for body in machine.of("order") if body["status"] == "finished"]
    results = machine.of("result")
    assert virtual >= HOUR_S
    assert len(finished) > 80
    outcomes = Counter(body["outcome"] for body in results)
    assert outcomes == {"delivered": 3 * len(finished)}
    assert machine.fell() == 3 * len(finished)
    print(f"{virtual:.0f} s of orders in {real:.2f} s: {virtual / real:.0f} times real time")
