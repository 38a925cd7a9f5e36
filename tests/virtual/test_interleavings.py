"""Two things at once: a person, a platform and a board that come between two steps of a cycle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.dispensing.interfaces import NotWritten
from controller.dispensing.job import PAUSE_S
from tests.virtual.test_heart import drives, outcomes, play
from tests.virtual.world import SPIRAL, TRACK, World


def afterwards(owner: Any, name: str, then: Callable[[], Awaitable[None]]) -> None:
    """Let `then` happen right behind the next call of `owner.name`, before its caller goes on."""
    was = getattr(owner, name)

    async def call(*given: Any, **named: Any) -> Any:
        setattr(owner, name, was)
        value = await was(*given, **named)
        await then()
        return value

    setattr(owner, name, call)


@pytest.mark.parametrize("step", ["read_eye", "prepare", "open_cycle"])
def test_p4_a_cabinet_that_is_stopped_between_two_steps_moves_nothing(
    tmp_path: Path, step: str
) -> None:
    """A technician who was told *stopped, nothing moves* reaches in."""

    async def story(machine: World) -> None:
        async def stop() -> None:
            await machine.journal.stop_cabinet("A", "a hand reaches in", "technician")
            await machine.dispenser.floor.refresh()
            assert not machine.dispenser.running()

        board = machine.dispenser.stations["main"].board
        afterwards(machine.journal if step == "open_cycle" else board, step, stop)
        await machine.order(1, (121, 1))
        await machine.rest()
        assert outcomes(machine, 1) == [("not_delivered", "service_mode")]
        (finished,) = [o for o in machine.of("order", 1) if o["status"] == "finished"]
        assert finished["command_executed"] == "no"
        assert drives(machine, "main") == 0

    play(tmp_path, story)


def test_p4_a_withdrawn_cycle_beside_a_running_one_leaves_the_deadline_standing(
    tmp_path: Path,
) -> None:
    """Two cabinets move at once for one order; one of the cycles turns out never written."""

    async def story(machine: World) -> None:
        side = machine.dispenser.stations["side"].board
        drive, main_ended = side.drive, asyncio.Event()

        async def never_written(*_: Any) -> Any:
            side.drive = drive  # type: ignore[method-assign]
            await main_ended.wait()
            machine.ports["side"].unplug()
            yield NotWritten()

        async def main_moves() -> None:
            while not drives(machine, "main"):
                await asyncio.sleep(0.01)

        side.drive = never_written  # type: ignore[method-assign, assignment]
        afterwards(side, "prepare", main_moves)
        await machine.order(1, (121, 1), (221, 1), ttl=5)
        while not machine.of("result", 1):
            await asyncio.sleep(0.01)
        (run,) = machine.dispenser.floor.runs.values()
        main_ended.set()
        await asyncio.sleep(0.1)
        assert run.deadline <= asyncio.get_running_loop().time() + PAUSE_S
        await machine.rest()
        assert outcomes(machine, 1)[1][0] == "not_delivered"

    play(tmp_path, story, TRACK, replace(SPIRAL, cycle_timeout_s=30.0), parallel=2)
