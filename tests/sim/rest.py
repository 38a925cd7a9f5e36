"""What must hold when the machine has come to rest, and whether it has.

Where a journal was lost or went back, what it knew of earlier orders is nobody's any more: the
promises about those are held as far as they go on without it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from tests.sim.books import YEAR_S
from tests.sim.invariants import Breach, Judge, object_of
from tests.system import judge as final


def at_rest(judge: Judge) -> bool:
    """Nothing is open, nothing waits, and nobody is being settled."""
    machine = judge.world.machine
    daemon, journal = machine.daemon, machine.journal
    if daemon is None or journal is None or not daemon.uplink.session.connected:
        return False
    if judge.unanswered:
        return False
    one = journal._store._connection.execute
    if one("SELECT 1 FROM orders WHERE finished_at IS NULL LIMIT 1").fetchone():
        return False
    if one("SELECT 1 FROM cycles WHERE closed_at IS NULL LIMIT 1").fetchone():
        return False
    if one("SELECT 1 FROM outbox WHERE sent_at IS NULL LIMIT 1").fetchone():
        return False
    if any(session.queue or session.inflight for session in judge.world.broker.sessions.values()):
        return False
    stations = daemon.dispenser.stations.values()
    return not any(
        station.recovering or station.quarantine or not station.up for station in stations
    )


def last_word(judge: Judge) -> None:
    """All that must hold when the machine rests."""
    world = judge.world
    channels = {
        channel: (board, number)
        for board, plan in world.plan.items()
        for channel, number in plan.lanes.items()
    }
    tests: Counter[str] = Counter()
    by_lane = {place: channel for channel, place in channels.items()}
    extra, misled = 0, 0
    for cycle in judge.cycles.values():
        if cycle.order is None:
            tests[by_lane[cycle.board, cycle.lane]] += cycle.fell or 1
        extra += max(0, cycle.fell - 1)
        judge.counts["second_fell_in_the_dark"] += cycle.board_cut and cycle.fell > 1
        if cycle.fell and cycle.excuse and judge.counted_without(cycle):
            judge.counts[cycle.excuse] += 1
            extra += 1
        elif judge.books.wrong(cycle):
            judge.counts["wrong_verdicts"] += 1
            extra += bool(cycle.fell)
            misled += not cycle.fell
    facts = final.Facts(
        judge.messages,
        {name: list(board.ledger.lines) for name, board in world.boards.items()},
        channels,
        second_cycles=world.scenario.second_cycles,
        test_cycles=tests,
        extra_falls=extra,
        fooled=judge.fooled + misled,
        seen_seq=judge.seen_seq,
        unwatched=frozenset(
            channel
            for plan in world.plan.values()
            if not plan.drop_sensor
            for channel in plan.lanes
        ),
    )
    found = _after_a_loss(judge, facts) if judge.losses.generation else final.breaches(facts)
    for sentence in found:
        raise Breach(sentence)
    _answered(judge)
    journal = judge.world.machine.journal
    assert journal is not None
    judge.books.last_word(journal._store._connection.execute)
    _stock(judge)
    _kept(judge)


def _after_a_loss(judge: Judge, facts: final.Facts) -> list[str]:
    """What the newest journal tells, and of older orders that no unit was told wrongly."""
    losses, journal = judge.losses, judge.world.machine.journal
    assert journal is not None
    birth, doubted = journal._store._connection.execute(
        "SELECT birth, doubted FROM journal"
    ).fetchone()
    noticed = losses.noticed(judge.world.now)
    judge.must(doubted or not noticed, "P13", f"nobody admits that memory was lost: {losses.how}")
    newer = [
        message
        for message in facts.messages
        if message.topic in {"order", "result"}
        and (message.json["order_id"], message.json["delivery_id"]) not in losses.forgotten
    ]
    rules = (final.repeats, final.one_result_per_unit, final.counts, final.rejected)
    found = [sentence for rule in rules for sentence in rule(replace(facts, messages=newer))]
    if losses.unaware(judge.world.now):
        judge.counts["old_copy_never_noticed"] += 1
        return found
    own = [m for m in facts.messages if m.topic in {"order", "result"} and _of(m.json, birth)]
    found += final.sequence(replace(facts, messages=own))
    for (key, number), outcome in judge.outcomes.items():
        mine = [c for c in judge.cycles.values() if (c.order, c.unit) == (key, number)]
        fell = sum(cycle.fell for cycle in mine)
        wrong = any(judge.books.wrong(cycle) for cycle in mine)
        if outcome == "not_delivered" and fell and not wrong and not any(c.excuse for c in mine):
            if key in losses.aged:
                judge.counts["told_from_an_old_copy"] += 1  # before it learnt that it is one
                continue
            found.append(f"P13: {key}#{number} is told not delivered at last, {fell} fell")
    return found


def _of(body: dict[str, Any], birth: int | None) -> bool:
    return birth is not None and body["journal"] == birth


def _answered(judge: Judge) -> None:
    """Each well-formed command has its answer."""
    answered = {
        (message.json["order_id"], message.json["delivery_id"])
        for message in judge.messages
        if message.topic == "order"
    }
    acknowledged = {
        body["order_id"]
        for stored in judge.acked
        if stored.topic.endswith("/dispense") and (body := object_of(stored.payload))
    }
    for key in judge.commands:
        if key[0] in acknowledged and key not in judge.losses.forgotten:
            judge.must(key in answered, "P9", f"command {key} was acknowledged, not answered")


def _stock(judge: Judge) -> None:
    """P10: the sum; and the count is what lies there, but for what nobody could see."""
    journal = judge.world.machine.journal
    assert journal is not None
    for lane in journal._store._connection.execute("SELECT * FROM lanes"):
        total = lane["stock"] + lane["gone"] + lane["uncertain"] + lane["adjusted"]
        judge.must(total == lane["loaded"], "P10", f"lane {dict(lane)}")
        board, number = _place(judge, lane["channel"])
        goods = judge.world.boards[board].machine.lanes[number].goods
        if _clear(judge, board, number) and not judge.losses.generation:
            judge.must(
                lane["stock"] <= goods <= lane["stock"] + lane["uncertain"],
                "P10",
                f"{goods} lie in lane {dict(lane)}",
            )


def _kept(judge: Judge) -> None:
    """No detail is pruned by a clock that nobody may believe."""
    if judge.time.most_ahead > YEAR_S:
        judge.counts["pruned_by_a_wrong_clock"] += 1
        return
    journal = judge.world.machine.journal
    assert journal is not None
    gone = journal._store._connection.execute(
        "SELECT order_id FROM orders WHERE NOT EXISTS"
        " (SELECT 1 FROM units WHERE units.order_row = orders.id) AND finished_at > ? LIMIT 1",
        (judge.kept_since,),
    ).fetchone()
    judge.must(gone is None, "retention", f"order {gone and gone[0]} lost its details")


def _place(judge: Judge, channel: str) -> tuple[str, int]:
    return next(
        (board, plan.lanes[channel])
        for board, plan in judge.world.plan.items()
        if channel in plan.lanes
    )


def _clear(judge: Judge, board: str, lane: int) -> bool:
    """No cycle of the lane had an eye that was fooled, an item that fell unseen, or no eye."""
    plan = judge.world.plan[board]
    mine = (c for c in judge.cycles.values() if (c.board, c.lane) == (board, lane))
    if judge.fills[board] or not plan.drop_sensor:
        return False
    return not any(
        c.fooled
        or c.excuse
        or judge.books.wrong(c)
        or (c.fell > 1 and (c.board_cut or judge.outcome(c) in {"unknown", ""}))
        for c in mine
    )
