"""What falls and what the eye sees of it, whatever firmware sits on top."""

from __future__ import annotations

import asyncio
import random

import pytest

from controller.boards.vbp import frames as vbp
from firmware_sim.faults import CyclePlan, Fault
from firmware_sim.ledger import Ledger
from firmware_sim.machine import Machine
from firmware_sim.scenario import LaneSettings
from firmware_sim.timeline import Timeline
from tests.emulator.hosts import VbpHost, make_board
from tests.virtual_time import run_virtual


def falls(seed: int, *kinds: str, late_loop_s: float = 0.0) -> list[bool]:
    """One run of a motor, and of each item that fell whether the eye saw it.

    `late_loop_s`: how late the loop gets round to each timer.
    """
    seen: list[bool] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()
        timeline = Timeline(loop, speed=20)
        ledger = Ledger(timeline)
        lane = LaneSettings(number=1, run_ms=1000, fall_ms=1000, jitter=0.5)
        machine = Machine([lane], timeline=timeline, ledger=ledger, rng=random.Random(seed))
        plan: CyclePlan = {kind: Fault(kind=kind) for kind in kinds}
        machine.start_motor(1, max_run_ms=5000, drop_wait_ms=3000, plan=plan)
        while ledger.count("eye_clear") < len(kinds) + 1 and timeline.seconds() < 5:
            await asyncio.sleep(0.002)
            loop.now += late_loop_s  # type: ignore[attr-defined]
        seen.extend(line["seen"] for line in ledger.lines if line["event"] == "product_fell")

    run_virtual(play)
    return seen


@pytest.mark.parametrize("seed", range(40))
def test_two_items_that_fall_together_are_two_pulses(seed: int) -> None:
    """120 ms apart whatever the jitter of the fall, and however late the loop is."""
    assert falls(seed, "double_drop") == [True, True]
    assert falls(seed, "double_drop", late_loop_s=0.01) == [True, True]


def test_without_an_eye_nothing_is_seen() -> None:
    """The ledger's `seen` is the truth: there is nothing that could see."""

    async def play() -> None:
        host = VbpHost(make_board("vbp", "eye = false"))
        host.hello()
        assert host.dispense(1, options=0) is vbp.Verdict.ACCEPTED
        await asyncio.sleep(3)
        ledger = host.board.ledger
        assert [line["seen"] for line in ledger.lines if line["event"] == "product_fell"] == [False]
        assert ledger.count("eye_blocked") == 0
        assert not host.board.machine.eye_blocked

    run_virtual(play)


def strikes(seed: int, polls_between: int) -> list[tuple[int, bool]]:
    """Ten cycles, with so many frames on the line before each: run times and jams."""
    ran: list[tuple[int, bool]] = []

    async def play() -> None:
        faults = (
            '[[board.fault]]\nkind = "noise"\nprobability = 0.5\n'
            '[[board.fault]]\nkind = "jam"\nprobability = 0.5\n'
        )
        host = VbpHost(make_board("vbp", faults=faults, seed=seed))
        host.hello()
        for cycle in range(1, 11):
            for _ in range(polls_between):
                host.ask(vbp.Status())
            host.dispense(cycle)
            await asyncio.sleep(6)
            host.ask(vbp.Release(cycle))
        lines = host.board.ledger.lines
        ran.extend(
            (line["run_ms"], line["why"] == "home")
            for line in lines
            if line["event"] == "motor_stopped"
        )

    run_virtual(play)
    return ran


def test_the_same_seed_is_the_same_run_however_much_is_said_on_the_line() -> None:
    """How often a host asks depends on the clock; what falls may not depend on that."""
    assert strikes(3, 0) == strikes(3, 7)
    assert strikes(3, 0) != strikes(4, 0)
    assert {home for _, home in strikes(3, 0)} == {True, False}
