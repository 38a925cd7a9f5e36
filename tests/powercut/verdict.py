"""What a run must not show, beside what tests/system/judge.py looks for. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.powercut.machine import PowerCut
from tests.system import judge


def breaches(
    facts: judge.Facts, cuts: Sequence[PowerCut], unanswered: Sequence[Any], lanes: Sequence[Any]
) -> list[str]:
    """`lanes`: of the last inventory, of a machine at rest."""
    return [
        *judge.breaches(facts),
        *judge.stock_breaches(lanes),
        *(f"P7: {command} was sent and never ended" for command in unanswered),
        *resumed(facts, cuts),
    ]


def resumed(facts: judge.Facts, cuts: Sequence[PowerCut]) -> Iterator[str]:
    """P4: no motor turns after a reboot for an order that was accepted before it.

    The guest takes its clock from QEMU's to the second, so it may be one second behind
    ours; a boot takes longer than that, so what lies before a cut and what behind is clear.
    """
    accepted = {
        judge.identity(body): judge.seconds(body["at"])
        for body in facts.bodies("order")
        if body["status"] == "accepted"
    }
    told = set()
    for body in facts.bodies("result"):
        order = judge.identity(body)
        if body["started_at"] is None or order not in accepted:
            continue
        began = judge.seconds(body["started_at"])
        if any(accepted[order] < cut.at < began for cut in cuts):
            told.add(f"P4: {order} unit {body['unit']} was resumed after a power cut")
    yield from sorted(told)
