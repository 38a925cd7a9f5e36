"""The whole site of the power cuts: guest, its disk, the board, the broker, the platform.

As tests/system/site.py, but the daemon is in the guest, and there is one cabinet only: a
track cabinet on a VBP board, which can be asked after a cut. It has many lanes, because a
unit that ends `unknown` takes its lane out of service and nobody is there to count.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.powercut import image
from tests.powercut.disk import Cut, Disk
from tests.powercut.guest import Guest
from tests.powercut.nbd import Server
from tests.system import judge
from tests.system.broker import Broker, free_port
from tests.system.emulator import Emulator
from tests.system.platform_client import Message, Platform
from tests.system.site import (
    MACHINE_NO,
    TRACK_ON_VBP,
    CabinetPlan,
    Lane,
    daemon_settings,
    emulated,
)

BOARD = "main"
LANES = 48
GOODS = 40
PRODUCTS = range(101, 109)
DISK_BYTES = 64 * 1024 * 1024
FLUSH_S = 0.02
"""A flush of a memory card takes some milliseconds. In it a commit is most at risk."""
AIM_S = 3.0
"""An aimed cut waits so long for something unflushed, and then strikes all the same."""
BOOT_BOUND_S = 90.0
"""For a boot that takes 8 s on a quiet machine under software emulation."""


@dataclass(frozen=True)
class PowerCut:
    at: float
    """Unix seconds."""
    board_too: bool
    ready: bool
    """Whether the daemon was up; else it struck the boot."""
    disk: Cut


class Machine:
    """Made with everything down. `up` starts what stands outside of the guest."""

    def __init__(self, directory: Path, qemu: str, accelerator: str, *, lies: bool) -> None:
        self.broker = Broker(directory / "broker")
        port = free_port()
        plan = CabinetPlan(
            name="A",
            kind="track",
            board=BOARD,
            protocol="vbp",
            drop_sensor=True,
            lanes=[
                Lane(f"A{number}", number, PRODUCTS[number % len(PRODUCTS)], GOODS)
                for number in range(1, LANES + 1)
            ],
            settings=TRACK_ON_VBP.settings,
            board_settings={"port": "/dev/ttyS1"},
            scenario={"port": f"tcp:127.0.0.1:{port}"},
        )
        self.lanes = {lane.channel: (BOARD, lane.number) for lane in plan.lanes}
        self.emulator = Emulator(directory / "boards", [emulated(plan)])
        settings = daemon_settings(
            Path("/run"),
            self.emulator,
            self.broker,
            [plan],
            machine={"state_dir": "/state/vending-controller"},
            mqtt={"host": "10.0.2.2"},
        )
        initramfs = directory / "initramfs"
        image.initramfs(initramfs, settings)
        self.platform = Platform(self.broker.port, MACHINE_NO)
        self.disk = Disk(DISK_BYTES, lies=lies)
        socket = directory / "nbd.sock"
        self._server = Server(socket, self.disk, flush_s=FLUSH_S)
        self.guest = Guest(
            qemu,
            accelerator,
            initramfs=initramfs,
            disk=socket,
            board_port=port,
            directory=directory,
        )
        self._ready = False
        self._on_since = 0.0

    def up(self) -> None:
        self._server.start()
        self.broker.up()
        self.emulator.up()
        self.platform.up()

    def close(self) -> None:
        self.guest.kill()
        self._server.stop()
        self.emulator.end()
        self.platform.close()
        self.broker.end()

    # ------------------------------------------------------------------ power

    def power_on(self, *, first: bool = False) -> None:
        self._ready = False
        self._on_since = time.time()
        self._board_power(on=True)
        self.guest.boot(format_disk=first)

    def wait_ready(self) -> dict[str, Any]:
        """The first state that the daemon of this boot published. One that a boot before it
        published just before its power went is not taken for it."""

        def new_boot() -> dict[str, Any] | None:
            assert self.guest.alive, f"QEMU ended with {self.guest.exit_code}"
            states = [
                message.json
                for message in self.platform.messages
                if message.topic == "state" and message.at >= self._on_since
            ]
            return next((state for state in states if state["online"]), None)

        state: dict[str, Any] = self.platform.wait_for(new_boot, "a boot", BOOT_BOUND_S)
        self._ready = True
        return state

    def power_off(self, chance: random.Random, *, board_too: bool, aimed: bool) -> PowerCut:
        """The disk stands still, the guest is gone, then the disk loses; the board goes just
        before or after. `aimed`: the first moment at which the disk has something to lose,
        and some milliseconds more by chance."""
        end = time.monotonic() + AIM_S
        while aimed and not self.disk.unflushed and time.monotonic() < end:
            time.sleep(0.0005)
        if aimed:
            time.sleep(chance.uniform(0.0, FLUSH_S))
        at = time.time()
        board_first = chance.random() < 0.5
        if board_too and board_first:
            self._board_power(on=False)
        self._server.freeze()
        self.guest.kill()
        lost = self._server.cut(chance)
        if board_too and not board_first:
            self._board_power(on=False)
        return PowerCut(at, board_too, self._ready, lost)

    def _board_power(self, *, on: bool) -> None:
        answer = self.emulator.tell(BOARD, do="power", on=on)
        assert answer["ok"], answer

    # ------------------------------------------------------------------ looking

    def came_before_boot(self) -> list[Message]:
        """What the platform had when the power came back."""
        return [m for m in self.platform.messages if m.at < self._on_since]

    def facts(self) -> judge.Facts:
        return judge.Facts(
            messages=tuple(self.platform.messages),
            ledgers={BOARD: self.emulator.ledger(BOARD)},
            lanes=self.lanes,
        )

    def ask(self, verb: str) -> Mapping[str, Any]:
        """The answer to a request over MQTT."""
        before = len(self.platform.of(f"response/{verb}"))
        self.platform.send(f"request/{verb}", {})

        def answered() -> list[dict[str, Any]]:
            return self.platform.of(f"response/{verb}")[before:]

        data: Mapping[str, Any] = self.platform.wait_for(answered, f"response/{verb}")[0]["data"]
        return data
