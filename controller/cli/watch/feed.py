"""The daemon's streams, read by a thread each for as long as the program lives.

A stream that ends is asked for again: after a restart of the daemon its first line is a
snapshot, which replaces everything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from controller.cli.client import Daemon
from controller.cli.exits import Trouble
from controller.cli.words import LANGUAGE, say

RETRY_S = 1.0
"""Between two tries: a daemon that restarts is away for a second or two."""

FRAMES_RETRY_S = 30.0
"""Where no frames can be had: until an upgrade, or until another reader has left."""

FRAMES_BEFORE_S = 5
"""Of the ring: what passed just before one began to look."""

Take = Callable[[Mapping[str, Any]], None]
Lose = Callable[[str, str], None]
"""Is told the code and the sentence."""


def picture(daemon: Daemon, take: Take, lose: Lose, stop: threading.Event) -> None:
    """`/v1/watch`, until `stop`."""
    while not stop.is_set():
        lose(*_read(daemon, "/v1/watch", {}, take))
        stop.wait(RETRY_S)


def frames(daemon: Daemon, take: Take, lose: Lose, stop: threading.Event) -> None:
    """`/v1/trace`, until `stop`."""
    query = {"follow": 1, "seconds": FRAMES_BEFORE_S}
    while not stop.is_set():
        code, why = _read(daemon, "/v1/trace", query, take)
        lose(code, why)
        gone = code in ("ended", "unreachable", "connection_lost", "timeout")
        stop.wait(RETRY_S if gone else FRAMES_RETRY_S)


def _read(daemon: Daemon, where: str, query: Mapping[str, object], take: Take) -> tuple[str, str]:
    """Hand on every line; the code and sentence of why there are no more."""
    try:
        for line in daemon.lines(where, **query):
            take(line)
    except Trouble as trouble:
        return trouble.code, str(trouble)
    return "ended", say("The daemon stopped; it is asked again each second.")


def begin(work: Callable[..., None], *given: object) -> threading.Thread:
    """A thread that ends with the program, whatever it waits for; in the language of ours."""
    language = LANGUAGE.get()

    def run() -> None:
        LANGUAGE.set(language)
        work(*given)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
