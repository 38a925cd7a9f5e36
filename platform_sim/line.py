"""One connection to the broker, from CONNECT to its end, over paho in a thread of its own.

A `Line` lives for one connection. An acknowledgement therefore reaches the connection that
brought its message or none, and what paho had not sent dies with it (the outbox has it).

What arrives waits in a bounded queue. Where it is full, paho's thread waits, and TCP then
makes the broker wait; where that lasts too long, the line is cut and the broker brings
everything unacknowledged again. Acknowledgements leave in the order in which the messages
came (MQTT 5.0, 4.6), whoever is booked first.

An exception in one of paho's callbacks would end its thread without a word: they catch
everything, and the end of the thread is the end of the line.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

LOG = logging.getLogger("platform_sim.line")

CONNECT_TIMEOUT_S = 10.0
"""TCP and TLS each; a broker in the same house answers within a tenth of a second."""

RECEIVE_MAXIMUM = 200
"""Unacknowledged messages that the broker may have out to us: some 20 ms of a fleet's talk."""

LARGEST_PACKET = 1024 * 1024
"""Bytes; the broker withholds larger ones. Sixteen times what the contract allows a payload."""

USUAL_RECEIVE_MAXIMUM = 65_535
"""What a broker takes that says nothing (MQTT 5.0, 3.2.2.3.3)."""

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """How to reach the broker, and who we are there. Times in seconds."""

    host: str = "localhost"
    port: int = 1883
    client_id: str = "platform-sim"
    """The session at the broker hangs on it: constant, and one for each process."""
    keepalive_s: int = 30
    session_expiry_s: int = 604_800
    """A week: what machines say while the platform is away waits for it."""
    username: str | None = None
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    """PEM. None: the system's authorities."""
    cert_file: Path | None = None
    key_file: Path | None = None
    waiting_messages: int = 1_000
    """Arrived and not booked; of at most 64 KiB each, and usually of 400 bytes."""


@dataclass(eq=False, slots=True)
class Arrived:
    """A message as it came."""

    line: Line
    mid: int
    qos: int
    topic: str
    payload: bytes
    booked: bool = False


class Line:
    """Its methods belong to the loop's thread, except where they say otherwise."""

    def __init__(self, settings: BrokerSettings, loop: asyncio.AbstractEventLoop) -> None:
        """Reads the certificate and password files: call it off the loop.

        Raises OSError (which ssl.SSLError is) and ValueError when they cannot be used.
        """
        self.connected: asyncio.Future[bool] = loop.create_future()
        """True when the broker still had our session. ConnectionError: it did not come to it."""
        self.ended: asyncio.Future[str] = loop.create_future()
        """Why."""
        self.window = USUAL_RECEIVE_MAXIMUM
        """How many of our publishes the broker takes unacknowledged."""
        self.messages: asyncio.Queue[Arrived] = asyncio.Queue()
        """Bounded by `_room`."""
        self._loop = loop
        self._settings = settings
        self._room = threading.Semaphore(settings.waiting_messages)
        self._unacknowledged: deque[Arrived] = deque()
        self._words: dict[int, asyncio.Future[Sequence[int]]] = {}
        """Awaited answers of the broker by packet identifier."""
        self._why = ""
        self._over = False
        self._client = self._build(settings)

    # ------------------------------------------------------------------ the loop's side

    def start(self) -> None:
        self._client.loop_start()

    async def subscribe(self, topics: Sequence[str]) -> Sequence[int]:
        """The broker's reason code for each topic. Raises ConnectionError."""
        wishes: Any = [(topic, SubscribeOptions(qos=1)) for topic in topics]
        rc, mid = self._client.subscribe(wishes)
        return await self._word(rc, mid)

    async def publish(self, topic: str, payload: bytes, expiry_s: int | None) -> int:
        """The broker's reason code, at QoS 1. Raises ConnectionError."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        info = self._client.publish(topic, payload, qos=1, properties=properties)
        return (await self._word(info.rc, info.mid))[0]

    def booked(self, message: Arrived) -> None:
        """It is written down: acknowledge it, after those that came before it. Nothing happens
        where the line has ended."""
        message.booked = True
        while self._unacknowledged and self._unacknowledged[0].booked:
            first = self._unacknowledged.popleft()
            self._client.ack(first.mid, first.qos)
            self._room.release()

    def disconnect(self) -> None:
        """Say goodbye; the broker keeps the session."""
        self._take_no_more()
        self._client.disconnect()

    def cut(self, why: str) -> None:
        """End it without a word to the broker. May be called from any thread."""
        self._why = self._why or why
        self._take_no_more()
        line: Any = self._client.socket()
        try:
            if line is not None:
                line.shutdown(socket.SHUT_RDWR)
                return
        except OSError:
            pass
        self._client.disconnect()

    def _take_no_more(self) -> None:
        self._over = True
        self._room.release()  # paho's thread may wait for room, and now leaves

    async def _word(self, rc: int, mid: int | None) -> Sequence[int]:
        if rc != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None or self.ended.done():
            raise ConnectionError(self._why or "not connected")
        word: asyncio.Future[Sequence[int]] = self._loop.create_future()
        self._words[mid] = word
        try:
            return await word
        finally:
            self._words.pop(mid, None)

    # ------------------------------------------------------------------ building

    def _build(self, settings: BrokerSettings) -> _Client:
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.suppress_exceptions = True
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages = USUAL_RECEIVE_MAXIMUM  # the bridge keeps the window
        if settings.username is not None:
            client.username_pw_set(settings.username, _password(settings.password_file))
        if settings.tls:
            client.tls_set_context(_tls_context(settings))
        client.on_socket_open = _safely(_no_delay)
        client.on_connect = _safely(self._on_connect)
        client.on_connect_fail = _safely(self._on_connect_fail)
        client.on_disconnect = _safely(self._on_disconnect)
        client.on_message = _safely(self._on_message)
        client.on_publish = _safely(self._on_publish)
        client.on_subscribe = _safely(self._on_subscribe)
        client.thread_ended = lambda: self._tell(self._end)
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
        wishes.SessionExpiryInterval = settings.session_expiry_s
        wishes.ReceiveMaximum = RECEIVE_MAXIMUM
        wishes.MaximumPacketSize = LARGEST_PACKET
        client.connect_async(
            settings.host,
            settings.port,
            settings.keepalive_s,
            clean_start=False,
            properties=wishes,
        )
        return client

    # ------------------------------------------------------------------ paho's thread

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            self._over = True

    def _on_connect(
        self, client: mqtt.Client, _u: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, told: Any
    ) -> None:
        if self._over:
            client.disconnect()
        elif reason.is_failure:
            self._why = f"the broker refused: {reason}"
        else:
            self.window = getattr(told, "ReceiveMaximum", USUAL_RECEIVE_MAXIMUM)
            self._tell(_settle, self.connected, flags.session_present)

    def _on_connect_fail(self, client: mqtt.Client, _u: Any) -> None:
        where = f"{self._settings.host}:{self._settings.port}"
        self._why = self._why or f"no connection to {where}: {self._client.failure}"
        client.disconnect()  # paho would try again by itself; the bridge does, with jitter

    def _on_disconnect(
        self, _c: mqtt.Client, _u: Any, _flags: mqtt.DisconnectFlags, reason: ReasonCode, _p: Any
    ) -> None:
        self._why = self._why or f"disconnected: {reason}"

    def _on_message(self, _c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
        if self._over:
            return  # unacknowledged: the broker brings it again
        # Less than one and a half keepalives, after which the broker gives us up.
        if not self._room.acquire(timeout=self._settings.keepalive_s):
            self.cut("messages come faster than they are booked")
        if self._over:
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self._tell(
            self._arrived, Arrived(self, message.mid, message.qos, topic, bytes(message.payload))
        )

    def _on_publish(self, _c: mqtt.Client, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        self._tell(self._answered, mid, (reason.value,))

    def _on_subscribe(
        self, _c: mqtt.Client, _u: Any, mid: int, reasons: list[ReasonCode], _p: Any
    ) -> None:
        self._tell(self._answered, mid, [code.value for code in reasons])

    # ------------------------------------------------------------------ told in the loop

    def _arrived(self, message: Arrived) -> None:
        self._unacknowledged.append(message)
        self.messages.put_nowait(message)

    def _answered(self, mid: int, word: Sequence[int]) -> None:
        future = self._words.get(mid)
        if future is not None:
            _settle(future, word)

    def _end(self) -> None:
        if self.ended.done():
            return
        why = self._why or "the connection ended"
        self.ended.set_result(why)
        self._client.let_go()
        waiting: list[asyncio.Future[Any]] = [self.connected, *self._words.values()]
        for word in waiting:
            if not word.done():
                word.set_exception(ConnectionError(why))
        self.connected.exception()  # heard, also where nobody waits for it


class _Client(mqtt.Client):
    """paho's client; its thread's last act is to say that it ends.

    paho ends the connection for a message with a property that it does not take, and brokers
    pass such on (a byte order mark in a user property, of any sender). Unacknowledged it would
    come again and end every connection. So it is read without its properties.
    """

    thread_ended: Callable[[], None] = staticmethod(lambda: None)
    failure = ""
    """Why connecting failed, in the words of the operating system or of TLS."""

    def reconnect(self) -> MQTTErrorCode:
        try:
            return super().reconnect()
        except OSError as error:
            self.failure = str(error)
            raise

    def let_go(self) -> None:
        """Close what paho leaves open until the garbage collector comes."""
        self._reset_sockets(sockpair_only=True)

    def _handle_publish(self) -> MQTTErrorCode:
        try:
            return super()._handle_publish()
        except MalformedPacket:
            command, packet = self._in_packet["command"], bytes(self._in_packet["packet"])
            self._handle_on_message(_without_properties(command, packet))
            return MQTTErrorCode.MQTT_ERR_SUCCESS

    def loop_forever(
        self,
        timeout: float = 1.0,
        retry_first_connection: bool = False,  # noqa: FBT001, FBT002  (paho's signature)
    ) -> MQTTErrorCode:
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception:
            LOG.exception("paho's thread ended unforeseen")
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        finally:
            self.thread_ended()


def _without_properties(command: int, packet: bytes) -> mqtt.MQTTMessage:
    """A PUBLISH (MQTT 5.0, 3.3): topic, packet identifier above QoS 0, length of the properties,
    properties, payload."""
    qos = command >> 1 & 3
    topic_ends = 2 + int.from_bytes(packet[:2], "big")
    mid_ends = topic_ends + (2 if qos else 0)
    mid = int.from_bytes(packet[topic_ends:mid_ends], "big")
    message = mqtt.MQTTMessage(mid, packet[2:topic_ends])
    message.qos = qos
    length, digits = VariableByteIntegers.decode(packet[mid_ends:])  # type: ignore[no-untyped-call]
    message.payload = packet[mid_ends + digits + length :]
    return message


def _safely(callback: Callable[P, None]) -> Callable[P, None]:
    @functools.wraps(callback)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:
            LOG.exception("%s failed", callback.__name__)

    return guarded


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _no_delay(_client: mqtt.Client, _userdata: Any, line: Any) -> None:
    """Nagle and delayed acknowledgement together cost 40 to 90 ms per message."""
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _password(path: Path | None) -> str | None:
    return None if path is None else path.read_text(encoding="utf-8").rstrip("\r\n")


def _tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    files = [path for path in (settings.ca_file, settings.cert_file, settings.key_file) if path]
    for path in files:
        path.open("rb").close()  # ssl's own message would not name the file
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except ssl.SSLError as error:
        names = ", ".join(str(path) for path in files)
        raise ValueError(f"one of {names} cannot be used: {error}") from None
    return context
