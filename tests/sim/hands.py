"""What a technician does, where the local service would call it.

`board`, and `which` of its lanes or cabinets as a share of them; some acts are undone after
`lasts_s`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.sim.memories import crossed

if TYPE_CHECKING:
    from tests.sim.world import World

GOODS = 8
"""In a lane that is full."""


def test(world: World, which: float, board: str, lasts_s: float) -> None:
    del lasts_s
    channel = _channel(world, board, which)

    async def vend(operations: Any) -> None:
        async for _step in operations.test_lane(channel, 1, "technician"):
            pass

    world._act(vend)


def fill(world: World, which: float, board: str, lasts_s: float) -> None:
    del lasts_s
    cabinet = _cabinet(world, board, which)

    async def count_and_put_in(operations: Any) -> None:
        world.judge.fills[board] += 1
        mine = {c: n for c, n in world.plan[board].lanes.items() if c[0] == cabinet}
        counted = world.judge.losses.counted
        news = mine.keys() - counted
        # A crash may come between the commit and our hearing of it.
        counted |= news
        try:
            await operations.stock_fill(cabinet, "technician")
        except Exception:
            counted -= news
            raise
        for number in mine.values():
            world.boards[board].machine.refill(number, GOODS)
        world.judge.fills[board] -= 1

    world._act(count_and_put_in)


def enable(world: World, which: float, board: str, lasts_s: float) -> None:
    del lasts_s
    channel = _channel(world, board, which)
    world._act(lambda operations: operations.lane_enable(channel, "seen to", "technician"))


def disable(world: World, which: float, board: str, lasts_s: float) -> None:
    channel = _channel(world, board, which)
    world._act(lambda operations: operations.lane_disable(channel, "looks odd", "technician"))
    world.loop.call_later(lasts_s, enable, world, which, board, 0.0)


def stop_cabinet(world: World, which: float, board: str, lasts_s: float) -> None:
    name = _cabinet(world, board, which)
    world._act(lambda operations: operations.cabinet_stop(name, "hands in", "technician"))
    world.loop.call_later(lasts_s, start_cabinet, world, which, board, 0.0)


def start_cabinet(world: World, which: float, board: str, lasts_s: float) -> None:
    del lasts_s
    name = _cabinet(world, board, which)
    world._act(lambda operations: operations.cabinet_start(name, "technician"))


def service_mode(world: World, lasts_s: float) -> None:
    """On, and off again; a machine that is down just then hears of neither."""
    world._act(lambda operations: operations.service_on("technician"))
    world.loop.call_later(
        lasts_s, world._act, lambda operations: operations.service_off("technician")
    )


def accept_board(world: World, which: float, board: str, lasts_s: float) -> None:
    del which, lasts_s
    if crossed(world):
        return  # who looks at the boards sees that

    world._act(lambda operations: accept(world, operations, board))


async def accept(world: World, operations: Any, board: str) -> None:
    """`board accept`, and the judge knows that a person did it."""
    accepted = world.judge.losses.accepted
    was = accepted.get(board)
    # A crash may come between the commit and our hearing of it.
    accepted[board] = world.boards[board].memory.memory_id
    try:
        await operations.board_accept(board, "technician")
    except Exception:
        if was is None:
            del accepted[board]
        else:
            accepted[board] = was
        raise


def _channel(world: World, board: str, which: float) -> str:
    channels = list(world.plan[board].lanes)
    return channels[int(which * len(channels))]


def _cabinet(world: World, board: str, which: float) -> str:
    return world.plan[board].cabinets[int(which * len(world.plan[board].cabinets))]


ACTS = {
    "test": test,
    "fill": fill,
    "enable": enable,
    "disable": disable,
    "stop_cabinet": stop_cabinet,
    "start_cabinet": start_cabinet,
    "accept_board": accept_board,
    "service_mode": service_mode,
}
