"""The machine's standing with its broker: connected for ever, each command handled once here.

* Connections follow each other with full jitter and without end.
* The session at the broker is persistent; commands come at QoS 1 and are acknowledged
  only when their handler says so, on the connection that brought them. What is left
  unacknowledged is brought again after a renewal of the connection.
* No command is handled before our own retained `state` was read (P13), or 2 s after the
  broker confirmed its subscription without one. The state is a witness: until what it says
  was adopted, the connection has no last will, and a farewell says nothing, because either
  would take its place. So the first connection of a start only reads, and is renewed.
* What waits for a handler is bounded; one slow handler of requests never holds a command.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from controller.dispensing.interfaces import Clock
from controller.errors import ControllerError
from controller.uplink.intake import Disposition
from controller.uplink.jsontext import BadJson, read_object
from controller.uplink.link import (
    FAILURE,
    Inbound,
    Link,
    LinkEvents,
    MqttSettings,
    PublishResult,
    Will,
)
from controller.uplink.logs import say, trouble
from controller.uplink.mailbox import Mailbox


@dataclass(frozen=True, slots=True)
class Pace:
    """The uplink's times, in seconds, and bounds; each with its reason."""

    retry_first_s: float = 1.0
    retry_longest_s: float = 60.0
    """Full jitter between 0 and a bound that doubles from the first to the longest: a fleet
    that lost its broker comes back spread over a minute, one machine alone within a second."""
    steady_s: float = 30.0
    """A connection that lasted so long ends the doubling. One keepalive period."""
    retained_state_wait_s: float = 2.0
    """After the SUBACK; a broker sends the retained message right behind it."""
    suback_wait_s: float = 15.0
    puback_wait_s: float = 30.0
    """One keepalive period: a broker that takes longer is not there, whatever TCP says."""
    subscribe_again_s: float = 60.0
    """After a refusal: somebody has to change the broker's ACL first."""
    redelivery_s: float = 20.0
    """From a message left unacknowledged to the renewal of the connection, which makes the
    broker bring it again: well inside a command's 90 s, and rare enough for a broken disk."""
    adoption_retry_s: float = 5.0
    """Between attempts to write down what the retained state said: the disk may be full."""
    waiting_commands: int = 64
    waiting_requests: int = 32
    """Messages of at most 64 KiB each. Over it a command stays with the broker, a request is
    lost."""
    refused_first_s: float = 5.0
    refused_longest_s: float = 60.0
    """Between attempts to publish a row that the broker refused. A refusal ends when somebody
    changes an ACL or the platform's consumer comes back: a minute is soon enough, and ten
    thousand machines then ask a broker 170 times a second."""
    attempts: int = 3
    """A message whose handler fails unforeseen is tried so often; then it is acknowledged,
    because it would fill the broker's window and hold back every other command."""


USUAL_PACE = Pace()

REMEMBERED_FAILURES = 64
"""Messages whose attempts are counted at one time."""


@dataclass(frozen=True, slots=True)
class Witness:
    """How far this machine's memory went, by its own retained `state` (P13); None for what is
    not there or makes no sense."""

    journal: int | None = None
    last_seq: int | None = None
    last_event_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Handlers:
    """Who takes what arrives; `retained_state` gets what our own said, before any command."""

    dispense: Callable[[bytes | None, bool], Awaitable[Disposition]]
    cancel: Callable[[bytes | None, bool], Awaitable[Disposition]]
    request: Callable[[Inbound], Awaitable[None]]
    retained_state: Callable[[Witness], Awaitable[None]]


class Session:
    """`run` keeps the connection; everything else may be called while it runs."""

    def __init__(
        self,
        settings: MqttSettings,
        clock: Clock,
        will: Callable[[], bytes],
        pace: Pace = USUAL_PACE,
        chance: random.Random | None = None,
    ) -> None:
        """`will` is asked at each connect for the payload of the last will."""
        self.settings = settings
        self.number = 0
        """Connections so far; each message and acknowledgement belongs to one of them."""
        self.counters: Counter[str] = Counter()
        self.refused_topics: tuple[str, ...] = ()
        """Subscriptions that the broker refused, for the doctor."""
        self.last_error = ""
        self.retry_at: float | None = None
        """Monotonic: when it connects again; None while it is connected or connecting."""
        self.since: float | None = None
        """Wall time since when it is connected, or gone; None: never was connected."""
        self._clock = clock
        self._will = will
        self.pace = pace
        self._chance = chance or random.Random()  # noqa: S311  (jitter, no secret)
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._turn = asyncio.Event()
        self._adopted = False
        """What our own retained state said is durable: it may be overwritten."""
        self._gate = asyncio.Event()
        self._ready = False
        self._left = asyncio.Event()
        self._renewal: asyncio.Task[None] | None = None
        self._renewed = False
        self._retained: asyncio.Future[bytes] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._commands = Mailbox(self.pace.waiting_commands, self._loop)
        self._requests = Mailbox(self.pace.waiting_requests, self._loop)
        self._failures: dict[tuple[str, bytes | None], int] = {}
        self._topics = {f"{settings.root}/{name}": name for name in ("dispense", "cancel")}
        self._request_root = f"{settings.root}/request/"
        self._state_topic = f"{settings.root}/state"

    # ------------------------------------------------------------------ for the others

    @property
    def connected(self) -> bool:
        return self._link is not None

    async def ready(self, other_than: int = 0) -> int:
        """The number of the connection that is up, once one is that is not `other_than`, has
        its subscriptions and a last will: our own retained state has been read."""
        while self._link is None or not self._ready or self.number == other_than:
            await self._turn.wait()
        return self.number

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, Any] | None = None,
    ) -> PublishResult:
        """Publish on the full `topic` and wait for the broker's word.

        Never queues: without a connection the result says so at once.
        """
        link = self._link
        if link is None:
            return PublishResult(None)
        try:
            async with self._clock.timeout(self.pace.puback_wait_s):
                return await link.publish(
                    topic, payload, qos=qos, retain=retain, properties=properties
                )
        except TimeoutError:
            self.counters["puback_timeouts"] += 1
            link.abort()
            return PublishResult(None)

    async def leave(self, farewell: bytes) -> None:
        """Publish the last `state` and disconnect; `run` then returns."""
        self._left.set()
        if self._adopted:
            await self.publish(self._state_topic, farewell, retain=True)
        if self._link is None:
            self.abandon()
            return
        self._link.disconnect()
        await asyncio.wait([self._ended])

    def abandon(self) -> None:
        """Cut the connection without a word; `run` then returns, and the will speaks."""
        self._left.set()
        if not self._ended.done():
            self._ended.set_result("abandoned")

    # ------------------------------------------------------------------ the connection

    async def run(self, handlers: Handlers) -> None:
        """Connect and reconnect, until `leave` or cancellation (then the will speaks)."""
        async with asyncio.TaskGroup() as group:
            consumers = [
                group.create_task(self._take_commands(handlers), name="uplink commands"),
                group.create_task(self._take_requests(handlers), name="uplink requests"),
            ]
            failures = 0
            while not self._left.is_set():
                began = self._clock.monotonic()
                why = await self._one_connection(handlers)
                lasted = self._clock.monotonic() - began
                failures = 0 if lasted >= self.pace.steady_s or self._renewed else failures + 1
                if self._left.is_set():
                    break
                if self._renewed:
                    continue
                self.last_error = why
                bound = min(
                    self.pace.retry_longest_s,
                    self.pace.retry_first_s * 2 ** min(failures - 1, 16),
                )
                pause = self._chance.uniform(0.0, bound)
                say(logging.WARNING, "mqtt_disconnected", why=why, retry_s=round(pause, 2))
                self.retry_at = self._clock.monotonic() + pause
                with contextlib.suppress(TimeoutError):
                    async with self._clock.timeout(pause):
                        await self._left.wait()
                self.retry_at = None
            for consumer in consumers:
                consumer.cancel()

    async def _one_connection(self, handlers: Handlers) -> str:
        """Open a link and stay until it ends. Says why it ended."""
        self._renewed = False
        ended: asyncio.Future[str] = self._loop.create_future()
        self._ended = ended
        greeting: asyncio.Task[None] | None = None

        def connected() -> None:
            nonlocal greeting
            self._link = link
            self.since = self._clock.wall()
            self._announce_turn()
            say(
                logging.INFO,
                "mqtt_connected",
                connection=number,
                session_present=link.session_present,
            )
            greeting = self._loop.create_task(self._greet(link, handlers), name="uplink greeting")

        def over(why: str) -> None:
            if self._link is not None:
                self.since = self._clock.wall()
            if not ended.done():
                ended.set_result(why)

        self.number = number = self.number + 1
        will = Will(self._state_topic, self._will()) if self._adopted else None
        events = LinkEvents(self._arrived, connected, over)
        try:
            link = await asyncio.to_thread(Link, number, self.settings, will, events, self._loop)
        except (OSError, ValueError) as error:
            self.counters["connect_failures"] += 1
            return f"cannot prepare the connection: {error}; check [mqtt] and [mqtt.tls] files"
        link.start()
        try:
            why = await ended
        finally:
            link.abort()
            if self._link is None:
                self.counters["connect_failures"] += 1
            self._link = None
            self._ready = False
            tasks = [task for task in (greeting, self._renewal) if task is not None]
            self._renewal = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return why

    def _announce_turn(self) -> None:
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()

    async def _greet(self, link: Link, handlers: Handlers) -> None:
        """Subscribe, and on the first time read our own retained state before any command."""
        try:
            await self._subscribe(link, (*self._topics, f"{self._request_root}+"))
            if not self._adopted:
                await self._read_own_state(link, handlers)
                self._adopted = True
                self._renew(link, "own state read, now with a last will")
                return
            self._gate.set()
            self._ready = True
            self._announce_turn()
            while self.refused_topics:
                await self._clock.sleep(self.pace.subscribe_again_s)
                await self._subscribe(link, self.refused_topics)
        except TimeoutError:
            say(logging.WARNING, "mqtt_suback_missing", connection=link.number)
            link.abort()
        except ConnectionError:
            pass  # the link has ended, and says so itself
        except Exception as error:  # noqa: BLE001  (without a greeting no command would be handled)
            trouble("mqtt_greeting_failed", error)
            link.abort()

    async def _subscribe(self, link: Link, topics: Sequence[str]) -> None:
        """Commands and requests. Raises TimeoutError when the broker says nothing."""
        async with self._clock.timeout(self.pace.suback_wait_s):
            codes = await link.subscribe(topics, qos=1, as_published=True)
        refused = tuple(t for t, code in zip(topics, codes, strict=False) if code >= FAILURE)
        for topic in refused:
            say(
                logging.ERROR,
                "mqtt_subscription_refused",
                topic=topic,
                remedy="allow this machine to read the topic in the broker's ACL",
            )
        self.refused_topics = refused

    async def _read_own_state(self, link: Link, handlers: Handlers) -> None:
        self._retained = self._loop.create_future()
        async with self._clock.timeout(self.pace.suback_wait_s):
            codes = await link.subscribe((self._state_topic,), qos=0)
        if max(codes) >= FAILURE:
            say(logging.WARNING, "own_state_unreadable", remedy="allow reading it in the ACL")
        witness = Witness()
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(self.pace.retained_state_wait_s):
                witness = _witness(await self._retained)
        link.unsubscribe(self._state_topic)
        while True:
            try:
                await handlers.retained_state(witness)
            except ControllerError as error:
                say(logging.ERROR, "retained_state_not_adopted", why=str(error))
                await self._clock.sleep(self.pace.adoption_retry_s)
            else:
                return

    # ------------------------------------------------------------------ what arrives

    def _arrived(self, message: Inbound) -> None:
        """In paho's thread: sort, bound, and leave the rest to the loop."""
        if message.topic in self._topics:
            if not self._commands.offer(message):
                self._loop.call_soon_threadsafe(self._leave_with_broker, message, "overflow")
        elif message.topic.startswith(self._request_root):
            if not self._requests.offer(message):
                self._loop.call_soon_threadsafe(self._drop, message, "requests_dropped")
        elif message.topic == self._state_topic:
            if message.retained and not self._adopted:
                self._loop.call_soon_threadsafe(self._own_state, message)
        else:
            self._loop.call_soon_threadsafe(self._drop, message, "foreign")

    def _own_state(self, message: Inbound) -> None:
        if not self._retained.done():
            self._retained.set_result(message.payload or b"")

    def _drop(self, message: Inbound, why: str) -> None:
        self.counters[why] += 1
        self._acknowledge(message)

    def _acknowledge(self, message: Inbound) -> None:
        if message.link is not self._link or not message.link.acknowledge(message):
            self.counters["stale_acknowledgements"] += 1

    def _leave_with_broker(self, message: Inbound, why: str) -> None:
        """Not acknowledged; and after a while the connection is renewed, so that it comes again."""
        self.counters[why] += 1
        if message.qos == 0 or message.link is not self._link or self._renewal is not None:
            return
        self._renewal = self._loop.create_task(
            self._renew_later(message.link), name="uplink renewal"
        )

    async def _renew_later(self, link: Link) -> None:
        await self._clock.sleep(self.pace.redelivery_s)
        self._renew(link, "a message was left unacknowledged")

    def _renew(self, link: Link, why: str) -> None:
        if link is self._link:
            say(logging.INFO, "mqtt_renewing", connection=link.number, why=why)
            self._renewed = True
            link.disconnect()

    async def _take_commands(self, handlers: Handlers) -> None:
        by_name = {"dispense": handlers.dispense, "cancel": handlers.cancel}
        while True:
            await self._gate.wait()
            message = await self._commands.take()
            if message.qos and message.link is not self._link:
                self.counters["stale_messages"] += 1  # the broker brings it again
                continue
            handler = by_name[self._topics[message.topic]]
            try:
                disposition = await handler(message.payload, message.retained)
            except Exception as error:  # noqa: BLE001  (P14: nothing that comes may end us)
                trouble("command_failed", error, topic=message.topic)
                disposition = self._after_failure(message)
            if disposition is Disposition.ACKNOWLEDGE:
                self._acknowledge(message)
            else:
                self._leave_with_broker(message, "left_unacknowledged")

    def _after_failure(self, message: Inbound) -> Disposition:
        self.counters["command_failures"] += 1
        known = (message.topic, message.payload)
        count = self._failures.pop(known, 0) + 1
        if count >= self.pace.attempts:
            return Disposition.ACKNOWLEDGE
        self._failures[known] = count
        if len(self._failures) > REMEMBERED_FAILURES:
            del self._failures[next(iter(self._failures))]
        return Disposition.LEAVE

    async def _take_requests(self, handlers: Handlers) -> None:
        while True:
            await self._gate.wait()
            message = await self._requests.take()
            if message.qos and message.link is not self._link:
                self.counters["stale_messages"] += 1  # the broker brings it again
                continue
            try:
                await handlers.request(message)
            except Exception as error:  # noqa: BLE001
                trouble("request_failed", error, topic=message.topic[:200])
            self._acknowledge(message)


def _witness(payload: bytes) -> Witness:
    try:
        value = read_object(payload)
    except BadJson:
        return Witness()
    told = (value.get(field.name) for field in fields(Witness))
    return Witness(
        *(
            item
            if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**63
            else None
            for item in told
        )
    )
