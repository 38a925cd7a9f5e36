"""A disk with a volatile write cache, and what a power cut leaves of it.

What a drive promises (and what ext4 and SQLite build on): a sector of 512 bytes is written
whole or not at all; a write that was answered may still be lost; when a flush was
answered, every write that was answered before it is on the medium; a write with FUA is on
the medium when it is answered. In which order the cache reaches the medium is promised by
nobody, so here each unflushed sector lives or dies by itself.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

SECTOR = 512
"""Bytes that a drive writes whole or not at all."""


@dataclass(frozen=True)
class Cut:
    """What one power cut did. Bytes of writes that were not flushed yet."""

    unflushed: int = 0
    dropped: int = 0
    writes: int = 0
    torn: int = 0
    """Of `writes`, those of which some sectors lived and some died."""


@dataclass
class Counts:
    """Since the disk was made."""

    writes: int = 0
    flushes: int = 0
    fua: int = 0


@dataclass
class Disk:
    """`lies`: flush and FUA are answered and nothing is made durable by them, as by a drive
    whose maker wanted to win a benchmark. Only `settle` makes it so then."""

    size: int
    lies: bool = False
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        if self.size <= 0 or self.size % SECTOR:
            raise ValueError(f"{self.size} bytes are no whole number of sectors")
        self._medium = bytearray(self.size)
        self._cache: dict[int, list[tuple[int, bytes]]] = {}
        """Sector -> its unflushed versions, oldest first, each with the number of its write."""

    @property
    def unflushed(self) -> bool:
        """Whether a cut could lose something now."""
        return bool(self._cache)

    def fits(self, offset: int, length: int) -> bool:
        """Whether these are whole sectors of this disk."""
        return not (offset % SECTOR or length % SECTOR) and 0 <= offset <= self.size - length

    def read(self, offset: int, length: int) -> bytes:
        """The newest version of everything, as a drive answers while it has power."""
        found = bytearray(self._medium[offset : offset + length])
        for sector in range(offset // SECTOR, (offset + length) // SECTOR):
            if versions := self._cache.get(sector):
                at = sector * SECTOR - offset
                found[at : at + SECTOR] = versions[-1][1]
        return bytes(found)

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> None:
        self.counts.writes += 1
        self.counts.fua += fua
        for at in range(0, len(data), SECTOR):
            sector = (offset + at) // SECTOR
            version = bytes(data[at : at + SECTOR])
            if fua and not self.lies:
                self._cache.pop(sector, None)  # an older version must not come back over it
                self._keep(sector, version)
            else:
                self._cache.setdefault(sector, []).append((self.counts.writes, version))

    def flush(self) -> None:
        self.counts.flushes += 1
        if not self.lies:
            self.settle()

    def settle(self) -> None:
        """All of the cache is on the medium, as after a long rest."""
        for sector, versions in self._cache.items():
            self._keep(sector, versions[-1][1])
        self._cache.clear()

    def cut(self, chance: random.Random) -> Cut:
        """The power goes: of the cache a random part is on the medium, the rest is gone.

        Each write lives whole, is gone whole, or is torn: then each of its sectors lives or
        dies alone. How many live is drawn too, from none to all.
        """
        share = chance.choice((0.0, chance.random(), chance.random(), 1.0))
        tears = chance.random()
        numbers = sorted({number for versions in self._cache.values() for number, _ in versions})
        whole = {number: chance.random() < share for number in numbers if chance.random() >= tears}
        lived: dict[int, set[bool]] = {number: set() for number in numbers}
        unflushed = dropped = 0
        for sector, versions in sorted(self._cache.items()):
            for number, version in versions:
                lives = whole[number] if number in whole else chance.random() < share
                lived[number].add(lives)
                unflushed += SECTOR
                if lives:
                    self._keep(sector, version)
                else:
                    dropped += SECTOR
        self._cache.clear()
        torn = sum(len(fates) > 1 for fates in lived.values())
        return Cut(unflushed, dropped, len(numbers), torn)

    def _keep(self, sector: int, version: bytes) -> None:
        self._medium[sector * SECTOR : (sector + 1) * SECTOR] = version
