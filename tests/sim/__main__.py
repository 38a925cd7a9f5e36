"""Play scenarios: python -m tests.sim [--first N] [--count N] [--layout NAME] [--seed N]

Prints what was simulated and how fast. The first seed that breaks a promise ends the run:
its scenario is cut down to the happenings that it takes, its story is printed, and the
command that plays it again. Exit code 1 then.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.disk import layer
from tests.sim.ambush import rare
from tests.sim.bounce import bouncing
from tests.sim.scenario import LAYOUTS, Scenario, generate
from tests.sim.storm import storm
from tests.sim.tally import Tally
from tests.sim.visiting import visiting
from tests.sim.world import World

STORY_LINES = 80
FAST_DISK = Path("/dev/shm")
"""Nothing in a simulation needs to outlive it."""


def main(arguments: Sequence[str] | None = None) -> int:
    given = _arguments().parse_args(arguments)
    logging.disable(logging.CRITICAL)
    seeds = (
        [given.seed] if given.seed is not None else range(given.first, given.first + given.count)
    )
    make = next((made for name, made in KINDS.items() if getattr(given, name)), generate)
    tally = Tally.read(given.tally)
    gc.freeze()  # the modules: no collection need look at them
    began = time.process_time()
    for seed in seeds:
        world = play(make(seed, given.layout))
        if world.broken and given.quiet:
            print(seed, world.broken)
            return 1
        if world.broken:
            _tell_broken(world, given)
            return 1
        tally.add(world)
    tally.cpu_s += time.process_time() - began
    if given.tally is not None:
        tally.write(given.tally)
    print(tally.figures())
    return _tell_matrix(tally) if given.matrix else 0


def environment() -> dict[str, str]:
    """Of a process that plays: the disk beneath its files, and sets of texts in the same order
    everywhere. Without a C compiler nothing that was written is ever lost."""
    same = {"PYTHONHASHSEED": "0"}
    try:
        return {**layer.environment(), **same}
    except layer.NoCompiler as missing:
        print(f"power cuts lose nothing: {missing}", file=sys.stderr)
        return {**os.environ, **same}


def mixed(seed: int, layout: str | None = None) -> Scenario:
    """Every fourth one a storm, and every fourth with trouble behind the rarest writes: in half
    of these the journal is lost behind one of them."""
    if seed % 4 == 0:
        return storm(seed, layout)
    made = generate(seed, layout)
    if seed % 4 == 2:
        laid = rare(random.Random(f"rare/{seed}"), made.layout, loses_journal=seed % 8 == 6)
        return replace(made, happenings=(*laid, *made.happenings))
    return made


def bounce(seed: int, layout: str | None = None) -> Scenario:
    return bouncing(storm(seed, layout))


KINDS = {"storm": storm, "mixed": mixed, "bounce": bounce, "visiting": visiting}
"""What other than `scenario.generate` makes a run of a seed, by its option."""


def play(scenario: Scenario) -> World:
    """A whole run; `broken` says what became of it."""
    base = FAST_DISK if FAST_DISK.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="vc-sim-", dir=base) as directory:
        world = World(scenario, Path(directory))
        try:
            world.play()
        except Exception as breach:  # noqa: BLE001  (whatever it was, it is the run's end)
            world.broken = f"{type(breach).__name__}: {breach}"
        return world


def shrunk(world: World) -> World:
    """The fewest happenings found that still break the same promise."""
    promise = _promise(world)
    best = world
    size = max(1, len(best.scenario.happenings) // 2)
    while size:
        start = 0
        while start < len(best.scenario.happenings):
            smaller = best.scenario.without(range(start, start + size))
            tried = play(smaller)
            if tried.broken and _promise(tried) == promise:
                best = tried
            else:
                start += size
        size //= 2
    return best


def _promise(world: World) -> str:
    return " ".join(world.broken.split()[:2])


def _tell_broken(world: World, given: argparse.Namespace) -> None:
    small = shrunk(world)
    for line in small.story[-STORY_LINES:]:
        print(line)
    print(f"\n{world.broken}\n")
    left, whole = len(small.scenario.happenings), len(world.scenario.happenings)
    print(f"It takes {left} of its {whole} happenings:")
    for happening in small.scenario.happenings:
        print(f"  {happening}")
    choice = f" --layout {given.layout}" if given.layout else ""
    choice += "".join(f" --{name}" for name in KINDS if getattr(given, name))
    print(f"\nAgain: python -m tests.sim --seed {world.scenario.seed}{choice}")


def _tell_matrix(tally: Tally) -> int:
    """Both tables; 1 when a cell of them is empty."""
    tables, empty = tally.tables()
    print(f"\n{tables}")
    for cell in empty:
        print("never tried:", ", ".join(cell))
    return 1 if empty else 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, help="one alone")
    parser.add_argument("--quiet", action="store_true", help="of a breach: its seed and its words")
    parser.add_argument("--storm", action="store_true", help="a crash every second")
    parser.add_argument("--mixed", action="store_true", help="every fourth seed a storm")
    parser.add_argument("--bounce", action="store_true", help="a storm, and starts cut short in it")
    parser.add_argument("--visiting", action="store_true", help="a technician at the books")
    parser.add_argument("--tally", type=Path, metavar="FILE", help="add the figures to this file")
    parser.add_argument("--matrix", action="store_true", help="what went wrong behind which write")
    parser.add_argument("--layout", choices=LAYOUTS, help="else by the seed")
    return parser


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        again = [sys.executable, "-m", "tests.sim", *sys.argv[1:]]
        os.execve(sys.executable, again, environment())  # noqa: S606  (ourselves)
    sys.exit(main())
