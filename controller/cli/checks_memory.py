"""Facts -> findings: disk, journal, clock, and units that nobody knows the fate of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controller.cli import screen
from controller.cli.checks_facts import Facts
from controller.cli.checks_words import Finding
from controller.cli.meanings import meaning_of_reason
from controller.cli.words import say

MIB = 1 << 20

DISK_FULL_MIB = 16
"""The journal's reserve (4 MiB), its log (4 MiB) and a day of both growing."""
DISK_LOW_MIB = 200
"""Journals of systemd and packages take so much within days."""
FILES_FULL = 16

SKEW_S = 30.0
"""[clock] skew_s by default."""


def disk(facts: Facts) -> Iterator[Finding]:
    found = facts.disk
    if not found:
        return
    folder, free = str(found["folder"]), int(found["free_bytes"]) // MIB
    told = {"free_mib": free, "free_files": found["free_files"]}
    counts_files = found["total_files"] > 0
    if found["read_only"]:
        yield Finding("disk_read_only", folder, told)
    elif free < DISK_FULL_MIB or (counts_files and found["free_files"] < FILES_FULL):
        yield Finding("disk_full", folder, told)
    elif free < DISK_LOW_MIB:
        yield Finding("disk_low", folder, told)
    else:
        yield Finding("disk_fine", folder, told)


def journal(facts: Facts) -> Iterator[Finding]:
    if not facts.reached:
        return
    told: Mapping[str, Any] = facts.status.get("journal") or {}
    files: Mapping[str, Any] = facts.checkup.get("journal_files") or {}
    folder = str((facts.settings.get("machine") or {}).get("state_dir", ""))
    found = []
    if not told.get("writable", True):
        found.append(Finding("journal_unwritable", facts={"why": told.get("problem", "")}))
    elif facts.checkup.get("reserve_whole") is False:
        found.append(Finding("reserve_missing"))
    if files.get("damage_flag"):
        found.append(Finding("journal_damaged", f"{folder}/journal.db"))
    aside = files.get("set_aside") or ()
    if aside:
        counted = {"count": len(aside), "newest": aside[-1]}
        found.append(Finding("journal_set_aside", folder, counted))
    yield from found
    if not found:
        yield Finding("journal_fine", facts={"mib": -(-int(files.get("bytes", 0)) // MIB)})


def clock(facts: Facts) -> Iterator[Finding]:
    if not facts.reached:
        return
    told: Mapping[str, Any] = facts.status.get("clock") or {}
    own: Mapping[str, Any] = facts.checkup.get("clock") or {}
    wall, newest = told.get("wall"), told.get("newest")
    synchronised = own.get("synchronised", True)
    shown = {"wall": screen.at(wall), "newest": screen.at(newest)}
    if told.get("believed"):
        if own.get("require_sync") is False and not synchronised:
            yield Finding("clock_unguarded", facts=shown)
        else:
            yield Finding("clock_fine", facts=shown)
    elif isinstance(newest, int | float) and wall is not None and wall < newest - _skew(own):
        yield Finding("clock_behind", facts=shown)
    elif not synchronised:
        yield Finding("clock_unset", facts=shown)
    else:
        yield Finding("clock_not_believed", facts=shown)


def _skew(own: Mapping[str, Any]) -> float:
    return float(own.get("skew_s", SKEW_S))


def units(facts: Facts) -> Iterator[Finding]:
    """Units that ended in `unknown`: somebody has to look, or the board is still heard."""
    if not facts.checkup:
        return
    unknown = facts.checkup.get("unknown_units", ())
    for unit in unknown:
        order = screen.order_key(unit)
        code = "unit_asked" if unit["asked"] else "unit_unknown"
        yield Finding(
            code,
            f"{order} {unit['unit']}",
            {
                "order": order,
                "unit": unit["unit"],
                "channel": unit["channel"],
                "why": meaning_of_reason(unit["reason"]) or say("no reason known"),
                "reason": unit["reason"],
                "at": unit["finished_at"],
            },
        )
    if not unknown:
        yield Finding("units_fine")


CHECKS = (disk, journal, clock, units)
