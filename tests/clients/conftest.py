"""A broker, both clients as processes, and a machine's end of the wire."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.broker import ROOT, Broker
from tests.system.process import Process
from tests.system.waiting import wait_for

CLIENTS = ROOT / "docs" / "clients"
NODE = ROOT / ".cache" / "clients" / "node"
PATIENCE_S = 0.2
"""How long a gap may stand before a client asks: ten times quicker than it usually is."""


class TalkingBroker(Broker):
    """Its log has each packet, so that a test can wait for one."""

    def config(self) -> str:
        return super().config() + "log_type debug\n"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    running = TalkingBroker(tmp_path_factory.mktemp("broker"))
    running.up()
    yield running
    running.end()


class Client(Process):
    """A client of docs/clients with its books."""

    def __init__(self, kind: str, directory: Path, port: int) -> None:
        self.name = f"{kind}-{directory.name}"
        self.books = directory / f"{kind}.db"
        program = {"python": [sys.executable, CLIENTS / "python/book_results.py"]}
        if kind == "node":
            program["node"] = _node_program()
        options = ["--port", str(port), "--host", "127.0.0.1", "--client-id", self.name]
        command = [*program[kind], *options, "--patience", str(PATIENCE_S), self.books]
        super().__init__(command, directory / f"{kind}.log")

    def up(self, broker: Broker) -> None:
        """Started and subscribed for the first time; from then on its session lasts."""
        self.start()
        said = f"Sending SUBACK to {self.name}"
        wait_for(lambda: said in broker.output(1_000_000), f"{self.name} subscribed", 20)

    def read(self, statement: str) -> list[tuple[Any, ...]]:
        """What its books say now; nothing before it made its tables."""
        if not self.books.exists():
            return []
        books = sqlite3.connect(self.books)
        try:
            return books.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return []
        finally:
            books.close()

    def wait_rows(self, count: int, what: str = "result") -> list[tuple[Any, ...]]:
        """Until so many are booked."""
        query = f"SELECT * FROM {what}"  # noqa: S608  (a name from the test)

        def enough() -> list[tuple[Any, ...]]:
            assert self.alive, self.output()
            rows = self.read(query)
            return rows if len(rows) >= count else []

        try:
            return wait_for(enough, f"{count} rows of {what}", 20)
        except AssertionError as error:
            there = len(self.read(query))
            raise AssertionError(f"{error}; {there} are there\n{self.output()}") from None


def _node_program() -> list[str | Path]:
    """Run where npm installed what it needs; the program itself is today's."""
    if not (NODE / "stamp").exists():
        pytest.skip(
            "no Node 22.13 with the packages of docs/clients/node; `make node` fetches them"
        )
    shutil.copy(CLIENTS / "node/book_results.mjs", NODE)
    shutil.copy(CLIENTS / "books.sql", NODE.parent)
    return [NODE / "node", "--disable-warning=ExperimentalWarning", NODE / "book_results.mjs"]


ClientMaker = Callable[[str, int], Client]


@pytest.fixture
def make_client(tmp_path: Path) -> Iterator[ClientMaker]:
    """`make_client(kind, port)`: not yet started."""
    made: list[Client] = []

    def make(kind: str, port: int) -> Client:
        made.append(Client(kind, tmp_path, port))
        return made[-1]

    yield make
    for client in made:
        client.kill()
