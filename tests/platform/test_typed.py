"""What `make demo` prints as a merchant's commands does what it says, with curl and without."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from tests.demo import sale
from tests.demo.comparison import comparison
from tests.platform.conftest import Platform
from tests.system import judge
from tests.system.platform_client import Message


async def test_a_sale_typed_and_a_sale_without_curl(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify = platform.merchant.notify_url
    asked = asyncio.to_thread(sale.order("typed-1", notify, 121, 1).answer, platform.url)
    order_id = json.loads(await asked)["data"]["order_id"]
    paid = await asyncio.to_thread(sale.paid(order_id).answer, platform.url)
    assert json.loads(paid)["code"] == 0, paid
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    found = await asyncio.to_thread(sale.query(order_id).answer, platform.url)
    (record,) = json.loads(found)["data"]["records"]
    await asyncio.to_thread(sale.deliver(order_id, record["id"]).answer, platform.url)
    (command,) = await platform.commands()
    assert command["order_id"] == order_id
    again = await asyncio.to_thread(sale.deliver(order_id, record["id"]).answer, platform.url)
    assert json.loads(again)["code"] == 6034


@pytest.mark.parametrize(("told", "agree"), [("1", True), ("0", False), ("5", False)])
def test_the_reckoning_sees_a_callback_that_lies(told: str, *, agree: bool) -> None:
    result = {
        "order_id": 7, "delivery_id": "0000000000000001", "unit": 1, "units": 1, "revision": 1,
        "channel": "A1", "outcome": "delivered", "reason": None, "evidence": "drop_sensor",
        "cycles": 1, "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:01Z",
    }  # fmt: skip
    ledger = [{"event": judge.DRIVE, "lane": 1}, {"event": judge.FELL, "lane": 1}]
    message = Message("result", json.dumps(result).encode(), retained=False, at=0.0)
    facts = judge.Facts((message,), {"main": ledger}, {"A1": ("main", 1)})
    callback = {"delivery_id": result["delivery_id"], "deliver_status": told}
    assert comparison(facts, [callback])[1] is agree
    assert comparison(facts, [])[1] is False, "nobody was told"
    other = {"delivery_id": "0000000000000002", "deliver_status": "1"}
    assert comparison(facts, [callback, other])[1] is False, "told of what nobody reported"
