"""Both sides of the contract as data: what the platform sends fits the committed schemas, and what
machines say in the committed examples is booked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.mqtt_contract import complaints
from tests.platform.conftest import Platform, running, settings_of

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "mqtt"
READ = ("result", "order", "state", "inventory", "event", "response.results", "response.lane.test")
"""Messages that the platform reads, as their files are called."""


def examples(kinds: tuple[str, ...]) -> list[Path]:
    return sorted(path for kind in kinds for path in EXAMPLES.glob(f"{kind}-*.json"))


async def test_each_example_of_a_machine_is_booked(tmp_path: Path) -> None:
    bodies = [(path.name, json.loads(path.read_text("utf-8"))) for path in examples(READ)]
    assert len(bodies) > 30
    numbers = {body["machine_no"] for _name, body in bodies}
    machines = [
        {"machine_no": number, "appid": "a", "cabinets": [{"name": "A"}]} for number in numbers
    ]
    merchants = [{"appid": "a", "secret": "s", "sign_key": "k"}]
    settings = settings_of(tmp_path / "p.db", machines=machines, merchants=merchants)
    async with running(settings) as platform:
        for name, body in bodies:
            leaf = name.partition("-")[0].replace("response.", "response/")
            await platform.books.book(body["machine_no"], leaf, json.dumps(body).encode())
        counted = [row["name"] for row in await platform.sql("SELECT name FROM counter")]
        assert not [name for name in counted if name.startswith("not booked")], counted
        assert await platform.sql("SELECT * FROM journal"), "their numbers were noted"


async def test_each_command_of_the_platform_fits_its_schema(platform: Platform) -> None:
    merchant = platform.merchant
    order_id, records = await merchant.paid_order("t1", (221, 2))
    await merchant.deliver(order_id, records[0])
    (dispense,) = await platform.commands()
    await merchant.update(order_id, 2)
    (cancel,) = await platform.commands("cancel")
    await platform.order_word(dispense, "accepted", None, "unknown")
    platform.seq += 1
    await platform.result(dispense, 1, "delivered")
    await platform.after(10)
    (results,) = await platform.commands("request/results")
    await platform.result(dispense, 2, "delivered")
    await merchant.signed(
        "/deliveries/debug",
        method="device.delivery.put",
        channel_name="B1",
        notify_url=merchant.notify_url,
    )
    (test,) = await platform.commands("request/lane.test")
    sent: list[tuple[str, Any]] = [
        ("dispense", dispense),
        ("cancel", cancel),
        ("request/results", results),
        ("request/lane.test", test),
    ]
    assert [complaint for leaf, body in sent for complaint in complaints(leaf, body)] == []


@pytest.mark.parametrize("name", ["order-rejected_out_of_stock", "order-rejected_conflict"])
def test_the_examples_have_what_the_platform_decides_by(name: str) -> None:
    body = json.loads((EXAMPLES / f"{name}.json").read_text("utf-8"))
    assert body["command_executed"] == ("no" if name.endswith("stock") else "unknown")
