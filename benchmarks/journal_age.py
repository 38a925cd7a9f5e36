"""What a journal of 200,000 orders changes: the start, and the answers to commands.

Two sites of one cabinet each; one gets the grown journal, the other has its own few
orders. They take turns, so that whatever else the machine does strikes both.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import grown_journal
from benchmarks.bare.ready import LIBRARIES
from benchmarks.figures import Figure, Goal
from benchmarks.rig import VBP_TRACK, BenchSite, memory_mib, wait_at_work, workplace
from tests.system.daemon import Daemon

SPEED = 50.0
STARTS = 9
ORDERS = 50
"""Of each kind of command. Below the 100 rejections that a machine stores at once."""
START_GOAL_S = 1.0
START_RATIO = 1.2
LATENCY_RATIO = 1.1
PRODUCT = VBP_TRACK.lanes[0].product_id
NO_PRODUCT = 999
FIRST_ORDER_ID = 50_000_000


@contextmanager
def two_sites() -> Iterator[tuple[BenchSite, BenchSite]]:
    """(with a grown journal, without): all up but the daemons, which have run once."""
    with workplace() as directory:
        grown = BenchSite(directory / "grown", (VBP_TRACK,), speed=SPEED)
        young = BenchSite(directory / "young", (VBP_TRACK,), speed=SPEED)
        try:
            for site in (grown, young):
                site.up()
                wait_at_work(site)
                _dispense(site, 1)
                site.daemon.terminate()
            database = directory / "grown" / "state" / "journal.db"
            grown_journal.grow(database, PRODUCT)
            yield grown, young
        finally:
            grown.close()
            young.close()


def measure() -> list[Figure]:
    with two_sites() as (grown, young):
        megabytes = _size(grown) / 1e6
        figures = [*starts(grown, young), *latencies(grown, young), memory(grown, young)]
    for figure in figures:
        figure.detail["grown_journal_mb"] = megabytes
    return figures


def _size(site: BenchSite) -> int:
    return (site.directory / "state" / "journal.db").stat().st_size


# ------------------------------------------------------------------ start


def starts(grown: BenchSite, young: BenchSite) -> list[Figure]:
    """Stopped in order before each start, as by systemd; the files are in the page cache."""
    empty, with_orders, bare, killed = [], [], [], []
    _forget(young)
    young.daemon.up()
    young.daemon.terminate()
    for _ in range(STARTS):
        bare.append(_bare_start(young))
        empty.append(young.daemon.up())
        young.daemon.terminate()
        with_orders.append(grown.daemon.up())
        grown.daemon.kill()
        killed.append(grown.daemon.up())
        grown.daemon.terminate()
    return [
        Figure(
            name="start, empty journal",
            unit="s",
            samples=empty,
            baseline=bare,
            goal=START_GOAL_S,
            against=Goal.VALUE,
            note="exec to READY=1; baseline: a bare Python that imports the same libraries",
        ),
        Figure(
            name="start, 200,000 orders",
            unit="s",
            samples=with_orders,
            baseline=empty,
            goal=START_RATIO,
            against=Goal.RATIO,
            note="baseline: the start with an empty journal",
        ),
        Figure(
            name="start after kill -9, 200,000 orders",
            unit="s",
            samples=killed,
            baseline=empty,
            goal=START_RATIO,
            against=Goal.RATIO,
            note="the same baseline; the whole file is checked after READY, in the background",
        ),
    ]


def _forget(site: BenchSite) -> None:
    """A first installation again: no journal, no marker, and nobody who remembers one."""
    state = site.directory / "state"
    shutil.rmtree(state)
    state.mkdir()
    site.platform.send("state", b"", retain=True)


def _bare_start(site: BenchSite) -> float:
    directory = site.directory / "bare"
    program = Daemon(directory, "", directory / "none")
    program.command = [program.command[0].replace("vendingd", "python"), "-c", LIBRARIES]
    taken = program.up()
    program.wait()
    program.close_notify()
    return taken


# ------------------------------------------------------------------ command latency


def latencies(grown: BenchSite, young: BenchSite) -> list[Figure]:
    """Milliseconds from the publish of a command to its answer on `order`."""
    for site in (grown, young):
        site.daemon.up()
        wait_at_work(site)
    accepted: dict[BenchSite, list[float]] = {grown: [], young: []}
    replayed: dict[BenchSite, list[float]] = {grown: [], young: []}
    rejected: dict[BenchSite, list[float]] = {grown: [], young: []}
    for number in range(ORDERS):
        for site in (grown, young):
            accepted[site].append(_dispense(site, FIRST_ORDER_ID + number))
    for number in range(ORDERS):
        for site in (grown, young):
            replayed[site].append(_repeat(site, _known(site is grown, number)))
            rejected[site].append(_refused(site, FIRST_ORDER_ID + ORDERS + number))
    kinds = (
        ("accepted", accepted, "a new order of one unit"),
        ("replayed", replayed, "a known command, any of the journal's, again"),
        ("rejected", rejected, "a command for a product that no lane has"),
    )
    return [
        Figure(
            name=f"latency, {kind}",
            unit="ms",
            samples=samples[grown],
            baseline=samples[young],
            goal=LATENCY_RATIO,
            against=Goal.RATIO,
            note=f"publish to answer with 200,000 orders; {what}; baseline: an empty journal",
        )
        for kind, samples, what in kinds
    ]


def memory(grown: BenchSite, young: BenchSite) -> Figure:
    """Peaks, after start and commands: a background check that reads too much shows here."""
    ours, bare = (memory_mib(site.daemon.pid)["peak"] for site in (grown, young))
    return Figure(
        name="peak memory, 200,000 orders",
        unit="MiB",
        samples=[ours],
        baseline=[bare],
        note="VmHWM after the commands above; baseline: an empty journal",
    )


def _known(is_grown: bool, number: int) -> int:  # noqa: FBT001
    """An order that this journal holds; in the grown one spread over all its years."""
    if not is_grown:
        return FIRST_ORDER_ID + number
    return grown_journal.FIRST_ORDER_ID + number * (grown_journal.ORDERS // ORDERS)


def _command(order_id: int, product_id: int) -> dict[str, object]:
    return {
        "order_id": order_id,
        "trade_id": f"{order_id:020d}",
        "issued_at": int(time.time()),
        "products": [{"product_id": product_id, "quantity": 1}],
    }


def _dispense(site: BenchSite, order_id: int) -> float:
    """Until it has finished too: the next command finds the machine at rest."""
    sent = site.platform.ask("dispense", _command(order_id, PRODUCT))
    accepted = site.platform.arrival("order", order_id, status="accepted")
    site.platform.arrival("order", order_id, status="finished")
    time.sleep(0.02)
    return 1000 * (accepted - sent)


def _repeat(site: BenchSite, order_id: int) -> float:
    sent = site.platform.ask("dispense", _command(order_id, PRODUCT))
    answered = site.platform.arrival("order", order_id, status="accepted")
    site.platform.arrival("order", order_id, status="finished")
    return 1000 * (answered - sent)


def _refused(site: BenchSite, order_id: int) -> float:
    sent = site.platform.ask("dispense", _command(order_id, NO_PRODUCT))
    return 1000 * (site.platform.arrival("order", order_id, status="rejected") - sent)
