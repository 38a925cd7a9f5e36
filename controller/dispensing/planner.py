"""Order -> units -> lanes. Pure: it sees the lanes as they are, and chooses.

An order is accepted as a whole: every unit has a lane with stock, or none
moves. A named channel is that lane and no other. Without one, the product's
lane with the most stock left comes first: it is the one that would be emptied
last, so lanes of one product empty together and wear alike; between equals the
one that rested longest (docs/decisions/lane-choice.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller.dispensing.interfaces import LaneState, Placement, Rejection, UnitJob
from controller.model import Code, LaneHealth, Order, OrderLine


@dataclass(frozen=True, slots=True)
class Shop:
    """What the planner must know beside lanes: which cabinets sell now."""

    closed: Mapping[str, str] = field(default_factory=dict)
    """Cabinet -> why it takes nothing now."""
    enforce_stock: bool = True
    """False: an order may take a lane that our own count says is empty."""


def plan_order(
    order: Order, lanes: Sequence[LaneState], shop: Shop
) -> tuple[Placement, ...] | Rejection:
    """A lane for every unit, in the order of products and quantity, or why not."""
    by_channel = {state.lane.channel: state for state in lanes}
    taken: dict[str, int] = {}
    chosen: dict[int, list[str]] = {}
    # Named channels first: what a later line names, an earlier one must not take.
    by_name_first = sorted(enumerate(order.lines), key=lambda item: item[1].channel is None)
    for index, line in by_name_first:
        candidates = _candidates(line, by_channel)
        if isinstance(candidates, Rejection):
            return candidates
        open_lanes = [state for state in candidates if _sells(state, shop)]
        if not open_lanes:
            return _nothing_sells(line, candidates, shop)
        chosen[index] = []
        for _ in range(line.quantity):
            best = _best(open_lanes, taken, shop)
            if best is None:
                free = sum(max(0, s.free - taken.get(s.lane.channel, 0)) for s in open_lanes)
                left = free + len(chosen[index])
                return Rejection(
                    Code.OUT_OF_STOCK,
                    f"product {line.product_id}: {line.quantity} ordered, {left} can be given",
                )
            taken[best] = taken.get(best, 0) + 1
            chosen[index].append(best)
    placements: list[Placement] = []
    for index, line in enumerate(order.lines):
        for channel in chosen[index]:
            number = len(placements) + 1
            named = line.channel is not None
            placements.append(Placement(number, line.product_id, channel, named, line.record_id))
    return tuple(placements)


def alternative(job: UnitJob, lanes: Sequence[LaneState], shop: Shop) -> str | None:
    """Another lane for a unit that has not started and whose own is out of service."""
    if job.named:
        return None
    others = [
        state
        for state in lanes
        if state.lane.product_id == job.product_id
        and state.lane.channel != job.channel
        and _sells(state, shop)
    ]
    return _best(others, {}, shop)


def _candidates(
    line: OrderLine, by_channel: Mapping[str, LaneState]
) -> Sequence[LaneState] | Rejection:
    if line.channel is None:
        found = [s for s in by_channel.values() if s.lane.product_id == line.product_id]
        if found:
            return found
        message = f"product {line.product_id} is in no lane of this machine"
        return Rejection(Code.UNKNOWN_PRODUCT, message)
    state = by_channel.get(line.channel)
    if state is None:
        return Rejection(Code.UNKNOWN_CHANNEL, f"there is no lane {line.channel}")
    if state.lane.product_id != line.product_id:
        holds = f"lane {line.channel} holds product {state.lane.product_id}, not {line.product_id}"
        return Rejection(Code.UNKNOWN_PRODUCT, holds)
    return [state]


def _sells(state: LaneState, shop: Shop) -> bool:
    return state.health is LaneHealth.OK and state.lane.cabinet not in shop.closed


def _nothing_sells(line: OrderLine, candidates: Sequence[LaneState], shop: Shop) -> Rejection:
    def why(state: LaneState) -> str:
        closed = shop.closed.get(state.lane.cabinet)
        return f"{state.lane.channel}: {closed or state.health_reason or state.health}"

    reasons = "; ".join(why(state) for state in candidates[:5])
    return Rejection(Code.OUT_OF_SERVICE, f"product {line.product_id}: {reasons}")


def _best(lanes: Sequence[LaneState], taken: Mapping[str, int], shop: Shop) -> str | None:
    def left(state: LaneState) -> int:
        return state.free - taken.get(state.lane.channel, 0)

    usable = [state for state in lanes if left(state) > 0 or not shop.enforce_stock]
    if not usable:
        return None
    best = min(
        usable,
        key=lambda s: (-left(s), s.last_cycle_at or 0.0, s.lane.cabinet, s.lane.number),
    )
    return best.lane.channel
