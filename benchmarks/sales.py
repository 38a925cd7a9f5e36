"""Whole sales a minute through platform-sim: order, paid, delivery, the machine's words, callback.

Everything runs on the machine's cores at once: platform-sim, mosquitto, the simulated machines,
the merchants. The bare shop takes as many requests of the same sizes, before and after, so that
whatever else the machine does strikes both.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Goal
from benchmarks.fleet import CAPACITY
from benchmarks.merchants import PRODUCTS
from benchmarks.rig import ROOT, bare_program, cpu_seconds, workplace
from tests.platform.merchant import APPID, KEY, SECRET
from tests.platform.process import READY, PlatformProcess
from tests.system.broker import Broker
from tests.system.emulator import toml_table
from tests.system.process import Process
from tests.system.waiting import wait_for

GOAL = 3000.0
"""Whole sales a minute."""
MACHINES = [f"{number:08d}" for number in range(10_000_000, 10_000_200)]
CUSTOMERS = 60
"""At one time, so that as many sales are under way: at the goal's rate each has 1.2 s."""
WARM_UP_S = 5.0
MEASURED_S = 40.0
BARE_S = 10.0
"""Twice."""
WINDOW_S = 5.0
"""Each is one sample: a rate that only an average keeps up shows in the spread."""


def measure() -> list[Figure]:
    with workplace() as directory:
        before = _bare(directory, "before")
        told, spent = _whole(directory / "platform")
        bare = before + _bare(directory, "after")
    sales = told["sales"]
    rates = per_minute([ended for ended, _ in sales])
    waits = [1000 * seconds for ended, seconds in sales if ended >= sales[0][0] + WARM_UP_S]
    note = (
        f"{len(sales)} sales, none lost, {CUSTOMERS} customers,"
        f" {len(MACHINES)} machines; baseline: a bare ASGI app, four requests and commits a sale"
    )
    parts = {f"cpu_ms_per_sale_{name}": ms / len(sales) for name, ms in spent.items()}
    return [
        Figure("whole sales", "/min", rates, bare, GOAL, Goal.LEAST, note, parts),
        Figure(
            "a whole sale, all of it", "ms", waits, [], note="order to callback, under that load"
        ),
        *(
            Figure(f"processor per sale, {name}", "ms", [ms / len(sales)], [])
            for name, ms in spent.items()
        ),
    ]


def per_minute(ends: Sequence[float]) -> list[float]:
    """Rates of the whole windows behind the warm-up."""
    first = min(ends) + WARM_UP_S
    windows = int((max(ends) - first) // WINDOW_S)
    return [
        sum(0 <= end - first - at * WINDOW_S < WINDOW_S for end in ends) * 60 / WINDOW_S
        for at in range(windows)
    ]


def _bare(directory: Path, when: str) -> list[float]:
    with bare_program(directory, "shop", directory / f"{when}.db") as shop:
        told = _merchants("bare", _address(shop), WARM_UP_S + BARE_S)
    shop.log.unlink()
    return per_minute([ended for ended, _ in told["sales"]])


def _whole(directory: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """What the merchants say, and milliseconds of processor time of the others."""
    directory.mkdir()
    broker = Broker(directory / "broker", persistent=False)
    platform = PlatformProcess(directory, _settings(directory / "platform.db", broker.port))
    fleet = Process(
        [sys.executable, "-m", "benchmarks.fleet", str(broker.port), *MACHINES],
        directory / "fleet.log",
    )
    programs = {"platform-sim": platform, "mosquitto": broker, "the machines": fleet}
    try:
        broker.up()
        platform.up()
        fleet.start({"PYTHONPATH": str(ROOT)})
        wait_for(lambda: _online(platform.database) == len(MACHINES), "the machines are online")
        before = {name: cpu_seconds(program.pid) for name, program in programs.items()}
        told = _merchants("whole", platform.url, WARM_UP_S + MEASURED_S)
        spent = {
            name: 1000 * (cpu_seconds(program.pid) - before[name])
            for name, program in programs.items()
        }
    finally:
        for program in (platform, fleet, broker):
            program.end()
    _audit(platform.database, told)
    return told, spent


def _merchants(kind: str, url: str, seconds: float) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.merchants",
        kind,
        url,
        str(CUSTOMERS),
        str(seconds),
    ]
    done = subprocess.run(
        [*command, *MACHINES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the merchants broke off:\n{done.stderr}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _settings(database: Path, port: int) -> str:
    tables = [
        f'database = "{database}"',
        toml_table("[http]", {"port": 0}),
        toml_table("[mqtt]", {"port": port}),
        toml_table("[callbacks]", {"allowed_hosts": ["127.0.0.1"]}),
        toml_table("[[merchants]]", {"appid": APPID, "secret": SECRET, "sign_key": KEY}),
    ]
    for machine in MACHINES:
        tables.append(toml_table("[[machines]]", {"machine_no": machine, "appid": APPID}))
        cabinet = {"name": "A", "kind": "belt", "light_eye": True}
        tables.append(toml_table("[[machines.cabinets]]", cabinet))
        for lane, product in enumerate(PRODUCTS, start=1):
            goods = {"capacity": CAPACITY, "stock": CAPACITY, "channel": f"A{lane}"}
            tables.append(toml_table("[[machines.products]]", {"product_id": product, **goods}))
    return "\n".join(tables)


def _online(database: Path) -> int:
    with _open(database) as connection:
        return int(connection.execute("SELECT sum(online) FROM machine").fetchone()[0] or 0)


def _audit(database: Path, told: dict[str, Any]) -> None:
    """A rate of sales that went wrong would be worth nothing."""
    sold = len(told["sales"])
    goods = len(MACHINES) * len(PRODUCTS) * CAPACITY
    wanted = {
        "SELECT count(*) FROM purchase": sold,
        "SELECT count(*) FROM unit WHERE status = 1": sold,
        "SELECT count(*) FROM callback WHERE state = 'told'": sold,
        "SELECT count(*) FROM command": 0,
        "SELECT sum(stock) FROM product": goods - sold,
    }
    with _open(database) as connection:
        found = {sql: connection.execute(sql).fetchone()[0] for sql in wanted}
    if found != wanted or told["lost"] or told["callbacks"] != sold:
        raise RuntimeError(f"not each sale went well: {found}, wanted {wanted}; {told['lost'][:3]}")


@contextmanager
def _open(database: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(database)
    try:
        yield connection
    finally:
        connection.close()


def _address(program: Process) -> str:
    return str(wait_for(lambda: READY.findall(program.output()), "the bare shop listens")[0])
