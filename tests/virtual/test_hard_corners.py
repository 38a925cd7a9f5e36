"""The corners of docs/decisions, in virtual time, with the ledger of the emulated boards as judge.

Late falls, falls that nobody watched, repeated commands, a swapped board, two items in one cycle,
an eye that fails in between.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.clock import LoopClock
from controller.dispensing.interfaces import LateDrop
from controller.errors import Refused
from firmware_sim.board import EmulatedBoard
from tests.virtual.test_heart import drives, fault, outcomes, play
from tests.virtual.world import SPIRAL, TRACK, World, emulated, world
from tests.virtual_time import run_virtual, virtual_wall

SENSED = replace(SPIRAL, drop_sensor=True, cycle_timeout_s=90.0, drop_wait_ms=3_000)
"""An XY cabinet whose board watches a light eye."""


def events(machine: World, kind: str) -> list[dict[str, Any]]:
    return [event["detail"] for event in machine.of("event") if event["kind"] == kind]


async def lane(machine: World, channel: str) -> Any:
    await machine.dispenser.floor.refresh()
    return machine.dispenser.floor.lanes[channel]


async def first_drive(machine: World, board: str) -> None:
    while not drives(machine, board):
        await asyncio.sleep(0.01)


# ------------------------------------------------------------------ a fall after `not_delivered`


@pytest.mark.parametrize(("delay_ms", "counts"), [(25_000, True), (40_000, False)])
def test_p2_a_late_fall_counts_within_its_window_only(
    tmp_path: Path, delay_ms: int, *, counts: bool
) -> None:
    async def story(machine: World) -> None:
        fault(machine, "main", "late_drop", lane=2, cycle=1, delay_ms=delay_ms)
        await machine.order(1, (122, 1))
        await machine.rest()
        await asyncio.sleep(60)
        assert machine.fell() == 1
        revised = [("delivered", None)] if counts else []
        assert outcomes(machine, 1) == [("not_delivered", "no_drop"), *revised]
        assert [event["revised"] for event in events(machine, "late_drop")] == [counts]
        assert drives(machine, "main") == 1
        finished = [o["delivered"] for o in machine.of("order", 1) if o["status"] == "finished"]
        assert finished == ([0, 1] if counts else [0])
        assert (await lane(machine, "A2")).gone == int(counts)

    play(tmp_path, story)


def test_p2_a_late_fall_after_the_boards_next_cycle_is_no_revision(tmp_path: Path) -> None:
    """From then on it may be the other cycle's item. The board lays it to its newest cycle, which
    was delivered: two items of that lane, as far as anybody knows, and a person looks."""

    async def story(machine: World) -> None:
        fault(machine, "main", "late_drop", lane=2, cycle=1, delay_ms=15_000)
        await machine.order(1, (122, 1))
        await machine.rest()
        first = await machine.journal.newest_cycle("main")
        assert first is not None
        await machine.order(2, (121, 1))
        await machine.rest()
        await asyncio.sleep(60)
        assert machine.fell() == 2
        await machine.dispenser.stations["main"].notice(LateDrop(first.cycle_id, 15_000), "again")
        await machine.rest()
        assert outcomes(machine, 1) == [("not_delivered", "no_drop")]
        assert outcomes(machine, 2) == [("delivered", None)]
        assert [event["channel"] for event in events(machine, "late_drop")] == ["A1", "A2"]
        assert not any(event["revised"] for event in events(machine, "late_drop"))
        assert (await lane(machine, "A1")).health == "suspended"

    play(tmp_path, story)


# ------------------------------------------------------------------ while the daemon is down


@pytest.mark.parametrize(("board", "product"), [("main", 121), ("side", 221)])
def test_p11_an_item_that_falls_while_the_daemon_is_down(
    tmp_path: Path, board: str, product: int
) -> None:
    """A board that remembers is asked and its customer charged; one that forgets can't be."""

    async def main() -> None:
        async with world(tmp_path) as machine:
            await machine.order(1, (product, 1))
            await first_drive(machine, board)
            boards = machine.boards
            assert machine.fell() == 0
        await asyncio.sleep(20)
        async with world(tmp_path, boards=boards) as machine:
            assert machine.fell() == 1
            await machine.rest()
            remembers = board == "main"
            expected = ("delivered", None) if remembers else ("unknown", "no_answer")
            assert outcomes(machine, 1) == [expected]
            channel = await lane(machine, "A1" if remembers else "B1")
            assert (channel.stock, channel.gone, channel.uncertain) == (
                (7, 1, 0) if remembers else (7, 0, 1)
            )
            assert drives(machine, board) == 1

    run_virtual(main)


@pytest.mark.parametrize(("delay_ms", "counts"), [(20_000, True), (40_000, False)])
def test_p2_a_late_fall_while_the_daemon_is_down_is_told_when_it_is_back(
    tmp_path: Path, delay_ms: int, *, counts: bool
) -> None:
    """The board keeps the event until it is acknowledged, and says how late the fall was: how
    long the daemon was away does not matter."""

    async def main() -> None:
        async with world(tmp_path) as machine:
            fault(machine, "main", "late_drop", lane=2, cycle=1, delay_ms=delay_ms)
            await machine.order(1, (122, 1))
            await machine.rest()
            assert outcomes(machine, 1) == [("not_delivered", "no_drop")]
            assert machine.fell() == 0
            boards = machine.boards
        await asyncio.sleep(3_600)
        async with world(tmp_path, boards=boards) as machine:
            assert machine.fell() == 1
            await asyncio.sleep(5)
            await machine.rest()
            assert outcomes(machine, 1) == ([("delivered", None)] if counts else [])
            assert [event["revised"] for event in events(machine, "late_drop")] == [counts]
            assert drives(machine, "main") == 1

    run_virtual(main)


# ------------------------------------------------------------------ the same order twice


def test_p8_one_order_in_two_sessions_of_a_broker_without_memory_is_one_execution(
    tmp_path: Path,
) -> None:
    """No packet id and no duplicate flag tells it: the platform sends the order anew to a broker
    that knows neither it nor us. It comes while the first waits, runs, is done, and to the next
    daemon, with other times."""

    async def main() -> None:
        def command(age_s: int = 0) -> bytes:
            now = int(virtual_wall()) - age_s
            body = {"order_id": 1, "trade_id": "t1", "issued_at": now, "expires_at": now + 90}
            return json.dumps({**body, "products": [{"product_id": 121, "quantity": 2}]}).encode()

        async with world(tmp_path) as machine:
            say = machine.intake.dispense
            await asyncio.gather(*(say(command(age), retained=False) for age in (0, 0, 5)))
            while machine.fell() < 2:
                await say(command(), retained=False)
                await asyncio.sleep(0.7)
            await machine.rest()
            await say(command(), retained=False)
            await machine.rest()
            told = {
                (topic, json.dumps(body))
                for topic, body in machine.session.published
                if topic in ("order", "result")
            }
            boards = machine.boards
        async with world(tmp_path, boards=boards, boot="another") as machine:
            await machine.intake.dispense(command(600), retained=True)
            await machine.rest()
            again = {
                (topic, json.dumps(body))
                for topic, body in machine.session.published
                if topic in ("order", "result")
            }
            assert again == told, "byte for byte, whatever is wrong with it by now"
            assert len(told) == 4, "accepted, two results, finished"
            assert (drives(machine, "main"), machine.fell()) == (2, 2)

    run_virtual(main)


# ------------------------------------------------------------------ another board on the port


def another_board() -> EmulatedBoard:
    """Out of a box: another memory, with nothing in it."""
    return emulated(TRACK, seed=77)


def swap(machine: World, board: EmulatedBoard) -> None:
    port = machine.ports["main"]
    port.unplug()
    port.peer = board
    port.plugged = True
    machine.boards["main"] = board  # type: ignore[index]


async def until_up(machine: World) -> None:
    while not machine.dispenser.stations["main"].up:
        await asyncio.sleep(0.05)
    await asyncio.sleep(2)


def test_a_swapped_board_moves_nothing_until_a_person_accepted_it(tmp_path: Path) -> None:
    """In mid-cycle: what became of the unit went with the old board."""

    async def story(machine: World) -> None:
        old = machine.boards["main"]
        await machine.order(1, (121, 1), (122, 1))
        await first_drive(machine, "main")
        swap(machine, another_board())
        await until_up(machine)
        await machine.rest()
        assert outcomes(machine, 1) == [
            ("unknown", "board_forgot"),
            ("not_delivered", "board_offline"),
        ]
        assert len(events(machine, "board_swapped")) == 1
        await machine.order(2, (122, 1))
        await machine.rest()
        assert [o["code"] for o in machine.of("order", 2)] == ["out_of_service"]
        assert drives(machine, "main") == 0
        await machine.dispenser.stations["main"].accept("tech")
        await machine.order(3, (122, 1))
        await machine.order(4, (121, 1))
        await machine.rest()
        assert outcomes(machine, 3) == [("delivered", None)]
        assert [o["code"] for o in machine.of("order", 4)] == ["out_of_service"], "A1 is in doubt"
        assert drives(machine, "main") == 1
        assert sum(line["event"] == "drive_frame" for line in old.ledger.lines) == 1

    play(tmp_path, story)


@pytest.mark.parametrize("found", ["the new one", "the old one"])
def test_a_swap_is_remembered_over_a_restart(tmp_path: Path, found: str) -> None:
    """Also where the old board answers again: what was done to the machine, a person knows."""

    async def main() -> None:
        async with world(tmp_path) as machine:
            old = machine.boards["main"]
            swap(machine, another_board())
            await until_up(machine)
            boards = {**machine.boards, **({"main": old} if found == "the old one" else {})}
        async with world(tmp_path, boards=boards) as machine:
            await machine.order(1, (121, 1))
            await machine.rest()
            assert [o["code"] for o in machine.of("order", 1)] == ["out_of_service"]
            assert drives(machine, "main") == 0

    run_virtual(main)


def test_the_board_that_comes_back_still_tells_what_became_of_its_unit(tmp_path: Path) -> None:
    """The swap was a mistake, and is undone: `unknown` is revised by the board's own record."""

    async def story(machine: World) -> None:
        old = machine.boards["main"]
        await machine.order(1, (121, 1))
        await first_drive(machine, "main")
        swap(machine, another_board())
        await until_up(machine)
        await machine.rest()
        swap(machine, old)
        await until_up(machine)
        assert outcomes(machine, 1) == [("unknown", "board_forgot")]
        await machine.dispenser.stations["main"].accept("tech")
        await asyncio.sleep(5)
        await machine.rest()
        assert outcomes(machine, 1) == [("unknown", "board_forgot"), ("delivered", None)]
        assert (machine.fell(), old.memory.records) == (1, {})

    play(tmp_path, story)


def test_an_accept_without_a_board_accepts_only_the_one_that_it_saw(tmp_path: Path) -> None:
    """Accepted while nothing answers, after a restart: whatever comes then is looked at anew."""

    async def main() -> None:
        async with world(tmp_path) as machine:
            swap(machine, another_board())
            await until_up(machine)
            machine.ports["main"].unplug()
            boards = machine.boards
        async with world(tmp_path, boards=boards, first=unplugged_and_accepted) as machine:
            machine.ports["main"].plugged = True
            await until_up(machine)
            assert machine.dispenser.stations["main"].out_of_service == "board_swapped"

    async def unplugged_and_accepted(machine: World) -> None:
        machine.ports["main"].plugged = False
        await machine.dispenser.stations["main"].accept("tech")

    run_virtual(main)


@pytest.mark.parametrize("third", ["another", "the first"])
def test_a_board_that_comes_while_another_is_accepted_is_not_accepted(
    tmp_path: Path, third: str
) -> None:
    """The commit of `board accept` takes its time; meanwhile the cable goes into a third board."""

    async def story(machine: World) -> None:
        station = machine.dispenser.stations["main"]
        first = machine.boards["main"]
        swap(machine, another_board())
        await until_up(machine)
        last = emulated(TRACK, seed=78) if third == "another" else first
        commit = machine.journal.accept_board

        async def slow_commit(board: str, who: str, memory_id: int | None = None) -> None:
            await commit(board, who, memory_id)
            seen = station.identity
            swap(machine, last)
            while station.identity is seen:
                await asyncio.sleep(0.05)

        machine.journal.accept_board = slow_commit  # type: ignore[method-assign]
        with pytest.raises(Refused, match="another board"):
            await station.accept("tech")
        machine.journal.accept_board = commit  # type: ignore[method-assign]
        await machine.order(1, (121, 1))
        await machine.rest()
        assert [o["code"] for o in machine.of("order", 1)] == ["out_of_service"]
        assert drives(machine, "main") == 0
        assert len(events(machine, "board_swapped")) == 2
        memory = await machine.journal.board_memory("main")
        assert memory["out_of_service"] == "board_swapped", "durable"
        await station.accept("tech")
        await machine.order(2, (121, 1))
        await machine.rest()
        assert outcomes(machine, 2) == [("delivered", None)]

    play(tmp_path, story)


@pytest.mark.parametrize("accepted", [True, False])
def test_records_of_a_board_from_another_machine(tmp_path: Path, *, accepted: bool) -> None:
    """It was pulled there in mid-cycle, tried here, and comes home: what fell there is charged
    there, unless a person said that the board is ours now. Both journals were born in the same
    second, so the ids of their cycles are the same too, and ours has one open."""

    async def main() -> None:
        loan = another_board()
        async with (
            world(tmp_path / "there", (TRACK,), boards={"main": loan}) as there,
            world(tmp_path / "here", (TRACK,)) as machine,
        ):
            assert there.journal.birth == machine.journal.birth
            await there.order(9, (121, 1))
            await first_drive(there, "main")
            there.ports["main"].unplug()
            while not loan.memory.records or there.fell() == 0:
                await asyncio.sleep(0.1)
            await asyncio.sleep(5)
            await machine.order(1, (121, 1))
            await first_drive(machine, "main")
            swap(machine, loan)
            await until_up(machine)
            if accepted:
                await machine.dispenser.stations["main"].accept("tech")
            await asyncio.sleep(10)
            assert outcomes(machine, 1) == [("unknown", "board_forgot")]
            records = [event["record"]["drop"] for event in events(machine, "foreign_record")]
            assert (len(loan.memory.records), records) == ((0, [1]) if accepted else (1, []))
            machine.ports["main"].unplug()
            there.ports["main"].plugged = True
            await there.rest()
            if not accepted:
                assert outcomes(there, 9) == [("delivered", None)]
            assert outcomes(machine, 1) == [("unknown", "board_forgot")]

    run_virtual(main)


# ------------------------------------------------------------------ two items in one cycle


def test_two_items_in_one_cycle_pay_for_one_unit(tmp_path: Path) -> None:
    """The second is not the second unit's: that one has a cycle of its own or none (P3)."""

    async def story(machine: World) -> None:
        fault(machine, "main", "double_drop", lane=1, cycle=1)
        await machine.order(1, (121, 2))
        await machine.rest()
        assert machine.fell() == 2
        assert outcomes(machine, 1) == [("delivered", None), ("not_delivered", "lane_disabled")]
        assert drives(machine, "main") == 1
        assert [event["drops"] for event in events(machine, "double_drop")] == [2]
        channel = await lane(machine, "A1")
        assert (channel.stock, channel.gone, channel.health) == (6, 2, "suspended")

    play(tmp_path, story)


# ------------------------------------------------------------------ an eye that fails in between


def test_p3_an_eye_that_fails_between_look_and_fall_is_unknown(tmp_path: Path) -> None:
    """The item falls and nobody sees it; no further motor turns before that eye."""

    async def story(machine: World) -> None:
        fault(machine, "main", "eye_faulty", lane=1, cycle=1, after_ms=500)
        await machine.order(1, (121, 1), (122, 1))
        await machine.rest()
        assert machine.fell() == 1
        assert outcomes(machine, 1) == [
            ("unknown", "eye_failed"),
            ("not_delivered", "eye_faulty"),
        ]
        assert drives(machine, "main") == 1
        channel = await lane(machine, "A1")
        assert (channel.uncertain, channel.health) == (1, "unresolved")

    play(tmp_path, story)


def test_p3_an_eye_that_recovers_before_the_cycle_ends_proves_nothing(tmp_path: Path) -> None:
    """It failed for the instant of the fall: not seen is then not *not fallen*."""

    async def story(machine: World) -> None:
        fault(machine, "main", "eye_faulty", lane=1, cycle=1, after_ms=2_000, seconds=2)
        await machine.order(1, (121, 1))
        await machine.rest()
        assert machine.fell() == 1
        assert outcomes(machine, 1) == [("unknown", "eye_failed")]

    play(tmp_path, story)


# ------------------------------------------------------------------ the same with XY


@pytest.mark.parametrize("boots", [True, False])
def test_a_swapped_xy_board_has_no_name_and_its_unit_is_unknown(
    tmp_path: Path, *, boots: bool
) -> None:
    """In mid-cycle. One that starts says 31; one that ran elsewhere says nothing of the cycle,
    and the silence closes the board."""

    async def story(machine: World) -> None:
        await machine.order(1, (221, 1))
        await first_drive(machine, "side")
        port = machine.ports["side"]
        port.unplug()
        port.peer = machine.boards["side"] = emulated(SPIRAL, seed=77)  # type: ignore[index]
        if not boots:
            port.from_board_lost = 3  # its 31s went by before we listened
            await asyncio.sleep(10)
        port.plugged = True
        await machine.rest()
        assert outcomes(machine, 1)[0][0] == "unknown"
        assert drives(machine, "side") == 0
        assert (await lane(machine, "B1")).health == "unresolved"

    play(tmp_path, story)


def test_what_an_xy_board_does_not_tell_of_two_items_and_of_its_eye(tmp_path: Path) -> None:
    """The limits that docs/decisions names: its 02 has no count, and with a failed eye its 03
    still says *jammed*. The next drive it refuses by itself."""

    async def story(machine: World) -> None:
        fault(machine, "side", "double_drop", lane=1, cycle=1)
        await machine.order(1, (221, 1))
        await machine.rest()
        assert (machine.fell(), outcomes(machine, 1)) == (2, [("delivered", None)])
        assert (await lane(machine, "B1")).stock == 7
        fault(machine, "side", "eye_faulty", lane=1, cycle=2, after_ms=500)
        await machine.order(2, (221, 2))
        await machine.rest()
        assert machine.fell() == 3
        assert outcomes(machine, 2) == [
            ("not_delivered", "jammed"),
            ("not_delivered", "board_refused"),
        ]

    play(tmp_path, story, TRACK, SENSED)


# ------------------------------------------------------------------ a clock that is a year off

YEAR = 365 * 86_400


class Hands:
    """A wall clock that a story sets, believed as `daemon.serve` has it: never behind what the
    journal knows."""

    def __init__(self) -> None:
        self.off = 0.0
        self.machine: World | None = None
        self.clock = LoopClock(self._believed, self._wall)

    def _wall(self) -> float:
        return virtual_wall() + self.off

    def _believed(self) -> bool:
        newest = self.machine.journal.newest_time if self.machine is not None else 0.0
        return self._wall() >= newest - 30


def test_p4_a_clock_set_back_by_a_year_accepts_nothing_and_holds_no_order_for_a_year(
    tmp_path: Path,
) -> None:
    """Set back while a unit runs and another waits; an order of a year ago would be in time."""
    hands = Hands()

    async def story(machine: World) -> None:
        hands.machine = machine
        await machine.order(1, (121, 1), (122, 1))
        await first_drive(machine, "main")
        hands.off = -YEAR
        now = int(virtual_wall())
        old = {"order_id": 2, "trade_id": "t2", "issued_at": now - YEAR, "expires_at": now - 9_000}
        body = {**old, "products": [{"product_id": 121, "quantity": 1}]}
        await machine.intake.dispense(json.dumps(body).encode(), retained=False)
        await machine.order(3, (121, 1))
        await machine.rest(150)
        assert outcomes(machine, 1) == [("delivered", None), ("not_delivered", "expired")]
        assert [o["code"] for n in (2, 3) for o in machine.of("order", n)] == ["clock_unset"] * 2
        assert drives(machine, "main") == 1
        hands.off = 0.0
        await machine.order(4, (122, 1))
        await machine.intake.dispense(json.dumps(body).encode(), retained=False)
        await machine.rest()
        assert outcomes(machine, 4) == [("delivered", None)]
        assert drives(machine, "main") == 2

    play(tmp_path, story, clock=hands.clock)


def test_p8_a_clock_set_ahead_by_years_forgets_no_order(tmp_path: Path) -> None:
    """Details go by age, identities and unsent messages stay. Set right again, the clock is behind
    what the journal knows: nothing is accepted until a person says which one is right."""
    hands = Hands()

    async def story(machine: World) -> None:
        hands.machine = machine
        await machine.order(1, (121, 1))
        await machine.rest()
        hands.off = 2 * YEAR
        await machine.journal.prune()
        await machine.order(1, (121, 1))
        await machine.order(2, (121, 1))
        await machine.rest()
        assert machine.of("order", 1)[-1]["code"] == "results_pruned"
        assert [o["code"] for o in machine.of("order", 2)] == ["expired"]
        hands.off = 0.0
        await machine.order(3, (121, 1))
        await machine.rest()
        assert [o["code"] for o in machine.of("order", 3)] == ["clock_unset"]
        await machine.journal.accept_clock("tech")
        await machine.order(1, (121, 1))
        await machine.order(4, (121, 1))
        await machine.rest()
        assert outcomes(machine, 4) == [("delivered", None)]
        assert (drives(machine, "main"), machine.fell()) == (2, 2)

    play(tmp_path, story, clock=hands.clock)
