"""The figures of a run, for people. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.powercut.disk import Counts
from tests.powercut.machine import BOARD, PowerCut
from tests.system import judge
from tests.system.figures import as_table, counted, in_motion, outcome, results_of


@dataclass
class Run:
    """What is noted while it goes."""

    cuts: list[PowerCut] = field(default_factory=list)
    boot_s: list[float] = field(default_factory=list)
    """Of each boot that came up: from power on to the daemon's first word."""
    last_stops: Counter[str] = field(default_factory=Counter)
    """What each of those boots told of how the run before it ended."""
    forgotten: set[tuple[int, int]] = field(default_factory=set)
    """(journal, seq) of messages that were told and that a later boot did not know."""
    broken: list[str] = field(default_factory=list)
    """Breaches, each as a sentence."""
    seconds: float = 0.0


def one_cut(number: int, cut: PowerCut) -> str:
    disk = cut.disk
    where = "under load" if cut.ready else "in boot"
    board = "with the board" if cut.board_too else ""
    return (
        f"cut {number:3}  {where:10} {board:14}  {disk.unflushed:6} bytes unflushed in "
        f"{disk.writes:2} writes, {disk.dropped:6} dropped, {disk.torn:2} torn"
    )


def table(
    run: Run,
    facts: judge.Facts,
    *,
    commands: int,
    repeats: int,
    disk: Counts,
    console: Sequence[str],
) -> str:
    results = results_of(facts)
    ledger = Counter(event["event"] for event in facts.ledgers[BOARD])
    moving = Counter(map(outcome, in_motion(results, [cut.at for cut in run.cuts])))
    risk = [cut.disk for cut in run.cuts if cut.disk.unflushed]

    def said(words: str) -> int:
        return sum(words in line for line in console)

    rows: dict[str, Any] = {
        "cuts": len(run.cuts),
        "  of them in boot": sum(not cut.ready for cut in run.cuts),
        "  with the board": sum(cut.board_too for cut in run.cuts),
        "boots": len(run.cuts) + 1,
        "  that came up": len(run.boot_s),
        "  seconds, median and longest": f"{median(run.boot_s):.1f} {max(run.boot_s):.1f}",
        "  last stop as told": counted(run.last_stops),
        "  write-back cache, barriers on": said("mounted, write back"),
        "  e2fsck -p was not enough": said("e2fsck -p left errors"),
        "  daemon ended by itself": said("vendingd ended"),
        "orders": commands,
        "  repeats of them": repeats,
        "  messages": counted(Counter(body["status"] for body in facts.bodies("order"))),
        "units": len(results),
        "  outcomes": counted(Counter(map(outcome, results))),
        "units in motion at a cut": sum(moving.values()),
        "  outcomes of these": counted(moving),
        "cycles in the ledger": ledger[judge.DRIVE],
        "drops in the ledger": ledger[judge.FELL],
        "disk writes, flushes": f"{disk.writes} {disk.flushes}",
        "cuts that found data unflushed": len(risk),
        "  bytes unflushed": sum(cut.unflushed for cut in risk),
        "  bytes dropped": sum(cut.dropped for cut in risk),
        "  writes unflushed": sum(cut.writes for cut in risk),
        "  writes torn": sum(cut.torn for cut in risk),
        "told messages forgotten": len(run.forgotten),
        "seconds in all, a cut": f"{run.seconds:.0f} {run.seconds / max(1, len(run.cuts)):.1f}",
        "breaches": len(run.broken),
    }
    return as_table(rows)
