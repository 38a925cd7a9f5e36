"""A platform with its real store and its real HTTP server, and a machine that only talks."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from platform_sim import api, catalogue, main, timers
from platform_sim.deliveries import Terms
from platform_sim.queues import Books
from platform_sim.settings import Settings
from platform_sim.store import Store
from tests.platform.merchant import APPID, KEY, SECRET, Merchant

MACHINE_NO = "16327129"


def settings_of(database: Path, **more: Any) -> Settings:
    """Cabinet A: belts with a light eye. Cabinet B: spirals."""
    products = [
        {"product_id": 121, "channel": "A1", "stock": 8, "title": "water"},
        {"product_id": 122, "channel": "A2", "stock": 8},
        {"product_id": 221, "channel": "B1", "stock": 8},
        {"product_id": 222, "channel": "B2", "stock": 8, "on_sale": False},
    ]
    machine = {
        "machine_no": MACHINE_NO,
        "appid": APPID,
        "name": "the station's",
        "cabinets": [{"name": "A", "kind": "belt", "light_eye": True}, {"name": "B"}],
        "products": products,
    }
    other = {**machine, "machine_no": "16327130", "appid": "ds-other"}
    table = {
        "database": database,
        "merchants": [
            {"appid": APPID, "secret": SECRET, "sign_key": KEY},
            {"appid": "ds-other", "secret": "s2", "sign_key": "k2", "sign_encoding": "url"},
        ],
        "machines": [machine, other],
        "callbacks": {"allowed_hosts": ["127.0.0.1"]},
    }
    return Settings.model_validate({**table, **more})


@dataclass
class Platform:
    """Without broker and callbacks: what would go out lies in its outboxes."""

    store: Store
    settings: Settings
    books: Books
    url: str
    http: aiohttp.ClientSession
    merchant: Merchant
    seq: int = 0
    journal: int = 1_763_800_000
    offset: float = 0.0
    machine_no: str = MACHINE_NO
    heard: list[dict[str, Any]] = field(default_factory=list)
    """Messages as the machine made them, to be told again."""

    async def says(self, leaf: str, **fields: Any) -> None:
        message = {"schema": 1, "machine_no": self.machine_no, **fields}
        await self.books.book(self.machine_no, leaf, json.dumps(message).encode())

    async def online(self, mode: str = "ready", *, online: bool = True) -> None:
        await self.says("state", online=online, mode=mode)

    def numbered(self) -> dict[str, int]:
        self.seq += 1
        return {"journal": self.journal, "seq": self.seq}

    async def result(
        self, command: dict[str, Any], unit: int, outcome: str, reason: str | None = None,
        revision: int = 1, **more: Any,
    ) -> None:  # fmt: skip
        """The machine's word on a unit of a command."""
        fields = {
            **self.numbered(),
            "order_id": command["order_id"],
            "delivery_id": command["delivery_id"],
            "unit": unit,
            "revision": revision,
            "outcome": outcome,
            "reason": reason,
            "channel": command["products"][0]["channel"],
            "lane_health": "ok",
            **more,
        }
        self.heard.append(fields)
        await self.says("result", **fields)

    async def order_word(
        self, command: dict[str, Any], status: str, code: str | None, executed: str
    ) -> None:
        fields = {
            **self.numbered(),
            "order_id": command["order_id"],
            "delivery_id": command["delivery_id"],
            "status": status,
            "code": code,
            "command_executed": executed,
        }
        self.heard.append(fields)
        await self.says("order", **fields)

    async def commands(self, leaf: str = "dispense") -> list[dict[str, Any]]:
        """What went out so far, by its leaf; the broker takes it."""
        found = []
        for command in await self.books.next_commands(1000):
            if command.leaf == leaf:
                found.append(json.loads(command.payload))
                await self.books.sent(command.id)
        return found

    async def callbacks(self) -> list[dict[str, Any]]:
        """What the merchant is told; they answer 200 to each."""
        told = []
        while due := await self.books.due_callbacks(time.time() + self.offset + 10, 100):
            for callback in due:
                told.append(json.loads(callback.body))
                await self.books.told(callback.id)
        return told

    async def after(self, seconds: float) -> None:
        """So much later, all in all: what the rules of time do then."""
        self.offset += seconds
        terms = Terms(self.settings.rules, time.time() + self.offset)
        await self.store.write(lambda tx: timers.tick(tx, terms))

    async def sql(self, query: str, *values: Any) -> list[sqlite3.Row]:
        return await self.store.read(lambda tx: tx.execute(query, values).fetchall())


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Platform]:
    store = Store(settings.database)
    await store.write(lambda tx: catalogue.take_over(tx, settings, now=time.time()))
    server = uvicorn.Server(
        uvicorn.Config(
            api.application(store, settings),
            http=main.Connection,
            port=0,
            log_level="warning",
            lifespan="off",
        )
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as http:
            books = Books(store, settings.rules)
            platform = Platform(store, settings, books, url, http, Merchant(url, http))
            await platform.online()
            yield platform
    finally:
        server.should_exit = True
        await serving
        await store.close()


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    async with running(settings_of(tmp_path / "platform.db")) as made:
        yield made
