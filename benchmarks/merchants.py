"""Merchants' clients: customers who buy one after the other, each until it is told what fell.

    python -m benchmarks.merchants whole|bare URL CUSTOMERS SECONDS MACHINE_NO…

`whole`: order, paid, query (for the record's id), deliver, and then the callback, which a server
in this process takes. `bare`: as many POSTs to the bare shop, with bodies of these sizes. Over
connections that stay open. Prints JSON: {"sales": [[ended, seconds] …], "lost": …}, Unix times.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
from aiohttp import web

from tests.platform.merchant import Merchant

TOLD_WITHIN_S = 30.0
"""A sale without its callback by then is lost: what a saturated platform needs, ten times."""
PRODUCTS = (121, 122)

Sale = Callable[[int, str], Awaitable[None]]


class Lost(Exception):
    """The sale did not come to its good end; says where it stopped."""


class Buyer:
    """Sells whole, and hears the callbacks."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url, self._http = url, http
        self._told: dict[int, asyncio.Future[Any]] = {}
        self.notify_url = ""
        self.callbacks = 0

    async def listen(self) -> None:
        app = web.Application()
        app.router.add_post("/told", self._hear)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.notify_url = f"http://127.0.0.1:{runner.addresses[0][1]}/told"

    async def _hear(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.callbacks += 1
        waiting = self._told.pop(body["order_id"], None)
        if waiting is not None:
            waiting.set_result(body)
        return web.Response()

    async def sell(self, number: int, machine_no: str) -> None:
        merchant = Merchant(self._url, self._http, machine_no, self.notify_url)
        made = await merchant.order(
            f"bench-{time.time_ns()}-{number}", (PRODUCTS[number % len(PRODUCTS)], 1)
        )
        if made.code:
            raise Lost(f"order: {made.code} {made.detail}")
        order_id = made.data["order_id"]
        paid = await merchant.update(order_id, 1)
        if paid.code:
            raise Lost(f"paid: {paid.code} {paid.detail}")
        record = (await merchant.query(order_id))["records"][0]["id"]
        told = self._told[order_id] = asyncio.get_running_loop().create_future()
        asked = await merchant.deliver(order_id, record)
        if asked.code:
            raise Lost(f"deliver: {asked.code} {asked.detail}")
        try:
            body = await asyncio.wait_for(told, TOLD_WITHIN_S)
        except TimeoutError:
            raise Lost("no callback") from None
        if body["deliver_status"] != "1":
            raise Lost(f"told: {body}")


def bare_sale(url: str, http: aiohttp.ClientSession) -> Sale:
    """The requests of a whole sale as to number and size, signed as those are."""
    merchant = Merchant(url, http)

    async def sell(number: int, _machine_no: str) -> None:
        plain = {"machine_no": "10000000", "trade_id": f"bench-{number}", "notify_url": url}
        signed = [
            merchant.sealed(status="1"),
            merchant.sealed(),
            merchant.sealed(method="device.delivery.put", order_id="1", record_id="1"),
        ]
        for body in (json.dumps(plain).encode(), *signed):
            async with http.post(url, data=body, headers=merchant.headers) as answer:
                await answer.json()

    return sell


async def play(
    kind: str, url: str, customers: int, seconds: float, machines: Sequence[str]
) -> dict[str, Any]:
    sales: list[tuple[float, float]] = []
    lost: list[str] = []
    numbers = itertools.count()
    until = time.monotonic() + seconds
    connector = aiohttp.TCPConnector(limit=0)

    async with aiohttp.ClientSession(connector=connector) as http:
        buyer = Buyer(url, http)
        await buyer.listen()
        sell = buyer.sell if kind == "whole" else bare_sale(url, http)

        async def customer() -> None:
            while time.monotonic() < until:
                number = next(numbers)
                begun = time.monotonic()
                try:
                    await sell(number, machines[number % len(machines)])
                except Lost as error:
                    lost.append(str(error))
                else:
                    sales.append((time.time(), time.monotonic() - begun))

        await asyncio.gather(*(customer() for _ in range(customers)))
        return {"sales": sales, "lost": lost, "callbacks": buyer.callbacks}


def main() -> None:
    kind, url, customers, seconds, *machines = sys.argv[1:]
    told = asyncio.run(play(kind, url.rstrip("/"), int(customers), float(seconds), machines))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
