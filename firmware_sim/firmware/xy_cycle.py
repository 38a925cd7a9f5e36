"""An XY board's cycles: what it does with a drive command, and which statuses it tells.

A board without records: at most one motor turns, further commands wait their turn,
and a reset forgets them all. A light eye that is dark or faulty before the start,
where the command asks for it, ends the purchase with FF and no motor turns; the
maker's document leaves that code open.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from controller.boards.xy.frames import Dispensing, MenuType, lane_bytes
from firmware_sim.faults import CyclePlan, Fault
from firmware_sim.firmware.base import Parts, Timers
from firmware_sim.machine import STALL_MA, Halt, Stopped

FF_AFTER_S = 0.5
"""Real: between an error and the FF that ends its purchase."""
NOTICE_MS = 50.0
"""Machine time: a board that will not start says so after this."""
RUN_LIMIT_RUNS = 2.5
"""The board's own motor limit, in runs of the lane, where the scenario sets none."""
WAITING_LIMIT = 4
"""Commands that wait for the running motor; a further one is not acknowledged."""
REST_MS = 200.0
"""Machine time between a cycle and the next waiting command: the item leaves the eye."""
REPEATS = 5
LANE_LIMIT = 0xFFFF

WAITS_FOR_FF = frozenset(
    (
        Dispensing.NO_MOTOR,
        Dispensing.ELEVATOR_ERROR,
        Dispensing.ELEVATOR_UP_ERROR,
        Dispensing.ELEVATOR_DOWN_ERROR,
    )
)
BEFORE_MOTION = frozenset(
    (
        Dispensing.LANE_INVALID,
        Dispensing.NO_MOTOR,
        Dispensing.ELEVATOR_ERROR,
        Dispensing.LANE_EMPTY,
        Dispensing.LANE_PAUSED,
        Dispensing.SALE_PAUSED,
        Dispensing.TERMINATED,
    )
)
"""Codes of the fault `status` with which the motor does not turn unless it says so."""
ERROR_CODES = frozenset((Dispensing.JAMMED, Dispensing.MOTOR_DID_NOT_STOP, Dispensing.NO_MOTOR))


@dataclass(frozen=True, slots=True)
class DriveCommand:
    lane: int
    watch: bool
    """The drop sensor is to be watched."""
    pack_no: int
    elevator: bool = False


@dataclass(slots=True)
class _Cycle:
    command: DriveCommand
    plan: CyclePlan
    drops: int = 0
    home: bool = False
    timer: asyncio.TimerHandle | None = None
    codes: list[int] = field(default_factory=list)


class Conversation(Protocol):
    """What a cycle needs of the wire."""

    stock: dict[int, int]

    def acknowledge(self, plan: CyclePlan | None = None) -> None: ...
    def forget_command(self) -> None: ...
    def data_before_ack(self, plan: CyclePlan) -> None: ...
    def tell_status(self, code: int, lane: int, repeats: int = 0) -> None: ...


class Cycles:
    def __init__(self, parts: Parts, timers: Timers, wire: Conversation) -> None:
        self._parts = parts
        self._machine = parts.machine
        self._timers = timers
        self._wire = wire
        self._cycle: _Cycle | None = None
        self._commands: deque[DriveCommand] = deque()
        self._errors: dict[int, int] = {}
        """Lane -> the last error code, for the board's menus."""

    @property
    def running(self) -> int | None:
        """The lane of the cycle that runs."""
        return self._cycle.command.lane if self._cycle else None

    @property
    def waiting(self) -> int:
        return len(self._commands)

    def command(self, command: DriveCommand) -> None:
        """A well-formed drive command: acknowledged, and executed now or after the others.

        Executed as often as it comes: this board does not know a repeat.
        """
        known = command.lane in self._machine.lanes
        if known and not self._parts.drive_arrives(command.lane):
            self._wire.forget_command()
            return
        if self._cycle is not None or self._commands:
            if len(self._commands) < WAITING_LIMIT:
                self._commands.append(command)
                self._wire.acknowledge()
            else:
                self._wire.forget_command()
            return
        self._begin(command, acknowledged=False)

    def stopped(self, stopped: Stopped) -> None:
        cycle = self._cycle
        if cycle is None:
            return
        if stopped.why is Halt.HOME:
            cycle.home = True
            if not cycle.command.watch or cycle.drops:
                self._end(Dispensing.SUCCESS)
            else:
                wait = self._parts.settings.drop_wait_ms
                cycle.timer = self._timers.after_ms(wait, self._end, Dispensing.JAMMED)
        elif stopped.why is Halt.OPEN_CIRCUIT:
            self._end(Dispensing.NO_MOTOR)
        elif stopped.why is Halt.RAN_TOO_LONG and stopped.peak_ma < STALL_MA:
            self._end(Dispensing.MOTOR_DID_NOT_STOP)
        else:
            self._end(Dispensing.JAMMED)

    def eye_darkened(self) -> None:
        cycle = self._cycle
        eye = self._parts.settings.eye and not self._machine.eye_faulty
        if cycle is None or not eye or not cycle.command.watch:
            return
        cycle.drops += 1
        if cycle.home:
            self._timers.cancel(cycle.timer)
            self._end(Dispensing.SUCCESS)

    def error_list(self, kind: int, *, clear: bool) -> bytes:
        """Menus 32 and 33: lanes with an error; a belt list follows the jams."""
        jams = kind == MenuType.JAM_LIST
        lanes = [lane for lane, code in self._errors.items() if (code == Dispensing.JAMMED) is jams]
        if clear:
            for lane in lanes:
                del self._errors[lane]
            return b"\0"
        return bytes((len(lanes),)) + b"".join(map(lane_bytes, lanes)) + (b"\0" if jams else b"")

    # ------------------------------------------------------------------ one cycle

    def _begin(self, command: DriveCommand, *, acknowledged: bool) -> None:
        refusal = self._refusal(command)
        if refusal is not None:
            if not acknowledged:
                self._wire.acknowledge()
            self._tell_all({}, command.lane, refusal)
            return
        plan = self._parts.drive_starts(command.lane, pack_no=command.pack_no)
        if not acknowledged and "data_before_ack" in plan:
            self._wire.data_before_ack(plan)
        elif not acknowledged:
            self._wire.acknowledge(plan)
        self._cycle = _Cycle(command, plan)
        scripted = plan.get("status") or plan.get("error_then_ff")
        if scripted is not None and not self._moves(scripted):
            self._timers.after_ms(NOTICE_MS, self._end, Dispensing.TERMINATED)
            return
        if "motor_open" not in plan and "success_without_start" not in plan:
            self._tell(plan, command.lane, Dispensing.STARTED)
        limit = self._parts.settings.run_limit_ms
        run_ms = self._machine.lanes[command.lane].settings.run_ms
        self._machine.start_motor(
            command.lane,
            max_run_ms=run_ms * RUN_LIMIT_RUNS if limit is None else limit,
            drop_wait_ms=self._parts.settings.drop_wait_ms,
            plan=plan,
        )

    def _refusal(self, command: DriveCommand) -> list[int] | None:
        """The codes with which the board ends a command that it will not execute."""
        settings, machine = self._parts.settings, self._machine
        if command.lane not in machine.lanes:
            return [Dispensing.LANE_INVALID]
        if command.elevator and not settings.elevator:
            return [Dispensing.ELEVATOR_ERROR, Dispensing.TERMINATED]
        dark = machine.eye_blocked or machine.eye_faulty or not settings.eye
        return [Dispensing.TERMINATED] if command.watch and dark else None

    def _moves(self, scripted: Fault) -> bool:
        if scripted.started is not None:
            return scripted.started
        return scripted.kind == "status" and scripted.code not in BEFORE_MOTION

    def _end(self, code: int) -> None:
        """The board's own verdict is `code`; a scripted fault puts another in its place."""
        cycle, self._cycle = self._cycle, None
        if cycle is None:
            return
        lane = cycle.command.lane
        scripted = cycle.plan.get("status")
        broken = cycle.plan.get("error_then_ff")
        codes = [code]
        if scripted is not None and scripted.code is not None:
            codes = [scripted.code]
        elif broken is not None:
            codes = [Dispensing.ELEVATOR_ERROR if broken.code is None else broken.code]
        if broken is not None or codes[0] in WAITS_FOR_FF:
            codes.append(Dispensing.TERMINATED)
        if codes[0] == Dispensing.SUCCESS:
            self._wire.stock[lane] = max(0, self._wire.stock[lane] - 1)
        if codes[0] in ERROR_CODES:
            self._errors[lane] = codes[0]
        self._tell_all(cycle.plan, lane, codes)
        self._next_later()

    def _next_later(self) -> None:
        if self._commands:
            self._timers.after_ms(REST_MS, self._next)

    def _next(self) -> None:
        self._begin(self._commands.popleft(), acknowledged=True)
        if self._cycle is None:
            self._next_later()

    def _tell_all(self, plan: CyclePlan, lane: int, codes: list[int]) -> None:
        for index, code in enumerate(codes):
            if index:
                self._timers.later(FF_AFTER_S * index, self._tell, plan, lane, code)
            else:
                self._tell(plan, lane, code)

    def _tell(self, plan: CyclePlan, lane: int, code: int) -> None:
        if "ack_no_status" in plan:
            return
        told = lane
        if "sel_zero" in plan:
            told = 0
        elif "wrong_lane" in plan:
            told = lane % LANE_LIMIT + 1
        repeated = plan.get("repeat_status")
        repeats = (repeated.count or REPEATS) - 1 if repeated is not None else 0
        self._wire.tell_status(code, told, repeats)
