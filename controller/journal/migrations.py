"""The numbered schema files and the way forward from each version.

`user_version` of the database is the number of the last file applied; each is
one transaction; there is no way back. The schema that results must be, word for
word, the one that a new journal gets: anything else is damage.
"""

from __future__ import annotations

import re
import sqlite3
from functools import cache
from importlib import resources

APPLICATION_ID = 0x56454E44
"""ASCII VEND: what `file(1)` and we recognise the database by."""


@cache
def scripts() -> list[str]:
    """The schema files in their order; number n is at index n - 1."""
    folder = resources.files("controller.journal") / "schema"
    found = {
        int(name[:4]): (folder / name).read_text(encoding="utf-8")
        for name in (entry.name for entry in folder.iterdir())
        if re.fullmatch(r"[0-9]{4}_[a-z0-9_]+\.sql", name)
    }
    return [found[number] for number in range(1, len(found) + 1)]


def newest_version() -> int:
    return len(scripts())


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, upto: int | None = None) -> int:
    """Apply the files above the database's version; the version it then has."""
    for number, script in enumerate(scripts()[:upto], start=1):
        if number <= version(connection):
            continue
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script}\n"
                f"PRAGMA application_id = {APPLICATION_ID};\n"
                f"PRAGMA user_version = {number};\nCOMMIT;"
            )
        except sqlite3.Error:
            if connection.in_transaction:  # SQLite may have rolled back by itself
                connection.rollback()
            raise
    return version(connection)


def shape(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Every table and index with the words that made it."""
    rows = connection.execute(
        "SELECT type, name, coalesce(sql, '') FROM sqlite_schema"
        " WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
    )
    return [tuple(row) for row in rows]


@cache
def expected_shape(upto: int | None = None) -> list[tuple[str, str, str]]:
    """The shape of a new database of that version (None: the newest)."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(connection, upto)
        return shape(connection)
    finally:
        connection.close()
