"""Memory that is lost: a journal that goes, or goes back; a board that is another one.

The happenings, and what the judge keeps of them: who knows what since when, and what nobody
could know any more.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.journal.files import sync_folder
from firmware_sim.faults import Fault
from tests.sim import matrix

if TYPE_CHECKING:
    from tests.sim.world import World

STATE = "/state"
ADOPTS_WITHIN_S = 2.0
"""From the connection that has a last will to the new birth's commit: no disk is slow here."""


@dataclass(frozen=True)
class Copy:
    """A backup of the state directory, as it was between two callbacks."""

    files: Mapping[str, bytes]
    accepted: Mapping[str, int]
    birth: int | None
    seq: int


@dataclass
class Losses:
    """The judge's notes. A journal's *generation* grows with each loss."""

    generation: int = 0
    how: str = ""
    at: float = 0.0
    """True Unix seconds of the newest loss."""
    copy: Copy | None = None
    """What was put back then; None: nothing."""
    forgotten: set[object] = field(default_factory=set)
    """Orders that were sent before the newest loss."""
    aged: set[object] = field(default_factory=set)
    """Of those of any loss: orders of which an older copy may have told."""
    counted: set[str] = field(default_factory=set)
    """Channels that a technician counted since."""
    accepted: dict[str, int] = field(default_factory=dict)
    """Board -> the record memory that this machine took for its own."""
    adopted_at: float | None = None
    """When the daemon had read its retained state, after the newest loss."""
    witnessed: bool = False
    """That state told of a life that the journal in use does not know."""

    def read(self, state: bytes | None, at: float) -> None:
        """The daemon came with a last will: it has read what the broker had of it."""
        if self.adopted_at is not None:
            return
        self.adopted_at = at
        told = json.loads(state) if state else {}
        if told.get("journal") is None:
            return
        known = self.copy
        self.witnessed = (
            known is None or told["journal"] != known.birth or told["last_seq"] > known.seq
        )

    @property
    def marked(self) -> bool:
        """The machine's own files tell of the loss."""
        return self.how in {"database", "corrupt"}

    def noticed(self, now: float) -> bool:
        """Whether a careful daemon knows by now that its memory is not whole."""
        if not self.generation:
            return False
        read = self.adopted_at is not None and now > self.adopted_at + ADOPTS_WITHIN_S
        return self.marked or (read and self.witnessed)

    def unaware(self, now: float) -> bool:
        """An older copy is in use, and nothing has told the daemon so."""
        return self.generation > 0 and self.copy is not None and not self.noticed(now)


# ------------------------------------------------------------------ the journal


def copy(world: World) -> None:
    """A technician's backup."""
    folder = world.machine.state_dir
    journal = world.machine.journal
    if journal is None or journal._store._closed:
        return
    row = journal._store._connection.execute("SELECT birth, seq FROM journal").fetchone()
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    world.copies.append(Copy(files, dict(world.judge.losses.accepted), row["birth"], row["seq"]))


def lose(world: World, how: str, which: float, away_s: float) -> None:
    """The daemon dies, and before it starts again its memory is another one."""
    back = world.copies[int(which * len(world.copies))] if world.copies else None
    if how.startswith("older") and back is None:
        return
    if not any(world.machine.state_dir.glob("journal.db")) or crossed(world):
        return
    world.judge.matrix.trouble(matrix.JOURNAL)
    world._crash(away_s)
    world._disarm()  # what was to die in a write of its own must not die in these
    if world.disk is not None:
        world._mend_disk(world.disk)  # who can put back a copy has a disk that can be written
    LOSSES[how](world.machine.state_dir, back)
    _synced(world.machine.state_dir)
    world.tell("computer", f"its journal: {how}")
    world.judge.lost(how, back if how.startswith("older") else None)


def _without(folder: Path, back: Copy | None) -> None:
    del back
    shutil.rmtree(folder)


def _database_gone(folder: Path, back: Copy | None) -> None:
    del back
    for name in ("journal.db", "journal.db-wal"):
        (folder / name).unlink(missing_ok=True)


def _corrupt(folder: Path, back: Copy | None) -> None:
    del back
    path = folder / "journal.db"
    path.write_bytes(b"\xff" * path.stat().st_size)


def _older(folder: Path, back: Copy | None) -> None:
    assert back is not None
    _database_gone(folder, None)
    for name in ("journal.db", "journal.db-wal"):
        if name in back.files:
            (folder / name).write_bytes(back.files[name])


def _older_directory(folder: Path, back: Copy | None) -> None:
    assert back is not None
    shutil.rmtree(folder)
    folder.mkdir()
    for name, content in back.files.items():
        (folder / name).write_bytes(content)


def _synced(folder: Path) -> None:
    """As `sync` at the end of a technician's work."""
    if folder.exists():
        for path in (*folder.iterdir(), folder):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    sync_folder(folder.parent)


LOSSES = {
    "directory": _without,
    "database": _database_gone,
    "corrupt": _corrupt,
    "older": _older,
    "older_directory": _older_directory,
}


def recount(world: World, which: float, board: str, lasts_s: float) -> None:
    """The technician counts every lane of a board, and lets its cabinets sell again."""
    del which, lasts_s
    plan = world.plan[board]

    async def count(operations: Any) -> None:
        for channel, number in plan.lanes.items():
            goods = world.boards[board].machine.lanes[number].goods
            counted = world.judge.losses.counted
            news = {channel} - counted
            counted |= news  # a crash may come between the commit and our hearing of it
            try:
                await operations.stock_set(channel, goods, "technician")
            except Exception:
                counted -= news
                raise
        for cabinet in plan.cabinets:
            await operations.cabinet_start(cabinet, "technician")

    world._act(count)


# ------------------------------------------------------------------ boards


def swap(world: World, board: str) -> None:
    """Another board of its kind takes its place."""
    world.judge.matrix.trouble(matrix.SWAPPED)
    world.boards[board].strike(Fault(kind="swap"))


def crossed(world: World) -> bool:
    return any(cable.board is not world.boards[name] for name, cable in world.cables.items())


def cross(world: World, lasts_s: float) -> None:
    """Two boards of one kind change their cables, and after a while change back."""
    known = world.judge.losses.accepted
    if set(world.cables) != {"main", "back"} or set(known) != {"main", "back"} or crossed(world):
        return
    _exchange(world)
    world.loop.call_later(lasts_s, uncross, world)


def uncross(world: World) -> None:
    if crossed(world):
        world.tell("technician", "puts the cables right")
        _exchange(world)


def _exchange(world: World) -> None:
    one, other = world.cables["main"], world.cables["back"]
    for cable in (one, other):
        cable.set_plugged(False)
    one.board, other.board = other.board, one.board
    for cable in (one, other):
        cable.board.on_plug = cable.set_plugged
        cable.plugged = cable.board.wire.plugged


ACTS = {
    "copy_journal": copy,
    "lose_journal": lose,
    "recount": recount,
    "swap_board": swap,
    "cross_cables": cross,
}
