"""What the drivers' tests stand on: virtual time, a link in memory, a desk that keeps notes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from controller.boards.port import Line, Lost, Receive, Traffic
from controller.clock import LoopClock
from controller.dispensing.interfaces import (
    Board,
    CycleEvent,
    DriveOrder,
    Identity,
    Notice,
    Ticket,
)
from controller.errors import BoardOffline
from controller.model import Finding
from tests.virtual_time import VirtualLoop

T = TypeVar("T")


def in_virtual_time(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


class Peer(Protocol):
    """The board's end of a link in memory: the emulator's boards, and the scripted ones."""

    def connect(self, write: Callable[[bytes], None]) -> None: ...
    def on_bytes(self, data: bytes) -> None: ...


class MemoryPort:
    """Implements boards.port.Port. `plugged` and `unplug()` are the cable."""

    def __init__(self, peer: Peer) -> None:
        self.spec = "memory:"
        self.traffic = Traffic()
        self.peer = peer
        self.plugged = True
        self.to_board: list[bytes] = []
        """Every write of the driver, as it left."""
        self.from_board_lost = 0
        """How many next writes of the board get lost on the way."""
        self._line: _MemoryLine | None = None

    async def open(self, receive: Receive, lost: Lost) -> Line:
        await asyncio.sleep(0)
        if not self.plugged:
            self.traffic.failed_opens += 1
            raise BoardOffline("memory:: no cable")
        self.traffic.opens += 1
        line = self._line = _MemoryLine(self, receive, lost)
        self.peer.connect(line.came)
        return line

    def unplug(self) -> None:
        self.plugged = False
        line, self._line = self._line, None
        if line is not None and not line.over:
            line.over = True
            self.traffic.losses += 1
            line.lost("memory:: the cable is out")


class _MemoryLine:
    def __init__(self, port: MemoryPort, receive: Receive, lost: Lost) -> None:
        self.port = port
        self.receive = receive
        self.lost = lost
        self.over = False

    def came(self, data: bytes) -> None:
        if self.port.from_board_lost > 0:
            self.port.from_board_lost -= 1
            return
        asyncio.get_running_loop().call_soon(self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if not self.over:
            self.port.traffic.came(data)
            self.receive(data)

    def write(self, data: bytes) -> None:
        if self.over:
            raise BoardOffline("memory:: the line is gone")
        self.port.to_board.append(data)
        self.port.traffic.left(data)
        asyncio.get_running_loop().call_soon(self._reach, data)

    def _reach(self, data: bytes) -> None:
        if not self.over:
            self.port.peer.on_bytes(data)

    def abort(self) -> None:
        self.over = True


class NotebookDesk:
    """Implements interfaces.BoardDesk; everything is durable the moment it is noted."""

    def __init__(self, ticket: Ticket | None = None) -> None:
        self.ticket = ticket
        self.identities: list[Identity] = []
        self.ups: list[tuple[bool, str]] = []
        self.records: list[tuple[int, Finding]] = []
        self.notices: list[tuple[Notice, str | None]] = []
        self.order: list[str] = []
        """Of the calls `recorded` and `notice`."""
        self.refuse: Exception | None = None
        """Raised instead of taking a note: the journal is unwritable."""
        self.up = asyncio.Event()
        self.down = asyncio.Event()

    async def identified(self, identity: Identity) -> None:
        self._check()
        self.identities.append(identity)

    async def went(self, *, up: bool, why: str) -> None:
        self.ups.append((up, why))
        (self.up if up else self.down).set()
        (self.down if up else self.up).clear()

    async def recorded(self, cycle_id: int, finding: Finding, raw: Mapping[str, Any]) -> bool:
        self._check()
        self.records.append((cycle_id, finding))
        self.order.append("recorded")
        return True

    async def notice(self, notice: Notice, key: str | None = None) -> None:
        self._check()
        self.notices.append((notice, key))
        self.order.append("notice")

    async def last_ticket(self) -> Ticket | None:
        return self.ticket

    def _check(self) -> None:
        if self.refuse is not None:
            raise self.refuse


@asynccontextmanager
async def running(board: Board, desk: NotebookDesk) -> AsyncGenerator[None, None]:
    """The driver at work, its link up."""
    task = asyncio.create_task(board.run(desk), name="driver under test")
    try:
        async with asyncio.timeout(30):
            await desk.up.wait()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def an_order(cycle_id: int, lane: int = 1, **more: Any) -> DriveOrder:
    now = asyncio.get_running_loop().time()
    given: dict[str, Any] = {
        "watch_eye": True,
        "deadline": now + 60,
        "cycle_timeout_s": 30.0,
        "max_run_ms": 15_000,
        "drop_wait_ms": 3_000,
    } | more
    return DriveOrder(cycle_id=cycle_id, lane=lane, **given)


async def drive(board: Board, order: DriveOrder, within_s: float = 60) -> list[CycleEvent]:
    """Prepare, drive, and everything that the stream says until its end."""
    ticket = await board.prepare(order)
    return await collect(board.drive(order, ticket), within_s)


async def collect(
    stream: AsyncGenerator[CycleEvent, None], within_s: float = 60
) -> list[CycleEvent]:
    events: list[CycleEvent] = []
    async with asyncio.timeout(within_s):
        async for event in stream:
            events.append(event)  # noqa: PERF401  what came before a time-out is kept
    return events


def names(events: list[CycleEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


async def until(condition: Callable[[], bool], within_s: float = 30) -> None:
    """Wait for a condition with a bound; looks every 10 ms of the loop's time."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


CLOCK = LoopClock()
