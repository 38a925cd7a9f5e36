"""What passes the boards' lines: kept in rings, and told to who asks, decoded.

The drivers' ports hand each piece of traffic over (`of`), which costs them some
microseconds: a line into the ring, an entry into the queue of each follower. All
decoding is done where somebody reads.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from controller import __version__, capture
from controller.boards.port import Trace
from controller.boards.reading import Reading, Said
from controller.boards.ring import FILE_BYTES, Ring, lines_of
from controller.capture import Piece
from controller.dispensing.interfaces import Clock
from controller.errors import Refused

FOLLOWER_BYTES = 256 * 1024
"""What waits for one reader at most, raw: 20 s of a line that is full of noise."""

SLICE = 200
"""Lines of history that are read at once, in a thread: some 1 ms, for as long as which the
interpreter may be kept from the loop at each of its system calls."""


@dataclass(frozen=True, slots=True)
class TracedBoard:
    name: str
    protocol: str
    baudrate: int


@dataclass(slots=True)
class _Follower:
    queue: deque[tuple[str, Piece]] = field(default_factory=deque)
    waiting: int = 0
    """Bytes in the queue."""
    too_slow: bool = False
    stirred: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, board: str, piece: Piece) -> None:
        if self.too_slow:
            return
        self.waiting += len(piece.data)
        if self.waiting > FOLLOWER_BYTES:
            self.too_slow = True
            self.queue.clear()
        else:
            self.queue.append((board, piece))
        self.stirred.set()


class Tracing:
    """The rings of all boards, below `folder`."""

    def __init__(
        self, folder: Path, boards: list[TracedBoard], clock: Clock, size: int = FILE_BYTES
    ) -> None:
        self._clock = clock
        self._boards = {board.name: board for board in boards}
        self._rings = {
            board.name: Ring(folder, board.name, partial(self._head, board), size)
            for board in boards
        }
        self._followers: list[_Follower] = []

    def of(self, board: str) -> Trace:
        """What the port of this board calls for each piece of traffic."""
        ring = self._rings[board]

        def passed(direction: str, data: bytes, mono: float) -> None:
            piece = Piece(self._clock.wall(), mono, direction, data)
            ring.write(piece)
            for follower in self._followers:
                follower.take(board, piece)

        return passed

    def close(self) -> None:
        for ring in self._rings.values():
            ring.close()

    async def told(
        self, seconds: int, board: str | None, *, follow: bool, quiet: bool
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """`shapes.TraceLine`s: of the last `seconds`, then (follow) as they come.

        A reader that is too slow is left with a last note. Refused: `unknown_board`."""
        if board is not None and board not in self._boards:
            names = ", ".join(self._boards)
            raise Refused(
                "unknown_board",
                "there is no board {board}; there is {names}",
                board=board,
                names=names,
            )
        asked = [board] if board is not None else list(self._boards)
        readings = {name: Reading(self._boards[name].protocol) for name in asked}
        follower = _Follower()
        if follow:
            self._followers.append(follower)
        # Not one await between the follower's first piece and the last one of the history.
        since = self._clock.wall() - seconds
        history = self._history(asked) if seconds else iter(())
        try:
            for name in asked:
                yield self._about(name)
            passed = _passed(history, since, follower if follow else None)
            async with aclosing(passed):
                async for name, piece in passed:
                    if name in readings:
                        for said in readings[name].feed(piece):
                            if not (quiet and said.word.idle):
                                yield _line(name, said)
            if follower.too_slow:
                yield {"at": self._clock.wall(), "board": "", "note": "too_slow"}
        finally:
            if follow:
                self._followers.remove(follower)

    def _history(self, boards: list[str]) -> Iterator[tuple[str, Piece]]:
        kept: list[Iterator[tuple[str, Piece]]] = []
        for name in boards:
            try:
                files = self._rings[name].files()
            except OSError:
                continue  # the ring's own problem is told
            kept.append(_named(name, files))
        return heapq.merge(*kept, key=lambda entry: entry[1].wall)

    def _about(self, name: str) -> Mapping[str, Any]:
        board = self._boards[name]
        return {
            "at": self._clock.wall(),
            "board": name,
            "note": "board",
            "protocol": board.protocol,
            "baudrate": board.baudrate,
            "program": f"vending-controller {__version__}",
            "problem": self._rings[name].problem,
        }

    def _head(self, board: TracedBoard) -> str:
        return capture.head(
            board=board.name,
            protocol=board.protocol,
            baudrate=board.baudrate,
            program=f"vending-controller {__version__}",
            started=f"{self._clock.wall():.6f}",
        )


def _named(name: str, files: list[tuple[BinaryIO, int]]) -> Iterator[tuple[str, Piece]]:
    for piece in capture.pieces_of(lines_of(files)):
        yield name, piece


async def _passed(
    history: Iterator[tuple[str, Piece]], since: float, follower: _Follower | None
) -> AsyncGenerator[tuple[str, Piece], None]:
    """What is kept, then what comes. Between two pieces everybody else has a turn: a piece
    takes up to 10 ms to decode, and a board waits 100 ms for an answer."""
    while found := await asyncio.to_thread(lambda: list(islice(history, SLICE))):
        for entry in found:
            if entry[1].wall >= since:
                yield entry
                await asyncio.sleep(0)
    while follower is not None and not follower.too_slow:
        await follower.stirred.wait()
        follower.stirred.clear()
        while follower.queue:
            name, piece = follower.queue.popleft()
            follower.waiting -= len(piece.data)
            yield name, piece
            await asyncio.sleep(0)


def _line(board: str, said: Said) -> Mapping[str, Any]:
    return {
        "at": round(said.wall, 6),
        "mono": round(said.mono, 6),
        "board": board,
        "direction": said.direction,
        "frame": said.word.raw.hex(" ").upper(),
        "name": said.word.name,
        "meaning": said.word.meaning,
        "ok": said.word.ok,
        "idle": said.word.idle,
    }
