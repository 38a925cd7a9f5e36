"""Journals that live through crashes, power cuts and failing disks, seed by seed.

A life is the work of `work.step` done to its end, with a death at some
operation again and again. What each start must find (P7, P11, P12, P13):
every step that had returned, and the one under way as a whole or not at all;
a file that SQLite finds whole; never a damaged or a lost journal.

python -m tests.disk.lives FIRST COUNT      (within the layer: `layer.run`)
"""

from __future__ import annotations

import errno
import logging
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from controller.errors import JournalError, JournalUnwritable
from controller.journal.journal import Journal
from tests.disk.layer import Disk, Kept, Op, Where, seed_sqlite
from tests.disk.work import is_whole, open_inline, rows, step, undisturbed

STEPS = 41
"""Five orders, about 700 operations of the disk."""

LONGEST = 120
"""Operations until the next death at most; a start alone takes some 40."""

FAULTS = ((Op.WRITE, errno.EIO), (Op.SYNC, errno.EIO), (Op.TRUNCATE, errno.EIO),
          (Op.WRITE, errno.ENOSPC), (Op.RENAME, errno.EIO))  # fmt: skip
"""Not a failing sync of the directory: SQLite does not look whether it failed when it syncs the
name of a new log, and a cut may then take the whole log (see inside_journal.py)."""


class Broken(AssertionError):
    """A promise did not hold."""


@dataclass
class Life:
    """One seed. `faults`: single operations fail as well, and the process lives on."""

    disk: Disk
    folder: Path
    seed: int
    known: list[int]
    faults: bool
    at: int = 0
    """Steps that returned."""
    unsure: bool = False
    """A sync may have failed since the last cut: readers may see what the disk does not have,
    and no later sync brings it there. A start heals that as it checkpoints the log, so that one
    is let work: three faults at once (a sync, the checkpoint, then the power) lose commits."""
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"{self.seed}/{self.faults}")

    def live(self) -> Counter[str]:
        while self.at < STEPS:
            self._one_process()
            if self.dice.random() < 0.7:
                kept = self.dice.choice([*[Kept.RANDOM] * 4, Kept.NOTHING, Kept.EVERYTHING])
                self.disk.cut(self.dice.getrandbits(64), kept)
                self.unsure = False
                self.done["cut"] += 1
            else:
                self.disk.revive()
                self.done["kill"] += 1
        journal, _ = open_inline(self.folder)
        self._look(journal)
        journal.abandon()
        return self.done

    def _one_process(self) -> None:
        """From a start to a death."""
        if self.faults and not self.unsure and self.dice.random() < 0.5:
            self._arm_fault()
        self.disk.die_at(self.dice.randint(1, LONGEST), self.dice.choice(list(Where)))
        refused = self.disk.refused
        try:
            journal, opening = open_inline(self.folder)
        except (JournalError, OSError):
            if self.disk.refused == refused and not self.disk.dead:
                raise  # nothing had failed
            self._nothing_set_aside()
            self.done["start failed"] += 1
            return
        try:
            self._nothing_set_aside()
            assert not opening.lost
            assert not opening.first
            self.done["start"] += 1
            self._look(journal)
            pages = self.dice.choice([1_000, 20])  # checkpoints in the middle of the work too
            journal._store._connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
            self._work(journal)
        finally:
            self.disk.die()  # or it would tidy up as it closes
            journal.abandon()

    def _nothing_set_aside(self) -> None:
        if aside := [path.name for path in self.folder.glob("journal-*.db")]:
            raise Broken(f"a legal state was taken for a damaged one: {aside}")

    def _work(self, journal: Journal) -> None:
        failed = 0
        while self.at < STEPS and not self.disk.dead and failed < 3:
            if self.faults and self.dice.random() < 0.2:
                self._arm_fault()
            try:
                step(journal, self.seed, self.at)
            except (JournalUnwritable, OSError) as error:
                if isinstance(error, OSError) and not self.disk.dead:
                    raise
                self.done["step failed"] += 1
                failed += 1
                if not self.disk.dead and rows(journal) != self.known[self.at]:
                    raise Broken("a step that could not be written is seen") from None
                continue
            self.at += 1
            self.done["step"] += 1

    def _arm_fault(self) -> None:
        self.unsure = True
        op, error = self.dice.choice(FAULTS)
        self.disk.fail(op, self.dice.randint(1, 40 if op == Op.WRITE else 3), error)

    def _look(self, journal: Journal) -> None:
        """The state must be that of the steps that returned, or of one more."""
        found = rows(journal)
        if found == self.known[self.at]:
            self.done["under way: lost"] += 1
        elif self.at < STEPS and found == self.known[self.at + 1]:
            self.at += 1
            self.done["under way: kept"] += 1
        else:
            age = self.known.index(found) if found in self.known else None
            raise Broken(f"state of step {age} after {self.at} steps had returned")
        if not is_whole(journal):
            raise Broken("integrity_check found damage")


class Lives:
    """A root on which one life after the other is led."""

    def __init__(self) -> None:
        self.root = Path(mkdtemp(prefix="lives-", dir="/dev/shm"))
        self.folder = self.root / "state"
        self.done: Counter[str] = Counter()

    def lead(self, seed: int, *, faults: bool) -> Counter[str]:
        """Raises Broken, or what the journal raised, with the seed in a note."""
        seed_sqlite(seed + 1)
        shutil.rmtree(self.folder, ignore_errors=True)
        known = undisturbed(self.folder, seed, STEPS)
        shutil.rmtree(self.folder)
        journal, _ = open_inline(self.folder)  # with its birth, which a crash may put off
        journal.abandon()
        disk = Disk(self.root, seed)
        try:
            done = Life(disk, self.folder, seed, known, faults).live()
            done["operations"] = disk.count()
            done["bytes"] = disk.written
            assert disk.escaped() is None, "something was changed past the layer"
        except Exception as error:
            error.add_note(f"seed {seed}, faults {faults}")
            raise
        finally:
            disk.stop()
        self.done += done
        return done

    def close(self) -> None:
        shutil.rmtree(self.root)


def main() -> None:
    logging.disable(logging.CRITICAL)
    first, count = int(sys.argv[1]), int(sys.argv[2])
    lives = Lives()
    began = time.perf_counter()
    try:
        for seed in range(first, first + count):
            for faults in (False, True):
                lives.lead(seed, faults=faults)
    finally:
        lives.close()
    took = time.perf_counter() - began
    crashes = lives.done["cut"] + lives.done["kill"]
    print(f"{2 * count} lives, {crashes} crashes in {took:.1f} s, {crashes / took:.0f} a second")
    print(dict(lives.done))


if __name__ == "__main__":
    main()
