"""`python -m benchmarks [--json] [--list] [names…]`: plays the benchmarks, prints the table.

The table goes to stdout, what is being measured to stderr. Exit code 0 also where a
goal is missed: the figures are facts, not a test.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from benchmarks import idle, journal_age, overhead, sales, ten_items
from benchmarks.figures import Figure, as_json, table
from benchmarks.rig import machine_facts

BENCHMARKS: dict[str, tuple[Callable[[], list[Figure]], str]] = {
    "overhead": (overhead.measure, "overhead per unit on VBP and XY"),
    "ten_items": (ten_items.measure, "an order of ten items at real speed on VBP and XY"),
    "idle": (idle.measure, "processor and memory of the idle daemon"),
    "journal_age": (journal_age.measure, "start and command latency with 200,000 orders"),
    "sales": (sales.measure, "whole sales a minute through platform-sim"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="only these; see --list")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    parser.add_argument("--list", action="store_true", help="say which there are, and exit")
    given = parser.parse_args(arguments)
    if given.list:
        for name, (_, what) in BENCHMARKS.items():
            print(f"{name:12} {what}")
        return 0
    unknown = sorted(set(given.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    figures: list[Figure] = []
    for name in given.names or BENCHMARKS:
        measure, what = BENCHMARKS[name]
        print(f"measuring {what} …", file=sys.stderr, flush=True)
        figures += measure()
    print(as_json(figures, machine_facts()) if given.json else table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
