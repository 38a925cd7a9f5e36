"""What the journal tells a doctor, and its extract for support."""

from __future__ import annotations

import json

from controller.journal.doctor import EXTRACT
from controller.model import Finding, Outcome, Reason

from .conftest import DELIVERED, NOW, SILENT, Bench, accepted, cabinet, make_order, one_cycle

OPEN = Finding(Outcome.NOT_DELIVERED, Reason.MOTOR_MISSING, left_home=False)


async def test_units_that_nobody_knows_the_fate_of_newest_first(bench: Bench) -> None:
    journal = await bench.ready()
    for order_id, finding in ((1, SILENT), (2, DELIVERED), (3, SILENT)):
        (job,) = await accepted(journal, make_order(order_id))
        await one_cycle(journal, job.ref, finding, quarantined=order_id == 3)
    told = (await journal.checkup())["unknown_units"]
    assert [(unit["order_id"], unit["unit"], unit["asked"]) for unit in told] == [
        (3, 1, True),
        (1, 1, False),
    ]


async def test_the_newest_cycle_of_each_lane_and_how_lives_ended(bench: Bench) -> None:
    journal = await bench.ready(cabinet(lanes=3))
    for order_id, channel, finding in ((1, "A1", DELIVERED), (2, "A1", OPEN), (3, "A2", OPEN)):
        (job,) = await accepted(journal, make_order(order_id, channel=channel))
        await one_cycle(journal, job.ref, finding, channel=channel)
    told = await journal.checkup()
    assert [(cycle["channel"], cycle["reason"]) for cycle in told["newest_cycles"]] == [
        ("A1", "motor_missing"),
        ("A2", "motor_missing"),
    ]
    bench.crash()
    journal = await bench.ready(cabinet(lanes=3))
    assert (await journal.checkup())["stops"][0]["last_stop"] in ("crash", "power")


async def test_how_long_the_oldest_message_waits(bench: Bench) -> None:
    journal = await bench.ready()
    bench.clock.now = NOW + 5
    (job,) = await accepted(journal, make_order())
    bench.clock.now = NOW + 60
    await one_cycle(journal, job.ref, DELIVERED)
    oldest = (await journal.checkup())["oldest_unsent"]
    assert (oldest["order"], oldest["result"]) == (NOW + 5, NOW + 60)


async def test_the_extract_is_bounded_newest_first_and_has_no_payload(bench: Bench) -> None:
    journal = await bench.ready()
    for order_id in range(1, 8):
        (job,) = await accepted(journal, make_order(order_id))
        await one_cycle(journal, job.ref, DELIVERED)
    tables = await journal.extract(3)
    assert set(tables) == set(EXTRACT)
    assert [row["order_id"] for row in tables["orders"]] == [7, 6, 5]
    assert len(tables["cycles"]) == 3
    assert not any("payload" in row or "trade_id" in row for t in tables.values() for row in t)
    assert json.loads(json.dumps(tables)) == tables
