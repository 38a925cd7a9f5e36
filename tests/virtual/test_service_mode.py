"""Service mode and the heart: what is rejected, what waits, what ends, what still moves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controller.clock import LoopClock
from controller.errors import Refused
from controller.model import Outcome
from controller.service_mode import ServiceSwitch
from tests.virtual.test_heart import drives, fault, outcomes, play
from tests.virtual.test_interleavings import afterwards
from tests.virtual.world import World, world
from tests.virtual_time import run_virtual, virtual_wall

IDLE_S = 600.0


def switch(machine: World, idle_s: float = IDLE_S) -> ServiceSwitch:
    clock = LoopClock(lambda: True, virtual_wall)
    return ServiceSwitch(machine.dispenser, machine.journal, clock, idle_s)


def rejections(machine: World, order_id: int) -> list[tuple[str, str]]:
    told = [o for o in machine.of("order", order_id) if o["status"] == "rejected"]
    return [(o["code"], o["command_executed"]) for o in told]


async def vend(machine: World, channel: str, test_id: str) -> Outcome:
    finding = await machine.dispenser.test(channel, test_id, "anna", lambda *_: None)
    return finding.outcome


async def running(machine: World, board: str = "main") -> None:
    while not drives(machine, board):
        await asyncio.sleep(0.01)


def test_p8_orders_are_rejected_and_known_ones_replayed(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        await machine.order(1, (121, 1))
        await machine.rest()
        await switch(machine).on("anna")
        await machine.order(2, (121, 1))
        await machine.order(3, (999, 1))  # the mode is judged before the product
        await machine.rest()
        assert rejections(machine, 2) == rejections(machine, 3) == [("service_mode", "no")]
        told = len(machine.of("result", 1))
        await asyncio.sleep(5)
        await machine.intake.dispense(
            b'{"order_id": 1, "trade_id": "t1", "issued_at": 1,'
            b' "products": [{"product_id": 121, "quantity": 1}]}',
            retained=False,
        )
        await machine.rest()
        assert rejections(machine, 1) == []
        assert len(machine.of("result", 1)) == told + 1
        assert drives(machine, "main") == 1

    play(tmp_path, story)


def test_an_order_behind_a_service_mode_that_the_heart_has_not_heard_of_is_rejected(
    tmp_path: Path,
) -> None:
    """The commit was first; the transaction that would accept it looks."""

    async def story(machine: World) -> None:
        await machine.journal.service_on("anna")
        assert machine.dispenser.floor.service is None
        await machine.order(1, (121, 1))
        await machine.rest()
        assert rejections(machine, 1) == [("service_mode", "no")]

    play(tmp_path, story)


@pytest.mark.parametrize("step", ["read_eye", "prepare"])
def test_no_customers_cycle_begins_although_its_unit_was_on_the_way(
    tmp_path: Path, step: str
) -> None:
    async def story(machine: World) -> None:
        service = switch(machine)

        async def on() -> None:
            await service.on("anna")
            assert not machine.dispenser.running()

        afterwards(machine.dispenser.stations["main"].board, step, on)
        await machine.order(1, (121, 1), ttl=10)
        await machine.rest()
        assert outcomes(machine, 1) == [("not_delivered", "expired")]
        assert drives(machine, "main") == 0
        assert (await machine.journal.lane("A1"))["history"] == []

    play(tmp_path, story)


def test_p4_what_waits_goes_on_after_it_or_ends_at_its_deadline(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        service = switch(machine)
        await machine.order(1, (121, 2))
        await machine.order(2, (221, 1), ttl=20)
        await running(machine)
        await service.on("anna")
        began = virtual_wall()
        while not machine.of("result", 1):
            await asyncio.sleep(0.01)
        assert outcomes(machine, 1) == [("delivered", None)], "the running one goes on"
        await asyncio.sleep(18)
        assert (drives(machine, "main"), drives(machine, "side")) == (1, 0)
        await asyncio.sleep(4)
        assert outcomes(machine, 2) == [("not_delivered", "expired")]
        assert virtual_wall() - began < 30
        await service.off("anna")
        await machine.rest()
        assert outcomes(machine, 1) == [("delivered", None)] * 2

    play(tmp_path, story)


def test_with_open_orders_end_what_waits_ends_and_what_runs_goes_on(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        await machine.order(1, (121, 3))
        await machine.order(2, (221, 1))
        await running(machine)
        await switch(machine).on("anna")
        await machine.rest(30)
        assert outcomes(machine, 1) == [
            ("delivered", None),
            ("not_delivered", "service_mode"),
            ("not_delivered", "service_mode"),
        ]
        assert outcomes(machine, 2) == [("not_delivered", "service_mode")]
        executed = {
            number: machine.of("order", number)[-1]["command_executed"] for number in (1, 2)
        }
        assert executed == {1: "yes", 2: "no"}

    play(tmp_path, story, rules={"service_ends_orders": True})


@pytest.mark.parametrize("ends", [False, True])
def test_p11_a_restart_keeps_it(tmp_path: Path, ends: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        rules = {"service_ends_orders": ends}
        async with world(tmp_path, rules=rules) as machine:
            machine.ports["main"].unplug()
            await machine.order(1, (121, 1), ttl=60)
            await machine.journal.service_on("anna")
            boards = machine.boards
        async with world(tmp_path, boards=boards, rules=rules) as machine:
            await asyncio.sleep(5)
            assert machine.dispenser.floor.service is not None
            await machine.order(2, (121, 1))
            await asyncio.sleep(1)
            assert rejections(machine, 2) == [("service_mode", "no")]
            assert drives(machine, "main") == 0
            assert outcomes(machine, 1) == ([("not_delivered", "service_mode")] if ends else [])
            await switch(machine).off("anna")
            await machine.rest()
            assert drives(machine, "main") == (0 if ends else 1)

    run_virtual(main)


def test_it_leaves_by_itself_after_the_idle_minutes(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        service = switch(machine)
        floor = machine.dispenser.floor
        clock = asyncio.create_task(service.run())
        await service.on("anna")
        await asyncio.sleep(590)
        await machine.journal.set_stock("A1", 5, "anna")  # an act
        await asyncio.sleep(590)
        assert floor.service is not None
        assert await vend(machine, "A2", "t1") is Outcome.DELIVERED
        await asyncio.sleep(500)
        await service.on("bert")
        await asyncio.sleep(590)
        await machine.journal.lanes()  # reading is none
        view = service.view()
        assert view is not None
        assert view["who"] == "bert"
        assert view["idle_left_s"] == pytest.approx(10, abs=0.5)
        await asyncio.sleep(11)
        assert (floor.service, service.view()) == (None, None)
        assert await machine.journal.service_mode() is None
        (left,) = [e["detail"] for e in machine.of("event") if e["detail"].get("why") == "idle"]
        assert (left["on"], left["who"]) == (False, "daemon")
        await machine.order(1, (121, 1))
        await machine.rest()
        assert outcomes(machine, 1) == [("delivered", None)]
        clock.cancel()

    play(tmp_path, story)


def test_a_restart_begins_the_idle_minutes_anew(tmp_path: Path) -> None:
    """Nobody knows how long they were idle before it; too early may cost a finger."""

    async def main() -> None:
        async with world(tmp_path) as machine:
            await switch(machine).on("anna")
            boards = machine.boards
            await asyncio.sleep(IDLE_S - 1)
        async with world(tmp_path, boards=boards) as machine:
            clock = asyncio.create_task(switch(machine).run())
            await asyncio.sleep(IDLE_S - 5)
            assert machine.dispenser.floor.service is not None
            await asyncio.sleep(10)
            assert machine.dispenser.floor.service is None
            clock.cancel()

    run_virtual(main)


def test_p6_a_test_vend_goes_before_units_that_wait_and_they_keep_their_place(
    tmp_path: Path,
) -> None:
    async def story(machine: World) -> None:
        service = switch(machine)
        machine.ports["main"].unplug()
        await machine.order(1, (121, 1), (122, 1))
        await machine.order(2, (121, 1))
        await service.on("anna")
        machine.ports["main"].plugged = True
        await asyncio.sleep(2)
        for number in range(2):
            assert await vend(machine, "A1", f"t{number}") is Outcome.DELIVERED
        assert drives(machine, "main") == 2
        await service.off("anna")
        await machine.rest()
        units = [(r["order_id"], r["unit"]) for r in machine.of("result")]
        assert units == [(1, 1), (1, 2), (2, 1)]
        assert {o for r in (1, 2) for o in outcomes(machine, r)} == {("delivered", None)}

    play(tmp_path, story)


def test_a_test_vend_waits_its_turn_behind_another_one_and_holds_service_mode(
    tmp_path: Path,
) -> None:
    async def story(machine: World) -> None:
        service = switch(machine, idle_s=1.0)
        clock = asyncio.create_task(service.run())
        await service.on("anna")
        fault(machine, "main", "eye_stuck_blocked", seconds=5)
        await asyncio.sleep(0.5)
        waiting = asyncio.create_task(vend(machine, "A1", "t1"))
        await asyncio.sleep(0.1)
        with pytest.raises(Refused, match="serves a test vend; wait for its end"):
            await vend(machine, "A2", "t2")
        with pytest.raises(Refused, match="a test vend waits or runs") as refused:
            await service.off("anna")
        assert refused.value.code == "busy"
        assert await waiting is Outcome.DELIVERED
        assert machine.dispenser.floor.service is not None, "longer than its idle time"
        await asyncio.sleep(1.5)
        assert machine.dispenser.floor.service is None
        clock.cancel()

    play(tmp_path, story)


def test_tests_may_need_service_mode(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        with pytest.raises(Refused, match="vendctl service on") as refused:
            await vend(machine, "A1", "t1")
        assert refused.value.code == "not_in_service_mode"
        await switch(machine).on("anna")
        assert await vend(machine, "A1", "t2") is Outcome.DELIVERED

    play(tmp_path, story, rules={"tests_need_service_mode": True})
