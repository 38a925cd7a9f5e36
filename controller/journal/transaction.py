"""One transaction as the modules of this room see it: SQL, time, counters, what it touched.

The single row of table `journal` is held in memory as `Counters`; the only
connection is ours, so the copy is the truth. It is written back once at the end
of a transaction, and replaced in memory only after the commit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from controller.dispensing.interfaces import Announcer
from controller.errors import ClockUnset

TEXT_LIMIT = 200
"""Longest text of a peer or a person that is stored as a column: enough to recognise it."""

DETAIL_LIMIT = 8_192
"""Longest JSON of an event's detail: a board's record with its raw bytes is under 1 KiB."""


RESTORED = "restored"
"""In place of the boot id: `journal restore` put this file here, and the next start must know."""


class Counters(NamedTuple):
    """The row of table `journal`. `birth` and `bound` are Unix seconds, None before belief."""

    birth: int | None
    bound: int | None
    doubted: int
    unconfirmed: int
    seq: int
    event_seq: int
    cycle: int
    newest_time: float
    clean: int
    boot: str
    accepted: int
    rejected: int
    delivered: int
    not_delivered: int
    unknown: int
    events_lost: int


READ = f"SELECT {', '.join(Counters._fields)} FROM journal WHERE id = 1"  # noqa: S608 - our own names
WRITE = f"UPDATE journal SET {', '.join(f'{name} = ?' for name in Counters._fields)} WHERE id = 1"  # noqa: S608 - our own names


def read_counters(connection: sqlite3.Connection) -> Counters | None:
    """None when the row is missing, which no journal of ours ever is."""
    row = connection.execute(READ).fetchone()
    return None if row is None else Counters(*row)


class Transaction:
    """What a job gets. `at` is wall time of its beginning; `topics` what may have new rows,
    `acted` whether a person did something to the machine in it."""

    __slots__ = ("acted", "announcer", "at", "boot", "connection", "counters", "topics", "was")

    def __init__(
        self,
        connection: sqlite3.Connection,
        counters: Counters,
        announcer: Announcer,
        *,
        at: float,
        believed: bool,
        boot: str,
    ) -> None:
        self.connection = connection
        self.announcer = announcer
        self.at = at
        self.boot = boot
        self.was = counters
        self.topics: set[str] = set()
        self.acted = False
        self.counters = counters
        self._believe(at if believed else 0.0)

    def _believe(self, at: float) -> None:
        if at > self.counters.newest_time:
            self.counters = self.counters._replace(newest_time=at)

    def set(self, **changes: Any) -> None:
        """Change counters by name; kept when the transaction commits."""
        self.counters = self.counters._replace(**changes)

    def run(self, sql: str, *values: Any) -> int:
        """Execute; how many rows it changed."""
        return self.connection.execute(sql, values).rowcount

    def insert(self, sql: str, *values: Any) -> int:
        """Execute; the row id it made."""
        return self.connection.execute(sql, values).lastrowid or 0

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self.connection.execute(sql, values).fetchone()
        return row

    def all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return self.connection.execute(sql, values).fetchall()

    def save(self) -> None:
        """Write the counters back: the last statement before the commit, if any changed."""
        if self.counters != self.was:
            self.connection.execute(WRITE, self.counters)

    def born(self) -> int:
        """The journal's birth. Raises ClockUnset while it has none (P13)."""
        if self.counters.birth is None:
            raise ClockUnset(
                "the clock was not believed yet: the journal has no birth and nothing may move; "
                "wait for time synchronisation or accept the clock",
            )
        return self.counters.birth


def to_json(value: Any) -> str:
    """Compact ASCII JSON: any text is storable, lone surrogates included."""
    return json.dumps(value, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    """Read-only mappings become objects, bytes hex, anything else its text."""
    if isinstance(value, Mapping):
        return dict(value)
    return value.hex() if isinstance(value, bytes) else str(value)


def bounded_json(detail: Mapping[str, Any]) -> str:
    """JSON of at most DETAIL_LIMIT characters; what is longer is cut and says so."""
    text = to_json(dict(detail))
    if len(text) <= DETAIL_LIMIT:
        return text
    return to_json({"cut": text[: DETAIL_LIMIT // 2]})


def storable(text: str, limit: int = TEXT_LIMIT) -> str:
    """A peer's text as SQLite can hold it: lone surrogates escaped, and cut."""
    return text.encode("utf-8", "backslashreplace").decode()[:limit]
