"""The platform's standing with its broker: what machines say is booked, commands leave.

* Connections follow each other without end, with full jitter. The session at the broker is
  persistent: what machines say meanwhile waits there.
* A message is acknowledged after the books have it, on the connection that brought it. One
  that was cut in between comes again and is booked again; the books know repeats.
* Messages of one machine are booked one after the other, those of many at one time, so that
  the books can commit many together.
* A command leaves the outbox when the broker has acknowledged it. Of one machine one is under
  way at a time, so a refused one holds back its later ones and nobody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from platform_sim.line import Arrived, BrokerSettings, Line
from platform_sim.seams import Booker, Command, Commands

LOG = logging.getLogger("platform_sim.bridge")

SHARED = ("result", "order", "event")
"""Each of them counts once, whichever instance of the backend books it."""

OWN = ("state", "inventory", "response/results", "response/lane.test")
"""Latest wins, and the retained ones come at each subscription: not to be shared."""

LARGEST_PAYLOAD = 64 * 1024
"""Bytes; the contract's. What is larger is no message of a machine of ours."""

LONGEST_MACHINE_NO = 32
"""Characters. Eight digits by default; the books decide, this bounds what they see."""

FAILURE = 0x80
"""Reason codes from here on say no (MQTT 5.0, 2.4)."""

NO_SUBSCRIBERS = 0x10
"""The broker took it for nobody: this machine has no session there yet, or no longer."""


Desk = asyncio.Queue[tuple[Arrived, str, str]]
"""Messages to be booked one after the other: (message, machine_no, leaf). What a connection has
unbooked bounds it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds, and bounds; each with its reason."""

    retry_first_s: float = 1.0
    retry_longest_s: float = 30.0
    """Full jitter between 0 and a bound that doubles. Few instances reconnect: half a minute
    is spread enough, and a delivery's backstop is 120 s."""
    steady_s: float = 30.0
    """A connection that lasted so long ends the doubling. One keepalive."""
    suback_wait_s: float = 15.0
    puback_wait_s: float = 30.0
    """One keepalive: a broker that takes longer is not there, whatever TCP says."""
    subscribe_again_s: float = 60.0
    """After a refusal: somebody has to change the broker's ACL first."""
    refused_s: float = 5.0
    """Until a refused command is tried again: inside the 90 s in which it is wanted."""
    books_s: float = 1.0
    """Between tries of books that cannot write: a full disk ends when somebody makes room."""
    attempts: int = 3
    """A message whose booking fails for another reason is tried so often, then acknowledged:
    it would come again for ever, and hold back all others behind it."""
    window: int = 100
    """Commands under way; a broker that takes fewer says so. At 1 ms each, more than enough."""
    page: int = 300
    """Commands looked at in one go: more than the window, because some machines wait."""
    look_s: float = 5.0
    """Between looks at an outbox that woke nobody: for what was held back, and just in case."""
    goodbye_s: float = 1.0
    """For our DISCONNECT to leave, at the end. Without it nothing is lost."""
    clerks: int = 32
    """Machines whose messages are booked at one time."""


USUAL_PACE = Pace()


class Bridge:
    """`run` keeps the connection, and both directions over it, until it is cancelled."""

    def __init__(
        self,
        broker: BrokerSettings,
        commands: Commands,
        booker: Booker,
        woken: asyncio.Event,
        *,
        prefix: str = "vending/v1",
        group: str | None = None,
        pace: Pace = USUAL_PACE,
        wall: Callable[[], float] = time.time,
        chance: random.Random | None = None,
    ) -> None:
        """`woken` belongs to this alone (it clears it): set it after each commit.

        `group`: the shared subscription of several instances of this backend. Each of them
        has its own `client_id`.
        """
        self.counters: Counter[str] = Counter()
        self.last_error = ""
        """Why the connection before this ended, or could not begin."""
        self.line: Line | None = None
        """The connection that is up; None while there is none."""
        self._broker = broker
        self._commands = commands
        self._booker = booker
        self._woken = woken
        self._prefix = prefix
        self._pace = pace
        self._wall = wall
        self._chance = chance or random.Random()  # noqa: S311  (jitter, no secret)
        shared = f"$share/{group}/" if group else ""
        self._topics = [f"{shared}{prefix}/+/{leaf}" for leaf in SHARED]
        self._topics += [f"{prefix}/+/{leaf}" for leaf in OWN]
        self._under_way: set[str] = set()
        """Machines that have a command under way."""
        self._refused: dict[str, float] = {}
        """Machines whose last command the broker refused: monotonic, until when they wait."""

    async def run(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            self.last_error = await self._one_connection()
            failures = 0 if time.monotonic() - began >= self._pace.steady_s else failures + 1
            bound = min(
                self._pace.retry_longest_s,
                self._pace.retry_first_s * 2.0 ** min(failures - 1, 16),
            )
            pause = self._chance.uniform(0.0, bound)
            LOG.warning("no broker: %s; again in %.1f s", self.last_error, pause)
            await asyncio.sleep(pause)

    async def _one_connection(self) -> str:
        """Stay on one line until it ends. Says why it ended."""
        self.counters["connections"] += 1
        loop = asyncio.get_running_loop()
        try:
            line = await asyncio.to_thread(Line, self._broker, loop)
            line.start()
        except (OSError, ValueError) as error:
            return f"cannot prepare the connection: {error}; check the broker's settings"
        work: set[asyncio.Task[None]] = set()
        try:
            with contextlib.suppress(ConnectionError):
                present = await line.connected
                LOG.info("broker connected, session %s", "resumed" if present else "new")
                self.line = line
                desks = [Desk() for _ in range(self._pace.clerks)]
                work |= {
                    loop.create_task(self._subscribe(line), name="bridge subscriptions"),
                    loop.create_task(self._sort(line, desks), name="bridge post room"),
                    loop.create_task(self._send(line), name="bridge commands"),
                    *(loop.create_task(self._book(desk), name="bridge clerk") for desk in desks),
                }
                for task in work:
                    task.add_done_callback(lambda done: _report(done, line))
            return await asyncio.shield(line.ended)
        finally:
            self.line = None
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            if not line.ended.done():
                line.disconnect()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pace.goodbye_s):
                        await asyncio.shield(line.ended)

    async def _subscribe(self, line: Line) -> None:
        topics = self._topics
        while topics:
            try:
                async with asyncio.timeout(self._pace.suback_wait_s):
                    codes = await line.subscribe(topics)
            except TimeoutError:
                line.cut("the broker does not answer a subscription")
                return
            self.counters["subscribed"] += sum(code < FAILURE for code in codes)
            topics = [t for t, code in zip(topics, codes, strict=True) if code >= FAILURE]
            if topics:
                self.counters["refused_subscriptions"] += len(topics)
                LOG.error("subscription refused: %s; allow it in the broker's ACL", topics)
                await asyncio.sleep(self._pace.subscribe_again_s)

    # ------------------------------------------------------------------ from the machines

    async def _sort(self, line: Line, desks: list[Desk]) -> None:
        """Each machine has its clerk, so that its messages are booked in order."""
        while True:
            message = await line.messages.get()
            place = self._place(message)
            if place is None:
                self.counters["foreign"] += 1
                line.booked(message)
            else:
                desk = desks[zlib.crc32(place[0].encode()) % len(desks)]
                desk.put_nowait((message, *place))

    def _place(self, message: Arrived) -> tuple[str, str] | None:
        """(machine_no, leaf), or None for what is no message of a machine."""
        root, _, rest = message.topic.partition(f"{self._prefix}/")
        machine_no, _, leaf = rest.partition("/")
        if root or leaf not in SHARED + OWN or not 1 <= len(machine_no) <= LONGEST_MACHINE_NO:
            return None
        return None if len(message.payload) > LARGEST_PAYLOAD else (machine_no, leaf)

    async def _book(self, desk: Desk) -> None:
        while True:
            message, machine_no, leaf = await desk.get()
            await self._book_one(machine_no, leaf, message.payload)
            message.line.booked(message)

    async def _book_one(self, machine_no: str, leaf: str, payload: bytes) -> None:
        """Returns when it is in the books, or when that is hopeless."""
        attempts = 0
        while attempts < self._pace.attempts:
            try:
                await self._booker.book(machine_no, leaf, payload)
            except (OSError, sqlite3.Error) as error:
                self.counters["books_failed"] += 1
                LOG.error("%s of %s cannot be booked: %s", leaf, machine_no, error)  # noqa: TRY400
            except Exception:
                attempts += 1
                self.counters["booking_failed"] += 1
                LOG.exception("%s of %s: booking failed unforeseen", leaf, machine_no)
            else:
                self.counters["booked"] += 1
                return
            await asyncio.sleep(self._pace.books_s)
        self.counters["given_up"] += 1

    # ------------------------------------------------------------------ to the machines

    async def _send(self, line: Line) -> None:
        """Take from the outbox while the line is up."""
        self._under_way.clear()
        async with asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                await self._look(line, group)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pace.look_s):
                        await self._woken.wait()

    async def _look(self, line: Line, group: asyncio.TaskGroup) -> None:
        # Also of those that are sent while the outbox is read: the reading still brings them.
        busy = frozenset(self._under_way)
        try:
            waiting = await self._commands.next_commands(self._pace.page)
        except Exception:
            self.counters["outbox_failed"] += 1
            LOG.exception("the outbox cannot be read; commands wait for it")
            return
        now = time.monotonic()
        self._refused = {machine: until for machine, until in self._refused.items() if until > now}
        window = min(self._pace.window, line.window)
        for command in waiting:
            if len(self._under_way) >= window:
                return
            machine_no = command.machine_no
            if not any(machine_no in some for some in (busy, self._under_way, self._refused)):
                self._under_way.add(machine_no)
                group.create_task(self._send_one(line, command), name=f"command {command.id}")

    async def _send_one(self, line: Line, command: Command) -> None:
        try:
            if await self._published(line, command):
                await self._commands.sent(command.id)
        except ConnectionError:
            pass  # the line has ended, and says so itself
        except Exception:
            self.counters["outbox_failed"] += 1
            LOG.exception("command %d: the outbox failed; it will be sent again", command.id)
            await asyncio.sleep(self._pace.books_s)
        finally:
            self._under_way.discard(command.machine_no)
            self._woken.set()

    async def _published(self, line: Line, command: Command) -> bool:
        """Does the broker have it? Raises ConnectionError."""
        topic = f"{self._prefix}/{command.machine_no}/{command.leaf}"
        try:
            async with asyncio.timeout(self._pace.puback_wait_s):
                reason = await line.publish(topic, command.payload, self._expiry(command))
        except TimeoutError:
            line.cut("the broker does not acknowledge")
            return False
        if reason >= FAILURE:
            self.counters["refused"] += 1
            self._refused[command.machine_no] = time.monotonic() + self._pace.refused_s
            LOG.error("%s refused by the broker: reason %#x; see its ACL", topic, reason)
            return False
        if reason == NO_SUBSCRIBERS:
            self.counters["nobody_subscribed"] += 1
            LOG.warning("%s went to nobody: the machine has no session at the broker", topic)
        self.counters["sent"] += 1
        return True

    def _expiry(self, command: Command) -> int | None:
        """Whole seconds that the broker keeps it. Over already: the least, so that a machine
        that is there still answers `expired`, which is a certain word."""
        if command.expires_at is None:
            return None
        return max(1, math.ceil(command.expires_at - self._wall()))


def _report(task: asyncio.Task[None], line: Line) -> None:
    """A part that fails ends the connection: a bridge that only looks alive books nothing."""
    if task.cancelled() or task.exception() is None:
        return
    error = task.exception()
    if not isinstance(error, ConnectionError):
        LOG.error("%s failed", task.get_name(), exc_info=error)
    line.cut(f"{task.get_name()} failed: {error}")
