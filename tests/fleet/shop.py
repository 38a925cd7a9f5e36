"""The merchant as the documents know him: HTTP to a platform, callbacks from it.

A sale is an order, its payment, and a delivery for each item; its end is a callback for each
delivery. Answers get lost when the platform is killed, so each request is sent until it has one:
an order under the same trade id, a delivery with the same bytes, which the platform takes once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from platform_sim import codes
from tests.fleet.merchant import Sale
from tests.fleet.platform import FleetPlatform
from tests.platform.merchant import Answer, Merchant

CONNECTIONS = 32
"""Kept alive to the platform, for all sales."""
AGAIN_S = 0.5
"""After no answer, or one that may be another later."""
ANSWER_WITHIN_S = 30.0
UP_WITHIN_S = 20.0
NO_ANSWER = Answer(0, -1, None, "", "")
LATER = frozenset({codes.OFFLINE.number, codes.NOT_OPERATING.number, codes.BUSY.number})
"""A paid delivery that is refused with one of these is asked for again."""
TIMEOUT = "5"
OUTCOMES = {"1": "delivered", "0": "not_delivered", TIMEOUT: "unknown"}
"""deliver_status -> as the machines call it."""


@dataclass
class Till:
    """What stands behind a sale."""

    sale: Sale
    asked: list[str] = field(default_factory=list)
    """The deliveries that the platform answered with; "" where the answer was lost."""
    told: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    """Delivery -> what was told of it, each once; the last one holds."""
    repeats: int = 0
    contradictions: list[str] = field(default_factory=list)

    def book(self, body: Mapping[str, Any]) -> None:
        """A callback. Other words later are a correction of a timeout, or wrong."""
        sale, delivery_id = self.sale, body["delivery_id"]
        said = self.told.setdefault(delivery_id, [])
        if said and said[-1] == body:
            self.repeats += 1
            return
        if said and said[-1]["deliver_status"] != TIMEOUT:
            self.contradictions.append(f"told otherwise of what was certain: {said[-1]}, {body}")
        said.append(body)
        unit = list(self.told).index(delivery_id) + 1
        sale.units.setdefault(unit, {})[len(said)] = OUTCOMES[body["deliver_status"]]
        last = [words[-1] for words in self.told.values()]
        units, delivered, timed_out = (
            sum(each[name] for each in last) for name in ("quantity", "delivered", "timed_out")
        )
        sale.told = {
            "delivered": delivered,
            "unknown": timed_out,
            "not_delivered": units - delivered - timed_out,
        }
        if len(said) == 1 and len(self.told) >= sale.quantity:
            sale.ends += 1
            sale.ended_at = time.monotonic()

    def breaches(self) -> Iterator[str]:
        """When everything rests: each delivery that was asked for was told of, and no other."""
        yield from self.contradictions
        known = {delivery_id for delivery_id in self.asked if delivery_id}
        if len(self.asked) != self.sale.quantity or not known <= set(self.told):
            yield f"asked for {self.asked}, told of {sorted(self.told)}: {self.sale}"


class Shop:
    """A `Merchant`: its loop and its server run in a thread of their own, which alone writes here
    but for `sales`."""

    def __init__(self, platform: FleetPlatform) -> None:
        self.sales: list[Sale] = []
        self.lost_answers = 0
        self.abandoned = 0
        """Orders that were made, and their answer lost: nobody pays them."""
        self._platform = platform
        self._ended = 0
        self._orders: dict[int, Till] = {}
        self._breaches: list[str] = []
        self._trades = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shop", daemon=True)
        self._thread.start()
        assert self._ready.wait(UP_WITHIN_S), "the shop's server does not listen"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._open())

    async def _open(self) -> None:
        application = web.Application()
        application.router.add_post("/told", self._told)
        server = web.AppRunner(application, access_log=None)
        await server.setup()
        site = web.TCPSite(server, "127.0.0.1", 0)
        await site.start()
        host, port = server.addresses[0][:2]
        self._notify_url = f"http://{host}:{port}/told"
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=ANSWER_WITHIN_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._http:
            self._ready.set()
            await self._closing.wait()
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
        await server.cleanup()

    # ------------------------------------------------------------------ selling

    def sell(self, machine_no: str, product_id: int, quantity: int) -> None:
        sale = Sale(machine_no, product_id, quantity, time.monotonic())
        self.sales.append(sale)
        self._loop.call_soon_threadsafe(self._start, self._sell(sale))

    def _start(self, selling: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(selling)
        self._running.add(task)
        task.add_done_callback(self._sold)

    def _sold(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._breaches.append(f"a sale broke off: {error!r}")
            self._ended += 1  # nobody shall wait for it

    async def _sell(self, sale: Sale) -> None:
        merchant = Merchant(
            self._platform.url, self._http, sale.machine_no, notify_url=self._notify_url
        )
        order_id = await self._order(merchant, sale)
        if order_id is None:
            sale.ends = 1
            self._ended += 1
            return
        till = self._orders[order_id] = Till(sale)
        paid = await self._answered(merchant, f"/orders/{order_id}", "PUT", status="1")
        assert paid.code in {0, codes.PAID.number}, paid
        (record,) = (await self._answered(merchant, f"/orders/{order_id}")).data["records"]
        for _ in range(sale.quantity):  # a light eye: each item is a delivery
            till.asked.append(await self._deliver(merchant, order_id, record["id"]))
        sale.accepted_at = time.monotonic()

    async def _order(self, merchant: Merchant, sale: Sale) -> int | None:
        """None: refused, and the customer goes away."""
        while True:
            body = {
                "machine_no": sale.machine_no,
                "trade_id": f"fleet-{next(self._trades)}",
                "notify_url": self._notify_url,
                "products": [{"product_id": sale.product_id, "quantity": sale.quantity}],
            }
            answer, _ = await self._sent(merchant, "/orders", json.dumps(body).encode())
            if answer.code == 0:
                return int(answer.data["order_id"])
            if answer.code != codes.TRADE_EXISTS.number:
                sale.code = str(answer.code)
                return None
            self.abandoned += 1

    async def _deliver(self, merchant: Merchant, order_id: int, record_id: int) -> str:
        """The delivery's id; "" when the answer was lost that had it."""
        body = merchant.sealed(
            method="device.delivery.put", order_id=str(order_id), record_id=str(record_id)
        )
        lost_any = False
        while True:
            answer, lost = await self._sent(merchant, "/deliveries", body)
            lost_any |= lost
            if answer.code == codes.DELIVERED.number and lost_any:
                return ""
            if answer.code not in LATER:
                assert answer.code == 0, answer
                return str(answer.data["delivery_id"])
            await asyncio.sleep(AGAIN_S)

    async def _answered(
        self, merchant: Merchant, path: str, http: str = "POST", **fields: str
    ) -> Answer:
        answer, _ = await self._sent(merchant, path, merchant.sealed(**fields), http)
        return answer

    async def _sent(
        self, merchant: Merchant, path: str, body: bytes, http: str = "POST"
    ) -> tuple[Answer, bool]:
        """The answer, and whether one was lost before it came."""
        lost = False
        while True:
            try:
                return await merchant.plain(path, body, http), lost
            except aiohttp.ClientConnectorError:
                pass  # it never came there
            except (aiohttp.ClientError, TimeoutError):
                lost = True
                self.lost_answers += 1
            await asyncio.sleep(AGAIN_S)

    def waiting(self) -> int:
        return len(self.sales) - self._ended

    # ------------------------------------------------------------------ what it is told

    async def _told(self, request: web.Request) -> web.Response:
        body = await request.json()
        till = self._orders.get(body["order_id"])
        if till is None:
            self._breaches.append(f"a callback of no order that was paid: {body}")
        else:
            before = till.sale.ends
            till.book(body)
            self._ended += before == 0 < till.sale.ends
        return web.Response()

    # ------------------------------------------------------------------ the books

    @property
    def repeats(self) -> int:
        """Callbacks that came again with the same words."""
        return sum(till.repeats for till in self._orders.values())

    def corrections(self) -> int:
        return sum(len(said) - 1 for till in self._orders.values() for said in till.told.values())

    def missing(self, machine_no: str, journal: int, last_seq: int) -> int:
        return last_seq - self._platform.booked(machine_no, journal)

    def breaches(self) -> list[str]:
        found = list(self._breaches)
        for till in self._orders.values():
            found += till.breaches()
        if (unpaid := self._platform.unpaid()) != self.abandoned:
            found.append(f"{unpaid} orders are unpaid, {self.abandoned} were abandoned")
        return found

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(UP_WITHIN_S)
