"""A broker that is a model: sessions, QoS 1, retained messages, wills, and everything that
goes wrong with them.

It lives on the world's loop and is spoken to by two kinds of clients: the daemon's `ModelLink`,
which stands where `uplink.link.Link` stands and keeps to its interface, and the platform,
which is called directly. What a broker may do is done at random by `Weather`: late and
repeated deliveries, lost acknowledgements, cut connections, refusals.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.uplink.intake import LARGEST_PAYLOAD
from controller.uplink.link import Inbound, LinkEvents, MqttSettings, PublishResult, Will
from tests.sim.loops import SimLoop

RECEIVE_MAXIMUM = 20
KEEPALIVE_GRACE = 1.5
"""MQTT 5.0, 3.1.2.10: a silent client is dropped after one and a half keepalives."""
GONE_MID = 65_535


@dataclass(slots=True)
class Weather:
    """How often what goes wrong; probabilities per message, seconds of delay."""

    latency_s: float = 0.002
    slow: float = 0.0
    """A message takes up to a second more."""
    lose_puback: float = 0.0
    """The broker has it; its word gets lost with the connection."""
    lose_publish: float = 0.0
    """The connection breaks with the message on it."""
    refuse: float = 0.0
    """A PUBACK with 0x87, not authorised."""
    nobody: float = 0.0
    """A PUBACK with 0x10, no matching subscribers."""


@dataclass(slots=True)
class Stored:
    topic: str
    payload: bytes
    retained: bool
    """As its sender published it."""


@dataclass(slots=True)
class Session:
    """What a broker keeps of a client, connected or not."""

    topics: set[str] = field(default_factory=set)
    queue: list[Stored] = field(default_factory=list)
    inflight: dict[int, Stored] = field(default_factory=dict)
    """By packet identifier, in the order of sending: sent and not acknowledged."""
    mid: int = 0
    link: ModelLink | None = None


class Broker:
    def __init__(self, loop: SimLoop, chance: random.Random) -> None:
        self.loop = loop
        self.weather = Weather()
        self.up = True
        self.sessions: dict[str, Session] = {}
        self.retained: dict[str, bytes] = {}
        self.on_publish: Callable[[str, bytes, bool], None] = lambda *_: None
        """The platform's subscription: (topic, payload, retained), each message that is taken."""
        self.on_acknowledged: Callable[[Stored], None] = lambda _: None
        """A command that the daemon acknowledged."""
        self.on_arrival: Callable[[Stored], None] = lambda _: None
        """A message reaches the daemon."""
        self.on_will: Callable[[bytes | None], None] = lambda _: None
        """A client came with a last will; what was retained as its state."""
        self._chance = chance

    # ------------------------------------------------------------------ from outside

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """The platform's publish at QoS 1; it repeats by itself what a dead broker never took."""
        if not self.up:
            self.loop.call_later(1.0, lambda: self.publish(topic, payload, retain=retain))
            return
        if retain:
            self._retain(topic, payload)
        for session in self.sessions.values():
            if topic in session.topics or _wild(topic) in session.topics:
                session.queue.append(Stored(topic, payload, retain))
                self._deliver(session)

    def repeat(self) -> None:
        """Bring again what is on its way, as a broker does that lost track: duplicates."""
        for session in self.sessions.values():
            for mid, stored in session.inflight.items():
                self._send(session, mid, stored)

    def cut(self) -> None:
        """Every connection breaks, and the wills speak."""
        for session in self.sessions.values():
            if session.link is not None:
                self.lost(session.link, "cut")

    def stop(self, *, forget: bool) -> None:
        """The broker dies; `forget`: with everything that it had promised to keep."""
        self.up = False
        for session in self.sessions.values():
            link, session.link = session.link, None
            if link is not None:
                link.tell_end("the broker is gone")
        if forget:
            self.sessions.clear()
            self.retained.clear()

    def start(self) -> None:
        self.up = True

    def forget_session(self) -> None:
        """It lost the sessions alone."""
        self.cut()
        self.sessions.clear()

    # ------------------------------------------------------------------ the daemon's connection

    def connect(self, link: ModelLink) -> None:
        if not self.up:
            link.tell_end("connection refused")
            return
        known = link.client_id in self.sessions
        session = self.sessions.setdefault(link.client_id, Session())
        if session.link is not None:
            self.lost(session.link, "session taken over")
        session.link = link
        if link.will is not None:
            self.on_will(self.retained.get(link.will.topic))
        link.tell_connected(session_present=known)
        for mid, stored in session.inflight.items():
            self._send(session, mid, stored)
        self._deliver(session)

    def lost(self, link: ModelLink, why: str, *, will: bool = True) -> None:
        """The connection is over, for whatever reason; told to the client if it still lives."""
        session = self.sessions.get(link.client_id)
        if session is None or session.link is not link:
            return
        session.link = None
        if will and link.will is not None:
            self._retain(link.will.topic, link.will.payload)
            self.on_publish(link.will.topic, link.will.payload, True)  # noqa: FBT003
        link.tell_end(why)

    def subscribe(self, link: ModelLink, topics: Sequence[str]) -> None:
        session = self.sessions.get(link.client_id)
        if session is None or session.link is not link:
            return
        session.topics.update(topics)
        for topic in topics:
            if topic in self.retained:
                # QoS 0 is enough for our own state, and retained commands are refused anyway.
                self._later(link.arrives, 0, Stored(topic, self.retained[topic], retained=True), 0)

    def unsubscribe(self, link: ModelLink, topic: str) -> None:
        session = self.sessions.get(link.client_id)
        if session is not None:
            session.topics.discard(topic)

    def take(self, link: ModelLink, topic: str, payload: bytes, *, retain: bool) -> int | None:
        """A publish of the daemon's: the reason code of its PUBACK, None when that is lost."""
        session = self.sessions.get(link.client_id)
        if session is None or session.link is not link:
            return None
        weather, draw = self.weather, self._chance.random
        if draw() < weather.lose_publish:
            self.lost(link, "broken while publishing")
            return None
        never_dropped = topic.rsplit("/", 1)[-1] in {"result", "order"}
        if never_dropped and draw() < weather.refuse:
            return 0x87
        if never_dropped and draw() < weather.nobody:
            return 0x10
        if retain:
            self._retain(topic, payload)
        self.on_publish(topic, payload, retain)
        if draw() < weather.lose_puback:
            self.lost(link, "broken before the PUBACK")
            return None
        return 0

    def acknowledge(self, link: ModelLink, mid: int) -> None:
        session = self.sessions.get(link.client_id)
        if session is None or session.link is not link:
            return
        stored = session.inflight.pop(mid, None)
        if stored is not None:
            self.on_acknowledged(stored)
            self._deliver(session)

    # ------------------------------------------------------------------ inside

    def _retain(self, topic: str, payload: bytes) -> None:
        if payload:
            self.retained[topic] = payload
        else:
            self.retained.pop(topic, None)

    def _deliver(self, session: Session) -> None:
        while session.link is not None and session.queue:
            if len(session.inflight) >= RECEIVE_MAXIMUM:
                return
            session.mid = session.mid % GONE_MID + 1
            stored = session.queue.pop(0)
            session.inflight[session.mid] = stored
            self._send(session, session.mid, stored)

    def _send(self, session: Session, mid: int, stored: Stored) -> None:
        if session.link is not None:
            self._later(session.link.arrives, mid, stored, 1)

    def _later(self, call: Callable[..., object], *args: Any) -> None:
        self.loop.call_later(self.delay(), call, *args)

    def delay(self) -> float:
        slow = self._chance.random() < self.weather.slow
        return self.weather.latency_s * (1 + self._chance.random()) + slow * self._chance.random()


class ModelLink:
    """Stands where `uplink.link.Link` stands: one connection, of a daemon on its own loop."""

    broker: Broker
    """Set on a subclass, one for each world."""
    host_is_dead: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(
        self,
        number: int,
        settings: MqttSettings,
        will: Will | None,
        events: LinkEvents,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.number = number
        self.session_present = False
        self.client_id = settings.client_id or settings.machine_no
        self.will = will
        self._events = events
        self._loop = loop
        self._over = False
        self._line_free_at = 0.0
        self._waiting: set[asyncio.Future[Any]] = set()

    # ------------------------------------------------------------------ the daemon's side

    def start(self) -> None:
        self._to_broker(self.broker.connect, self)

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        properties: Mapping[str, Any] | None = None,
    ) -> PublishResult:
        del properties
        if self._over:
            return PublishResult(None)
        word = self._word()

        def reach() -> None:
            code = self.broker.take(self, topic, payload, retain=retain)
            if code is not None:
                self.broker.loop.call_later(self.broker.delay(), self._settle, word, code)

        self._to_broker(reach)
        if qos == 0:
            return PublishResult(0)
        try:
            return PublishResult(await word)
        except ConnectionError:
            return PublishResult(None)
        finally:
            self._waiting.discard(word)

    async def subscribe(
        self, topics: Sequence[str], *, qos: int, as_published: bool = False
    ) -> Sequence[int]:
        del as_published
        if self._over:
            raise ConnectionError("not connected")
        word = self._word()

        def reach() -> None:
            # The SUBACK first, then what is retained: brokers keep this order.
            self.broker.loop.call_later(self.broker.weather.latency_s, self._settle, word, 0)
            self.broker.subscribe(self, topics)

        self._to_broker(reach)
        try:
            await word
        finally:
            self._waiting.discard(word)
        return [qos] * len(topics)

    def unsubscribe(self, topic: str) -> None:
        self._to_broker(self.broker.unsubscribe, self, topic)

    def acknowledge(self, message: Inbound) -> bool:
        if message.link is not self or self._over:  # type: ignore[comparison-overlap]  # we are the link
            return False
        if message.qos:
            self._to_broker(self.broker.acknowledge, self, message.mid)
        return True

    def disconnect(self) -> None:
        self._to_broker(self._leave)

    def abort(self) -> None:
        self._to_broker(self.broker.lost, self, "aborted")
        self.tell_end("aborted")

    def die(self) -> None:
        """The process is gone. What it had given to its socket arrives all the same, and then the
        connection's end."""
        self._over = True
        self._pass(self.broker.lost, self, "the client is gone")

    def _leave(self) -> None:
        self.broker.lost(self, "", will=False)
        self.tell_end("")

    def _to_broker(self, call: Callable[..., object], *args: Any) -> None:
        """In the order of sending: one TCP connection."""
        if not self.host_is_dead():
            self._pass(call, *args)

    def _pass(self, call: Callable[..., object], *args: Any) -> None:
        loop = self.broker.loop
        at = max(self._line_free_at, loop.time() + self.broker.delay())
        self._line_free_at = at
        loop.call_at(at, call, *args)

    def _word(self) -> asyncio.Future[Any]:
        word: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.add(word)
        return word

    # ------------------------------------------------------------------ the broker's side

    def arrives(self, mid: int, stored: Stored, qos: int) -> None:
        if self._over:
            return
        kept = stored.payload if len(stored.payload) <= LARGEST_PAYLOAD else None
        inbound = Inbound(self, mid, qos, stored.topic, kept, stored.retained)  # type: ignore[arg-type]  # we are the link
        self._loop.call_soon(self._events.arrived, inbound)
        self.broker.on_arrival(stored)

    def tell_connected(self, *, session_present: bool) -> None:
        self.session_present = session_present
        self._loop.call_soon(self._unless_over, self._events.connected)

    def tell_end(self, why: str) -> None:
        if self._over:
            return
        self._over = True
        for word in list(self._waiting):
            self._loop.call_soon(_fail, word, why)
        self._loop.call_soon(self._events.ended, why or "the connection ended")

    def _unless_over(self, call: Callable[[], None]) -> None:
        if not self._over:
            call()

    def _settle(self, word: asyncio.Future[Any], code: int) -> None:
        def settle() -> None:
            if not word.done():
                word.set_result(code)

        if not self._over:
            self._loop.call_soon(settle)


def _fail(word: asyncio.Future[Any], why: str) -> None:
    if not word.done():
        word.set_exception(ConnectionError(why))


def _wild(topic: str) -> str:
    return topic.rsplit("/", 1)[0] + "/+"
