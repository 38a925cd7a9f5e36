"""The figures of a run. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.system import judge
from tests.system.customers import Customers
from tests.system.figures import counted, in_motion, outcome, results_of


@dataclass(frozen=True)
class Kill:
    at: float
    """Unix seconds."""
    instant: str
    """What it was aimed at: a key of play.INSTANTS."""
    hit: bool
    """Whether that came, before its time was over."""


@dataclass
class Run:
    """What is noted while it goes."""

    seed: int
    kills: list[Kill] = field(default_factory=list)
    broker_kills: list[float] = field(default_factory=list)
    """Unix seconds; with the next, each may lose what the broker had acknowledged."""
    broker_forgot: int = 0
    """Of these, the ones after which it came back with nothing."""
    resets: Counter[str] = field(default_factory=Counter)
    """Board -> resets."""
    ready_s: list[float] = field(default_factory=list)
    rest_s: list[float] = field(default_factory=list)
    asked_for: int = 0
    """Messages that a broker lost and that the platform then asked for."""
    sent_again: int = 0
    """Commands that a broker lost and that the platform then sent again."""
    replayed: int = 0
    """Finished commands that were repeated at rest, and answered byte for byte."""
    tests: Counter[str] = field(default_factory=Counter)
    """Channel -> test vends of the technician, one each time that it was out of sale."""
    broken: list[str] = field(default_factory=list)
    """Breaches, each as a sentence."""
    seconds: float = 0.0


def figures(run: Run, facts: judge.Facts, customers: Customers) -> dict[str, Any]:
    """Name -> number or counts, as told in JSON and in the table."""
    results = results_of(facts)
    events = Counter(line["event"] for ledger in facts.ledgers.values() for line in ledger)
    moving = in_motion(results, [kill.at for kill in run.kills])
    return {
        "seed": run.seed,
        "kills": len(run.kills),
        "kills aimed": Counter(kill.instant for kill in run.kills if kill.hit),
        "kills whose aim never came": Counter(k.instant for k in run.kills if not k.hit),
        "lives that became ready": len(run.ready_s),
        "longest until ready, s": round(max(run.ready_s, default=0.0), 2),
        "broker kills": len(run.broker_kills),
        "broker came back empty": run.broker_forgot,
        "board resets": run.resets,
        "orders": len(customers.commands),
        "repeats": customers.counts.repeats,
        "cancelled": len(customers.counts.cancels),
        "conflicts": customers.counts.conflicts,
        "order messages": Counter(body["status"] for body in facts.bodies("order")),
        "units": len(results),
        "outcomes": Counter(body["outcome"] for body in results),
        "reasons": Counter(map(outcome, results)),
        "units in motion at a kill": len(moving),
        "reasons of these": Counter(map(outcome, moving)),
        "cycles in the ledger": events[judge.DRIVE],
        "drops in the ledger": events[judge.FELL],
        "lost by a broker, asked for": run.asked_for,
        "lost by a broker, sent again": run.sent_again,
        "replayed at rest": run.replayed,
        "lanes put on sale again": run.tests.total(),
        "rests": len(run.rest_s),
        "longest rest, s": round(max(run.rest_s, default=0.0), 1),
        "seconds": round(run.seconds),
        "breaches": len(run.broken),
    }


def for_people(numbers: dict[str, Any]) -> dict[str, Any]:
    return {
        name: counted(value) if isinstance(value, Counter) else value
        for name, value in numbers.items()
    }
