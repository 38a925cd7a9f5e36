"""What the figures share: a site whose parts cost as little as they can, and stopwatches.

The programs are those of the system tests. Set apart for measuring: the broker keeps
nothing on disk, the emulated boards keep their records in memory (a real board's flash
is not ours to measure), and every TCP connection goes without Nagle's delay.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.system.emulator import Emulator
from tests.system.platform_client import Platform
from tests.system.process import Process
from tests.system.site import CabinetPlan, Lane, Site, emulated
from tests.system.waiting import wait_for

ROOT = Path(__file__).resolve().parents[1]
BARE_MACHINE = "00000000"
"""The bare host's machine number: it listens beside the daemon on the same broker."""
NOBODYS_ORDER = 999_999_999
GOODS = 250
"""Goods in an emulated lane, at most."""
SECOND_DROP_MS = 300.0
"""VBP: a board ends a cycle so long after the drop, in machine time: physics, not overhead."""

VBP_TRACK = CabinetPlan(
    name="A",
    kind="track",
    board="main",
    protocol="vbp",
    drop_sensor=True,
    lanes=(Lane("A1", 1, 121, GOODS),),
    settings={"cycle_timeout_s": 30, "max_run_ms": 15000, "drop_wait_ms": 3000},
)
XY_SPIRAL = CabinetPlan(
    name="B",
    kind="spiral",
    board="side",
    protocol="xy",
    drop_sensor=False,
    lanes=(Lane("B1", 1, 221, GOODS),),
    settings={"cycle_timeout_s": 30, "drop_wait_ms": 0, "settle_ms": 0},
)


class StopwatchPlatform(Platform):
    """The tests' platform, without Nagle's delay, and forgetful: it looks at one order a time."""

    def __init__(self, port: int, machine_no: str) -> None:
        super().__init__(port, machine_no)
        self._client.on_socket_open = no_delay

    def ask(self, topic: str, command: Mapping[str, Any]) -> float:
        """Send a command; Unix seconds just before. What came earlier is forgotten."""
        self.messages.clear()
        sent = time.time()
        self.send(topic, command)
        return sent

    def arrival(self, topic: str, order_id: int, timeout: float = 60.0, **wanted: object) -> float:
        """When the first message about the order came that has these fields; Unix seconds."""

        def found() -> float:
            for message in self.messages:
                if message.topic == topic:
                    body = message.json
                    if body.get("order_id") == order_id and wanted.items() <= body.items():
                        return message.at
            return 0.0

        return float(self.wait_for(found, f"{topic} {wanted} of order {order_id}", timeout))


def no_delay(_client: Any, _data: Any, connection: Any) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class BenchSite(Site):
    """Made with everything down, like Site."""

    platform: StopwatchPlatform

    def __init__(
        self,
        directory: Path,
        cabinets: Sequence[CabinetPlan],
        *,
        speed: float = 1,
        machine: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(directory, cabinets, speed=speed, persistent_broker=False, machine=machine)
        boards = [replace(emulated(plan), remembers=False) for plan in cabinets]
        self.emulator = Emulator(directory / "boards", boards, speed=speed)
        self.platform = StopwatchPlatform(self.broker.port, self.platform.machine_no)


@contextmanager
def workplace() -> Iterator[Path]:
    """A directory that is gone afterwards; its name is short, for the sockets in it."""
    directory = Path(tempfile.mkdtemp(prefix="vcb-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def running(site: BenchSite, *, emulator: bool = True) -> Iterator[BenchSite]:
    """All of it up and at work. `emulator` False: somebody else plays its boards."""
    try:
        site.broker.up()
        if emulator:
            site.emulator.up()
        site.platform.up()
        site.daemon.up()
        wait_at_work(site)
        yield site
    finally:
        site.close()


def wait_at_work(site: BenchSite) -> None:
    """Until a command is answered: a daemon takes none before it has read its own retained
    state, and waits 2 s for one where there is none."""
    nothing = {"order_id": NOBODYS_ORDER, "trade_id": "none", "issued_at": int(time.time())}
    site.platform.ask("cancel", nothing)
    site.platform.arrival("order", NOBODYS_ORDER, status="cancelled")


@contextmanager
def bare_program(directory: Path, module: str, *words: object) -> Iterator[Process]:
    """`python -m benchmarks.bare.MODULE WORDS`, ended afterwards."""
    command = [sys.executable, "-m", f"benchmarks.bare.{module}", *map(str, words)]
    program = Process(command, directory / f"bare-{module}.log")
    program.start({"PYTHONPATH": str(ROOT)})
    try:
        yield program
    finally:
        program.end()


def wait_link(link: Path) -> None:
    wait_for(link.exists, f"{link.name} is there")


# ------------------------------------------------------------------ what the ledger says


@dataclass(frozen=True, slots=True)
class Motion:
    """One cycle of an emulated board, in real seconds."""

    physical_s: float
    """From the drive frame to the moment when the board can know how the cycle ended."""


def motions(site: Site, board: str, speed: float, *, last: int) -> list[Motion]:
    """The last cycles of a board, oldest first.

    With the eye watched a cycle ends a fixed time after the drop (VBP) or at the later
    of drop and motor's stop (XY); without, at the motor's stop.
    """
    plan = next(plan for plan in site.cabinets if plan.board == board)
    cycles: list[dict[str, float]] = []
    for line in site.emulator.ledger(board):
        if line["event"] == "drive_frame":
            cycles.append({})
        if cycles:
            cycles[-1].setdefault(line["event"], line["machine_ms"])
    return [Motion(_physical_ms(cycle, plan) / speed / 1000) for cycle in cycles[-last:]]


def _physical_ms(cycle: Mapping[str, float], plan: CabinetPlan) -> float:
    end = cycle["motor_stopped"]
    if plan.drop_sensor:
        end = max(end, cycle["eye_blocked"])
        if plan.protocol == "vbp":
            end = max(cycle["motor_stopped"], cycle["eye_blocked"] + SECOND_DROP_MS)
    return end - cycle["drive_frame"]


# ------------------------------------------------------------------ what the kernel says


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all threads: its CPU-time clock (clock_getcpuclockid(3)),
    which is finer than the ticks of /proc/PID/stat."""
    return time.clock_gettime(~pid << 3 | 2)


def memory_mib(pid: int) -> dict[str, float]:
    """VmRSS and its peak, and PSS (what is shared, divided by who shares it) where the kernel
    tells it."""
    status = Path(f"/proc/{pid}/status")
    found = {"rss": _kib(status, "VmRSS:") / 1024, "peak": _kib(status, "VmHWM:") / 1024}
    try:
        found["pss"] = _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") / 1024
    except OSError:
        found["pss"] = found["rss"]
    return found


def _kib(path: Path, key: str) -> float:
    line = next(ln for ln in path.read_text(encoding="ascii").splitlines() if ln.startswith(key))
    return float(line.split()[1])


def machine_facts() -> dict[str, Any]:
    return {
        "python": sys.version.split()[0],
        "processors": os.cpu_count(),
        "kernel": os.uname().release,
        "architecture": os.uname().machine,
        "load": os.getloadavg()[0],
    }
