"""What a tortured machine must not show, beside what tests/system/judge.py looks for. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.system import judge

DEADLINE_SLACK_S = 0.5
"""The deadline is looked at just before the cycle is committed, and a commit of a busy machine
takes a while. A daemon that does not look at it is seconds late."""


def breaches(
    facts: judge.Facts, lanes: Sequence[Any], goods: Mapping[str, int], commands: Sequence[Any]
) -> list[str]:
    """`lanes` as vendctl tells of them, `goods` as they lie there, of a machine at rest."""
    return [
        *judge.breaches(facts),
        *judge.stock_breaches(lanes),
        *lies(lanes, goods),
        *late(facts, commands),
        *(word for board in facts.ledgers for word in motion(board, facts.ledgers[board])),
    ]


def lies(lanes: Sequence[Any], goods: Mapping[str, int]) -> Iterator[str]:
    """P10: what the journal counts is what lies there, but for what is uncertain."""
    for lane in lanes:
        there, stock = goods[lane["channel"]], lane["stock"]
        if not stock <= there <= stock + lane["uncertain"]:
            yield (
                f"P10: {there} lie in lane {lane['channel']},"
                f" the journal says {stock} and {lane['uncertain']} uncertain"
            )


def late(facts: judge.Facts, commands: Sequence[Any]) -> Iterator[str]:
    """P4: no order begins after its deadline. One that began in time may go on."""
    began: dict[int, float] = {}
    for body in facts.bodies("result"):
        if body["started_at"] is not None:
            at = judge.seconds(body["started_at"])
            began[body["order_id"]] = min(at, began.get(body["order_id"], at))
    for command in commands:
        by = command.get("expires_at", command["issued_at"] + TTL_S)
        over = began.get(command["order_id"], by) - by
        if over > DEADLINE_SLACK_S:
            yield f"P4: order {command['order_id']} began {over:.1f} s after its deadline"


TTL_S = 90
"""The setting `order_ttl_s` as it stands without a line in the file."""


def motion(board: str, ledger: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """P3: one motor of a board at a time, and none while its eye is blocked."""
    turning, blocked = None, False
    for line in ledger:
        event = line["event"]
        if event == "motor_started":
            if turning is not None:
                yield f"P3: board {board} turned lane {line['lane']} while {turning} turned"
            if blocked:
                yield f"P3: board {board} turned lane {line['lane']} before a blocked eye"
            turning = line["lane"]
        elif event == "motor_stopped":
            turning = None
        elif event in {"eye_blocked", "eye_clear"}:
            blocked = event == "eye_blocked"
