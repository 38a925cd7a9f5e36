"""What the heart does with time and with trouble, in virtual time with real drivers and journal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.dispensing.dispenser import Limits
from controller.dispensing.interfaces import ClosedUnit, CycleEnd
from controller.errors import Refused
from controller.model import Cabinet, Lane, Outcome, Reason
from firmware_sim.faults import Fault
from tests.virtual.world import SPIRAL, TRACK, World, world
from tests.virtual_time import run_virtual, virtual_wall

Story = Callable[[World], Awaitable[None]]

TWIN = replace(SPIRAL, lanes=(Lane("B1", 1, 221, 8, "B", 8), Lane("B2", 2, 121, 8, "B", 8)))
"""Product 121 lies in both cabinets, on two boards."""


def play(tmp_path: Path, story: Story, *cabinets: Cabinet, **more: object) -> None:
    async def main() -> None:
        async with world(tmp_path, cabinets or (TRACK, SPIRAL), **more) as machine:  # type: ignore[arg-type]
            await story(machine)

    run_virtual(main)


def drives(machine: World, board: str) -> int:
    return sum(line["event"] == "drive_frame" for line in machine.boards[board].ledger.lines)


def outcomes(machine: World, order_id: int) -> list[tuple[str, str | None]]:
    return [(r["outcome"], r["reason"]) for r in machine.of("result", order_id)]


def fault(machine: World, board: str, kind: str, **more: object) -> None:
    machine.boards[board].arm(Fault(kind=kind, **more))  # type: ignore[arg-type]


def test_p4_a_unit_that_waits_past_its_deadline_never_moves(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        machine.ports["main"].unplug()
        await machine.order(1, (121, 1), ttl=3)
        await machine.rest()
        assert outcomes(machine, 1) == [("not_delivered", "expired")]
        machine.ports["main"].plugged = True
        await asyncio.sleep(120)
        assert drives(machine, "main") == 0

    play(tmp_path, story)


def test_p4_an_order_that_began_in_time_goes_on_without_a_long_pause(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        began = virtual_wall()
        await machine.order(1, (121, 6), ttl=5)
        await machine.rest()
        assert outcomes(machine, 1) == [("delivered", None)] * 6
        assert virtual_wall() - began > 5

    play(tmp_path, story)


def test_p4_a_pause_longer_than_30_s_ends_it(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        await machine.order(1, (121, 2), ttl=5)
        while not machine.of("result"):
            await asyncio.sleep(0.01)
        machine.ports["main"].unplug()
        await machine.rest()
        assert outcomes(machine, 1)[0] == ("delivered", None)
        assert outcomes(machine, 1)[1][0] in ("not_delivered", "unknown")
        done = drives(machine, "main")
        machine.ports["main"].plugged = True
        await asyncio.sleep(60)
        assert drives(machine, "main") == done

    play(tmp_path, story)


def test_a_board_absent_for_30_s_ends_its_waiting_units(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        machine.ports["main"].unplug()
        await asyncio.sleep(1)
        began = virtual_wall()
        await machine.order(1, (121, 1))
        await machine.rest()
        assert outcomes(machine, 1) == [("not_delivered", "board_offline")]
        assert 25 < virtual_wall() - began < 35

    play(tmp_path, story)


def test_a_unit_whose_board_dies_is_planned_onto_another_lane(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        machine.ports["main"].unplug()
        await asyncio.sleep(1)
        await machine.order(1, (122, 1), (121, 1))
        await machine.rest()
        assert {(r["product_id"], r["outcome"], r["channel"]) for r in machine.of("result", 1)} == {
            (122, "not_delivered", "A2"),
            (121, "delivered", "B2"),
        }

    play(tmp_path, story, replace(TRACK, lanes=(*TRACK.lanes,)), TWIN)


def test_p5_silence_quarantines_the_board_for_twice_the_timeout(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        fault(machine, "side", "ack_no_status", lane=1, cycle=1)
        await machine.order(1, (221, 1))
        await machine.rest()
        assert outcomes(machine, 1) == [("unknown", "no_answer")]
        station = machine.dispenser.stations["side"]
        assert station.quarantine is not None
        left = station.quarantine.until - asyncio.get_running_loop().time()
        assert 0 < left <= SPIRAL.cycle_timeout_s
        lane = machine.dispenser.floor.lanes["B1"]
        assert (lane.uncertain, lane.health.value) == (1, "unresolved")
        await asyncio.sleep(left + 1)
        assert station.quarantine is None
        assert drives(machine, "side") == 1

    play(tmp_path, story)


def test_p5_a_terminal_status_in_the_quarantine_is_that_cycles_revision(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        fault(machine, "side", "go_silent", lane=1, cycle=1)
        await machine.order(1, (221, 1))
        await machine.rest()
        assert outcomes(machine, 1)[0][0] == "unknown"

    play(tmp_path, story)


def test_p2_no_second_cycle_after_unknown_whatever_is_configured(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        fault(machine, "side", "ack_no_status", lane=1, cycle=1)
        await machine.order(1, (221, 1))
        await machine.rest()
        await asyncio.sleep(300)
        assert drives(machine, "side") == 1
        assert machine.of("result", 1)[-1]["outcome"] == "unknown"

    play(tmp_path, story, TRACK, replace(SPIRAL, second_cycles=3))


def test_p2_a_second_cycle_waits_for_the_late_drop_window(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        fault(machine, "main", "no_drop", lane=2, cycle=1)
        began = virtual_wall()
        await machine.order(1, (122, 1))
        await machine.rest()
        (result,) = machine.of("result", 1)
        assert (result["outcome"], result["cycles"], result["revision"]) == ("delivered", 2, 1)
        assert virtual_wall() - began > 30

    play(tmp_path, story, replace(TRACK, second_cycles=1))


def test_p2_a_late_drop_in_the_window_settles_the_unit_without_a_second_cycle(
    tmp_path: Path,
) -> None:
    async def story(machine: World) -> None:
        fault(machine, "main", "late_drop", lane=2, cycle=1, delay_ms=8000)
        await machine.order(1, (122, 1))
        await machine.rest()
        await asyncio.sleep(60)
        assert machine.of("result", 1)[-1]["outcome"] == "delivered"
        assert drives(machine, "main") == 1
        assert machine.fell() == 1
        lane = machine.dispenser.floor.lanes["A2"]
        await machine.dispenser.floor.refresh()
        lane = machine.dispenser.floor.lanes["A2"]
        assert (lane.stock, lane.gone, lane.reserved) == (7, 1, 0)

    play(tmp_path, story, replace(TRACK, second_cycles=1))


@pytest.mark.parametrize("delay_ms", [1, 20, 200])
def test_a_late_drop_while_the_outcome_is_being_written_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delay_ms: int
) -> None:
    """It falls as the cycle ends: before the next cycle, so it counts."""

    async def story(machine: World) -> None:
        close = machine.journal.close_cycle

        async def slow(cycle_id: int, end: CycleEnd) -> ClosedUnit:
            await asyncio.sleep(0.4)  # an SD card
            return await close(cycle_id, end)

        monkeypatch.setattr(machine.journal, "close_cycle", slow)
        fault(machine, "main", "late_drop", lane=2, cycle=1, delay_ms=delay_ms)
        await machine.order(1, (122, 1))
        await machine.rest()
        await asyncio.sleep(60)
        assert machine.of("result", 1)[-1]["outcome"] == "delivered"
        assert machine.fell() == 1
        await machine.dispenser.floor.refresh()
        lane = machine.dispenser.floor.lanes["A2"]
        assert (lane.stock, lane.gone, lane.uncertain, lane.health) == (7, 1, 0, "ok")

    play(tmp_path, story)


def test_p13_without_a_believed_clock_nothing_moves_and_the_answer_says_so(
    tmp_path: Path,
) -> None:
    async def story(machine: World) -> None:
        machine.dispenser.floor.clock._believed_now = lambda: False  # type: ignore[attr-defined]
        await machine.order(1, (121, 1))
        await asyncio.sleep(1)
        assert [body["code"] for body in machine.of("order", 1)] == ["clock_unset"]
        assert drives(machine, "main") == 0

    play(tmp_path, story)


def test_p6_a_test_vend_is_refused_while_a_customer_is_served(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        await machine.order(1, (121, 1))
        await asyncio.sleep(0.1)
        with pytest.raises(Refused) as refused:
            await machine.dispenser.test("A2", "t1", "tech", lambda *_: None)
        assert refused.value.code == "busy"
        assert "serves an order" in str(refused.value)
        await machine.rest()
        finding = await machine.dispenser.test("A2", "t2", "tech", lambda *_: None)
        assert finding.outcome is Outcome.DELIVERED
        assert len(machine.of("result")) == 1
        (event,) = [e for e in machine.of("event") if e["kind"] == "test_vend"]
        assert event["detail"]["outcome"] == "delivered"

    play(tmp_path, story)


@pytest.mark.parametrize("board", ["main", "side"])
def test_p11_a_daemon_that_stops_at_any_moment_of_a_cycle_settles_it_at_the_next_start(
    tmp_path: Path, board: str
) -> None:
    """The same emulated boards live on; the daemon is cut off after a growing time."""
    product = {"main": 121, "side": 221}[board]

    async def main() -> None:
        boards = None
        for round_number in range(14):
            order_id = 100 + round_number
            async with world(tmp_path, boards=boards) as machine:
                boards = machine.boards
                fell = machine.fell()
                for each in machine.boards.values():
                    for lane in each.settings.lanes:
                        each.machine.refill(lane.number, 8)
                await machine.journal.fill(None, "technician")
                await machine.order(order_id, (product, 1))
                await asyncio.sleep(0.05 + 0.31 * round_number)
            async with world(tmp_path, boards=boards) as machine:
                await machine.rest(400)
                await asyncio.sleep(200)
                book = await machine.journal.order(order_id)
                (unit,) = book[0]["unit_list"]
                assert unit["outcome"] is not None
                gone = machine.fell() - fell
                assert gone <= 1, "never twice for one unit"
                if unit["outcome"] != "unknown":
                    assert (unit["outcome"] == "delivered") is (gone == 1), unit

    run_virtual(main)


def test_p4_after_a_reboot_no_waiting_unit_is_resumed(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as machine:
            await machine.order(1, (121, 3))
            await asyncio.sleep(0.1)
            boards = machine.boards
        async with world(tmp_path, boards=boards, boot="another-boot") as machine:
            await machine.rest()
            reasons = [reason for _, reason in outcomes(machine, 1)]
            assert reasons.count(Reason.POWER_LOST) == 2
            assert drives(machine, "main") == 1

    run_virtual(main)


def test_p8_a_redelivered_command_of_an_expired_order_replays(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        await machine.order(1, (121, 1))
        await machine.rest()
        first = [(t, json.dumps(b)) for t, b in machine.session.published if t != "event"]
        await asyncio.sleep(500)
        now = int(virtual_wall())
        body = {
            "order_id": 1,
            "trade_id": "t1",
            "issued_at": now - 400,
            "products": [{"product_id": 121, "quantity": 1}],
        }
        await machine.intake.dispense(json.dumps(body).encode(), retained=True)
        await machine.rest()
        again = [(t, json.dumps(b)) for t, b in machine.session.published if t != "event"]
        assert sorted(again) == sorted(first + first)
        assert drives(machine, "main") == 1

    play(tmp_path, story)


def test_p2_a_lane_left_uncertain_by_a_crash_takes_no_further_unit(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as machine:
            fault(machine, "side", "ack_no_status", lane=1, cycle=1)
            await machine.order(1, (221, 2), ttl=89)
            while drives(machine, "side") == 0:
                await asyncio.sleep(0.05)
            boards = machine.boards
        async with world(tmp_path, boards=boards) as machine:
            await machine.rest()
            assert outcomes(machine, 1) == [
                ("unknown", "no_answer"),
                ("not_delivered", "lane_disabled"),
            ]
            await asyncio.sleep(120)
            assert drives(machine, "side") == 1

    run_virtual(main)


def test_p5_a_motor_that_may_still_turn_stops_its_cabinet_even_when_told_late(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with world(tmp_path) as machine:
            fault(machine, "side", "status", lane=1, cycle=1, code=4)

            def deaf_from_the_drive_on(line: Mapping[str, Any]) -> None:
                if line["event"] == "drive_frame":
                    machine.ports["side"].from_board_lost = 1000

            machine.boards["side"].ledger.watchers.append(deaf_from_the_drive_on)
            await machine.order(1, (221, 1))
            while drives(machine, "side") == 0:
                await asyncio.sleep(0.001)
            boards = machine.boards
        async with world(tmp_path, boards=boards) as machine:
            await machine.rest()
            assert machine.of("result", 1)[0]["outcome"] == "unknown"
            await asyncio.sleep(1)
            assert "B" in machine.dispenser.floor.stopped

    run_virtual(main)


def test_p14_a_queue_of_orders_has_a_bound(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        machine.dispenser._limits = Limits(max_queued_orders=2)
        for order_id in (1, 2, 3):
            await machine.order(order_id, (121, 1))
        await machine.rest()
        assert [body["code"] for body in machine.of("order", 3)] == ["busy"]
        await machine.order(4, (121, 1))
        await machine.rest()
        assert outcomes(machine, 4) == [("delivered", None)]

    play(tmp_path, story)


def test_vbp_rule_1_a_collision_of_ids_moves_nothing_and_takes_higher_ones_once(
    tmp_path: Path,
) -> None:
    async def story(machine: World) -> None:
        memory = machine.boards["main"].memory
        journal = machine.journal.birth or 0
        memory.highest_released = (journal << 32) + 1000
        await asyncio.sleep(30)
        await machine.order(1, (121, 1))
        await machine.rest()
        assert outcomes(machine, 1) == [("delivered", None)]
        assert drives(machine, "main") == 1
        memory.highest_released = 2**64 - 2
        await machine.order(2, (121, 1))
        await machine.rest()
        assert outcomes(machine, 2) == [("not_delivered", "board_offline")]
        assert "board accept" in machine.dispenser.stations["main"].out_of_service
        assert drives(machine, "main") == 1

    play(tmp_path, story)


def test_p2_an_order_that_comes_before_the_heart_has_begun_is_taken_once(tmp_path: Path) -> None:
    """A broker brings what it kept for us at once, while boards have not said a word yet."""

    async def story(machine: World) -> None:
        await machine.rest()
        assert [o["status"] for o in machine.of("order", 1)] == ["accepted", "finished"]
        assert outcomes(machine, 1) == [("delivered", None)] * 2
        assert drives(machine, "main") == 2

    async def kept(machine: World) -> None:
        await asyncio.sleep(0)
        await machine.order(1, (121, 2))

    play(tmp_path, story, first=kept)
