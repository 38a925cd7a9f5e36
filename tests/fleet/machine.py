"""One machine of the fleet: the daemon's own composition, its board a few calls away.

`controller.daemon.Daemon` is the real one with everything in it: settings, journal in a file of
its own with a thread of its own, intake, planner, outbox, VBP driver, a session with a real
broker over a real socket. Two seams are filled in: the board's port (the emulator's board in
this process) and the local service, whose socket nobody would ask here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from controller import config, daemon
from controller.clock import Belief, LoopClock
from controller.journal.journal import Journal, open_journal
from controller.uplink.messages import Payloads
from firmware_sim.board import EmulatedBoard, build_board
from firmware_sim.scenario import BoardSettings, LaneSettings
from tests.boards.support import MemoryPort
from tests.system.emulator import toml_table

PRODUCTS = {121: ("A1", 1), 122: ("A2", 2), 123: ("A3", 3), 124: ("A4", 4)}
"""Product -> its only channel, and the board's number of that lane."""
GOODS = 250
"""In each lane; as many as an emulated lane holds."""
RUN_MS, FALL_MS = 2500.0, 350.0
"""An item's motor time and its fall, of machine time: what the emulator's lanes have by default."""
RESERVE_BYTES = 256 * 1024
"""Instead of 4 MiB: 500 machines would write 2 GB at their start, on one disk instead of 500."""
BOOT = "fleet"

FIRST_NO = 10_000_001


def machine_no(index: int) -> str:
    return str(FIRST_NO + index)


def settings(number: str, directory: Path, port: int) -> config.Settings:
    """As an operator would write them, with the defaults of the field."""
    tables = [
        toml_table("[machine]", {"machine_no": number, "state_dir": str(directory / "state")}),
        toml_table("[clock]", {"require_sync": False}),
        toml_table("[mqtt]", {"host": "127.0.0.1", "port": port}),
        toml_table("[service]", {"socket": str(directory / "none.sock")}),
        toml_table("[[board]]", {"name": "main", "protocol": "vbp", "port": f"/dev/{number}"}),
        toml_table(
            "[[cabinet]]", {"name": "A", "kind": "track", "board": "main", "drop_sensor": True}
        ),
        *(
            toml_table(
                "[[cabinet.lane]]",
                {
                    "channel": channel,
                    "number": lane,
                    "product_id": product,
                    "capacity": GOODS,
                    "initial_stock": GOODS,
                },
            )
            for product, (channel, lane) in PRODUCTS.items()
        ),
    ]
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "config.toml"
    file.write_text("\n".join(tables), encoding="utf-8")
    return config.load(file)[0]


class Machine:
    """`start`, then `stop` or `kill`, as often as one likes; the board stays under power."""

    boards: dict[str, EmulatedBoard] = {}  # noqa: RUF012  (of this process, by port)

    def __init__(self, number: str, directory: Path, broker: int, seed: int, speed: float) -> None:
        self.number = number
        self.settings = settings(number, directory, broker)
        lanes = tuple(
            LaneSettings(number=lane, goods=GOODS, run_ms=RUN_MS, fall_ms=FALL_MS)
            for _, lane in PRODUCTS.values()
        )
        self.board = build_board(
            BoardSettings(protocol="vbp", name=number, seed=int(number), lane=lanes),
            speed=speed,
            seed=seed,
        )
        self.boards[self.settings.boards[0].port] = self.board
        self.lives = 0
        self.daemon: daemon.Daemon | None = None
        self._journal: Journal | None = None
        self._stop = asyncio.Event()
        self._main: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Returns when it takes commands: the broker has its subscriptions, and its own state was
        read."""
        assert self._main is None, f"{self.number} runs already"
        self.lives += 1
        self._main = asyncio.create_task(self._serve(), name=self.number)
        while self.daemon is None:
            await self._alive(asyncio.sleep(0))
        await self._alive(self.daemon.uplink.session.ready())

    async def _alive(self, waiting: Any) -> None:
        """Wait for something or for the daemon's end, which is an error here."""
        assert self._main is not None
        wait = asyncio.ensure_future(waiting)
        await asyncio.wait((wait, self._main), return_when=asyncio.FIRST_COMPLETED)
        if not wait.done():
            wait.cancel()
            self._main.result()
            raise AssertionError(f"{self.number} ended by itself")

    async def _serve(self) -> None:
        """As `daemon.serve`, without its signals."""
        machine, clock_table = self.settings.machine, self.settings.clock
        belief = Belief(
            machine.state_dir,
            BOOT,
            require_sync=clock_table.require_sync,
            skew_s=clock_table.skew_s,
        )
        clock = LoopClock(belief.now)
        journal, opening = open_journal(
            machine.state_dir,
            clock=clock,
            announcer=Payloads(machine.machine_no),
            boot=BOOT,
            skew_s=clock_table.skew_s,
            retention_days=machine.result_retention_days,
            reserve_bytes=RESERVE_BYTES,
        )
        belief.newest = lambda: journal.newest_time
        self._journal, self._stop = journal, asyncio.Event()
        file = machine.state_dir.parent / "config.toml"
        self.daemon = daemon.Daemon(self.settings, journal, opening, clock, BOOT, file)
        try:
            await self.daemon.run(self._stop)
        except BaseException:
            journal.abandon()
            raise
        await journal.close()

    async def stop(self) -> None:
        """As after SIGTERM: the running cycle ends, and it says goodbye."""
        assert self._main is not None
        self._stop.set()
        await self._main
        self._forget()

    async def kill(self) -> None:
        """Nothing of it runs any more, in the middle of whatever it did; no word to the broker,
        none in the journal."""
        assert self._main is not None
        self._main.cancel()
        await asyncio.gather(self._main, return_exceptions=True)
        self._forget()

    def _forget(self) -> None:
        self._main = self.daemon = self._journal = None

    def cut(self) -> None:
        """Its line to the broker is cut, without a word to either end."""
        link = self.daemon.uplink.session._link if self.daemon is not None else None
        if link is not None:
            link.abort()

    # ------------------------------------------------------------------ looking

    async def look(self) -> dict[str, Any]:
        """Where it stands. `open`: orders without an end, and messages that have not left."""
        if self.daemon is None or self._journal is None or (self._main and self._main.done()):
            return {"running": False}
        session = self.daemon.uplink.session
        totals = await self._journal.totals()
        waiting = await self._journal.waiting()
        return {
            "running": True,
            "connected": session.connected,
            "connections": session.number,
            "since": session.since,
            "open": totals["open_orders"] + sum(waiting.values()),
            "journal": self._journal.birth,
            "last_seq": self._journal.last_seq,
        }

    async def stocks(self) -> dict[str, int]:
        """Product -> what lies in its lane, as the journal counts it."""
        assert self._journal is not None
        return {str(lane["product_id"]): lane["stock"] for lane in await self._journal.lanes()}

    def ledger(self) -> dict[str, Any]:
        """What its board really did: per product how many drives and falls, and the cycles that
        were driven more than once."""
        drives: Counter[int] = Counter()
        falls: Counter[int] = Counter()
        cycles: Counter[int] = Counter()
        for line in self.board.ledger.lines:
            if line["event"] == "drive_frame":
                drives[line["lane"]] += 1
                cycles[line["cycle_id"]] += 1
            elif line["event"] == "product_fell":
                falls[line["lane"]] += 1
        return {
            "drives": {str(product): drives[lane] for product, (_, lane) in PRODUCTS.items()},
            "falls": {str(product): falls[lane] for product, (_, lane) in PRODUCTS.items()},
            "driven_twice": [cycle for cycle, times in cycles.items() if times > 1],
        }


class _NoSocket:
    async def close(self) -> None:
        return


async def _no_service(*_: Any, **__: Any) -> _NoSocket:
    return _NoSocket()


_make_board = daemon.make_board


def _board_in_memory(
    name: str, protocol: str, port: str, options: Any, clock: Any, _traced: Any
) -> Any:
    def in_memory(spec: str, _baudrate: int, _clock: Any) -> MemoryPort:
        made = MemoryPort(Machine.boards[spec])
        made.to_board = deque(maxlen=0)  # type: ignore[assignment]  # nobody asks for each write
        return made

    return _make_board(name, protocol, port, options, clock, in_memory)


@contextlib.contextmanager
def seams() -> Iterator[None]:
    """For all machines of this process."""
    with (
        mock.patch.object(daemon, "make_board", _board_in_memory),
        mock.patch.object(daemon, "start_service", _no_service),
    ):
        yield
