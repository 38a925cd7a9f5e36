"""Telling merchants, against a real web server that behaves as merchants do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from aiohttp import web

from platform_sim.callbacks import USUAL_PACE, CallbackPump, Pace
from platform_sim.guard import Allowed, allowed
from tests.platform.support import Callbacks, until
from tests.system.broker import free_port

LOOPBACK = allowed(["127.0.0.0/8"])
QUICK = Pace(total_s=0.3, first_s=0.02, longest_s=0.1, look_s=0.02, books_s=0.1)


@dataclass
class Merchant:
    """Each path answers in its own way; `heard` is what came, in order."""

    port: int = 0
    heard: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: Iterator[int] = field(default_factory=lambda: iter(()))
    open: Counter[str] = field(default_factory=Counter)
    most_open: Counter[str] = field(default_factory=Counter)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"

    def on(self, path: str) -> list[str]:
        return [body for at, body in self.heard if at == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path, host = request.path[1:], request.url.host or ""
        self.heard.append((path, await request.text()))
        self.headers.append(dict(request.headers))
        self.open[host] += 1
        self.most_open[host] = max(self.most_open[host], self.open[host])
        try:
            return await self.answer(path, request)
        finally:
            self.open[host] -= 1

    async def answer(self, path: str, request: web.Request) -> web.StreamResponse:
        if path == "hang":
            await self.closing.wait()
        if path == "slow":
            await asyncio.sleep(0.02)
        if path == "redirect":
            raise web.HTTPFound(self.url("secret"))
        if path == "dripping":
            response = web.StreamResponse()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                while not self.closing.is_set():
                    await response.write(b"x" * 100_000)
                    await asyncio.sleep(0.01)
            return response
        return web.Response(status=next(self.answers, 200), text="thank you")


@pytest_asyncio.fixture
async def merchant() -> AsyncIterator[Merchant]:
    made = Merchant()
    app = web.Application()
    app.router.add_post("/{path}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    made.port = free_port()
    await web.TCPSite(runner, "0.0.0.0", made.port).start()
    yield made
    made.closing.set()
    await runner.cleanup()


@contextlib.asynccontextmanager
async def pumping(
    queue: Callbacks, pace: Pace = QUICK, trusted: Allowed = LOOPBACK
) -> AsyncIterator[CallbackPump]:
    pump = CallbackPump(queue, trusted, queue.woken, pace=pace, chance=random.Random(1))
    task = asyncio.create_task(pump.run())
    yield pump
    assert not task.done(), task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_merchant_is_told(merchant: Merchant) -> None:
    queue = Callbacks()
    body = json.dumps({"method": "device.delivery.response", "order_id": 7}).encode()
    async with pumping(queue) as pump:
        queue.put(7, merchant.url("notify"), body)
        await until(lambda: queue.done == [1])
    assert merchant.heard == [("notify", body.decode())]
    assert merchant.headers[0]["Content-Type"] == "application/json"
    assert pump.counters == {"told": 1}


async def test_anything_but_2xx_is_tried_again_and_2xx_ends_it(merchant: Merchant) -> None:
    queue = Callbacks()
    merchant.answers = iter([500, 404, 304, 204])
    async with pumping(queue):
        queue.put(1, merchant.url("notify"))
        await until(lambda: queue.done == [1])
    assert [why for _, why, _ in queue.failures] == [
        "HTTP 500",
        "HTTP 404",
        "HTTP 304: redirects are not followed",
    ]
    assert len(merchant.on("notify")) == 4


async def test_the_callbacks_of_an_order_keep_their_order(merchant: Merchant) -> None:
    """Also where the first one fails for a while, and other orders overtake."""
    queue = Callbacks()
    merchant.answers = iter([503, 503])
    for order in (1, 2):
        for number in range(4):
            queue.put(order, merchant.url(f"order{order}"), str(number).encode())
    async with pumping(queue):
        await until(lambda: len(queue.done) == 8)
    for order in (1, 2):
        assert merchant.on(f"order{order}") == ["0", "0", "1", "2", "3"]


async def test_a_look_that_is_old_tells_nobody_twice(merchant: Merchant) -> None:
    """What was told while the queue was being read is still in what the reading brings."""
    queue = Callbacks(slow_s=0.01)
    for order in range(200):
        queue.put(order, merchant.url("slow"), str(order).encode())
    async with pumping(queue):
        await until(lambda: len(queue.done) == 200)
    assert sorted(merchant.on("slow"), key=int) == [str(order) for order in range(200)]


async def test_a_hanging_merchant_holds_up_himself_only(merchant: Merchant) -> None:
    """300 callbacks to a host that hangs stand in front of the good one's, and of a page."""
    queue = Callbacks()
    pace = Pace(total_s=5.0, first_s=5.0, look_s=0.02, page=64)
    for order in range(300):
        queue.put(order, merchant.url("hang", "127.0.0.2"))
    for order in range(300, 340):
        queue.put(order, merchant.url("notify"))
    began = time.monotonic()
    async with pumping(queue, pace) as pump:
        await until(lambda: len(queue.done) == 40)
        assert time.monotonic() - began < 4.0, "before any hanging request has timed out"
        assert merchant.most_open["127.0.0.2"] == pace.per_host
        assert pump.counters["put_off"] >= 300 - 64
        assert None not in [again for _, _, again in queue.failures]


async def test_a_silent_host_gets_one_request_at_a_time_until_it_answers(
    merchant: Merchant,
) -> None:
    queue = Callbacks()
    for order in range(8):
        queue.put(order, merchant.url("hang"))
    async with pumping(queue):
        await until(lambda: len(queue.failures) >= 8)
        merchant.most_open.clear()
        already = len(queue.failures)
        await until(lambda: len(queue.failures) >= already + 2)
        assert merchant.most_open["127.0.0.1"] == 1
        merchant.closing.set()
        await until(lambda: len(queue.done) == 8)
    assert {why for _, why, _ in queue.failures} == {"no answer within 0.3 s"}


async def test_a_host_and_all_hosts_have_a_bound(merchant: Merchant) -> None:
    queue = Callbacks()
    pace = Pace(parallel=6, per_host=4, look_s=0.02)
    for order in range(60):
        queue.put(order, merchant.url("slow", f"127.0.0.{1 + order % 3}"))
    most = 0
    async with pumping(queue, pace):
        while len(queue.done) < 60:
            most = max(most, sum(merchant.open.values()))
            await asyncio.sleep(0.002)
    assert most <= 6
    assert max(merchant.most_open.values()) <= 4
    assert len(merchant.heard) == 60


async def test_a_redirect_to_loopback_leads_nowhere(merchant: Merchant) -> None:
    queue = Callbacks()
    async with pumping(queue):
        queue.put(1, merchant.url("redirect"))
        await until(lambda: len(queue.failures) >= 2)
    assert queue.failures[0][1] == "HTTP 302: redirects are not followed"
    assert merchant.on("secret") == []


async def test_a_body_that_never_ends_is_not_waited_for(merchant: Merchant) -> None:
    """The status has told it; the connection is closed."""
    queue = Callbacks()
    async with pumping(queue, USUAL_PACE):
        queue.put(1, merchant.url("dripping"))
        await until(lambda: queue.done == [1])
        await until(lambda: not merchant.open["127.0.0.1"])
    assert queue.failures == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:{port}/notify", "127.0.0.1 is not a public address"),
        ("http://localhost:{port}/notify", "is not a public address"),
        ("no url", "spaces"),
        ("ftp://merchant.example/", "only http"),
        ("http://[::1/", "no URL"),
    ],
)
async def test_where_we_do_not_go(merchant: Merchant, url: str, why: str) -> None:
    queue = Callbacks()
    async with pumping(queue, trusted=Allowed()):
        queue.put(1, url.format(port=merchant.port))
        await until(lambda: queue.failures)
    assert why in queue.failures[0][1]
    assert merchant.heard == []


async def test_nobody_listens(merchant: Merchant) -> None:
    queue = Callbacks()
    async with pumping(queue):
        queue.put(1, f"http://127.0.0.1:{free_port()}/")
        await until(lambda: len(queue.failures) >= 2)
    assert "Connect" in queue.failures[0][1]


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200\xff\x00\r\n" + b"x" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + b"HTTP/1.1 999 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Header: 1\r\n" * 10_000,
        b"",
    ],
    ids=["no-http", "bad-status", "continues", "headers", "closed"],
)
async def test_a_server_that_speaks_no_http(answer: bytes) -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(answer)
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    queue = Callbacks()
    async with pumping(queue):
        queue.put(1, f"http://127.0.0.1:{port}/")
        await until(lambda: len(queue.failures) >= 2)
    assert queue.done == []
    server.close()


async def test_given_up_after_the_bound_and_the_next_one_comes_up(merchant: Merchant) -> None:
    queue = Callbacks()
    merchant.answers = iter([500, 200])
    queue.put(1, merchant.url("notify"), b"old", tries=USUAL_PACE.tries - 1)
    queue.put(1, merchant.url("notify"), b"new")
    async with pumping(queue) as pump:
        await until(lambda: queue.done == [2])
    assert queue.failures == [(1, "HTTP 500", None)]
    assert merchant.on("notify") == ["old", "new"]
    assert pump.counters["given_up"] == 1


async def test_the_waits_double_up_to_five_minutes_and_fill_a_day() -> None:
    pump = CallbackPump(Callbacks(), LOOPBACK, asyncio.Event(), chance=random.Random(7))
    queue = Callbacks()
    waits = []
    for tries in range(USUAL_PACE.tries):
        queue.put(1, "http://x/", tries=tries)
        waits.append(pump._wait(queue.waiting[tries + 1][1]))
    for tries, wait in enumerate(waits):
        assert 0.8 <= wait / min(300.0, 2.0**tries) <= 1.2
    assert len({round(wait, 6) for wait in waits}) == len(waits), "jitter"
    assert 23 * 3600 < sum(waits) < 26 * 3600


async def test_what_a_kill_interrupts_is_told_again(merchant: Merchant) -> None:
    """The answer came, and the queue could not be told before the end: at least once."""
    queue = Callbacks(broken=OSError("no space left"))
    queue.put(1, merchant.url("notify"), b"once")
    async with pumping(queue):
        await until(lambda: merchant.heard)
    queue.broken = None
    async with pumping(queue):
        await until(lambda: queue.done == [1])
    assert merchant.on("notify") == ["once", "once"]


async def test_a_queue_that_cannot_write_does_not_flood_the_merchant(merchant: Merchant) -> None:
    queue = Callbacks(broken=OSError("no space left"))
    queue.put(1, merchant.url("notify"))
    began = time.monotonic()
    async with pumping(queue) as pump:
        await until(lambda: pump.counters["queue_failures"] >= 3)
        assert time.monotonic() - began >= 2 * QUICK.books_s
        queue.broken = None
        await until(lambda: queue.done == [1])
    assert len(merchant.heard) <= 4
