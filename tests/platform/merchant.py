"""A merchant of the tests: signs as the documents say, and speaks HTTP to a running platform."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from platform_sim.payload import Encoding, seal

APPID, SECRET, KEY = "ds0123456789abcdef", "secret-of-the-tests", "key-of-the-tests"
ROOT = "/api/openapi/v1"


@dataclass
class Answer:
    status: int
    code: int
    data: Any
    message: str
    detail: str


@dataclass
class Merchant:
    url: str
    http: aiohttp.ClientSession
    machine_no: str = "16327129"
    notify_url: str = "http://127.0.0.1:9/callback"
    encoding: Encoding = "raw"
    headers: dict[str, str] = field(default_factory=lambda: {"Appid": APPID, "AppSecret": SECRET})
    _stamp: int = 0

    async def plain(self, path: str, body: Any = None, method: str = "POST") -> Answer:
        raw = body if isinstance(body, bytes) else None
        async with self.http.request(
            method,
            self.url + ROOT + path,
            json=body if raw is None else None,
            data=raw,
            headers=self.headers,
        ) as response:
            told = await response.json()
            return Answer(
                response.status,
                told["code"],
                told["data"],
                told["message"],
                response.headers.get("X-Detail", ""),
            )

    def sealed(self, **fields: str) -> bytes:
        # Two requests of one second are two requests: a real merchant waits or adds a field.
        self._stamp = max(self._stamp + 1, int(time.time()))
        all_fields = {"machine_no": self.machine_no, "timestamp": str(self._stamp), **fields}
        return seal(all_fields, KEY, self.encoding)

    async def signed(self, path: str, *, http: str = "POST", **fields: str) -> Answer:
        return await self.plain(path, self.sealed(**fields), http)

    # ------------------------------------------------------------------ a sale, step by step

    async def order(self, trade: str, *products: tuple[int, int], **more: Any) -> Answer:
        lines = [{"product_id": p, "quantity": n} for p, n in products]
        body = {
            "machine_no": self.machine_no,
            "trade_id": trade,
            "notify_url": self.notify_url,
            "products": lines,
        }
        return await self.plain("/orders", body | more)

    async def paid_order(self, trade: str, *products: tuple[int, int]) -> tuple[int, list[int]]:
        """The order's id and those of its records."""
        made = await self.order(trade, *products)
        assert made.code == 0, made
        order_id = made.data["order_id"]
        paid = await self.update(order_id, 1)
        assert paid.code == 0, paid
        return order_id, [record["id"] for record in (await self.query(order_id))["records"]]

    async def update(self, order_id: int, status: int) -> Answer:
        return await self.signed(f"/orders/{order_id}", http="PUT", status=str(status))

    async def query(self, order_id: int) -> Any:
        answer = await self.signed(f"/orders/{order_id}")
        assert answer.code == 0, answer
        return answer.data

    async def deliver(self, order_id: int, record_id: int) -> Answer:
        return await self.signed(
            "/deliveries",
            method="device.delivery.put",
            order_id=str(order_id),
            record_id=str(record_id),
        )

    async def delivery(self, delivery_id: str) -> Any:
        answer = await self.signed(f"/deliveries/{delivery_id}")
        assert answer.code == 0, answer
        return answer.data

    async def stock(self, product_id: int) -> int:
        answer = await self.signed("/floors")
        lane = next(lane for lane in answer.data if lane["product_id"] == product_id)
        return int(lane.get("current_inventory", 0))
