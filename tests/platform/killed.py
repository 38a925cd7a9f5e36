"""platform-sim that kills itself with SIGKILL at one instant: killed.py POINT --config FILE.

`sent`: the broker has acknowledged a command, and the outbox still holds it. `result`: a result is
durable, and not acknowledged to the broker. `told`: the merchant has answered, and the callback is
still due. At each of them the restart does a thing again that was done.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from platform_sim.main import main
from platform_sim.queues import Books


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def sent(_books: Books, _command_id: int) -> None:
    die()


async def told(_books: Books, _callback_id: int) -> None:
    die()


book = Books.book


async def result(books: Books, machine_no: str, leaf: str, payload: bytes) -> None:
    await book(books, machine_no, leaf, payload)
    if leaf == "result":
        die()


POINTS: dict[str, tuple[str, Any]] = {
    "sent": ("sent", sent),
    "result": ("book", result),
    "told": ("told", told),
}

if __name__ == "__main__":
    name, instead = POINTS[sys.argv[1]]
    setattr(Books, name, instead)
    sys.exit(main(sys.argv[2:]))
