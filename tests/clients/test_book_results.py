"""docs/clients: both book each result once, lose none, and ask for what is missing."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator

import pytest

from controller.model import OrderStatus, Outcome
from tests.clients.conftest import CLIENTS, ClientMaker
from tests.clients.machine import JOURNAL, Machine
from tests.system.broker import Broker
from tests.system.conftest import make_site, short_dir, site  # noqa: F401 - fixtures
from tests.system.site import MACHINE_NO, Site
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system

BIG = 2**62 + 1
"""An order's number that a JavaScript number cannot hold."""

MachineMaker = Callable[[str], Machine]


@pytest.fixture(params=["python", "node"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_machine(broker: Broker, kind: str) -> Iterator[MachineMaker]:
    """Of its own for each client: the broker is shared, and its retained messages stay."""
    made: list[Machine] = []

    def make(number: str) -> Machine:
        machine_no = f"{number}{1 if kind == 'python' else 2}".rjust(8, "1")
        made.append(Machine(machine_no, broker.port).up())
        return made[-1]

    yield make
    for machine in made:
        machine.close()


def test_repeats_and_revisions_in_any_order_are_booked_once(
    kind: str, broker: Broker, make_client: ClientMaker, make_machine: MachineMaker
) -> None:
    machine = make_machine("10")
    client = make_client(kind, broker.port)
    client.up(broker)
    unknown = machine.store_result(1, 1, Outcome.UNKNOWN, units=2)
    delivered = machine.store_result(1, 2, Outcome.DELIVERED, units=2)
    resolved = machine.store_result(1, 1, Outcome.DELIVERED, revision=2, units=2)
    big = machine.store_result(BIG, 1, Outcome.NOT_DELIVERED)
    finished = machine.store_order(BIG, OrderStatus.FINISHED)
    machine.send(
        resolved, unknown, resolved, delivered, unknown, delivered, finished, finished, big
    )
    machine.publish("result", b"{not json")
    machine.publish("result", b'{"order_id": 1}')
    refused = machine.order(7, OrderStatus.REJECTED, "journal_unwritable", None)
    machine.publish("order", refused).wait_for_publish(10)
    machine.publish("order", refused).wait_for_publish(10)
    last = machine.store_result(8, 1, Outcome.DELIVERED)
    machine.send(last)
    rows = {row[:5] for row in client.wait_rows(5)}
    wait_for(lambda: (8,) in client.read("SELECT order_id FROM result"), "the last one is booked")
    delivery = "1733200000000017"
    assert rows == {
        (1, delivery, 1, 1, "unknown"),
        (1, delivery, 1, 2, "delivered"),
        (1, delivery, 2, 1, "delivered"),
        (BIG, delivery, 1, 1, "not_delivered"),
        (8, delivery, 1, 1, "delivered"),
    }
    assert client.read("SELECT unit, revision, outcome FROM unit WHERE order_id = 1") == [
        (1, 2, "delivered"),
        (2, 1, "delivered"),
    ]
    assert client.read("SELECT order_id, status, code FROM command ORDER BY order_id") == [
        (7, "rejected", "journal_unwritable"),
        (BIG, "finished", None),
    ]
    said = client.output().splitlines()
    assert len([line for line in said if line.startswith("booked ")]) == 5
    assert len([line for line in said if line.startswith("unreadable ")]) == 2
    assert machine.asked == [], "there was no gap"


def test_a_gap_that_stays_is_asked_for_page_by_page(
    kind: str, broker: Broker, make_client: ClientMaker, make_machine: MachineMaker
) -> None:
    machine = make_machine("20")
    client = make_client(kind, broker.port)
    for order_id in range(1, 12):
        machine.store_result(order_id, 1, Outcome.DELIVERED)
    client.up(broker)
    machine.send(1, 2, 5, 10)
    client.wait_rows(11)
    # 3 and 4, 6 to 9: asked from where all was known, and each page from where the last ended;
    # the last page brought 11 too.
    assert [request["seq"] for request in machine.asked] == [2, 5, 8]
    assert {request["journal"] for request in machine.asked} == {JOURNAL}
    # Nothing newer comes, but the machine's state tells of more; 12 is past its retention.
    machine.store_result(12, 1, Outcome.DELIVERED)
    machine.store_result(13, 1, Outcome.DELIVERED)
    del machine.stored[12]
    machine.tell_state(13)
    client.wait_rows(12)
    places = client.read("SELECT machine_no, through, last FROM place")
    assert (machine.payloads.machine_no, 13, 13) in places
    assert client.read("SELECT * FROM ahead") == []
    assert f"never to come {machine.payloads.machine_no} {JOURNAL} 1 of 12..13" in client.output()
    booked = sorted(row[0] for row in client.read("SELECT order_id FROM result"))
    assert booked == [*range(1, 12), 13]


def test_kill_9_loses_nothing_and_books_nothing_twice(
    kind: str, broker: Broker, make_client: ClientMaker, make_machine: MachineMaker
) -> None:
    machine = make_machine("30")
    client = make_client(kind, broker.port)
    client.up(broker)
    everything = [
        machine.store_result(order_id, 1, Outcome.DELIVERED) for order_id in range(1, 151)
    ]
    machine.send(*everything[:100])
    client.wait_rows(20)
    client.kill()
    machine.send(*everything[100:])
    client.start()
    client.wait_rows(110)
    client.kill()
    client.start()
    assert sorted(row[0] for row in client.wait_rows(150)) == list(range(1, 151))

    # While its books cannot be written it acknowledges nothing, so a kill loses nothing.
    books = sqlite3.connect(client.books, isolation_level=None)
    books.execute("BEGIN IMMEDIATE")
    sent = re.compile(rf"Sending PUBLISH to {client.name} \(d0, q1, r0, m(\d+)")
    before = len(sent.findall(broker.output(10_000_000)))
    machine.send(machine.store_result(151, 1, Outcome.DELIVERED))
    found = wait_for(
        lambda: sent.findall(broker.output(10_000_000))[before:], "the broker sent it to the client"
    )
    client.kill()
    assert f"PUBACK from {client.name} (Mid: {found[0]}," not in broker.output(10_000_000)
    books.execute("ROLLBACK")
    books.close()
    client.start()
    assert sorted(row[0] for row in client.wait_rows(151)) == list(range(1, 152))
    assert machine.asked == [], "the broker brought all of it; nothing had to be asked for"


def test_a_real_machine_is_asked_for_what_was_told_before_the_client_was_there(
    site: Site,  # noqa: F811 - the fixture
    make_client: ClientMaker,
) -> None:
    platform = site.platform
    platform.dispense(1, [{"product_id": 121, "quantity": 1}], delivery_id="1733200000000017")
    platform.dispense(2, [{"product_id": 221, "quantity": 2}])
    platform.dispense(3, [{"product_id": 999, "quantity": 1}])
    for order_id in (1, 2):
        platform.wait_order(order_id, "finished")
    platform.wait_order(3, "rejected")
    site.wait_rest()
    both = [make_client(one, site.broker.port) for one in ("python", "node")]
    for client in both:
        client.start()
    for client in both:
        rows = {row[:5] for row in client.wait_rows(3)}
        told = ("order_id", "delivery_id", "unit", "revision", "outcome")
        assert rows == {tuple(body[key] for key in told) for body in platform.of("result")}
        assert (3, "rejected", "unknown_product") in client.read(
            "SELECT order_id, status, code FROM command"
        )
    platform.dispense(4, [{"product_id": 221, "quantity": 1}])
    platform.wait_order(4, "finished")
    site.wait_rest()
    last = site.daemon.ctl("status")["journal"]["last_seq"]
    for client in both:
        client.wait_rows(4)
        wait_for(
            lambda client=client: (
                client.read("SELECT machine_no, through, last FROM place")
                == [(MACHINE_NO, last, last)]
            ),
            "all that the machine numbered is known",
        )


def test_no_lock_file_names_a_registry() -> None:
    lock = json.loads((CLIENTS / "node/package-lock.json").read_text(encoding="utf-8"))
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
