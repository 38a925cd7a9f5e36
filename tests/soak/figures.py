"""What is counted at each rest: what lives in memory and whose it is, and what lies on disk.

A sample is one flat table, name -> number, kept as text: text is no object that the garbage
collector counts, so looking does not change what is looked at.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from types import CoroutineType
from typing import Any

import controller
import firmware_sim
import tests
from controller.journal.journal import Journal
from tests.soak import aged
from tests.soak.shop import Shop

Sample = dict[str, float]

OWNERS = (
    (aged.__file__, "controller"),  # what stands in for the daemon's own
    (str(Path(controller.__file__).parent), "controller"),
    (str(Path(firmware_sim.__file__).parent), "firmware_sim"),
    (str(Path(tests.__file__).parent), "tests"),
)
"""Whose file made an allocation: the first that its name begins with; the rest is `libraries`:
asyncio, json, pydantic, sqlite3 …"""
OURS = ("controller.", "firmware_sim.")
WAITING = (asyncio.Task, asyncio.Future, asyncio.Handle, CoroutineType)
"""What an asyncio program piles up when it forgets to end something."""
TABLES = ("orders", "units", "cycles", "outbox", "answers", "events", "audit")
"""Of the journal: those that grow with what happens."""
KIB = 1024


def objects() -> Sample:
    """Live objects: of each class of ours, of asyncio's, and everything that gc knows but those
    of the world around (class of `tests`). `blocks`: all that Python's allocator has given, the
    texts and numbers that gc does not know among it."""
    gc.collect()
    kinds: Counter[type[Any]] = Counter(map(type, gc.get_objects()))
    found: Sample = Counter()
    for kind, count in kinds.items():
        module = str(kind.__module__)
        if module.startswith(OURS):
            found[f"objects {module}.{kind.__qualname__}"] = count
        elif issubclass(kind, WAITING):
            found[f"asyncio {kind.__name__}"] += count
        if module.startswith(OURS):
            found["objects of ours"] += count
        if not module.startswith("tests."):
            found["objects in all"] += count
    found["blocks"] = sys.getallocatedblocks()
    return dict(found)


def allocations() -> Sample:
    """KiB of Python's memory by who allocated it; nothing where tracemalloc does not run."""
    if not tracemalloc.is_tracing():
        return {}
    found = dict.fromkeys(("controller", "firmware_sim", "libraries"), 0.0)
    snapshot = tracemalloc.take_snapshot()
    for stat in snapshot.statistics("filename"):
        file = stat.traceback[0].filename
        owner = next((who for path, who in OWNERS if file.startswith(path)), "libraries")
        if owner != "tests" and file != tracemalloc.__file__:
            found[owner] += stat.size / KIB
    return {f"KiB {owner}": round(size, 1) for owner, size in found.items()}


def loops(shop: Shop) -> Sample:
    """Of the daemon's loop, and timers of the boards' one."""
    loop = shop.machine.loop
    assert loop is not None
    return {
        "tasks": len(asyncio.all_tasks(loop)),
        "timers of the daemon": sum(not handle._cancelled for handle in loop._scheduled),
        "timers around it": sum(not handle._cancelled for handle in shop.loop._scheduled),
    }


def process(pid: int | str = "self") -> Sample:
    """What the kernel says of a process."""
    folder = Path("/proc") / str(pid)
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text(encoding="ascii").splitlines()
    )
    return {
        "descriptors": len(list((folder / "fd").iterdir())) - (pid == "self"),  # its own look
        "threads": int(status["Threads"]),
        "KiB resident": int(status["VmRSS"].split()[0]),
    }


def rows(connection: sqlite3.Connection) -> Sample:
    """Rows of each table, and of `orders` those that still have their details."""
    one = connection.execute
    found: Sample = {
        f"rows {table}": one(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608  (ours)
        for table in TABLES
    }
    unpruned = one("SELECT COUNT(*) FROM orders WHERE pruned = 0").fetchone()[0]
    return {**found, "rows orders with details": unpruned}


def pages(connection: sqlite3.Connection) -> Sample:
    """Bytes of each table with its indexes, as SQLite counts its pages (dbstat), and the free."""
    sizes = dict(
        connection.execute(
            "SELECT tbl_name, SUM(pgsize) FROM dbstat JOIN sqlite_schema USING (name)"
            " GROUP BY tbl_name"
        ).fetchall()
    )
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    found: Sample = {f"bytes {table}": sizes.get(table, 0) for table in TABLES}
    return {**found, "bytes free": size * free}


def disk(journal: Journal) -> Sample:
    files = journal._files
    return {
        name: path.stat().st_size if path.exists() else 0
        for name, path in (("bytes database", files.database), ("bytes log", files.wal))
    }


def in_memory(shop: Shop) -> str:
    return json.dumps({**objects(), **allocations(), **loops(shop), **process()})


def on_disk(shop: Shop) -> Sample:
    journal = shop.machine.journal
    assert journal is not None
    connection = journal._store._connection
    return {**rows(connection), **pages(connection), **disk(journal)}
