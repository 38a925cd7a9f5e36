"""platform-sim in front of the fleet: its settings, and its books read from beside it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fleet.machine import GOODS, PRODUCTS
from tests.platform.merchant import APPID, KEY, SECRET
from tests.platform.process import PlatformProcess
from tests.system.broker import free_port
from tests.system.emulator import toml_table

Stocks = Mapping[str, Mapping[str, int]]
"""machine_no -> `Machine.stocks()`."""

RESTS = {
    "callbacks that were not told": "SELECT count(*) FROM callback WHERE state = 'due'",
    "commands that have not left": "SELECT count(*) FROM command",
    "deliveries without an end": "SELECT count(*) FROM delivery WHERE state IN ('queued', 'sent')",
    "gaps in the machines' journals": "SELECT count(*) FROM journal WHERE ask_at IS NOT NULL",
    "messages booked behind a gap": "SELECT count(*) FROM ahead",
}
"""Each is 0 when everything rests."""

NEVER = {
    "callbacks were given up": "SELECT count(*) FROM callback WHERE state = 'given_up'",
    "gaps were given up, or words not booked": "SELECT coalesce(sum(count), 0) FROM counter",
    "ended deliveries still hold a lock": (
        "SELECT count(*) FROM delivery WHERE lock_until IS NOT NULL"
        " AND state NOT IN ('queued', 'sent')"
    ),
    "units are in no final state": "SELECT count(*) FROM unit WHERE status NOT IN (0, 1, 2, 5)",
    "paid units have no delivery of their own": (
        "SELECT count(*) FROM record JOIN purchase USING (order_id) WHERE purchase.status = 1"
        " AND quantity != (SELECT count(*) FROM delivery JOIN unit USING (delivery_id)"
        "  WHERE delivery.record_id = record.record_id)"
    ),
}
"""Each is 0 at the end."""


def settings(machines: Sequence[str], broker: int, http: int) -> str:
    """A constant port: merchants know one address, whichever life answers there."""
    tables = [
        'database = "platform.db"',
        toml_table("[http]", {"port": http}),
        toml_table("[mqtt]", {"port": broker}),
        toml_table("[callbacks]", {"allowed_hosts": ["127.0.0.1"]}),
        toml_table("[[merchants]]", {"appid": APPID, "secret": SECRET, "sign_key": KEY}),
    ]
    for machine_no in machines:
        tables.append(toml_table("[[machines]]", {"machine_no": machine_no, "appid": APPID}))
        cabinet = {"name": "A", "kind": "belt", "light_eye": True}
        tables.append(toml_table("[[machines.cabinets]]", cabinet))
        for product, (channel, _) in PRODUCTS.items():
            line = {"product_id": product, "channel": channel, "capacity": GOODS, "stock": GOODS}
            tables.append(toml_table("[[machines.products]]", line))
    return "\n".join(tables)


class FleetPlatform(PlatformProcess):
    def __init__(self, directory: Path, machines: Sequence[str], broker: int) -> None:
        super().__init__(directory, settings(machines, broker, free_port()))

    @contextlib.contextmanager
    def _books(self) -> Iterator[sqlite3.Connection]:
        """While it runs: a reader beside it."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as tx:
            yield tx

    def online(self) -> int:
        """Machines that it would sell at."""
        with self._books() as tx:
            return int(tx.execute("SELECT count(*) FROM machine WHERE online").fetchone()[0])

    def booked(self, machine_no: str, journal: int) -> int:
        """Up to which seq all is booked."""
        with self._books() as tx:
            row = tx.execute(
                "SELECT upto FROM journal WHERE machine_no = ? AND journal = ?",
                (machine_no, journal),
            ).fetchone()
        return 0 if row is None else int(row[0])

    def unpaid(self) -> int:
        with self._books() as tx:
            return int(tx.execute("SELECT count(*) FROM purchase WHERE status = 0").fetchone()[0])

    def rests(self) -> bool:
        return not self._counts(RESTS)

    def breaches(self, stocks: Stocks) -> list[str]:
        return [*self._counts(RESTS | NEVER), *self.stock_breaches(stocks)]

    def _counts(self, questions: Mapping[str, str]) -> list[str]:
        with self._books() as tx:
            counts = {words: tx.execute(sql).fetchone()[0] for words, sql in questions.items()}
        return [f"platform: {count} {words}" for words, count in counts.items() if count]

    def stock_breaches(self, stocks: Stocks) -> list[str]:
        """For sale is what lies in the lane, less what orders hold: when everything rests, those
        that nobody paid."""
        held: dict[tuple[str, int], int] = {}
        with self._books() as tx:
            for machine_no, product, quantity in tx.execute(
                "SELECT record.machine_no, product_id, sum(quantity) FROM record"
                " JOIN purchase USING (order_id) WHERE purchase.status = 0 GROUP BY 1, 2"
            ):
                held[machine_no, product] = quantity
            rows: list[Any] = tx.execute(
                "SELECT machine_no, product_id, stock FROM product"
            ).fetchall()
        return [
            f"{machine_no}, product {product}: the platform has {stock} for sale, in the lane are"
            f" {lies}, and unpaid orders hold {held.get((machine_no, product), 0)}"
            for machine_no, product, stock in rows
            if stock
            != (lies := stocks[machine_no][str(product)]) - held.get((machine_no, product), 0)
        ]
