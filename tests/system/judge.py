"""Results and ledger held against the promises, when the machine has come to rest.

Pure: takes what the platform received and what really happened, and returns
every breach as a sentence that begins with the promise it breaks. An empty list
is the verdict one wants.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.system.platform_client import Message

OUTCOMES = ("delivered", "not_delivered", "unknown")

DRIVE = "drive_frame"
FELL = "product_fell"

Body = Mapping[str, Any]
Lane = tuple[str, int]
"""A board's name and its own number of the lane."""


@dataclass(frozen=True)
class Facts:
    """All that a judge looks at."""

    messages: Sequence[Message]
    """What the platform received, repeats included."""
    ledgers: Mapping[str, Sequence[Body]]
    """Board -> the lines of its ledger."""
    lanes: Mapping[str, Lane]
    """Channel -> where it is."""
    second_cycles: int = 0
    """The bound that the settings allow (P2)."""
    test_cycles: Mapping[str, int] | None = None
    """Channel -> test vends, which drive and drop without a result (P6)."""
    extra_falls: int = 0
    """Products that a fault let fall beside the one of its cycle (double_drop)."""
    fooled: int = 0
    """Units whose eye a fault darkened while they ran: no board can tell that from goods."""
    unwatched: frozenset[str] = frozenset()
    """Channels without a drop sensor, where a motor's word is all that there is."""
    seen_seq: Mapping[int, int] | None = None
    """Journal -> the seq up to which an earlier verdict had everything."""
    broker_losses: Sequence[float] = ()
    """Unix seconds at which a broker lost what it had acknowledged."""

    def bodies(self, topic: str) -> list[Body]:
        return [message.json for message in self.messages if message.topic == topic]

    def count(self, channel: str, event: str) -> int:
        board, number = self.lanes[channel]
        return sum(
            line.get("event") == event and line.get("lane") == number
            for line in self.ledgers[board]
        )

    def tests(self, channel: str) -> int:
        return (self.test_cycles or {}).get(channel, 0)


def breaches(facts: Facts) -> list[str]:
    rules = (repeats, sequence, one_result_per_unit, counts, drives, falls, rejected)
    return [sentence for rule in rules for sentence in rule(facts)]


def identity(body: Body) -> tuple[int, str]:
    return body["order_id"], body["delivery_id"]


def final_results(facts: Facts) -> dict[tuple[int, str], dict[int, Body]]:
    """Command -> unit -> its result of the highest revision."""
    commands: dict[tuple[int, str], dict[int, Body]] = defaultdict(dict)
    for body in facts.bodies("result"):
        units = commands[identity(body)]
        if body["revision"] >= units.get(body["unit"], body)["revision"]:
            units[body["unit"]] = body
    return commands


def seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def forgotten(messages: Sequence[Message], state: Body) -> set[tuple[int, int]]:
    """(journal, seq) of messages that the platform has and that the journal of a later state
    does not know (P7): each was a commit. All of them, where the journal is another one."""
    bodies = [m.json for m in messages if m.topic in {"order", "result"}]
    numbers = {(body["journal"], body["seq"]) for body in bodies if body["seq"] is not None}
    return {
        (journal, seq)
        for journal, seq in numbers
        if journal != state["journal"] or seq > state["last_seq"]
    }


def differing(pairs: Iterable[tuple[Any, bytes]]) -> Iterator[Any]:
    """Keys that came with more than one payload."""
    seen: dict[Any, set[bytes]] = defaultdict(set)
    for key, payload in pairs:
        seen[key].add(payload)
    yield from (key for key, payloads in seen.items() if len(payloads) > 1)


def repeats(facts: Facts) -> Iterator[str]:
    """P8: a repeat is the same bytes."""
    numbered = [
        (message, message.json)
        for message in facts.messages
        if message.topic in {"result", "order"}
    ]
    for key in differing(
        ((*identity(body), body["unit"], body["revision"]), message.payload)
        for message, body in numbered
        if message.topic == "result"
    ):
        yield f"P8: result (order, delivery, unit, revision) {key} came with different bytes"
    for key in differing(
        ((body["journal"], body["seq"]), message.payload)
        for message, body in numbered
        if body["seq"] is not None
    ):
        yield f"P8: (journal, seq) {key} was used for two messages"


def decided(body: Body) -> float:
    """Unix seconds at which a message's fact was known: it left later, or at once."""
    return seconds(body["finished_at"] if "outcome" in body else body["at"])


def sequence(facts: Facts) -> Iterator[str]:
    """P9: seq grows by one per message of a journal; and per topic the first arrivals keep
    their order, but for a message that a broker lost after it had acknowledged it."""
    numbers: dict[int, set[int]] = defaultdict(set)
    newest: dict[tuple[int, str], tuple[int, float]] = {}
    for message in facts.messages:
        if message.topic not in {"result", "order"}:
            continue
        body = message.json
        if (seq := body["seq"]) is None:
            continue
        if seq not in numbers[body["journal"]]:
            line = (body["journal"], message.topic)
            before, came = newest.get(line, (0, 0.0))
            if seq > before:
                newest[line] = (seq, message.at)
            elif not any(decided(body) <= at <= came for at in facts.broker_losses):
                yield f"P9: seq {seq} of {message.topic} came first after {before}"
        numbers[body["journal"]].add(seq)
    for journal, seen in numbers.items():
        first = (facts.seen_seq or {}).get(journal, 0) + 1
        if missing := set(range(first, max(seen) + 1)) - seen:
            yield f"P9: journal {journal} lacks seq {sorted(missing)}"


def one_result_per_unit(facts: Facts) -> Iterator[str]:
    """Every accepted unit ends in exactly one outcome; `delivered` is final."""
    results = final_results(facts)
    for body in facts.bodies("order"):
        if body["status"] != "accepted":
            continue
        got = set(results.get(identity(body), {}))
        wanted = set(range(1, body["units"] + 1))
        if got != wanted:
            yield f"P9: order {identity(body)} has results for units {sorted(got)} of {len(wanted)}"
    history: dict[tuple[Any, ...], dict[int, str]] = defaultdict(dict)
    for body in facts.bodies("result"):
        if body["outcome"] not in OUTCOMES:
            yield f"outcome {body['outcome']!r} is none of the three"
        history[*identity(body), body["unit"]][body["revision"]] = body["outcome"]
    for unit, outcomes in history.items():
        if sorted(outcomes) != list(range(1, len(outcomes) + 1)):
            yield f"P9: unit {unit} has the revisions {sorted(outcomes)}"
        if "delivered" in [outcomes[number] for number in sorted(outcomes)[:-1]]:
            yield f"revisions: unit {unit} was delivered, and then not: {outcomes}"


def counts(facts: Facts) -> Iterator[str]:
    """The last `finished` of each accepted command says what its results say."""
    finished: dict[tuple[int, str], Body] = {}
    accepted = set()
    for body in facts.bodies("order"):
        if body["status"] == "accepted":
            accepted.add(identity(body))
        if (
            body["status"] == "finished"
            and body["revision"] >= finished.get(identity(body), body)["revision"]
        ):
            finished[identity(body)] = body
    results = final_results(facts)
    for command in sorted(accepted):
        if command not in finished:
            yield f"P9: order {command} was accepted and never finished"
            continue
        said = {outcome: finished[command][outcome] for outcome in OUTCOMES}
        found = Counter(body["outcome"] for body in results.get(command, {}).values())
        if said != {outcome: found[outcome] for outcome in OUTCOMES}:
            yield f"P9: order {command} finished with {said}, its results say {dict(found)}"


def by_channel(facts: Facts) -> dict[str, list[Body]]:
    lanes: dict[str, list[Body]] = {channel: [] for channel in facts.lanes}
    for units in final_results(facts).values():
        for body in units.values():
            lanes[body["channel"]].append(body)
    return lanes


def drives(facts: Facts) -> Iterator[str]:
    """P1, P2: no lane was driven more often than cycles were told, and none of those twice."""
    for channel, units in by_channel(facts).items():
        for body in units:
            if body["cycles"] > 1 + facts.second_cycles:
                yield f"P2: {identity(body)} unit {body['unit']} had {body['cycles']} cycles"
        allowed = sum(body["cycles"] for body in units) + facts.tests(channel)
        driven = facts.count(channel, DRIVE)
        # A unit's earlier cycle may have been on another lane: then only the sum can be held.
        if driven > allowed and not facts.second_cycles:
            yield f"P1: lane {channel} was driven {driven} times for {allowed} cycles"
    driven_ids = Counter(
        (board, line["cycle_id"])
        for board, ledger in facts.ledgers.items()
        for line in ledger
        if line.get("event") == DRIVE and line.get("cycle_id")
    )
    for (board, cycle), times in driven_ids.items():
        if times > 1:
            yield f"P1: board {board} started cycle {cycle} {times} times"


def falls(facts: Facts) -> Iterator[str]:
    """What fell lies between the delivered units and those with the unknown ones added."""
    for channel, units in by_channel(facts).items():
        outcomes = Counter(body["outcome"] for body in units)
        fell = facts.count(channel, FELL)
        least = outcomes["delivered"]
        most = least + outcomes["unknown"] + facts.tests(channel) + facts.extra_falls
        if fell < least - facts.fooled and channel not in facts.unwatched:
            yield f"lane {channel}: {least} told as delivered, {fell} fell"
        if fell > most:
            yield f"lane {channel}: {fell} fell, at most {most} told as delivered or unknown"


def rejected(facts: Facts) -> Iterator[str]:
    """P14: a command that was only ever rejected has no results."""
    statuses: dict[tuple[int, str], set[str]] = defaultdict(set)
    for body in facts.bodies("order"):
        statuses[identity(body)].add(body["status"])
    for command in final_results(facts):
        if statuses[command] == {"rejected"}:
            yield f"P14: order {command} was rejected and has results"


def stock_breaches(lanes: Sequence[Body]) -> list[str]:
    """P10, on the answer of `vendctl lanes --json` of a machine at rest."""
    found = []
    for lane in lanes:
        parts = lane["stock"] + lane["gone"] + lane["uncertain"] + lane["adjusted"]
        if parts != lane["loaded"]:
            found.append(f"P10: lane {lane['channel']} has {parts} of {lane['loaded']} loaded")
        if lane["reserved"]:
            found.append(f"P10: lane {lane['channel']} still reserves {lane['reserved']}")
    return found


def side_by_side(facts: Facts) -> str:
    """A table for people: each lane's results beside its ledger, where there are any."""
    rows = [f"{'lane':6} {'delivered':>9} {'not':>5} {'unknown':>7} | {'driven':>6} {'fell':>5}"]
    for channel, units in by_channel(facts).items():
        if not units and not facts.count(channel, DRIVE):
            continue
        told = Counter(body["outcome"] for body in units)
        rows.append(
            f"{channel:6} {told['delivered']:>9} {told['not_delivered']:>5} {told['unknown']:>7} | "
            f"{facts.count(channel, DRIVE):>6} {facts.count(channel, FELL):>5}"
        )
    return "\n".join(rows)


def verdict(facts: Facts) -> None:
    """AssertionError with every breach and the table beside them."""
    found = breaches(facts)
    assert not found, "\n".join([*found, side_by_side(facts), json.dumps(facts.ledgers)[-4000:]])
