"""Two things at once: a person, a platform and a board that come between two steps of a cycle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.clock import LoopClock
from controller.dispensing.floor import Obstacle
from controller.dispensing.interfaces import NotWritten
from controller.dispensing.job import PAUSE_S, Job, OrderRun
from controller.errors import JournalUnwritable, Refused
from controller.model import Lane
from firmware_sim.board import ResetCause
from tests.virtual.test_heart import TWIN, drives, fault, outcomes, play
from tests.virtual.world import SPIRAL, TRACK, World, world
from tests.virtual_time import run_virtual, virtual_wall


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


def test_p4_an_order_that_ran_at_the_stop_goes_on_after_a_restart_without_a_long_pause(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with world(tmp_path) as machine:
            await machine.order(1, (121, 4), ttl=5)
            while len(machine.of("result", 1)) < 2:
                await asyncio.sleep(0.01)
            assert await machine.dispenser.drain(60)
            boards = machine.boards
            done = drives(machine, "main")
            assert done < 4
        await asyncio.sleep(8)
        async with world(tmp_path, boards=boards) as machine:
            await machine.rest()
            assert outcomes(machine, 1)[-1] == ("delivered", None)
            assert drives(machine, "main") == 4
            await machine.order(2, (121, 3), ttl=5)
            while not machine.of("result", 2):
                await asyncio.sleep(0.01)
            assert await machine.dispenser.drain(60)
            done = drives(machine, "main")
        await asyncio.sleep(40)
        async with world(tmp_path, boards=boards) as machine:
            await machine.rest()
            assert outcomes(machine, 2)[-1] == ("not_delivered", "expired")
            assert drives(machine, "main") == done

    run_virtual(main)


def test_p4_an_order_whose_cycle_was_cut_off_goes_on_once_that_is_settled(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as machine:
            await machine.order(1, (121, 3), ttl=3)
            while not drives(machine, "main"):
                await asyncio.sleep(0.01)
            boards = machine.boards
        await asyncio.sleep(5)
        async with world(tmp_path, boards=boards) as machine:
            await machine.rest()
            assert outcomes(machine, 1) == [("delivered", None)] * 3
            assert drives(machine, "main") == 3

    run_virtual(main)


def test_p4_a_cycle_whose_motor_never_moved_did_not_begin_its_order(tmp_path: Path) -> None:
    """Journalled, and killed before the drive frame; the deadline passes meanwhile."""

    async def main() -> None:
        async with world(tmp_path) as machine:

            async def killed_here() -> None:
                await asyncio.sleep(3_600)

            afterwards(machine.journal, "open_cycle", killed_here)
            await machine.order(1, (121, 2), ttl=3)
            await asyncio.sleep(1)
            boards = machine.boards
        await asyncio.sleep(5)
        async with world(tmp_path, boards=boards) as machine:
            await machine.rest()
            assert [reason for _, reason in outcomes(machine, 1)] == ["not_started", "expired"]
            assert drives(machine, "main") == 0

    run_virtual(main)


@pytest.mark.parametrize("second_cycles", [0, 1])
def test_p4_a_cycle_whose_frame_was_lost_did_not_begin_its_order(
    tmp_path: Path, second_cycles: int
) -> None:
    """The board never hears of the drive, and can say so only when the deadline has passed:
    neither the order's next unit nor a second cycle of this one may move then."""

    async def story(machine: World) -> None:
        async def board_restarts() -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(0.1, machine.boards["main"].reset, ResetCause.WATCHDOG)

        fault(machine, "main", "lose_command", lane=1, cycle=1)
        afterwards(machine.journal, "open_cycle", board_restarts)
        await machine.order(1, (121, 2), ttl=1)
        await machine.rest()
        assert [reason for _, reason in outcomes(machine, 1)] == ["not_started", "expired"]
        assert drives(machine, "main") == 0

    play(tmp_path, story, replace(TRACK, second_cycles=second_cycles))


@pytest.mark.parametrize("asleep_s", [10, 36_000])
def test_p4_a_deadline_is_judged_only_by_a_clock_that_is_believed(
    tmp_path: Path, asleep_s: float
) -> None:
    """After a power cut a machine without a battery clock begins in the past; its operator
    wants waiting units resumed, which must not mean hours later."""

    async def main() -> None:
        async with world(tmp_path) as machine:
            await machine.order(1, (121, 2))
            await asyncio.sleep(0.1)
            boards = machine.boards
        behind, ahead = -3_600.0, float(asleep_s)
        shift = [behind]
        clock = LoopClock(lambda: shift[0] == ahead, lambda: virtual_wall() + shift[0])
        rules = {"resume_after_reboot": True}
        async with world(
            tmp_path, boards=boards, boot="another", rules=rules, clock=clock
        ) as machine:
            await asyncio.sleep(20)
            assert drives(machine, "main") == 1
            shift[0] = ahead
            await machine.rest()
            late = asleep_s > 90
            assert drives(machine, "main") == (1 if late else 2)
            assert outcomes(machine, 1)[-1] == (
                ("not_delivered", "expired") if late else ("delivered", None)
            )

    run_virtual(main)


def test_p4_without_a_believed_clock_a_unit_waits_no_longer_than_it_ever_could(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with world(tmp_path) as machine:
            await machine.order(1, (121, 2))
            await asyncio.sleep(0.1)
            boards = machine.boards
        clock = LoopClock(lambda: False, lambda: virtual_wall() - 3_600.0)
        rules = {"resume_after_reboot": True}
        async with world(
            tmp_path, boards=boards, boot="another", rules=rules, clock=clock
        ) as machine:
            await machine.rest(100)
            assert outcomes(machine, 1)[-1] == ("not_delivered", "expired")
            assert drives(machine, "main") == 1

    run_virtual(main)


def test_p2_a_late_drop_that_comes_before_the_closing_commit_is_not_lost(tmp_path: Path) -> None:
    """The eye sees the item while a full disk holds the outcome up: the board tells it again."""

    async def story(machine: World) -> None:
        close = machine.journal.close_cycle
        refusals = iter(range(4))

        async def full_for_a_while(*given: Any) -> Any:
            if next(refusals, None) is not None:
                raise JournalUnwritable("full")
            return await close(*given)

        machine.journal.close_cycle = full_for_a_while  # type: ignore[method-assign]
        fault(machine, "main", "late_drop", lane=2, cycle=1, delay_ms=1000)
        await machine.order(1, (122, 1))
        await machine.rest()
        await asyncio.sleep(5)
        assert machine.fell() == 1
        assert outcomes(machine, 1) == [("not_delivered", "no_drop"), ("delivered", None)]

    play(tmp_path, story)


def test_p13_results_wait_for_the_birth_of_a_restored_journal(tmp_path: Path) -> None:
    """It is found to be an old copy while the clock is not believed and units wait."""

    async def main() -> None:
        believed = [True]
        clock = LoopClock(lambda: believed[0], virtual_wall)
        async with world(tmp_path, clock=clock) as machine:
            await machine.order(1, (121, 1), (221, 2))
            while not (drives(machine, "main") or drives(machine, "side")):
                await asyncio.sleep(0.01)
            believed[0] = False
            await machine.journal.rebirth("retained_state")
            await machine.dispenser.floor.refresh()
            await asyncio.sleep(30)
            assert not machine.of("result", 1)
            believed[0] = True
            assert await machine.journal.believe()
            await machine.rest()
            births = {r["journal"] for r in machine.of("result", 1)}
            assert births == {machine.journal.birth}
            assert len(outcomes(machine, 1)) == 3

    run_virtual(main)


def test_p10_two_boards_that_die_at_once_do_not_share_the_last_item_elsewhere(
    tmp_path: Path,
) -> None:
    """One hub is pulled out: two cabinets look for another lane in the same moment."""
    twin = replace(TRACK, lanes=(Lane("A1", 1, 121, 8, "A", 8),))
    other = replace(TWIN, lanes=(Lane("B1", 1, 121, 8, "B", 8),))
    last = replace(
        SPIRAL, name="C", board="third", lanes=(Lane("C1", 1, 121, 8, "C", 1),)
    )  # fmt: skip

    async def story(machine: World) -> None:
        reassign = machine.journal.reassign

        async def as_the_thread_would(*given: Any, **named: Any) -> Any:
            await asyncio.sleep(0.01)
            return await reassign(*given, **named)

        machine.journal.reassign = as_the_thread_would  # type: ignore[method-assign]
        machine.ports["main"].unplug()
        machine.ports["side"].unplug()
        await asyncio.sleep(0.5)
        await machine.order(1, (121, 2))
        assert {job.channel for job in _jobs(machine)} == {"A1", "B1"}
        await machine.rest()
        assert sorted(outcomes(machine, 1)) == [
            ("delivered", None),
            ("not_delivered", "board_offline"),
        ]
        assert drives(machine, "third") == 1

    play(tmp_path, story, twin, other, last)


def _jobs(machine: World) -> list[Any]:
    workers = machine.dispenser.workers.values()
    return [job for worker in workers for job in (worker.current, *worker.queue) if job]


def test_a_lane_that_a_person_counted_empty_is_not_driven_for_a_customer(tmp_path: Path) -> None:
    """A motor without a sensor would call an empty turn a delivery."""

    async def story(machine: World) -> None:
        machine.ports["side"].unplug()
        await asyncio.sleep(0.5)
        await machine.order(1, (221, 2))
        await machine.journal.set_stock("B1", 1, "technician")
        await machine.dispenser.floor.refresh()
        machine.ports["side"].plugged = True
        await machine.rest()
        assert outcomes(machine, 1) == [("delivered", None), ("not_delivered", "lane_empty")]
        assert drives(machine, "side") == 1

    play(tmp_path, story)


def test_a_unit_is_planned_elsewhere_although_one_that_cannot_be_waits_before_it(
    tmp_path: Path,
) -> None:
    async def story(machine: World) -> None:
        machine.ports["main"].unplug()
        await asyncio.sleep(0.5)
        await machine.order(1, (122, 1))
        await machine.order(2, (121, 1), ttl=20)
        await machine.rest()
        assert outcomes(machine, 1) == [("not_delivered", "board_offline")]
        assert [(r["outcome"], r["channel"]) for r in machine.of("result", 2)] == [
            ("delivered", "B2")
        ]

    play(tmp_path, story, TRACK, TWIN)


def test_p6_a_test_vend_that_waits_is_refused_when_the_daemon_stops(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        machine.ports["main"].unplug()
        await asyncio.sleep(0.5)
        vend = asyncio.create_task(machine.dispenser.test("A1", "t1", "tech", lambda *_: None))
        await asyncio.sleep(1)
        assert await machine.dispenser.drain(60)
        with pytest.raises(Refused) as refused:
            async with asyncio.timeout(5):
                await vend
        assert refused.value.code == "shutting_down"

    play(tmp_path, story)


def test_p10_a_lane_that_holds_another_product_since_the_stop_is_not_driven(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with world(tmp_path) as machine:
            machine.ports["main"].unplug()
            await asyncio.sleep(0.5)
            await machine.order(1, (121, 1))
            boards = machine.boards
        changed = replace(TRACK, lanes=(Lane("A1", 1, 999, 8, "A", 8), TRACK.lanes[1]))
        async with world(tmp_path, (changed, SPIRAL), boards=boards) as machine:
            await machine.rest()
            assert outcomes(machine, 1) == [("not_delivered", "lane_disabled")]
            assert drives(machine, "main") == 0

    run_virtual(main)


def test_p2_a_stop_does_not_wait_for_the_window_before_a_second_cycle(tmp_path: Path) -> None:
    async def story(machine: World) -> None:
        fault(machine, "main", "no_drop", lane=2, cycle=1)
        await machine.order(1, (122, 1))
        worker = machine.dispenser.workers["A"]
        while not (worker.current and worker.running is None and drives(machine, "main")):
            await asyncio.sleep(0.05)
        began = virtual_wall()
        assert await machine.dispenser.drain(60)
        assert virtual_wall() - began < 2
        assert drives(machine, "main") == 1

    play(tmp_path, story, replace(TRACK, second_cycles=1))


def test_an_order_that_is_durable_is_accepted_although_lanes_cannot_be_read_back(
    tmp_path: Path,
) -> None:
    async def story(machine: World) -> None:
        real, looks = machine.journal.lane_states, 0

        async def fails_at_the_second_look() -> Any:
            nonlocal looks
            looks += 1
            if looks == 2:
                raise JournalUnwritable("a read error of the disk")
            return await real()

        machine.journal.lane_states = fails_at_the_second_look  # type: ignore[method-assign]
        await machine.order(1, (122, 1))
        await machine.rest()
        assert looks == 2, "it was the look behind the acceptance that failed"
        assert [o["status"] for o in machine.of("order", 1)] == ["accepted", "finished"]
        assert outcomes(machine, 1) == [("delivered", None)]

    play(tmp_path, story)


def test_a_unit_waits_where_it_is_while_all_its_lanes_are_on_the_quarantined_board(
    tmp_path: Path,
) -> None:
    """Lanes of one product on one board: it is not handed from one to the other and back,
    with a commit each time."""
    three = replace(SPIRAL, lanes=tuple(Lane(f"B{n}", n, 221, 8, "B", 8) for n in (1, 2, 3)))

    async def story(machine: World) -> None:
        moves = 0
        real = machine.journal.reassign

        async def counted(*given: Any, **named: Any) -> Any:
            nonlocal moves
            moves += 1
            return await real(*given, **named)

        machine.journal.reassign = counted  # type: ignore[method-assign]
        fault(machine, "side", "ack_no_status", cycle=1)
        await machine.order(1, (221, 3), ttl=120)
        await machine.rest()
        assert outcomes(machine, 1)[0] == ("unknown", "no_answer")
        assert moves <= 2, "from the lane that became uncertain, once each"

    play(tmp_path, story, TRACK, three)


def test_a_wait_that_is_over_by_one_sum_and_not_by_another_takes_time(tmp_path: Path) -> None:
    """A board's grace ended at `since + 5.0`, and `now - since` was still a hair below 5.0: the
    worker looked again and again, and the clock stood still."""

    async def story(machine: World) -> None:
        now = asyncio.get_running_loop().time
        worker = machine.dispenser.workers["A"]
        job = Job("A1", OrderRun(now() + 90.0))
        began = now()
        obstacle = Obstacle("board main is absent", look_again_at=began)
        await worker._wait(job, obstacle, asyncio.Event())
        assert began < now() < began + 0.01

    play(tmp_path, story)
