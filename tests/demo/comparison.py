"""The end of the play: what was told beside what happened, unit by unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.system import judge

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Cycle:
    """One run of a lane's motor, as the emulator's ledger tells it."""

    fell: int


def cycles_of(ledger: Sequence[Body], lane: int) -> list[Cycle]:
    """The lane's cycles in their order, with what fell until the next one began."""
    fell: list[int] = []
    for line in ledger:
        if line.get("lane") != lane:
            continue
        if line["event"] == judge.DRIVE:
            fell.append(0)
        elif line["event"] == judge.FELL and fell:
            fell[-1] += 1
    return [Cycle(count) for count in fell]


MUST_HAVE_FALLEN = {"delivered": 1, "not_delivered": 0}
"""`unknown` agrees with anything: it claims nothing."""
TELLS = {"delivered": "1", "not_delivered": "0", "unknown": "5"}
"""deliver_status of the callback for a delivery of one unit."""


def agrees(outcome: str, cycle: Cycle | None) -> bool:
    fell = cycle.fell if cycle else 0
    return fell == MUST_HAVE_FALLEN.get(outcome, fell)


def rows(facts: judge.Facts) -> Iterator[tuple[Body, Cycle | None]]:
    """Each unit's final result and its cycle; None: its motor was never driven.

    Results name no cycle, but a lane's units are driven one after the other: the
    n-th that had a cycle belongs to the lane's n-th drive.
    """
    driven = {
        channel: iter(cycles_of(facts.ledgers[board], number))
        for channel, (board, number) in facts.lanes.items()
    }
    units = [body for command in judge.final_results(facts).values() for body in command.values()]
    units.sort(key=lambda body: (body["started_at"] or body["finished_at"], body["unit"]))
    for body in units:
        yield body, next(driven[body["channel"]], None) if body["cycles"] else None


def comparison(facts: judge.Facts, callbacks: Sequence[Body] = ()) -> tuple[list[str], bool]:
    """Lines of a table, and whether all of it agrees: also the last that a merchant was told."""
    merchant = {body["delivery_id"]: body["deliver_status"] for body in callbacks}
    lines = [
        "order       unit  lane  told the platform and the merchant   | in the ledger",
        "----------  ----  ----  -----------------------------------  | -----------------------",
    ]
    all_agree = merchant.keys() <= {body["delivery_id"] for body, _ in rows(facts)}
    for body, cycle in rows(facts):
        told = f"{body['outcome']} ({body['reason'] or body['evidence']})"
        happened = f"driven once, {cycle.fell} fell" if cycle else "never driven, 0 fell"
        agree = agrees(body["outcome"], cycle)
        if body["delivery_id"]:
            status = merchant.get(body["delivery_id"], "missing")
            told += f", callback {status}"
            agree = agree and status == TELLS[body["outcome"]]
        all_agree = all_agree and agree
        lines.append(
            f"{body['order_id']:<11} {body['unit']:>2}/{body['units']}  {body['channel']:<4}"
            f"  {told:<35}  | {happened}{'' if agree else '  DIFFERS'}"
        )
    return lines, all_agree
