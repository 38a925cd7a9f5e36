"""What every firmware has around it, and what the board expects of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from controller.boards.vbp.frames import ResetCause
from firmware_sim.faults import CyclePlan, Fault, Faults, Opportunity
from firmware_sim.ledger import Ledger
from firmware_sim.machine import Machine, Stopped
from firmware_sim.memory import Memory
from firmware_sim.scenario import BoardSettings
from firmware_sim.timeline import Timeline
from firmware_sim.wire import Wire

HALF = 0.5


class Firmware(Protocol):
    """The program of a board. It runs between `start` and `halt`; then its RAM is gone."""

    def start(self, cause: ResetCause) -> None: ...
    def halt(self) -> None: ...
    def on_bytes(self, data: bytes) -> None: ...
    def on_stopped(self, stopped: Stopped) -> None: ...
    def on_eye(self, blocked: bool) -> None: ...  # noqa: FBT001  a level, as the pin gives it
    def on_door(self, is_open: bool) -> None: ...  # noqa: FBT001
    def perform(self, fault: Fault) -> None:
        """An act that only the firmware can do, such as a storm of status frames."""
        ...

    def state(self) -> dict[str, Any]:
        """For the question `state` of the control socket."""
        ...


class Timers:
    """Timers that die with the firmware."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._pending: set[asyncio.TimerHandle] = set()

    def later(self, seconds: float, call: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """Real seconds."""
        handle = self._timeline.later(seconds, lambda: self._fire(handle, call, args))
        self._pending.add(handle)
        return handle

    def after_ms(
        self, milliseconds: float, call: Callable[..., Any], *args: Any
    ) -> asyncio.TimerHandle:
        """Milliseconds of machine time."""
        return self.later(milliseconds / 1000 / self._timeline.speed, call, *args)

    def cancel(self, handle: asyncio.TimerHandle | None) -> None:
        if handle is not None:
            handle.cancel()
            self._pending.discard(handle)

    def cancel_all(self) -> None:
        for handle in self._pending:
            handle.cancel()
        self._pending.clear()

    def _fire(
        self, handle: asyncio.TimerHandle, call: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self._pending.discard(handle)
        call(*args)


@dataclass(slots=True)
class Parts:
    """The board around its firmware, and the gate through which every drive command goes."""

    settings: BoardSettings
    timeline: Timeline
    machine: Machine
    faults: Faults
    wire: Wire
    ledger: Ledger
    memory: Memory
    strike: Callable[[Fault], None]
    """Let a state or an act take effect."""

    def drive_arrives(self, lane: int) -> bool:
        """A well-formed drive frame came in. False: it was lost on the line after all."""
        struck = self.faults.before_cycle(self._opportunity(lane))
        for fault in struck:
            self.strike(fault)
        return all(fault.kind != "lose_command" for fault in struck)

    def drive_starts(self, lane: int, **identity: int) -> CyclePlan:
        """The command is accepted and its motor is about to turn: a cycle begins."""
        where = self._opportunity(lane)
        plan = self.faults.of_cycle(where)
        middle = self.faults.in_middle(where)
        settings = self.machine.lanes[lane].settings
        self.machine.lanes[lane].cycles += 1
        self.ledger.write("drive_frame", lane, cycle=where.lane_cycle, **identity)
        for fault in plan.values():
            self.ledger.write("fault", lane, kind=fault.kind)
        for fault in middle:
            after = settings.run_ms * HALF if fault.after_ms is None else fault.after_ms
            self.faults.coming.append(fault)
            self.timeline.after_ms(after, self._strike_coming, fault)
        return plan

    def _strike_coming(self, fault: Fault) -> None:
        if fault in self.faults.coming:  # else it was lifted meanwhile
            self.faults.coming.remove(fault)
            self.strike(fault)

    def _opportunity(self, lane: int) -> Opportunity:
        return Opportunity(
            lane=lane,
            lane_cycle=self.machine.lanes[lane].cycles + 1,
            board_cycle=sum(one.cycles for one in self.machine.lanes.values()) + 1,
            seconds=self.timeline.seconds(),
        )
