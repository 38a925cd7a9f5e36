"""What a run must not show, beside what tests/system/judge.py looks for. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.powercut.machine import PowerCut
from tests.system import judge
from tests.system.platform_client import Message

State = Mapping[str, Any]


def breaches(
    facts: judge.Facts, cuts: Sequence[PowerCut], unanswered: Sequence[int], lanes: Sequence[Any]
) -> list[str]:
    """`lanes`: of the last inventory, of a machine at rest."""
    return [
        *judge.breaches(facts),
        *judge.stock_breaches(lanes),
        *(f"P7: order {order} was sent and never ended" for order in unanswered),
        *resumed(facts, cuts),
    ]


def seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def resumed(facts: judge.Facts, cuts: Sequence[PowerCut]) -> Iterator[str]:
    """P4: no motor turns after a reboot for an order that was accepted before it.

    The guest takes its clock from QEMU's to the second, so it may be one second behind
    ours; a boot takes longer than that, so what lies before a cut and what behind is clear.
    """
    accepted = {
        judge.identity(body): seconds(body["at"])
        for body in facts.bodies("order")
        if body["status"] == "accepted"
    }
    told = set()
    for body in facts.bodies("result"):
        order = judge.identity(body)
        if body["started_at"] is None or order not in accepted:
            continue
        began = seconds(body["started_at"])
        if any(accepted[order] < cut.at < began for cut in cuts):
            told.add(f"P4: {order} unit {body['unit']} was resumed after a power cut")
    yield from sorted(told)


def forgotten(messages: Sequence[Message], state: State) -> set[tuple[int, int]]:
    """(journal, seq) of messages that the platform has and that the journal of a new boot
    does not know: each was a commit. All of them, where the journal is another one."""
    bodies = [m.json for m in messages if m.topic in {"order", "result"}]
    numbers = {(body["journal"], body["seq"]) for body in bodies if body["seq"] is not None}
    return {
        (journal, seq)
        for journal, seq in numbers
        if journal != state["journal"] or seq > state["last_seq"]
    }
