"""A machine's work on a journal, step by step, so that any step can be the last of a life.

A step is one transaction, and it reads from the journal what it goes on from:
after a crash the work is taken up at the step that is missing. Two runs of the
same seed leave the same rows, however often one of them was interrupted; `rows`
says which.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from controller.dispensing.interfaces import Rejection
from controller.journal.journal import Journal, open_journal
from controller.journal.opening import Opening
from tests.journal.conftest import (
    BOOT,
    DELIVERED,
    JAMMED,
    PLAN,
    SILENT,
    HandClock,
    PlainAnnouncer,
    cabinet,
    ending,
    intent,
    make_order,
)

T = TypeVar("T")

KINDS = 8
"""Steps of one order of two units, with what a technician does to keep the lanes going."""

STARTS_CHANGE = {
    "journal": {"clean", "boot", "newest_time", "event_seq"},
    "events": {"event_seq", "payload"},
}
"""Columns by table that every start writes: it tells itself as an event, and numbers move on."""


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """The value of a call that never waits: the journal inline, without a loop's cost."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("the journal waited")


def open_inline(folder: Path, **more: Any) -> tuple[Journal, Opening]:
    settings: dict[str, Any] = {"reserve_bytes": 16_384, "boot": BOOT, **more}
    return open_journal(
        folder, clock=HandClock(), announcer=PlainAnnouncer(), skew_s=30, retention_days=400,
        inline=True, **settings,
    )  # fmt: skip


def step(journal: Journal, seed: int, number: int) -> None:
    """The step of this number. Raises JournalUnwritable; then nothing of it is kept."""
    if number == 0:
        at_once(journal.sync_lanes([cabinet(stock=20)]))
        return
    turn, kind = divmod(number - 1, KINDS)
    order = make_order(turn + 1, 2)
    finding = random.Random(f"{seed}/{number}").choice([DELIVERED, JAMMED, SILENT])
    match kind:
        case 0:
            jobs = at_once(journal.accept(order, PLAN))
            assert not isinstance(jobs, Rejection), jobs
        case 1 | 3:
            at_once(journal.open_cycle(intent(at_once(journal.waiting_units())[0].ref)))
        case 2 | 4:
            (cycle,) = [c for c in at_once(journal.open_cycles()) if not c.closed]
            at_once(journal.close_cycle(cycle.cycle_id, ending(finding)))
        case 5:
            at_once(journal.sent(at_once(journal.oldest("result", 2))))
        case 6:
            at_once(journal.enable_lane("A1", "again", "worker"))
        case 7:
            at_once(journal.fill(None, "worker"))


def rows(journal: Journal) -> int:
    """A hash of every row, but for what each start writes."""

    def read(connection: Any) -> int:
        every: list[Any] = []
        names = [
            row[0]
            for row in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
            )
        ]
        for name in names:
            others = " WHERE kind <> 'restart'" if name == "events" else ""
            found = connection.execute(f"SELECT * FROM {name}{others}").fetchall()  # noqa: S608
            ignored = STARTS_CHANGE.get(name, set())
            every += [
                (name, *(row[key] for key in row.keys() if key not in ignored))  # noqa: SIM118
                for row in found
            ]
        return hash(tuple(every))

    return at_once(journal._store.read(read))


def is_whole(journal: Journal) -> bool:
    """SQLite's own check of the whole file."""

    def read(connection: Any) -> bool:
        return [row[0] for row in connection.execute("PRAGMA integrity_check")] == ["ok"]

    return at_once(journal._store.read(read))


def undisturbed(folder: Path, seed: int, steps: int) -> list[int]:
    """`rows` before the first step and after each."""
    journal, _ = open_inline(folder)
    known = [rows(journal)]
    for number in range(steps):
        step(journal, seed, number)
        known.append(rows(journal))
    asyncio.run(journal.close())
    return known
