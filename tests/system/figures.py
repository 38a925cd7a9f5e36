"""What the reports of the long runs have in common. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.system import judge


def results_of(facts: judge.Facts) -> list[judge.Body]:
    """Each unit's result, of its highest revision."""
    return [body for units in judge.final_results(facts).values() for body in units.values()]


def outcome(body: judge.Body) -> str:
    return f"{body['outcome']}/{body['reason'] or '-'}"


def in_motion(results: Sequence[judge.Body], instants: Sequence[float]) -> list[judge.Body]:
    """Those whose motor ran at one of the instants (Unix seconds), and of which it was found
    out later what became of them."""
    return [
        body
        for body in results
        if body["started_at"]
        and any(
            judge.seconds(body["started_at"]) < at < judge.seconds(body["finished_at"])
            for at in instants
        )
    ]


def counted(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counter.items())) or "none"


def as_table(rows: Mapping[str, Any]) -> str:
    return "\n".join(f"{name:32} {value}" for name, value in rows.items())
