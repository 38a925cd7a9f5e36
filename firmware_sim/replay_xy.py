"""How an XY board of a capture is played to a live host: what corresponds.

Nothing is rewritten: the board's frames carry the board's own numbers, and the
host's PackNO occurs in none of them. The host may speak at another POLL than in
the capture; until it has said what the capture waits for, POLLs go on.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.boards.xy import frames as xy
from controller.boards.xy.frames import POLL_INTERVAL_MS, Command, Frame
from controller.boards.xy.words import word_of

IDLE = frozenset(
    (
        *(Command.POLL, Command.ACK, Command.ASK_STATUS, Command.ASK_ELEVATOR),
        *(Command.MACHINE_STATUS, Command.ELEVATOR_STATUS),
    )
)


class XySide:
    drops_repeats = False
    poll_s: float | None = POLL_INTERVAL_MS / 1000

    def __init__(self) -> None:
        self._decoder = xy.Decoder()

    def frames_of(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def frame_of(self, raw: bytes) -> Frame | None:
        return next(iter(xy.Decoder().feed(raw)), None)

    def learn(self, answers: Iterable[Frame]) -> None:
        """An unrecorded question gets its ACK, which needs no example."""

    def same(self, recorded: Frame, live: Frame) -> bool:
        return (recorded.command, recorded.text) == (live.command, live.text)

    def idle(self, frame: Frame) -> bool:
        return frame.command in IDLE

    def floating(self, frame: Frame) -> bool:  # noqa: ARG002  one exchange at a time
        return False

    def matched(self, recorded: Frame, live: Frame) -> None:
        """Nothing of the host's numbers comes back."""

    def rewritten(self, frame: Frame, raw: bytes) -> bytes:  # noqa: ARG002  VBP's need
        return raw

    def answer(self, live: Frame) -> bytes | None:
        asks = live.command in IDLE and live.command != Command.ACK
        return xy.encode_frame(xy.ACK) if asks else None

    def words(self, frame: Frame) -> str:
        word = word_of(frame, b"")
        return f"{word.name} {word.meaning}"

    def poll(self) -> bytes:
        return xy.encode_frame(xy.POLL)
