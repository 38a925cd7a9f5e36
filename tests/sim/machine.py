"""The machine's computer: one daemon at a time, on a loop of its own, and how it dies.

The daemon is the real one, composed by `controller.daemon.Daemon` itself. Three seams are
filled in: the ports of its boards, its connection to the broker, and the local service's
socket (a technician's acts are called where the socket would call them).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from controller import clock as real_clock
from controller import config, daemon
from controller.boards.port import Line, Lost, Receive, Traffic
from controller.clock import Belief, LoopClock
from controller.errors import BoardOffline, JournalUnwritable
from controller.journal.journal import Journal, open_journal
from controller.uplink import session
from controller.uplink.messages import Payloads
from firmware_sim.board import EmulatedBoard
from tests.disk.layer import Disk
from tests.sim.broker import ModelLink
from tests.sim.clocks import WallClock
from tests.sim.loops import SimLoop, Timeline

BITS_PER_BYTE = 10

RESERVE_BYTES = 256 * 1024
"""A smaller reserve than the real one, of two closing transactions (30 pages each): a start must
make it in no time, and a disk of this world fills up with it."""


class Cable:
    """Between a board and the computer. Bytes take their time on the wire, in their order."""

    def __init__(self, board: EmulatedBoard, world: SimLoop, baudrate: int) -> None:
        self.board = board
        self.plugged = True
        self.host_is_dead: Callable[[], bool] = lambda: False
        self._world = world
        self._byte_s = BITS_PER_BYTE / baudrate
        self._line: CableLine | None = None

    def attach(self, line: CableLine | None) -> None:
        if self._line is not None:
            self._line.over = True
        self._line = line
        if line is None:
            self.board.disconnect()
        else:
            self.board.connect(line.from_board)

    def set_plugged(self, plugged: bool) -> None:  # noqa: FBT001  (the emulator's own signature)
        self.plugged = plugged
        line = self._line
        if not plugged and line is not None and not line.over:
            self.attach(None)
            line.loop.call_soon(line.lost, "the cable is out")

    def carry(self, line: CableLine, data: bytes, deliver: Callable[[bytes], None]) -> None:
        now = self._world.time()
        line.free_at = max(line.free_at, now) + len(data) * self._byte_s
        self._world.call_at(line.free_at, _unless_over, line, deliver, data)


def _unless_over(line: CableLine, deliver: Callable[[bytes], None], data: bytes) -> None:
    if not line.over:
        deliver(data)


class CableLine:
    """Implements boards.port.Line, for as long as the daemon has the port open."""

    def __init__(
        self, cable: Cable, loop: SimLoop, traffic: Traffic, receive: Receive, lost: Lost
    ) -> None:
        self.loop = loop
        self.lost = lost
        self.over = False
        self.free_at = 0.0
        self._cable = cable
        self._traffic = traffic
        self._receive = receive

    def write(self, data: bytes) -> None:
        if self.over:
            raise BoardOffline("the line is gone")
        if self._cable.host_is_dead():
            return
        self._traffic.left(data)
        self._cable.carry(self, data, self._cable.board.on_bytes)

    def abort(self) -> None:
        if not self.over:
            self._cable.attach(None)

    def from_board(self, data: bytes) -> None:
        self._cable.carry(self, data, self._into_the_loop)

    def _into_the_loop(self, data: bytes) -> None:
        self.loop.call_soon(self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        if not self.over:
            self._traffic.came(data)
            self._receive(data)


class CablePort:
    """Implements boards.port.Port."""

    def __init__(self, spec: str, cable: Cable) -> None:
        self.spec = spec
        self.traffic = Traffic()
        self._cable = cable

    async def open(self, receive: Receive, lost: Lost) -> Line:
        await asyncio.sleep(0)
        if not self._cable.plugged:
            self.traffic.failed_opens += 1
            raise BoardOffline(f"{self.spec}: no such device")
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.traffic.opens += 1
        line = CableLine(self._cable, loop, self.traffic, receive, lost)
        self._cable.attach(line)
        return line


class _NoSocket:
    """The local service without its socket."""

    async def close(self) -> None:
        return


async def _no_service(*_: Any, **__: Any) -> _NoSocket:
    return _NoSocket()


@dataclass
class Machine:
    """Settings, state directory, cables. `boot` starts a daemon, `crash` ends it this instant."""

    timeline: Timeline
    settings: config.Settings
    cables: Mapping[str, Cable]
    link: type[ModelLink]
    clock: WallClock
    disk: Disk | None = None
    """Beneath its files; None in a process without the layer: then all that was written stays."""
    boot_id: str = "boot-1"
    loop: SimLoop | None = None
    daemon: daemon.Daemon | None = None
    journal: Journal | None = None
    stop: asyncio.Event | None = None
    lives: int = 0
    ended: BaseException | None = None
    """Why the last daemon ended by itself; None when it was made to."""
    _main: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def state_dir(self) -> Path:
        return self.settings.machine.state_dir

    def __post_init__(self) -> None:
        self.link.host_is_dead = staticmethod(self.is_dead)
        for cable in self.cables.values():
            cable.host_is_dead = self.is_dead

    @property
    def alive(self) -> bool:
        return self.loop is not None

    def is_dead(self) -> bool:
        """Killed within a call of the disk: the callback that made it still runs to its end, and
        nothing that it does reaches anybody."""
        return self.disk is not None and self.disk.dead

    def boot(self) -> None:
        assert self.loop is None, "one daemon at a time"
        self.lives += 1
        self.ended = None
        self.loop = self.timeline.loop(f"daemon {self.lives}")
        self._main = self.loop.create_task(self._serve(), name="main")
        self._main.add_done_callback(self._over)

    async def _serve(self) -> None:
        """As `daemon.serve`, with this world's clock."""
        machine = self.settings.machine
        belief = Belief(
            machine.state_dir,
            self.boot_id,
            require_sync=self.settings.clock.require_sync,
            skew_s=self.settings.clock.skew_s,
        )
        clock = LoopClock(belief.now, self.clock.now)
        opened, opening = open_journal(
            machine.state_dir,
            clock=clock,
            announcer=Payloads(machine.machine_no),
            boot=self.boot_id,
            skew_s=self.settings.clock.skew_s,
            retention_days=machine.result_retention_days,
            inline=True,
            reserve_bytes=RESERVE_BYTES,
        )
        self.journal = opened
        belief.newest = lambda: opened.newest_time
        self.stop = asyncio.Event()
        _like_a_thread(self.journal, self.loop)
        no_file = machine.state_dir / "config.toml"
        self.daemon = daemon.Daemon(
            self.settings, self.journal, opening, clock, self.boot_id, no_file
        )
        await self.daemon.run(self.stop)
        await self.journal.close()

    @contextlib.contextmanager
    def seams(self, seed: int) -> Iterator[None]:
        """Fill the seams while the world plays; chance in the daemon comes from the seed."""
        chance = random.Random(f"daemon/{seed}")
        with ExitStack() as filled:
            for owner, name, stand_in in (
                (daemon, "make_board", self._make_board),
                (real_clock, "kernel_says_synchronised", lambda: self.clock.synchronised),
                (real_clock, "time", SimpleNamespace(time=self.clock.now)),
                (daemon, "start_service", _no_service),
                (session, "Link", self.link),
                (session, "random", SimpleNamespace(Random=lambda: chance)),
                (secrets, "randbelow", chance.randrange),
                (secrets, "token_hex", lambda size: chance.randbytes(size).hex()),
                (os, "urandom", chance.randbytes),
            ):
                filled.enter_context(mock.patch.object(owner, name, stand_in))
            yield

    def _make_board(
        self, name: str, protocol: str, port: str, options: Any, clock: Any, _traced: Any
    ) -> Any:
        def of_cable(spec: str, _baudrate: int, _clock: Any) -> CablePort:
            return CablePort(spec, self.cables[name])

        return _make_board(name, protocol, port, options, clock, of_cable)

    def _over(self, main: asyncio.Task[None]) -> None:
        if not main.cancelled():
            self.ended = main.exception()
        self._forget()

    def _forget(self) -> None:
        assert self.loop is not None
        self.timeline.end(self.loop)
        self.loop = self.daemon = self.stop = self._main = None
        for cable in self.cables.values():
            cable.attach(None)

    # ------------------------------------------------------------------ ends

    def crash(self, cut: int | None = None) -> None:
        """kill -9: nothing of it runs again, and the files are as they were. With `cut` the power
        goes: of what was not synced the disk keeps what this seed says."""
        loop, journal = self.loop, self.journal
        if self.disk is not None:
            self.disk.die()
        tasks = [] if loop is None else [task for task in loop.tasks if not task.done()]
        connected = self.daemon.uplink.session._link if self.daemon is not None else None
        if loop is not None:
            self._forget()
        if journal is not None and not journal._store._closed:
            _die(journal, files_stay=self.disk is None)
        self.journal = None
        if isinstance(connected, ModelLink):
            connected.die()
        for task in tasks:
            _bury(task)
        if self.disk is not None and cut is not None:
            self.disk.cut(cut)
        elif self.disk is not None:
            self.disk.revive()


def _like_a_thread(journal: Journal, loop: SimLoop | None) -> None:
    """Jobs of the journal run one after the other in callbacks of their own, as its thread would
    run them: others come between a job's begin and its caller, and a crash as well."""
    assert loop is not None
    store = journal._store

    async def submit(attempt: Callable[[], Any], told: Callable[[Any], None]) -> Any:
        if store._closed:
            raise JournalUnwritable("the journal is closed")
        done: asyncio.Future[Any] = loop.create_future()

        def work() -> None:
            try:
                value = attempt()
            except BaseException as error:  # noqa: BLE001  (it belongs to its caller)
                loop.call_soon(_fail, done, error)
            else:
                loop.call_soon(_succeed, done, value, told)

        loop.call_soon(work)
        return await done

    store._submit = submit  # type: ignore[method-assign,assignment]


def _succeed(done: asyncio.Future[Any], value: Any, told: Callable[[Any], None]) -> None:
    told(value)
    if not done.done():
        done.set_result(value)


def _fail(done: asyncio.Future[Any], error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)


def _die(journal: Journal, *, files_stay: bool) -> None:
    """Its lock is gone, its connection closed, its files untouched: SQLite would tidy up when
    it closes. A dead disk does not let it; without one the files are put back."""
    store = journal._store
    store._closed = True
    paths = (journal._files.database, journal._files.wal) if files_stay else ()
    kept = {path: path.read_bytes() if path.exists() else None for path in paths}
    store._connection.close()
    for path, content in kept.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content)
    journal._unlock()


def _bury(task: asyncio.Task[Any]) -> None:
    """Let go of a dead process's coroutine. Its `finally` blocks run into closed doors: its
    journal is closed, its lines are over, its loop is never stepped."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine = task.get_coro()
    with contextlib.suppress(Exception):
        coroutine.close()  # type: ignore[union-attr]


_make_board = daemon.make_board


def fresh_directory(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
