"""`make soak`: a simulated day in one life, many days of retention, minutes of a real daemon.

Exit code 1 when a promise is broken or anything grows that must not. Choose with ARGS:
`ARGS="--hours 24 --seed 3"`, `ARGS="--parts real --minutes 10"`; `--json` for figures.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.sim.__main__ import FAST_DISK
from tests.sim.scenario import LAYOUTS
from tests.soak import memory, real, retention
from tests.soak.flat import Growth, table

PARTS = ("memory", "retention", "real")
SHORTEST_DAY_H = 1
TOLD = ("commands", "messages", "cycles", "commits", "product_fell", "fault", "board_reset",
        "old_messages_repeated", "fell_too_late", "board_denied")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _arguments()
    given = parser.parse_args(arguments)
    if given.hours < SHORTEST_DAY_H:
        parser.error(f"--hours: at least {SHORTEST_DAY_H}: growth shows after a warm-up")
    logging.disable(logging.CRITICAL)
    found: dict[str, Any] = {}
    flat = True
    for part in given.parts:
        growths, more, words = {"memory": day, "retention": days, "real": minutes}[part](given)
        flat = flat and all(growth.is_flat for growth in growths)
        found[part] = {**more, "growth": [asdict(growth) for growth in growths]}
        if not given.json:
            print(f"{part}: {words}\n\n{table(growths)}\n", flush=True)
    if given.json:
        print(json.dumps({"seed": given.seed, "flat": flat, **found}))
    else:
        print("everything is flat" if flat else "SOMETHING GROWS")
    return 0 if flat else 1


Part = tuple[list[Growth], dict[str, Any], str]


def day(given: argparse.Namespace) -> Part:
    warm_up = min(memory.WARM_UP_H, given.hours / 4)
    with _directory(FAST_DISK) as directory:
        run = memory.play(
            given.seed, given.hours, given.layout, Path(directory), trace=given.trace,
            every=2 if given.hours > 6 else 1,
        )  # fmt: skip
    shop = run.shop
    journal = {name: (seen[0], seen[len(seen) // 2], seen[-1]) for name, seen in run.disk.items()}
    more = {
        "hours": shop.now / 3600,
        "took_s": run.took_s,
        "orders": shop.orders,
        "counts": dict(shop.judge.counts),
        "journal": journal,
    }
    words = (
        f"{shop.now / 3600:.1f} simulated hours of layout {given.layout}, seed {given.seed}, "
        f"{shop.machine.lives} life, {shop.orders} orders, in {run.took_s:.0f} s of one core\n"
        + ", ".join(f"{name} {shop.judge.counts[name]}" for name in TOLD)
        + "\njournal, first / middle / last rest:\n"
        + "\n".join(
            f"  {name:26}" + "".join(f"{value:11,.0f}" for value in seen)
            for name, seen in journal.items()
        )
    )
    return run.verdict(warm_up), more, words


def days(given: argparse.Namespace) -> Part:
    with _directory(FAST_DISK) as directory:
        run = retention.play(given.seed, given.days, given.retention, Path(directory))
    more = {
        "days": run.days,
        "samples": run.samples,
        "took_s": run.took_s,
        "bytes_per_order": run.bytes_per_order(),
    }
    words = (
        f"{given.days:g} simulated days, retention {given.retention}, seed {given.seed}, "
        f"{run.shop.orders} orders, in {run.took_s:.0f} s of one core\n{run.table()}\n"
        f"for ever: {run.bytes_per_order():.0f} bytes an order, with indexes"
    )
    return run.verdict(), more, words


def minutes(given: argparse.Namespace) -> Part:
    with _directory(None) as directory:
        run = real.play(Path(directory), given.minutes, given.seed)
    emulator = [run.emulator[0], run.emulator[-1]]
    more = {
        "orders": run.orders,
        "units": run.units,
        "cuts": run.cuts,
        "journal_bytes": [run.journal[0], run.journal[-1]],
        "emulator": emulator,
    }
    words = (
        f"{given.minutes:g} minutes, {run.orders} orders of {run.units} units, the broker killed "
        f"{run.cuts} times; journal {run.journal[0]:,} to {run.journal[-1]:,} bytes; "
        f"emulator (keeps its ledger) {emulator[0]['KiB resident']:,.0f} to "
        f"{emulator[1]['KiB resident']:,.0f} KiB, {emulator[0]['descriptors']:.0f} to "
        f"{emulator[1]['descriptors']:.0f} descriptors"
    )
    return run.verdict(), more, words


def _directory(base: Path | None) -> tempfile.TemporaryDirectory[str]:
    where = base if base is not None and base.is_dir() else None
    return tempfile.TemporaryDirectory(prefix="vc-soak-", dir=where)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.play", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hours", type=float, default=24, help="of the day in one life")
    parser.add_argument("--layout", choices=LAYOUTS, default="both")
    parser.add_argument("--no-trace", dest="trace", action="store_false", help="no allocations")
    parser.add_argument("--days", type=float, default=12, help="of the retention run")
    parser.add_argument("--retention", type=int, default=3, help="days of result_retention_days")
    parser.add_argument("--minutes", type=float, default=5, help="of the real daemon")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of texts in the same order everywhere
        os.environ["PYTHONHASHSEED"] = "0"
        again = [sys.executable, "-m", "tests.soak.play", *sys.argv[1:]]
        os.execv(sys.executable, again)  # noqa: S606  (ourselves)
    sys.exit(main())
