"""The board's side of a capture, played to a live host (docs/capture.md).

The capture is cut into turns: a frame of the host, and what the board said until the
host's next one, each at its distance from the host's frame. A live host is never
the same twice: it asks how things are once more or once less, and chooses numbers
anew. So a turn is waited for by what its frame means (`Side.same`); turns in which
nothing happens may be passed over; a frame that the capture has not is answered
as the capture answered its like, and is a finding where it is more than a question.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from controller.boards.reading import CUTS, Reading
from controller.capture import Capture, CaptureError
from firmware_sim.replay_vbp import VbpSide
from firmware_sim.replay_xy import XySide

FINDINGS = 20
"""Findings that are told; a host that says something else altogether says much of it."""

LATELY = 16
"""Frames of the host that may come again: it sends one three times, and no other between."""


class Side(Protocol):
    """What differs between the protocols. A frame is the protocol's own `Frame`."""

    drops_repeats: bool
    """The board knows a frame by its number, and does nothing when it comes again."""
    poll_s: float | None
    """The board speaks first, so often; None: the host does."""

    def frames_of(self, data: bytes) -> list[Any]:
        """Of the live host's stream."""
        ...

    def frame_of(self, raw: bytes) -> Any | None:
        """One frame of the capture; None: bytes that are none."""
        ...

    def learn(self, answers: Iterable[Any]) -> None:
        """Every frame of the board in the capture, before it begins."""
        ...

    def same(self, recorded: Any, live: Any) -> bool: ...
    def idle(self, frame: Any) -> bool:
        """A question, or an answer that says nothing new."""
        ...

    def floating(self, frame: Any) -> bool:
        """The host says it when it is ready; its place among others means nothing."""
        ...

    def matched(self, recorded: Any, live: Any) -> None:
        """From here on the live host's numbers stand for the recorded ones."""
        ...

    def rewritten(self, frame: Any, raw: bytes) -> bytes:
        """A frame of the board with the live host's numbers."""
        ...

    def answer(self, live: Any) -> bytes | None:
        """To a frame that the capture has not."""
        ...

    def words(self, frame: Any) -> str: ...
    def poll(self) -> bytes: ...


SIDES: Mapping[str, Callable[[], Side]] = {"vbp": VbpSide, "xy": XySide}


@dataclass(slots=True)
class Spoken:
    """Of the board. `after` in seconds since the host's frame of its turn."""

    after: float
    raw: bytes
    frame: Any | None
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Turn:
    host: Any | None
    """None: the first, before the host spoke."""
    at: float
    spoken: list[Spoken] = field(default_factory=list)
    heard: bool = False


class Replay:
    """Has a board's end of a line: `connect`, `on_bytes`, `disconnect`."""

    def __init__(self, recorded: Capture) -> None:
        """Raises CaptureError for a capture that cannot be played."""
        protocol = recorded.header.get("protocol", "")
        if protocol not in SIDES or protocol not in CUTS:
            raise CaptureError(f"a capture to be played needs `protocol:` {' or '.join(SIDES)}")
        self._side = SIDES[protocol]()
        self.turns = _turns(recorded, protocol, self._side)
        self.over = asyncio.Event()
        """Everything that matters was said by both."""
        self._extra: list[str] = []
        self._lately: deque[Any] = deque(maxlen=LATELY)
        self._now = 0
        """Index of the turn that is played."""
        self._begun = False
        self._speaking = 0
        """How much that says something the board has begun and not said."""
        self._write: Callable[[bytes], None] = lambda _data: None
        self._polling: asyncio.TimerHandle | None = None
        self._spoke_at = 0.0

    # ------------------------------------------------------------------ the line

    def connect(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._poll_on()

    def disconnect(self) -> None:
        self._write = lambda _data: None

    def close(self) -> None:
        for timer in (self._polling, *(each.timer for turn in self.turns for each in turn.spoken)):
            if timer is not None:
                timer.cancel()

    def on_bytes(self, data: bytes) -> None:
        for live in self._side.frames_of(data):
            self._hear(live)

    # ------------------------------------------------------------------ what it came to

    def findings(self) -> list[str]:
        """What the host said beside the capture, and what it did not say; empty: it said the
        same."""
        missing = [
            f"never said: {self._side.words(turn.host)}"
            for turn in self.turns
            if turn.host is not None and not turn.heard and not self._side.idle(turn.host)
        ]
        return [*self._extra, *missing][:FINDINGS]

    # ------------------------------------------------------------------ turns

    def _hear(self, live: Any) -> None:
        if not self._begun:
            self._begun = True
            self._play(self.turns[0])
            if self._side.poll_s is not None and self._side.idle(live):
                return  # an answer to our own poll, before the capture begins
        again = self._side.drops_repeats and live in self._lately
        self._lately.append(live)
        at = self._find(live)
        if at is None:
            self._unrecorded(live, again=again)
        else:
            turn = self.turns[at]
            if at > self._now and not self._side.floating(live):
                self._leave(self.turns[self._now])
                self._now = at
            turn.heard = True
            self._side.matched(turn.host, live)
            self._play(turn)
        self._see_whether_over()

    def _find(self, live: Any) -> int | None:
        """The turn that this frame begins. What floats may come behind what the capture had
        after it, or before a question that it had before it."""
        floats = self._side.floating(live)
        for at in range(1 if floats else self._now + 1, len(self.turns)):
            turn = self.turns[at]
            if turn.heard or (at <= self._now and not self._side.floating(turn.host)):
                continue
            if self._side.same(turn.host, live):
                return at
            passable = self._side.floating(turn.host) or (
                self._side.idle(turn.host) if floats else self._nothing_in(turn)
            )
            if not passable:
                return None
        return None

    def _nothing_in(self, turn: Turn) -> bool:
        return self._side.idle(turn.host) and all(map(self._is_idle, turn.spoken))

    def _is_idle(self, spoken: Spoken) -> bool:
        return spoken.frame is not None and self._side.idle(spoken.frame)

    def _unrecorded(self, live: Any, *, again: bool) -> None:
        """`again`: a host that missed an answer sends the same frame with the same number."""
        answer = self._side.answer(live)
        if answer is not None:
            self._say(answer)
        if not again and not self._side.idle(live) and len(self._extra) < FINDINGS:
            self._extra.append(f"not in the capture: {self._side.words(live)}")

    def _play(self, turn: Turn) -> None:
        loop = asyncio.get_running_loop()
        for each in turn.spoken:
            each.timer = loop.call_later(each.after, self._speak, each)
            self._speaking += not self._is_idle(each)

    def _leave(self, turn: Turn) -> None:
        """Of what the board had still to say, the next turn needs only what says something."""
        for each in turn.spoken:
            if each.timer is not None and self._is_idle(each):
                each.timer.cancel()
                each.timer = None

    def _speak(self, spoken: Spoken) -> None:
        spoken.timer = None
        self._speaking -= not self._is_idle(spoken)
        frame = spoken.frame
        self._say(spoken.raw if frame is None else self._side.rewritten(frame, spoken.raw))
        self._see_whether_over()

    def _see_whether_over(self) -> None:
        if self._begun and not self._speaking and not any(map(self._awaited, self._unheard())):
            self.over.set()

    def _unheard(self) -> Iterator[tuple[int, Turn]]:
        for at in range(len(self.turns) - 1, 0, -1):
            if not self.turns[at].heard:
                yield at, self.turns[at]

    def _awaited(self, entry: tuple[int, Turn]) -> bool:
        at, turn = entry
        if self._side.floating(turn.host):
            return True
        return at > self._now and not self._nothing_in(turn)

    # ------------------------------------------------------------------ speaking

    def _say(self, data: bytes) -> None:
        self._spoke_at = asyncio.get_running_loop().time()
        self._write(data)

    def _poll_on(self) -> None:
        """A board that speaks first goes on asking while the capture waits for the host."""
        if self._side.poll_s is None:
            return
        loop = asyncio.get_running_loop()
        if self._polling is not None:
            self._polling.cancel()
        waits = any(each.timer is not None for each in self.turns[self._now].spoken)
        quiet = loop.time() - self._spoke_at
        if not waits and quiet >= self._side.poll_s:
            self._say(self._side.poll())
            quiet = 0.0
        rest = self._side.poll_s - quiet if quiet < self._side.poll_s else self._side.poll_s
        self._polling = loop.call_later(rest, self._poll_on)


def _turns(recorded: Capture, protocol: str, side: Side) -> list[Turn]:
    reading = Reading(protocol)
    turns = [Turn(None, recorded.pieces[0].mono if recorded.pieces else 0.0)]
    for piece in recorded.pieces:
        for said in reading.feed(piece):
            frame = side.frame_of(said.word.raw)
            if said.direction == "in":
                spoken = Spoken(said.mono - turns[-1].at, said.word.raw, frame)
                turns[-1].spoken.append(spoken)
            elif (
                frame is not None
            ):  # half a frame of the host says nothing that could be waited for
                turns.append(Turn(frame, said.mono))
    side.learn(each.frame for turn in turns for each in turn.spoken if each.frame is not None)
    return turns
