"""A driver with an order under way, told anything that a line can bring."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from controller.dispensing.interfaces import Board
from tests.boards.support import MemoryPort, NotebookDesk, an_order, in_virtual_time, until

COMES_BACK_WITHIN_S = 200
"""Two quarantined re-openings with their longest pauses; virtual time."""


def survives(board: Board, port: MemoryPort, said: Sequence[bytes], pause_s: float = 0.05) -> None:
    """The driver does not end, what it tells its desk is bounded, and behind all that its link
    is up and takes the peer's next frames."""

    async def play() -> None:
        desk = NotebookDesk()
        task = asyncio.create_task(board.run(desk))
        await until(desk.up.is_set)
        order = an_order(7)
        stream = board.drive(order, await board.prepare(order))
        following = asyncio.ensure_future(anext(stream))
        for data in said:
            if port._line is not None and not port._line.over:
                port._line._deliver(data)
            await asyncio.sleep(pause_s)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await stream.aclose()
        assert not task.done(), task.exception()
        heard = board.status().counters["frames_in"]
        await until(lambda: board.status().up, COMES_BACK_WITHIN_S)
        await until(lambda: board.status().counters["frames_in"] > heard)
        assert len(desk.notices) < 200
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    in_virtual_time(play())
