"""What a person's own test vends dropped, and their hand put back, is in its lane again.

A test vend counts here once, and only while nobody counted its lane since: a count has what
was put back in it already. `put_back` in the cycle's trace says that it was undone.
"""

from __future__ import annotations

import json
import sqlite3

from controller.errors import Refused
from controller.journal import findings, lanes
from controller.journal.begun_tests import TESTED
from controller.journal.tally import put_back
from controller.journal.technician import note, refuse_while_running
from controller.journal.transaction import Transaction, storable, to_json

PUT_BACK = "put_back"


def note_test(tx: Transaction, channel: str, test_id: str, who: str) -> None:
    """Whose test this is; once, however often a board refuses before it moves."""
    if not _is_of(tx, channel, test_id, who):
        note(tx, who, TESTED, channel, {"test_id": test_id})


def _is_of(tx: Transaction, channel: str, test_id: str, who: str) -> bool:
    found = tx.one(
        "SELECT 1 FROM audit WHERE target = ? AND action = ? AND who = ?"
        " AND json_extract(detail, '$.test_id') = ? LIMIT 1",
        channel, TESTED, storable(who), test_id,
    )  # fmt: skip
    return found is not None


UNCOUNTED = """
    SELECT cycles.* FROM cycles INDEXED BY cycles_tests
    JOIN lanes ON lanes.channel = cycles.channel
    WHERE test_id IS NOT NULL AND outcome = 'delivered' AND n > lanes.counted_n
        AND lanes.active = 1 AND (?1 IS NULL OR cycles.channel = ?1)
        AND NOT EXISTS (
            SELECT 1 FROM json_each(cycles.trace) AS step
            WHERE json_extract(step.value, '$.event') = ?2)
    ORDER BY n
"""
"""Test vends that dropped something which no count and no undoing has put right yet."""


def undo(tx: Transaction, channel: str | None, who: str) -> dict[str, int]:
    """Lane -> items that are in it again; of one lane or of all, everything or nothing.

    Refused: unknown_channel, nothing_to_undo, cycle_open, over_capacity.
    """
    if channel is not None:
        lanes.find(tx, channel)
    found = tx.all(UNCOUNTED, channel, PUT_BACK)
    own = [row for row in found if _is_of(tx, row["channel"], row["test_id"], who)]
    if not own:
        raise _nothing(channel, who, others=len(found))
    items: dict[str, int] = {}
    tests: dict[str, list[str]] = {}
    for row in own:
        name = row["channel"]
        items[name] = items.get(name, 0) + max(1, findings.decode(row["finding"]).drops)
        tests.setdefault(name, []).append(row["test_id"])
        _mark(tx, row, who)
    for name, count in items.items():
        _return(tx, name, count)
        note(tx, who, "stock_undo_test", name, {"items": count, "tests": tests[name]})
    return items


def _nothing(channel: str | None, who: str, *, others: int) -> Refused:
    if channel is None and others:
        return Refused(
            "nothing_to_undo",
            "no test vend of {who} dropped anything from any lane since it was last counted; "
            "{others} of others did, and only they can undo theirs, or a count",
            who=who,
            others=others,
        )
    if channel is None:
        return Refused(
            "nothing_to_undo",
            "no test vend of {who} dropped anything from any lane since it was last counted",
            who=who,
        )
    if others:
        return Refused(
            "nothing_to_undo",
            "no test vend of {who} dropped anything from lane {lane} since it was last counted; "
            "{others} of others did, and only they can undo theirs, or a count",
            who=who,
            lane=channel,
            others=others,
        )
    return Refused(
        "nothing_to_undo",
        "no test vend of {who} dropped anything from lane {lane} since it was last counted",
        who=who,
        lane=channel,
    )


def _return(tx: Transaction, channel: str, items: int) -> None:
    refuse_while_running(tx, channel)
    row = lanes.find(tx, channel)
    if row["stock"] + items > row["capacity"]:
        raise Refused(
            "over_capacity",
            "{items} put back into lane {lane} would make {stock}, and it holds {capacity}: "
            "count it, then `vendctl stock set {lane} N`",
            items=items,
            lane=channel,
            stock=row["stock"] + items,
            capacity=row["capacity"],
        )
    lanes.write_tally(tx, channel, put_back(lanes.tally_of(row), items))


def _mark(tx: Transaction, cycle: sqlite3.Row, who: str) -> None:
    step = {"at": tx.at, "event": PUT_BACK, "frame": "", "who": storable(who)}
    trace = [*(json.loads(cycle["trace"]) if cycle["trace"] else ()), step]
    tx.run("UPDATE cycles SET trace = ? WHERE n = ?", to_json(trace), cycle["n"])
