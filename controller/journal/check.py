"""The whole file looked through, in slices that no customer notices.

Done after an unclean stop. Small tables get SQLite's own integrity_check of the
table; large ones are read row by row along their key, and each row is looked
for in each of the table's indexes, so that every page of both is read. What is
not looked at is the list of free pages: SQLite finds damage there when it takes
one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from controller.errors import JournalDamaged
from controller.journal import migrations

SMALL_ROWS = 1_000
"""integrity_check of so many rows takes a few milliseconds."""

SLICE_ROWS = 300
"""About 3 ms of reading on a small computer: as long as one flush of its card."""


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    key: tuple[str, ...]
    """The columns that it is sorted by."""
    indexes: tuple[tuple[str, tuple[str, ...]], ...]
    """Full indexes that sort all rows: name and columns. Partial ones are read on their own."""
    partial: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the check is: in table number `table_no` of `tables`; `rows` of it were read."""

    table: str
    table_no: int
    tables: int
    rows: int


@cache
def tables() -> tuple[Table, ...]:
    """Of the newest schema: a start takes no journal of another, word for word."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        migrations.migrate(connection)
        return _tables(connection)


def _tables(connection: sqlite3.Connection) -> tuple[Table, ...]:
    names = [
        (row[0], "WITHOUT ROWID" in row[1])
        for row in connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
        if not row[0].startswith("sqlite_")
    ]
    return tuple(_table(connection, name, sorted_by_key=keyed) for name, keyed in names)


def _table(connection: sqlite3.Connection, name: str, *, sorted_by_key: bool) -> Table:
    columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
    ranked = sorted((column["pk"], column["name"]) for column in columns if column["pk"])
    key = tuple(column for _, column in ranked) if sorted_by_key else ("rowid",)
    indexes, partial = [], []
    for index in connection.execute(f"PRAGMA index_list({name})").fetchall():
        if index["partial"]:
            partial.append(str(index["name"]))
        elif index["origin"] == "c":
            info = connection.execute(f"PRAGMA index_info({index['name']})").fetchall()
            indexes.append((str(index["name"]), tuple(str(row["name"]) for row in info)))
    return Table(name, key, tuple(indexes), tuple(partial))


def is_small(connection: sqlite3.Connection, table: Table) -> bool:
    row = connection.execute(
        f"SELECT 1 FROM {table.name} LIMIT 1 OFFSET {SMALL_ROWS}"  # noqa: S608 - names of ours
    ).fetchone()
    return row is None


def check_small(connection: sqlite3.Connection, table: Table) -> None:
    """Raises JournalDamaged with what SQLite found."""
    said = connection.execute(f"PRAGMA integrity_check({table.name})").fetchone()[0]
    if said != "ok":
        raise JournalDamaged(f"the journal's table {table.name} is damaged: {str(said)[:200]}")


def check_partial(connection: sqlite3.Connection, table: Table, index: str) -> None:
    """Read one partial index to its end: they hold only what is open or unsent.

    An entry without its row makes SQLite say that the file is malformed.
    """
    (clause,) = connection.execute(
        "SELECT substr(sql, instr(sql, ' WHERE ')) FROM sqlite_schema WHERE name = ?", (index,)
    ).fetchone()
    connection.execute(
        f"SELECT COUNT(*), COUNT(DISTINCT {table.key[0]} || hex({_any_column(connection, table)}))"  # noqa: S608 - names of ours
        f" FROM {table.name} INDEXED BY {index} {clause}"
    ).fetchone()


def _any_column(connection: sqlite3.Connection, table: Table) -> str:
    """The last column: reading it walks over the whole row."""
    return str(connection.execute(f"PRAGMA table_info({table.name})").fetchall()[-1]["name"])


def check_slice(
    connection: sqlite3.Connection, table: Table, after: tuple[object, ...] | None
) -> tuple[object, ...] | None:
    """Read the next rows behind key `after`; the last key read, None at the end.

    Raises JournalDamaged for a row that an index does not hold, sqlite3.DatabaseError
    (as JournalDamaged through the store) for what SQLite cannot read.
    """
    key = ", ".join(f"t.{column}" for column in table.key)
    where = "" if after is None else f"WHERE ({key}) > ({', '.join('?' * len(table.key))})"
    lookups = "".join(
        f", EXISTS (SELECT 1 FROM {table.name} AS i INDEXED BY {name} WHERE {_same(table, columns)})"  # noqa: S608, E501 - names of ours
        for name, columns in table.indexes
    )
    rows = connection.execute(
        f"SELECT {key}, t.* {lookups} FROM {table.name} AS t {where} ORDER BY {key}"  # noqa: S608 - names of ours
        f" LIMIT {SLICE_ROWS}",
        after or (),
    ).fetchall()
    for row in rows:
        found = tuple(row)[len(row) - len(table.indexes) :] if table.indexes else ()
        for (name, _), present in zip(table.indexes, found, strict=True):
            if not present:
                raise JournalDamaged(
                    f"the journal is damaged: index {name} has lost a row of {table.name}"
                )
    if len(rows) < SLICE_ROWS:
        return None
    return tuple(rows[-1])[: len(table.key)]


def _same(table: Table, columns: tuple[str, ...]) -> str:
    return " AND ".join(f"i.{column} IS t.{column}" for column in (*columns, *table.key))


def steps(connection: sqlite3.Connection) -> Iterator[Place]:
    """The whole check; each step is one bounded slice. Raises JournalDamaged."""
    found = tables()
    for table_no, table in enumerate(found, start=1):
        rows = 0
        if is_small(connection, table):
            check_small(connection, table)
            yield Place(table.name, table_no, len(found), rows)
            continue
        for index in table.partial:
            check_partial(connection, table, index)
            yield Place(table.name, table_no, len(found), rows)
        after: tuple[object, ...] | None = None
        while True:
            after = check_slice(connection, table, after)
            rows += SLICE_ROWS if after is not None else 0
            yield Place(table.name, table_no, len(found), rows)
            if after is None:
                break
