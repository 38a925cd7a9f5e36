"""A VBP board's non-volatile memory: its identity, its records, the highest released id.

In a file it survives the emulator, as flash survives a power cut: written whole
to a neighbour, flushed to the disk, then renamed over the old one, so that a
kill at any instant leaves the old content or the new. Without a file it lives
as long as the process.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

U8 = 0xFF
U16 = 0xFFFF
U32 = 0xFFFF_FFFF
U64 = 0xFFFF_FFFF_FFFF_FFFF


class Record(BaseModel):
    """What the board keeps of one cycle until the host released it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    cycle_id: int = Field(ge=0, le=U64)
    lane: int = Field(ge=0, le=U16)
    state: int = Field(ge=0, le=U8)
    motor: int = Field(ge=0, le=U8)
    drop: int = Field(ge=0, le=U8)
    drops: int = Field(default=0, ge=0, le=U8)
    first_drop_ms: int = Field(default=0, ge=0, le=U16)
    run_ms: int = Field(default=0, ge=0, le=U16)
    peak_ma: int = Field(default=0, ge=0, le=U16)


class Content(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    memory_id: int = Field(ge=0, le=U32)
    boots: int = Field(default=0, ge=0)
    highest_released: int = Field(default=0, ge=0, le=U64)
    records: tuple[Record, ...] = Field(default=(), strict=False)


@dataclass(slots=True)
class Memory:
    """`records` keep their order: oldest first."""

    path: Path | None
    rng: random.Random
    """Gives the memory_id at a format; seeded where there is no file."""
    memory_id: int = 0
    boots: int = 0
    highest_released: int = 0
    records: dict[int, Record] = field(default_factory=dict)

    def load(self) -> bool:
        """Read the file, or format: False when there was something that is no memory.

        OSError when it cannot be read: what it holds is not thrown away for that.
        """
        content, sound = None, True
        if self.path is not None and self.path.exists():
            try:
                content = Content.model_validate_json(self.path.read_bytes())
            except ValidationError:
                sound = False
        if content is None:
            self.format()
            return sound
        self.memory_id = content.memory_id
        self.boots = content.boots
        self.highest_released = content.highest_released
        self.records = {record.cycle_id: record for record in content.records}
        return True

    def format(self) -> None:
        """Everything forgotten, and a new memory_id that says so."""
        self.memory_id = self.rng.randrange(1, U32)
        self.highest_released = 0
        self.records.clear()
        self.store()

    def keep(self, record: Record) -> None:
        """Durable when it returns."""
        self.records[record.cycle_id] = record
        self.store()

    def release(self, cycle_id: int) -> None:
        if self.records.pop(cycle_id, None) is not None:
            self.highest_released = max(self.highest_released, cycle_id)
            self.store()

    def booted(self) -> None:
        self.boots += 1
        self.store()

    def store(self) -> None:
        if self.path is None:
            return
        content = Content(
            memory_id=self.memory_id,
            boots=self.boots,
            highest_released=self.highest_released,
            records=tuple(self.records.values()),
        )
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("wb") as file:
            file.write(content.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
