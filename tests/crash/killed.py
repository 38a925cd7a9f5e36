"""The real vendingd, dying by SIGKILL at one chosen boundary.

    KILL_AT="commit:before:3" python -m tests.crash.killed --config FILE
    KILL_LOG=FILE             python -m tests.crash.killed --config FILE

Boundaries are counted from the arrival of the first order, or of the first acting request,
which is claimed in the journal by then and not yet carried out. With KILL_LOG nothing
dies, and each boundary that is passed is written to the file, a line each: that
is how the tests learn which ones an order has. Only the narrow functions at which
bytes or pages leave the process are wrapped; the daemon itself knows nothing of it.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections import Counter
from typing import Any

from controller import daemon
from controller.boards import port
from controller.boards.vbp import framing as vbp
from controller.boards.vbp.frames import Type
from controller.journal.store import Store
from controller.remote import RemoteHand
from controller.uplink.intake import Intake
from controller.uplink.link import Link

XY_DRIVE = 0x06

_passed: Counter[str] = Counter()
_state = {"armed": False, "driven": False}


def boundary(name: str) -> None:
    if not _state["armed"]:
        return
    _passed[name] += 1
    here = f"{name}:{_passed[name]}"
    if log := os.environ.get("KILL_LOG"):
        with open(log, "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(here + "\n")
    if os.environ.get("KILL_AT") == here:
        os.kill(os.getpid(), signal.SIGKILL)


def is_drive(data: bytes) -> bool:
    """Whether these bytes are a drive frame of one of the protocols."""
    if data[:2] == b"\xfa\xfb":
        return data[2] == XY_DRIVE
    return any(frame.type == Type.DISPENSE for frame in vbp.Decoder().feed(data))


def wrap(owner: Any, name: str, label: str) -> None:
    """Put a boundary before and after a plain method."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(self: Any, *args: Any, **more: Any) -> Any:
        boundary(f"{label}:before")
        value = inner(self, *args, **more)
        boundary(f"{label}:after")
        return value

    setattr(owner, name, outer)


def wrap_publish() -> None:
    inner = Link.publish

    @functools.wraps(inner)
    async def outer(self: Link, topic: str, *args: Any, **more: Any) -> Any:
        ours = topic.rsplit("/", 1)[-1] in ("result", "order")
        if ours:
            boundary("publish:before")
        value = await inner(self, topic, *args, **more)
        if ours:
            boundary("publish:after")
        return value

    Link.publish = outer  # type: ignore[method-assign]


def wrap_line() -> None:
    write, received = port._Channel.write, port._Channel.data_received

    def outer_write(self: Any, data: bytes) -> None:
        drive = is_drive(data)
        if drive:
            boundary("drive:before")
        write(self, data)
        if drive:
            _state["driven"] = True
            boundary("drive:after")

    def outer_received(self: Any, data: bytes) -> None:
        if _state["driven"]:
            _state["driven"] = False
            boundary("answer:before")
            received(self, data)
            boundary("answer:after")
            return
        received(self, data)

    port._Channel.write = outer_write  # type: ignore[method-assign]
    port._Channel.data_received = outer_received  # type: ignore[method-assign]


def wrap_intake() -> None:
    inner = Intake.dispense

    async def outer(self: Intake, *args: Any, **more: Any) -> Any:
        _state["armed"] = True
        return await inner(self, *args, **more)

    Intake.dispense = outer  # type: ignore[method-assign]


def wrap_remote() -> None:
    inner = RemoteHand.perform

    async def outer(self: RemoteHand, *args: Any, **more: Any) -> Any:
        _state["armed"] = True
        boundary("perform:before")
        return await inner(self, *args, **more)

    RemoteHand.perform = outer  # type: ignore[method-assign]


def main() -> None:
    wrap(Store, "_commit", "commit")
    wrap(Link, "acknowledge", "ack")
    wrap_publish()
    wrap_line()
    wrap_intake()
    wrap_remote()
    sys.exit(daemon.main())


if __name__ == "__main__":
    main()
