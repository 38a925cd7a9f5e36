"""Both drivers against the emulator's firmware: what the driver says and what really fell.

In virtual time over a link in memory, and once each over a real pty in real time.
The ledger is the truth: `drive_frame` counts motor starts, `product_fell` items.
"""

from __future__ import annotations

import asyncio
import os
import pty
import tty
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from controller.boards import make_board
from controller.boards.port import Port
from controller.dispensing.interfaces import Board, CycleEvent, Ended, LateDrop
from firmware_sim.board import EmulatedBoard, build_board
from firmware_sim.faults import Fault
from firmware_sim.scenario import BoardSettings, LaneSettings
from tests.boards.support import (
    CLOCK,
    MemoryPort,
    NotebookDesk,
    an_order,
    collect,
    drive,
    in_virtual_time,
    names,
    running,
    until,
)

LANES = (
    LaneSettings(number=1, goods=8, jitter=0.0),
    LaneSettings(number=2, goods=8, jitter=0.0, kind="spiral"),
)


class Bench:
    def __init__(
        self, protocol: Any, faults: list[dict[str, Any]], options: dict[str, Any]
    ) -> None:
        board = {key: options.pop(key) for key in tuple(options) if key in ("dedupe", "eye")}
        self.emulated: EmulatedBoard = build_board(
            BoardSettings(
                protocol=protocol,
                lanes=LANES,
                faults=tuple(Fault(**fault) for fault in faults),
                seed=1,
                **board,
            )
        )
        self.port = MemoryPort(self.emulated)
        self.emulated.on_plug = self._plug
        self.desk = NotebookDesk()

        def factory(_spec: str, _baudrate: int, _clock: object) -> Port:
            return self.port

        self.driver: Board = make_board("main", protocol, "memory:", options, CLOCK, factory)

    def _plug(self, plugged: bool) -> None:  # noqa: FBT001  the emulator's callback
        if plugged:
            self.port.plugged = True
        else:
            self.port.unplug()

    def told(self, event: str) -> int:
        return sum(line["event"] == event for line in self.emulated.ledger.lines)


def on_bench(
    protocol: str,
    play: Callable[[Bench], Awaitable[None]],
    *faults: dict[str, Any],
    **options: Any,
) -> None:
    async def whole() -> None:
        bench = Bench(protocol, list(faults), options)
        async with running(bench.driver, bench.desk):
            await play(bench)
        bench.emulated.close()

    in_virtual_time(whole())


def verdict(events: list[CycleEvent]) -> str:
    last = events[-1]
    if not isinstance(last, Ended):
        reason = getattr(last, "reason", None)
        return f"{type(last).__name__}/{reason}"
    return f"{last.finding.outcome}/{last.finding.reason}"


BOTH = pytest.mark.parametrize("protocol", ["vbp", "xy"])


@BOTH
def test_ten_cycles_deliver_ten_items(protocol: str) -> None:
    async def play(bench: Bench) -> None:
        for number in range(1, 8):
            events = await drive(bench.driver, an_order(number, lane=1 + number % 2))
            assert verdict(events) == "delivered/None"
            await bench.driver.release(number)
        assert bench.told("drive_frame") == 7
        assert bench.told("product_fell") == 7
        assert not any("conflict" in name.lower() for name in names(events))

    on_bench(protocol, play)


CASES = [
    # protocol, fault, what the driver says, drives, items
    ("vbp", {"kind": "jam"}, "not_delivered/jammed", 1, 0),
    ("vbp", {"kind": "no_drop"}, "not_delivered/no_drop", 1, 0),
    ("vbp", {"kind": "motor_open"}, "not_delivered/motor_missing", 1, 0),
    ("vbp", {"kind": "motor_stuck"}, "not_delivered/motor_fault", 1, 0),
    ("vbp", {"kind": "double_drop"}, "delivered/None", 1, 2),
    ("vbp", {"kind": "eye_blind"}, "not_delivered/no_drop", 1, 1),
    ("vbp", {"kind": "eye_stuck_blocked"}, "RefusedBeforeMotion/eye_blocked", 0, 0),
    ("vbp", {"kind": "eye_faulty"}, "RefusedBeforeMotion/eye_faulty", 0, 0),
    ("vbp", {"kind": "door_open"}, "RefusedBeforeMotion/door_open", 0, 0),
    ("vbp", {"kind": "dont_answer", "cycle": 1}, "delivered/None", 1, 1),
    ("vbp", {"kind": "answer_late", "cycle": 1}, "delivered/None", 1, 1),
    ("vbp", {"kind": "corrupt", "cycle": 1}, "delivered/None", 1, 1),
    ("vbp", {"kind": "truncate", "cycle": 1}, "delivered/None", 1, 1),
    ("vbp", {"kind": "duplicate", "probability": 0.5}, "delivered/None", 1, 1),
    ("vbp", {"kind": "noise", "probability": 0.5}, "delivered/None", 1, 1),
    ("vbp", {"kind": "split_writes", "probability": 1.0}, "delivered/None", 1, 1),
    ("vbp", {"kind": "reset_mid_cycle"}, "unknown/power_lost", 1, 0),
    ("vbp", {"kind": "power_cut", "cycle": 1, "seconds": 5}, "unknown/power_lost", 1, 0),
    ("vbp", {"kind": "forget_memory", "cycle": 1}, "unknown/board_forgot", 1, 0),
    ("vbp", {"kind": "unplug", "cycle": 1, "seconds": 8}, "delivered/None", 1, 1),
    ("xy", {"kind": "jam"}, "not_delivered/jammed", 1, 0),
    ("xy", {"kind": "no_drop"}, "not_delivered/jammed", 1, 0),
    ("xy", {"kind": "motor_open"}, "not_delivered/motor_missing", 1, 0),
    ("xy", {"kind": "motor_runs_on"}, "unknown/motor_did_not_stop", 1, None),
    ("xy", {"kind": "repeat_status", "count": 5}, "delivered/None", 1, 1),
    ("xy", {"kind": "sel_zero"}, "delivered/None", 1, 1),
    ("xy", {"kind": "error_then_ff", "code": 7}, "not_delivered/board_refused", None, 0),
    ("xy", {"kind": "success_without_start"}, "delivered/None", 1, 1),
    ("xy", {"kind": "data_before_ack"}, "delivered/None", 1, 1),
    ("xy", {"kind": "ack_length_one"}, "delivered/None", 1, 1),
    ("xy", {"kind": "no_ack"}, "delivered/None", 1, 1),
    ("xy", {"kind": "status", "code": 5, "started": False}, "not_delivered/lane_disabled", None, 0),
    ("xy", {"kind": "reset_mid_cycle"}, "Restarted/None", 1, 0),
    ("xy", {"kind": "power_cut", "cycle": 1, "seconds": 5}, "Restarted/None", 1, 0),
    ("xy", {"kind": "duplicate", "probability": 0.5}, "delivered/None", 1, 1),
    ("xy", {"kind": "noise", "probability": 0.3}, "delivered/None", 1, 1),
    ("xy", {"kind": "split_writes", "probability": 1.0}, "delivered/None", 1, 1),
    ("xy", {"kind": "corrupt", "probability": 0.1, "times": 4}, "delivered/None", 1, 1),
    ("xy", {"kind": "poll_gap", "cycle": 1, "after_ms": 100}, "delivered/None", 1, 1),
    ("xy", {"kind": "status_storm", "at": 3.0}, "delivered/None", 1, 1),
]


@pytest.mark.parametrize(
    ("protocol", "fault", "said", "drives", "items"),
    CASES,
    ids=[f"{case[0]}-{case[1]['kind']}" for case in CASES],
)
def test_each_fault_and_what_fell(
    protocol: str, fault: dict[str, Any], said: str, drives: int | None, items: int | None
) -> None:
    """P1: never more than one motor start; and what is said is what the tables say."""

    async def play(bench: Bench) -> None:
        events = await drive(bench.driver, an_order(7, lane=1), within_s=120)
        assert verdict(events) == said, events
        await asyncio.sleep(60)
        assert bench.told("drive_frame") <= 1
        if drives is not None:
            assert bench.told("drive_frame") == drives
        if items is not None:
            assert bench.told("product_fell") == items

    on_bench(protocol, play, fault, status_every_s=5) if protocol == "xy" else on_bench(
        protocol, play, fault
    )


def test_p1_a_lost_drive_frame_is_sent_again_on_vbp_and_starts_once() -> None:
    async def play(bench: Bench) -> None:
        assert verdict(await drive(bench.driver, an_order(7))) == "delivered/None"
        assert bench.told("drive_frame") == 1

    on_bench("vbp", play, {"kind": "lose_command"})


def test_p5_go_silent_in_mid_cycle_and_back() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        first = [await anext(stream) for _ in range(3)]
        assert names(first) == ["FrameWritten", "Acknowledged", "Moving"]
        bench.emulated.arm(Fault(kind="go_silent"))
        assert names([await anext(stream)]) == ["LineLost"]
        await asyncio.sleep(30)
        bench.emulated.lift("go_silent")
        rest = await collect(stream)
        assert names(rest) == ["LineBack", "Ended"]
        assert verdict(rest) == "delivered/None"
        assert bench.told("drive_frame") == 1

    on_bench("vbp", play)


def test_a_late_drop_comes_as_a_notice_and_is_acknowledged() -> None:
    async def play(bench: Bench) -> None:
        events = await drive(bench.driver, an_order(7))
        assert verdict(events) == "not_delivered/no_drop"
        await bench.driver.release(7)
        await until(lambda: any(isinstance(n, LateDrop) for n, _ in bench.desk.notices))
        await asyncio.sleep(5)
        late = [n for n, _ in bench.desk.notices if isinstance(n, LateDrop)]
        assert [n.cycle_id for n in late] == [7]

    on_bench("vbp", play, {"kind": "late_drop", "lane": 1})


def test_p7_an_unreleased_record_survives_the_board_and_is_reported_once() -> None:
    async def play(bench: Bench) -> None:
        order = an_order(7)
        stream = bench.driver.drive(order, await bench.driver.prepare(order))
        await anext(stream)
        await anext(stream)
        await stream.aclose()  # the daemon's stream is gone; nobody recalls
        await asyncio.sleep(20)
        assert [cycle for cycle, _ in bench.desk.records] == [7]
        again = await drive(bench.driver, an_order(8))
        assert verdict(again) == "delivered/None"

    on_bench("vbp", play)


def test_vbp_knows_an_id_again_as_a_collision() -> None:
    async def play(bench: Bench) -> None:
        assert verdict(await drive(bench.driver, an_order(9))) == "delivered/None"
        await bench.driver.release(9)
        assert names(await drive(bench.driver, an_order(9))) == ["FrameWritten", "Collision"]
        assert names(await drive(bench.driver, an_order(8))) == ["FrameWritten", "Collision"]
        assert bench.told("drive_frame") == 1

    on_bench("vbp", play)


def test_xy_resends_meet_a_board_that_drops_the_repeat() -> None:
    async def play(bench: Bench) -> None:
        assert verdict(await drive(bench.driver, an_order(7))) == "delivered/None"
        await asyncio.sleep(30)
        assert bench.told("drive_frame") == 1

    on_bench("xy", play, {"kind": "no_ack"}, dedupe=True, resend_same_packno=3)


def test_xy_nothing_of_ours_is_said_outside_a_window() -> None:
    async def play(bench: Bench) -> None:
        for number in range(1, 6):
            await drive(bench.driver, an_order(number))
        await asyncio.sleep(30)
        assert bench.emulated.state()["firmware"]["bytes_ignored"] == 0

    on_bench("xy", play, status_every_s=1)


def test_xy_a_restarted_daemon_does_not_meet_its_predecessors_question() -> None:
    """A board that drops repeats by the number alone, and one question after the last drive."""

    async def whole() -> None:
        bench = Bench("xy", [], {"dedupe": True, "status_every_s": 5})
        async with running(bench.driver, bench.desk):
            order = an_order(1)
            ticket = await bench.driver.prepare(order)
            assert verdict(await collect(bench.driver.drive(order, ticket))) == "delivered/None"
            await asyncio.sleep(4)
            assert bench.driver.status().detail["pack_no"] == ticket["pack_no"] + 1
        successor = make_board("main", "xy", "memory:", {}, CLOCK, lambda *_: bench.port)
        async with running(successor, NotebookDesk(ticket)):
            assert verdict(await drive(successor, an_order(2))) == "delivered/None"
        assert bench.told("drive_frame") == 2
        bench.emulated.close()

    in_virtual_time(whole())


# ------------------------------------------------------------------ a real pty, real time


class Pty:
    """The emulated board behind a real pty with a stable name, in this loop."""

    def __init__(self, emulated: EmulatedBoard, link: Path) -> None:
        self.emulated = emulated
        self.link = link
        self.master = -1

    def plug(self) -> None:
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(slave))
        os.close(slave)
        self.emulated.connect(lambda data: os.write(self.master, data) and None)
        asyncio.get_running_loop().add_reader(self.master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self.master, 4096)
        except OSError:
            return  # nobody has the other end open
        self.emulated.on_bytes(data)

    def unplug(self) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        self.emulated.disconnect()
        os.close(self.master)
        self.link.unlink(missing_ok=True)


@BOTH
async def test_a_cycle_and_an_unplugged_cable_on_a_real_pty(protocol: Any, tmp_path: Path) -> None:
    lanes = (LaneSettings(number=1, goods=8, jitter=0.0, run_ms=600, fall_ms=100),)
    emulated = build_board(BoardSettings(protocol=protocol, lanes=lanes, seed=1))
    cable = Pty(emulated, tmp_path / "board0")
    cable.plug()
    desk = NotebookDesk()
    board = make_board("main", protocol, str(cable.link), {}, CLOCK)
    async with running(board, desk):
        first = await drive(board, an_order(1, drop_wait_ms=300), within_s=20)
        assert verdict(first) == "delivered/None"
        await board.release(1)
        cable.unplug()
        async with asyncio.timeout(1):
            await desk.down.wait()
        assert not board.status().up
        cable.plug()
        async with asyncio.timeout(3):
            await desk.up.wait()
        second = await drive(board, an_order(2, drop_wait_ms=300), within_s=20)
        assert verdict(second) == "delivered/None"
    starts = [line for line in emulated.ledger.lines if line["event"] == "drive_frame"]
    assert len(starts) == 2
    cable.unplug()
    emulated.close()
