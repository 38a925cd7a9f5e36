"""One emulated board: machine, firmware and line put together, and the hand that breaks them.

`build_board` makes one on any asyncio loop, a virtual-time one too. It needs no
port: give it the link's `write` with `connect`, hand it what the host sends with
`on_bytes`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from controller.boards.vbp.frames import Capability, ResetCause
from firmware_sim.faults import Fault, Faults, Moment, Scope
from firmware_sim.firmware.base import Firmware, Parts
from firmware_sim.firmware.vbp import VbpFirmware
from firmware_sim.firmware.xy import XyFirmware
from firmware_sim.ledger import Ledger
from firmware_sim.machine import Halt, Machine
from firmware_sim.memory import Memory
from firmware_sim.scenario import BoardSettings
from firmware_sim.timeline import Timeline
from firmware_sim.wire import Wire, Write

HAND = "hand"
DIRT = "dirt"
ITEM = "item"
"""Causes of a blocked eye that last: a hand, dirt on the lens, an item that stayed."""


class EmulatedBoard:
    def __init__(
        self,
        settings: BoardSettings,
        *,
        timeline: Timeline,
        seed: int,
        entropy: int,
        wall: Callable[[], float] | None = None,
    ) -> None:
        base = f"{settings.seed}/{seed}"
        # A stream for each: what the line draws at each poll does not change what falls.
        physics, line = random.Random(f"{base}/machine"), random.Random(f"{base}/line")
        # A file remembers its own identity; without one it must be the same at each start.
        memory_seed = f"{base}/memory/{entropy}" if settings.memory else f"{base}/memory"
        self.settings = settings
        self.timeline = timeline
        self.ledger = Ledger(timeline, settings.ledger, wall=wall)
        self.faults = Faults(settings.faults, f"{base}/faults")
        self.machine = Machine(
            settings.lanes,
            timeline=timeline,
            ledger=self.ledger,
            rng=physics,
            eye=settings.eye,
        )
        self.wire = Wire(timeline, self.faults, line)
        self.memory = Memory(settings.memory, random.Random(memory_seed))
        self.on_plug: Callable[[bool], None] = lambda _plugged: None
        """The port follows the cable."""
        self._boot: asyncio.TimerHandle | None = None
        parts = Parts(
            settings=settings,
            timeline=timeline,
            machine=self.machine,
            faults=self.faults,
            wire=self.wire,
            ledger=self.ledger,
            memory=self.memory,
            strike=self.strike,
        )
        self.vbp = VbpFirmware(parts, entropy=entropy) if settings.protocol == "vbp" else None
        self.firmware: Firmware = self.vbp or XyFirmware(parts)
        self.machine.on_stopped = self.firmware.on_stopped
        self.machine.on_eye = self.firmware.on_eye
        self.machine.on_door = self.firmware.on_door
        self.wire.on_fault = self._note
        self._start()

    def _start(self) -> None:
        if not self.memory.load():
            self.ledger.write("memory_damaged")
        self.ledger.write("power_on", cause=ResetCause.POWER_ON.name.lower())
        self.firmware.start(ResetCause.POWER_ON)
        for fault in self.faults.waiting():
            self._schedule(fault)

    # ------------------------------------------------------------------ the line

    def connect(self, write: Write) -> None:
        """The host's end of the line is open: what the board sends goes to `write`."""
        self.wire.write = write

    def disconnect(self) -> None:
        self.wire.write = None

    def on_bytes(self, data: bytes) -> None:
        """What the host wrote. A board that is off or unplugged does not hear it."""
        if self.wire.plugged and self.machine.powered:
            self.firmware.on_bytes(data)

    # ------------------------------------------------------------------ faults

    def arm(self, fault: Fault) -> None:
        """Take a fault at run time. Raises ValueError when it cannot be."""
        self.faults.arm(fault)
        self._schedule(fault)

    def _schedule(self, fault: Fault) -> None:
        if fault.scope not in {Scope.STATE, Scope.ACT}:
            return
        strike = self._strike_running if fault.strikes_in_a_cycle else self._strike_timed
        wait = 0.0 if fault.at is None else fault.at - self.timeline.seconds()
        if wait > 0:
            self.timeline.later(wait, strike, fault)
        else:
            strike(fault)

    def _strike_running(self, fault: Fault) -> None:
        """It was meant for a cycle. Where one runs that it fits, its middle is now."""
        running = self.machine.running
        fits = fault.cycle is None and fault.probability is None and fault.lane in {None, running}
        if running is not None and fits and fault.moment is Moment.MIDDLE:
            self._strike_timed(fault)

    def _strike_timed(self, fault: Fault) -> None:
        if self.faults.take(fault):
            self.strike(fault)

    def strike(self, fault: Fault) -> None:
        """Let it take effect now."""
        self._note(fault)
        if fault.scope is Scope.ACT:
            self._act(fault)
        elif fault.scope is Scope.STATE:
            was_on = self.faults.is_on(fault.kind)
            self.faults.active[fault.kind] = fault
            if not was_on:
                self._switch(fault.kind, on=True)
            if fault.lasts is not None:
                self.timeline.later(fault.lasts, self._expire, fault)

    def lift(self, kind: str | None = None, lane: int | None = None) -> int:
        """Disarm faults and end states; returns how many states ended."""
        ended = self.faults.lift(kind, lane)
        for fault in ended:
            self._end_state(fault)
        if kind in {None, "item_on_eye"}:
            self.machine.unshade(ITEM)
        return len(ended)

    def _expire(self, fault: Fault) -> None:
        if self.faults.active.get(fault.kind) is fault:
            del self.faults.active[fault.kind]
            self._end_state(fault)

    def _end_state(self, fault: Fault) -> None:
        self.ledger.write("lifted", fault.lane, kind=fault.kind)
        self._switch(fault.kind, on=False)

    def _note(self, fault: Fault) -> None:
        self.ledger.write("fault", fault.lane, kind=fault.kind)

    def _switch(self, kind: str, *, on: bool) -> None:
        """States with a physical side; the others are asked for where they matter."""
        match kind:
            case "eye_stuck_blocked":
                self.machine.shade(DIRT, on=on)
            case "eye_faulty":
                self.machine.eye_faulty = on
                self.machine.eye_failures += on
            case "door_open":
                self.machine.set_door(is_open=on)
            case "unplug":
                self.wire.plugged = not on
                self.ledger.write("unplugged" if on else "plugged")
                self.on_plug(not on)
            case "power_cut":
                self._power(on=not on)

    def _act(self, fault: Fault) -> None:
        match fault.kind:
            case "reset_mid_cycle":
                self.reset(ResetCause.WATCHDOG)
            case "forget_memory":
                self.memory.format()
                self.reset(ResetCause.WATCHDOG)
            case "swap":
                self.memory.format()
                self.reset(ResetCause.POWER_ON)
            case _:
                self.firmware.perform(fault)

    # ------------------------------------------------------------------ life

    def reset(self, cause: ResetCause = ResetCause.PIN) -> None:
        """The board's logic starts anew; a motor that turned stops where it is."""
        if not self.machine.powered:
            return
        self.firmware.halt()
        self.wire.fall_dead()
        self.ledger.write("board_reset", cause=cause.name.lower())
        self.machine.stop_motor(Halt.RESET)
        self._boot_later(cause)

    def _power(self, *, on: bool) -> None:
        self.machine.powered = self.wire.powered = on
        if on:
            self.ledger.write("power_on", cause=ResetCause.POWER_ON.name.lower())
            self._boot_later(ResetCause.POWER_ON)
            return
        self.firmware.halt()
        self.wire.fall_dead()
        self.ledger.write("power_off")
        self.machine.stop_motor(Halt.POWER)
        if self._boot is not None:
            self._boot.cancel()
        keeps = Capability.REMEMBERS_OVER_POWER_LOSS & self.settings.capability_bits()
        if self.vbp is not None and not keeps:
            self.memory.format()

    def _boot_later(self, cause: ResetCause) -> None:
        if self._boot is not None:
            self._boot.cancel()
        self._boot = self.timeline.later(self.settings.boot_ms / 1000, self.firmware.start, cause)

    # ------------------------------------------------------------------ hands and questions

    def block_eye(self, *, on: bool) -> None:
        """A hand in the light eye, or taken out of it."""
        if on and not self.machine.is_shaded(HAND):
            self.machine.shade(HAND, on=True)
        elif not on:
            self.machine.unshade(HAND)

    def state(self) -> dict[str, Any]:
        machine = self.machine
        return {
            "name": self.settings.name,
            "protocol": self.settings.protocol,
            "seconds": round(self.timeline.seconds(), 3),
            "powered": machine.powered,
            "plugged": self.wire.plugged,
            "running_lane": machine.running,
            "door_open": machine.door_open,
            "eye_blocked": machine.eye_blocked,
            "eye_faulty": machine.eye_faulty,
            "lanes": {
                str(number): {
                    "goods": lane.goods,
                    "cycles": lane.cycles,
                    "at_home": lane.at_home,
                    "faults": lane.faults,
                }
                for number, lane in machine.lanes.items()
            },
            "active": sorted(self.faults.active),
            "armed": [fault.model_dump(exclude_none=True) for fault in self.faults.waiting()],
            "bytes_sent": self.wire.bytes_sent,
            "bytes_lost": self.wire.bytes_lost,
            "ledger_lines": self.ledger.written,
            "firmware": self.firmware.state(),
        }

    def close(self) -> None:
        self.firmware.halt()
        self.ledger.close()


def build_board(
    settings: BoardSettings,
    *,
    speed: float = 1.0,
    seed: int = 0,
    loop: asyncio.AbstractEventLoop | None = None,
    entropy: int = 0,
    wall: Callable[[], float] | None = None,
) -> EmulatedBoard:
    """A board that lives on `loop` (the running one when None), without a port.

    `seed` is mixed with the scenario's own. `entropy` makes boot_ids, and the
    identity of a fresh memory file, differ between processes with one seed; 0 makes
    every run alike. `wall` labels the ledger's lines with Unix seconds.
    """
    timeline = Timeline(loop or asyncio.get_running_loop(), speed)
    return EmulatedBoard(settings, timeline=timeline, seed=seed, entropy=entropy, wall=wall)
