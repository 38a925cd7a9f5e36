"""A technician at the books: verdicts on unknown units, undone tests, orders cancelled by hand.

What they do, and when, out of a stream of its own; and how a person does it: whose connection
broke, or whose daemon died, asks again until there is an answer.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from controller.errors import Refused

if TYPE_CHECKING:
    from tests.sim.invariants import Key
    from tests.sim.world import World

Made = tuple[str, dict[str, Any]]
Timed = tuple[float, Made]
"""Seconds after the visit began, and what happens then."""

ASKS_AGAIN_S = 4.0
"""As a person types."""
PATIENCE_S = 120.0
"""For what can be waited out: a board that is asked, a lane that runs, something to judge."""
STAYS = frozenset({"nothing_unknown", "being_settled", "cycle_open"})
"""Refusals that are waited out."""

UNKNOWN = (
    "SELECT order_id, delivery_id, number, units.revision FROM units"
    " JOIN orders ON orders.id = order_row WHERE outcome = 'unknown' ORDER BY order_row, number"
)
DECIDED = UNKNOWN.replace("= 'unknown'", "IS NOT NULL")


# ------------------------------------------------------------------ how a person asks


def insist(world: World, call: Callable[[Any], Awaitable[Any]]) -> None:
    """Until it is done or refused: a daemon that died, or could not write, has not answered."""
    until = world.now + PATIENCE_S
    asked_in = 0
    """The life of the daemon that has the question now; 0: none."""
    answered = False
    world.judge.unanswered += 1

    async def ask(operations: Any) -> None:
        nonlocal asked_in, answered
        try:
            await call(operations)
            answered = True
        except Refused as refused:
            answered = refused.code not in STAYS or world.now >= until
            raise
        finally:
            asked_in = 0

    def look() -> None:
        nonlocal asked_in
        if answered:
            world.judge.unanswered -= 1
            return
        machine = world.machine
        if machine.daemon is not None and machine.lives != asked_in:
            asked_in = machine.lives
            world._act(ask)
        world.loop.call_later(ASKS_AGAIN_S, look)

    look()


# ------------------------------------------------------------------ the acts


def resolve(world: World, which: float, look: str, says: str, who: str) -> None:
    """A verdict on one of the units that are unknown; `look`: `any` takes a decided one, `stale`
    names a revision of before. `says`: the truth, or a lie. The same again until answered."""
    seen: list[tuple[Key, int, int]] = []

    async def judge(operations: Any) -> None:
        if not seen:
            ask = world.machine.journal._store._connection.execute  # type: ignore[union-attr]
            found = ask(DECIDED if look == "any" else UNKNOWN).fetchall()
            if not found:
                raise Refused("nothing_unknown", "no unit to judge")
            order, delivery, unit, revision = found[int(which * len(found))]
            seen.append(((order, delivery), unit, revision - (look == "stale")))
        key, unit, revision = seen[0]
        cycles = world.judge.cycles.values()
        fell = any(c.fell for c in cycles if (c.order, c.unit) == (key, unit))
        outcome = "delivered" if fell == (says == "truth") else "not_delivered"
        try:
            await operations.resolve(*key, unit, outcome, revision, "looked", who)
        except Refused as refused:
            if refused.code == "being_settled":
                seen.clear()  # who waits for the board looks again
            raise

    insist(world, judge)


def undo_tests(world: World, which: float, board: str, whole: bool, who: str) -> None:  # noqa: FBT001
    """Of one lane, or of the `whole` machine."""
    channels = list(world.plan[board].lanes)
    channel = None if whole else channels[int(which * len(channels))]
    insist(world, lambda operations: operations.stock_undo_test(channel, who))


def accept_clock(world: World) -> None:
    """Where a journal of a far future waits for it, and takes no order before."""

    async def accept(operations: Any) -> None:
        journal = world.machine.journal
        if journal is not None and journal.birth is None and not journal.believed:
            world.judge.time.newest = world.clock.now()
            await operations.clock_accept("technician")

    insist(world, accept)


def cancel_here(world: World, back: int) -> None:
    """The order that was sent last, or `back` orders before; -1 was never sent."""
    number = len(world.commands) - back
    insist(world, lambda ops: ops.order_cancel(number, "", "wrong product", "technician"))


def test_by(world: World, which: float, board: str, who: str) -> None:
    channels = list(world.plan[board].lanes)
    channel = channels[int(which * len(channels))]

    async def vend(operations: Any) -> None:
        async for _step in operations.test_lane(channel, 1, who):
            pass

    world._act(vend)


ACTS = {
    "resolve": resolve,
    "undo_tests": undo_tests,
    "cancel_here": cancel_here,
    "test_by": test_by,
}


# ------------------------------------------------------------------ when they come

VISITED = 0.5
"""Share of scenarios with such a technician; the others are as they were."""
STEPS = (0, 0, 1, 2, 3, 5, 8, 13)
"""Callbacks of the daemon between an act, or its commit, and the trouble."""
MAKES_UNKNOWN: Mapping[str, tuple[tuple[Made, ...], ...]] = {
    "vbp": (
        # the board forgets its records, and so does the daemon
        (
            ("fault", {"name": "forget_memory", "lane": 1}),
            ("kill", {"away_s": 5.0, "on": "drive", "steps": 2}),
        ),
        (("fault", {"name": "forget_memory"}), ("fault", {"name": "reset_mid_cycle"})),
        # no answer for longer than the cycle's timeout: what it tells then revises
        (("fault", {"name": "go_silent", "lasts_s": 60.0}),),
    ),
    "xy": (
        (("fault", {"name": "ack_no_status"}),),
        (("kill", {"away_s": 1.0, "on": "drive", "steps": 0}),),
        (("fault", {"name": "go_silent", "lasts_s": 10.0}),),
        (("power_all", {"away_s": 1.0, "on": "drive", "steps": 3}),),
    ),
}
"""Protocol -> what leaves the unit of the next order unknown."""


def visits(
    chance: random.Random,
    boards: Mapping[str, str],
    products: Mapping[str, Sequence[int]],
    length: float,
    most: int,
) -> list[Timed]:
    """Of one scenario of so many seconds: board -> protocol, board -> its products."""
    if chance.random() > VISITED:
        return []
    made: list[Timed] = []
    for _ in range(chance.randint(1, most)):
        board = chance.choice(list(boards))
        at = chance.uniform(0, length)
        order = {
            "lines": [
                {"product_id": chance.choice(products[board]), "quantity": chance.choice((1, 2, 3))}
            ],
            "ttl": 90,
            "age": 0,
        }
        visit = chance.choice((_judges, _judges, _undoes, _undoes, _cancels, _shuts))
        made += [(at + after, each) for after, each in visit(chance, board, boards[board], order)]
    return made


def _judges(chance: random.Random, board: str, protocol: str, order: dict[str, Any]) -> list[Timed]:
    trouble = chance.choice(MAKES_UNKNOWN[protocol])
    made: list[Timed] = [
        (0.0, (kind, {**more, "board": board} if kind == "fault" else dict(more)))
        for kind, more in trouble
    ]
    made.append((0.0, ("order", order)))
    after = chance.choice((2.0, 25.0, 50.0))
    for _ in range(chance.choice((1, 1, 2))):
        verdict = {
            "which": chance.random(),
            "look": chance.choice(("unknown",) * 6 + ("any", "stale")),
            "says": chance.choice(("truth",) * 6 + ("lie",)),
            "who": chance.choice(("technician", "colleague")),
        }
        made += _with_trouble(chance, after, "resolve", ("resolve", verdict))
        after += chance.choice((0.0, 0.2, 20.0))
    return made


def _undoes(
    chance: random.Random, board: str, _protocol: str, _order: dict[str, Any]
) -> list[Timed]:
    which = chance.random()
    who = chance.choice(("technician", "colleague"))
    tests = chance.choice((1, 2, 2))
    made: list[Timed] = [
        (6.0 * each, ("test_by", {"which": which, "board": board, "who": who}))
        for each in range(tests)
    ]
    after = 6.0 * tests
    if chance.random() < 0.2:
        made.append((after - 1.0, ("fill", {"which": which, "board": board, "lasts_s": 0.0})))
    for _ in range(chance.choice((1, 2, 2, 3))):
        undo = {
            "which": which,
            "board": board,
            "whole": chance.random() < 0.3,
            "who": chance.choice((who, who, who, "colleague")),
        }
        made += _with_trouble(chance, after, "undo_tests", ("undo_tests", undo))
        after += chance.choice((0.0, 0.1, 5.0))
    return made


def _cancels(
    chance: random.Random, board: str, _protocol: str, order: dict[str, Any]
) -> list[Timed]:
    cancel: Made = ("cancel_here", {"back": chance.choice((0, 0, 0, 0, 1, -1))})
    boundary = chance.choice(("accept", "open_cycle", "close_cycle", ""))
    made: list[Timed] = [(0.0, ("order", order))]
    if boundary:
        steps = chance.choice((*STEPS, 50, 200))
        laid = {"boundary": boundary, "steps": steps, "made": cancel}
        made.insert(0, (0.0, ("ambush", laid)))
        return [*_with_trouble(chance, 0.0, "cancel", None), *made]
    return [*made, *_with_trouble(chance, chance.choice((0.05, 1.0, 3.0)), "cancel", cancel)]


def _shuts(chance: random.Random, board: str, _protocol: str, order: dict[str, Any]) -> list[Timed]:
    lane = {"which": chance.random(), "board": board, "lasts_s": chance.choice((0.1, 2.0, 15.0))}
    shut = _with_trouble(chance, chance.choice((0.0, 0.5, 3.0)), "disable_lane", ("disable", lane))
    return [(0.0, ("order", order)), *shut]


def _with_trouble(chance: random.Random, at: float, boundary: str, act: Made | None) -> list[Timed]:
    """The act, and a crash about it: behind its commit, in a write of it, at any callback."""
    kind = chance.choice(("kill", "power"))
    steps = chance.choice(STEPS)
    crash: Made = (kind, {"away_s": 0.5, "on": "now", "steps": 0})
    place = chance.choice(("", "behind", "in_write", "now"))
    made: list[Made] = [act] if act is not None else []
    if place == "behind":
        laid = {"boundary": boundary, "steps": steps, "made": crash}
        made.insert(0, ("ambush", laid))
    elif place and act is not None:
        on = (
            "now"
            if place == "now"
            else chance.choice(("before_write", "half_write", "after_write"))
        )
        made.append((kind, {"away_s": 0.5, "on": on, "steps": steps}))
    return [(at, each) for each in made]
