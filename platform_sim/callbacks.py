"""The pump that tells merchants: POST until the answer is 2xx, as long as the bound allows.

The queue is durable and knows what is due; this knows only what it is doing now. So a kill at
any moment costs a second telling at most: every callback arrives at least once. The callbacks
of one order go one at a time and in order. A merchant who does not answer holds up himself: a
host has few connections at a time, only one while it is silent, and where its callbacks fill
the page that the queue gives, they are put off so that those behind them come up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from platform_sim.guard import Allowed, Forbidden, GuardedResolver, Lookup, look_at
from platform_sim.seams import Callback, CallbackQueue

LOG = logging.getLogger("platform_sim.callbacks")

LARGEST_ANSWER = 4 * 1024
"""Bytes of an answer's body that are buffered at most. Nothing of it is used: the status counts.
A body that is not there with the status costs the merchant the connection, not us the time."""

LONGEST_WHY = 200
"""Characters. A merchant's server chooses some of them."""

TOLD = range(200, 300)
REDIRECTS = range(300, 400)

MOST_SILENT_HOSTS = 10_000
"""Remembered at one time; beyond it all are tried anew at full width."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds, and bounds; each with its reason."""

    total_s: float = 10.0
    """Name, connection, TLS and status. A merchant who books before he answers needs one."""
    first_s: float = 1.0
    longest_s: float = 300.0
    """Between tries, doubling. A merchant's restart is over in seconds; after a longer outage
    his callbacks are there within five minutes."""
    jitter: float = 0.2
    """Of that time, to either side: what failed together does not come back together."""
    tries: int = 300
    """Then it is given up. 1 + 2 + 4 ... 256 s and then 300 s each: a day and a little, in
    which somebody can mend a server. Counted in tries, not hours, because our own outage is
    not the merchant's fault. Being put off counts as a try: its wait is the same."""
    parallel: int = 32
    """Requests at one time: 50 sales a second with answers after half a second."""
    per_host: int = 8
    """Of them to one host: a fourth, so that three slow merchants still leave room."""
    page: int = 256
    """Callbacks looked at in one go; a few hundred bytes each."""
    look_s: float = 1.0
    """Between looks at a queue that woke nobody: the shortest wait of a try that failed."""
    books_s: float = 5.0
    """After the queue could not write. Told again at once, a merchant would get the same
    callback a hundred times a second for as long as our disk is full."""


USUAL_PACE = Pace()


class CallbackPump:
    """`run` tells merchants until it is cancelled."""

    def __init__(
        self,
        queue: CallbackQueue,
        trusted: Allowed,
        woken: asyncio.Event,
        *,
        pace: Pace = USUAL_PACE,
        wall: Callable[[], float] = time.time,
        chance: random.Random | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        """`woken` belongs to this pump alone (it clears it): set it after each commit.

        `wall`: Unix seconds, as the queue's times. `lookup`: see `GuardedResolver`.
        """
        self.counters: Counter[str] = Counter()
        """told, failed, given_up, put_off, queue_failures."""
        self._queue = queue
        self._trusted = trusted
        self._woken = woken
        self._pace = pace
        self._wall = wall
        self._chance = chance or random.Random()  # noqa: S311  (jitter, no secret)
        self._lookup = lookup
        self._orders: set[int] = set()
        """Being told now."""
        self._hosts: Counter[str] = Counter()
        """Requests that are open now."""
        self._silent: set[str] = set()
        """Whose last request had no answer: one at a time, until one has."""

    async def run(self) -> None:
        resolver = GuardedResolver(self._trusted, self._lookup)
        connector = aiohttp.TCPConnector(
            resolver=resolver, use_dns_cache=False, limit=self._pace.parallel
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._pace.total_s),
            auto_decompress=False,
            read_bufsize=LARGEST_ANSWER,
            headers={"Content-Type": "application/json", "User-Agent": "platform-sim"},
        )
        try:
            async with session, asyncio.TaskGroup() as group:
                while True:
                    self._woken.clear()
                    await self._look(session, group)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._pace.look_s):
                            await self._woken.wait()
        finally:
            await resolver.close()

    async def _look(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        """Begin whatever is due and has room."""
        # Also those that are told while the queue is read: the reading still brings them.
        busy = frozenset(self._orders)
        try:
            due = await self._queue.due_callbacks(self._wall(), self._pace.page)
        except Exception as error:  # noqa: BLE001  (a full disk passes; the pump must not)
            self._queue_failed(error)
            return
        crowded: list[Callback] = []
        for callback in due:
            if len(self._orders) >= self._pace.parallel:
                return
            if callback.order_id in busy or callback.order_id in self._orders:
                continue
            host = _host(callback.url)
            if self._hosts[host] >= (1 if host in self._silent else self._pace.per_host):
                crowded.append(callback)
                continue
            self._orders.add(callback.order_id)
            self._hosts[host] += 1
            group.create_task(self._tell(session, callback, host), name=f"callback {callback.id}")
        if crowded and len(due) >= self._pace.page:
            await self._put_off(crowded)

    async def _put_off(self, crowded: Sequence[Callback]) -> None:
        """Nobody knows who waits behind a full page: make room in it."""
        self.counters["put_off"] += len(crowded)
        writing = (
            self._queue.not_told(
                callback.id, "its host has enough to answer", self._wall() + self._wait(callback)
            )
            for callback in crowded
        )
        if any(await asyncio.gather(*writing, return_exceptions=True)):
            self.counters["queue_failures"] += 1
            LOG.error("callbacks could not be put off; is the disk full?")

    async def _tell(self, session: aiohttp.ClientSession, callback: Callback, host: str) -> None:
        try:
            why = await self._post(session, callback, host)
            if why is None:
                await self._queue.told(callback.id)
                self.counters["told"] += 1
            elif callback.tries + 1 < self._pace.tries:
                await self._queue.not_told(callback.id, why, self._wall() + self._wait(callback))
                self.counters["failed"] += 1
            else:
                await self._queue.not_told(callback.id, why, None)
                self.counters["given_up"] += 1
                LOG.error("order %d: callback given up: %s", callback.order_id, why)
        except Exception as error:  # noqa: BLE001  (likewise)
            self._queue_failed(error)
            await asyncio.sleep(self._pace.books_s)
        finally:
            self._orders.discard(callback.order_id)
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
            self._woken.set()

    async def _post(
        self, session: aiohttp.ClientSession, callback: Callback, host: str
    ) -> str | None:
        """None: told. Else why not, for people."""
        try:
            url = look_at(callback.url, self._trusted)
            async with session.post(url, data=callback.body, allow_redirects=False) as response:
                self._silent.discard(host)
                status = response.status
        except Forbidden as error:
            return _cut(str(error))
        except Exception as error:  # noqa: BLE001  (whatever a stranger's server makes of HTTP)
            if len(self._silent) >= MOST_SILENT_HOSTS:
                self._silent.clear()
            self._silent.add(host)
            if isinstance(error, TimeoutError):
                return f"no answer within {self._pace.total_s:g} s"
            return _cut(f"{type(error).__name__}: {error}")
        if status in TOLD:
            return None
        return (
            f"HTTP {status}: redirects are not followed"
            if status in REDIRECTS
            else f"HTTP {status}"
        )

    def _wait(self, callback: Callback) -> float:
        pace = self._pace
        usual = min(pace.longest_s, pace.first_s * 2.0 ** min(callback.tries, 30))
        return usual * self._chance.uniform(1 - pace.jitter, 1 + pace.jitter)

    def _queue_failed(self, error: Exception) -> None:
        self.counters["queue_failures"] += 1
        LOG.error("the callback queue failed; callbacks wait for it", exc_info=error)


def _host(url: str) -> str:
    """Who is counted. What is no URL counts as one host, and is refused when its turn comes."""
    try:
        return URL(url).raw_host or ""
    except ValueError:
        return ""


def _cut(text: str) -> str:
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= LONGEST_WHY else shown[: LONGEST_WHY - 1] + "…"
