"""Ctrl-C during a test vend: the daemon is told to stop the motor, and its outcome awaited.

The first press asks, on a connection of its own, and the test is followed to its end; the
second one leaves at once. Nothing is asked of a test that vendctl did not begin.
"""

from __future__ import annotations

import contextlib
import contextvars
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from controller.cli import screen
from controller.cli.client import Daemon, path
from controller.cli.exits import Trouble
from controller.cli.words import later, say

ANSWER_S = 2.0
"""The outcome is here: the answer to the stop, which is older, can be only a moment behind."""

TOLD = {
    "untouched": later("Its motor was not touched. No further cycle begins."),
    "stopping": later(
        "The board is told to stop the motor. No further cycle begins; waiting for the "
        "outcome of this one (Ctrl-C again leaves at once)."
    ),
    "runs_on": later(
        "This board cannot stop a motor: the turn ends by itself. No further cycle begins; "
        "waiting for the outcome of this one (Ctrl-C again leaves at once)."
    ),
}


@dataclass(slots=True)
class Stop:
    """`wanted` once somebody pressed Ctrl-C."""

    daemon: Daemon
    wanted: bool = False
    running: str = ""
    """The test_id of the vend that is followed now."""
    told: str = ""
    asking: threading.Thread | None = None

    def pressed(self, _signal: int, _frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        self.tell()

    def saw(self, step: Mapping[str, Any]) -> None:
        """A further cycle has a test_id of its own: it is stopped like the one before."""
        self.running = str(step.get("test_id") or self.running)
        if self.wanted:
            self.tell()

    def tell(self) -> None:
        """In a thread: what was being printed or read goes on undisturbed."""
        if self.running and self.told != self.running:
            self.told = self.running
            within = contextvars.copy_context()  # the language
            self.asking = threading.Thread(
                target=within.run, args=(self._ask, self.told), daemon=True
            )
            self.asking.start()

    def _ask(self, test_id: str) -> None:
        try:
            answer = self.daemon.act(path("tests", test_id, "stop"))
        except Trouble as trouble:
            if trouble.code != "unknown_test":  # it is just over: its outcome says how
                screen.words(say("It could not be stopped: {why}", why=screen.clean(trouble)))
            return
        screen.words(say(TOLD.get(str(answer.get("motor")), TOLD["untouched"])))


@contextlib.contextmanager
def stoppable(daemon: Daemon) -> Iterator[Stop]:
    """Ctrl-C is `Stop.pressed` within the block; a process that ignores it goes on doing so."""
    stop = Stop(daemon)
    was = signal.getsignal(signal.SIGINT)
    if was is signal.SIG_IGN:
        yield stop
        return
    signal.signal(signal.SIGINT, stop.pressed)
    try:
        yield stop
        if stop.asking is not None:
            stop.asking.join(ANSWER_S)  # what the daemon answered is said before we leave
    finally:
        signal.signal(signal.SIGINT, was)
