"""One connection to the broker, from CONNECT to its end, over paho in a thread of its own.

One `Link` lives for one connection and is never reconnected: what paho had not yet
sent dies with it (the outbox sends it again), and an acknowledgement can only reach
the connection that brought its message, because it is given to that object.

paho's thread blocks in name resolution, connecting and TLS so that our loop does
not. An exception in one of its callbacks would end that thread while the client
still calls itself connected; so the callbacks catch everything, and the end of the
thread, for whatever reason, is the end of the link.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from controller import prose
from controller.uplink.intake import LARGEST_PAYLOAD
from controller.uplink.logs import cut, trouble

WORDS_OF: Mapping[int, str] = {
    errno.ECONNREFUSED: prose.CONNECTION_REFUSED,
    errno.ETIMEDOUT: prose.TIMED_OUT,
    errno.ENETUNREACH: prose.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: prose.HOST_UNREACHABLE,
}
"""Error of connect(2) -> the same in words."""

CONNECT_TIMEOUT_S = 10.0
"""TCP and TLS each. A mobile network that is up answers within three."""

RECEIVE_MAXIMUM = 20
"""Unacknowledged messages that a 5.0 broker may have out to us: mosquitto's own default.
Not every broker keeps to it, so the mailboxes have their own bound."""

LARGEST_PACKET = 1024 * 1024
"""Bytes. A 5.0 broker withholds larger ones; between LARGEST_PAYLOAD and this they are
refused with an answer. With 3.1.1 only the broker's own limit bounds what paho buffers."""

FAILURE = 0x80
"""Reason codes from here on say no (MQTT 5.0, 2.4)."""

NO_SUBSCRIBERS = 0x10

UNSPECIFIED = 0x80
"""What paho says of a line that ended without a DISCONNECT."""


P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. Read anew for each connection, so that a renewed certificate is taken up."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """How to reach the broker, and who we are there. Times in seconds."""

    machine_no: str
    host: str = "localhost"
    port: int = 1883
    prefix: str = "vending/v1"
    protocol: str = "5"
    """"5" or "3.1.1"."""
    client_id: str = ""
    """Empty: the machine_no."""
    keepalive_s: int = 30
    session_expiry_s: int = 604_800
    username: str | None = None
    password_file: Path | None = None
    tls: TlsFiles | None = None

    @property
    def root(self) -> str:
        return f"{self.prefix}/{self.machine_no}"

    @property
    def version_5(self) -> bool:
        return self.protocol == "5"


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What the broker said to a publish: None when the connection ended before its word."""

    reason_code: int | None

    @property
    def accepted(self) -> bool:
        """The broker has it."""
        return self.reason_code is not None and self.reason_code < FAILURE

    @property
    def heard(self) -> bool:
        """The broker has it, and did not say that nobody subscribed."""
        return self.accepted and self.reason_code != NO_SUBSCRIBERS


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message as it came. `payload` None: larger than LARGEST_PAYLOAD, not kept."""

    link: Link
    mid: int
    qos: int
    topic: str
    payload: bytes | None
    retained: bool
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class LinkEvents:
    """Whom a link tells. `arrived` is called in paho's thread, the others in the loop's."""

    arrived: Callable[[Inbound], None]
    connected: Callable[[], None]
    ended: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes


@dataclass(slots=True)
class _Pending:
    """What waits for a word of the broker, by packet identifier. Touched in the loop only."""

    publishes: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    subscriptions: dict[int, asyncio.Future[Sequence[int]]] = field(default_factory=dict)


class _Client(mqtt.Client):
    """paho's client; its thread's last act is to say that it ends.

    paho leaves the connection for a message with a property that it does not take, and
    brokers pass such on (a byte order mark in a user property, of any sender). Left
    unacknowledged it would come again on each connection, and end it again. So the
    message is read without its properties: they only add.
    """

    thread_ended: Callable[[], None] = staticmethod(lambda: None)
    failure = ""
    """Why connecting failed, in words; those of TLS as they stand."""

    def reconnect(self) -> MQTTErrorCode:
        try:
            return super().reconnect()
        except OSError as error:
            self.failure = cut(in_words(error))
            raise

    def let_go(self) -> None:
        """Close what is left after the thread's end. paho does so when it is collected, and a dead
        connection is a circle that waits for the garbage collector with two descriptors."""
        self._reset_sockets(sockpair_only=True)

    def _handle_publish(self) -> MQTTErrorCode:
        try:
            return super()._handle_publish()
        except MalformedPacket:
            if self.protocol != MQTTProtocolVersion.MQTTv5:
                raise
            command, packet = self._in_packet["command"], bytes(self._in_packet["packet"])
            self._handle_on_message(_without_properties(command, packet))
            return MQTTErrorCode.MQTT_ERR_SUCCESS

    def loop_forever(
        self,
        timeout: float = 1.0,
        retry_first_connection: bool = False,  # noqa: FBT001, FBT002
    ) -> MQTTErrorCode:
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception as error:  # noqa: BLE001  (whatever it was, the link is over)
            trouble("mqtt_thread_died", error)
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        finally:
            self.thread_ended()


def _without_properties(command: int, packet: bytes) -> mqtt.MQTTMessage:
    """A PUBLISH of MQTT 5 (3.3.1, 3.3.2): topic, packet identifier above QoS 0, the length of
    the properties, properties, payload. What is no such thing ends the connection."""
    qos = command >> 1 & 3
    topic_ends = 2 + int.from_bytes(packet[:2], "big")
    mid_ends = topic_ends + (2 if qos else 0)
    mid = int.from_bytes(packet[topic_ends:mid_ends], "big")
    message = mqtt.MQTTMessage(mid, packet[2:topic_ends])
    message.qos = qos
    message.retain = bool(command & 1)
    length, digits = VariableByteIntegers.decode(packet[mid_ends:])  # type: ignore[no-untyped-call]
    message.payload = packet[mid_ends + digits + length :]
    return message


def in_words(error: OSError) -> str:
    """What a person can do something about, without the number of the operating system."""
    if isinstance(error, socket.gaierror):
        away = error.errno == socket.EAI_AGAIN
        return prose.NO_NAME_SERVER if away else prose.NAME_NOT_FOUND
    if isinstance(error, TimeoutError):
        return prose.TIMED_OUT
    return WORDS_OF.get(error.errno or 0, str(error))


def _safely(callback: Callable[P, None]) -> Callable[P, None]:
    """An exception in a callback would end paho's thread without a word."""

    @functools.wraps(callback)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception as error:  # noqa: BLE001
            trouble("mqtt_callback_failed", error, callback=callback.__name__)

    return guarded


class Link:
    """One connection. Its methods belong to the loop's thread."""

    def __init__(
        self,
        number: int,
        settings: MqttSettings,
        will: Will | None,
        events: LinkEvents,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Reads the certificate and password files: call it off the loop.

        Raises OSError (which ssl.SSLError is) and ValueError when they cannot be used.
        """
        self.number = number
        self.session_present = False
        self.why_ended = ""
        self._settings = settings
        self._events = events
        self._loop = loop
        self._pending = _Pending()
        self._over = False
        self._aborted = False
        self._client = self._build(will)

    # ------------------------------------------------------------------ loop's side

    def start(self) -> None:
        self._client.loop_start()

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        properties: Mapping[str, Any] | None = None,
    ) -> PublishResult:
        """Wait for the broker's word (QoS 0: until the bytes left)."""
        if self._over:
            return PublishResult(None)
        extra = _properties(PacketTypes.PUBLISH, properties) if self._settings.version_5 else None
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=extra)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return PublishResult(None)
        word: asyncio.Future[int] = self._loop.create_future()
        self._pending.publishes[info.mid] = word
        try:
            return PublishResult(await word)
        except ConnectionError:
            return PublishResult(None)
        finally:
            self._pending.publishes.pop(info.mid, None)

    async def subscribe(
        self, topics: Sequence[str], *, qos: int, as_published: bool = False
    ) -> Sequence[int]:
        """The broker's reason code per topic. Raises ConnectionError when the link ends first.

        `as_published`: a message that its sender published as retained says so even when it
        reaches us live; 3.1.1 has no such wish and tells it of stored ones only.
        """
        wishes: Any = [(topic, qos) for topic in topics]
        if self._settings.version_5:
            options = SubscribeOptions(qos=qos, retainAsPublished=as_published)
            wishes = [(topic, options) for topic in topics]
        rc, mid = self._client.subscribe(wishes)
        if rc != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None or self._over:
            raise ConnectionError(self.why_ended or "not connected")
        word: asyncio.Future[Sequence[int]] = self._loop.create_future()
        self._pending.subscriptions[mid] = word
        try:
            return await word
        finally:
            self._pending.subscriptions.pop(mid, None)

    def unsubscribe(self, topic: str) -> None:
        self._client.unsubscribe(topic)

    def acknowledge(self, message: Inbound) -> bool:
        """False when the message came on another connection, or this one is over."""
        if message.link is not self or self._over:
            return False
        if message.qos:
            self._client.ack(message.mid, message.qos)
        return True

    def disconnect(self) -> None:
        """Say goodbye: the broker drops the will."""
        self._client.disconnect()

    def abort(self) -> None:
        """Cut the line without a word: the broker publishes the will."""
        self._aborted = True
        line: Any = self._client.socket()
        if line is None:
            self._client.disconnect()
            return
        try:
            line.shutdown(socket.SHUT_RDWR)
        except OSError:
            self._client.disconnect()

    # ------------------------------------------------------------------ building

    def _build(self, will: Will | None) -> _Client:
        settings = self._settings
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id or settings.machine_no,
            clean_session=None if settings.version_5 else False,
            protocol=MQTTProtocolVersion.MQTTv5
            if settings.version_5
            else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.suppress_exceptions = True
        client.connect_timeout = CONNECT_TIMEOUT_S
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        if settings.username is not None:
            client.username_pw_set(settings.username, _password(settings.password_file))
        if settings.tls is not None:
            client.tls_set_context(_tls_context(settings.tls))
        client.on_socket_open = _safely(_no_delay)
        client.on_connect = _safely(self._on_connect)
        client.on_connect_fail = _safely(self._on_connect_fail)
        client.on_disconnect = _safely(self._on_disconnect)
        client.on_message = _safely(self._on_message)
        client.on_publish = _safely(self._on_publish)
        client.on_subscribe = _safely(self._on_subscribe)
        client.thread_ended = self._on_thread_ended
        wishes = {
            "SessionExpiryInterval": settings.session_expiry_s,
            "ReceiveMaximum": RECEIVE_MAXIMUM,
            "MaximumPacketSize": LARGEST_PACKET,
        }
        if settings.version_5:
            client.connect_async(
                settings.host,
                settings.port,
                settings.keepalive_s,
                clean_start=False,
                properties=_properties(PacketTypes.CONNECT, wishes),
            )
        else:
            client.connect_async(settings.host, settings.port, settings.keepalive_s)
        return client

    # ------------------------------------------------------------------ paho's thread

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            self._over = True

    def _on_connect(
        self, client: mqtt.Client, _u: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, _p: Any
    ) -> None:
        if self._aborted:
            client.disconnect()
            return
        if reason.is_failure:
            self.why_ended = prose.BROKER_REFUSED.format(why=reason)
            return
        self.session_present = flags.session_present
        self._tell(self._connected)

    def _on_connect_fail(self, client: mqtt.Client, _u: Any) -> None:
        settings = self._settings
        broker = f"{settings.host}:{settings.port}"
        self.why_ended = prose.NO_CONNECTION.format(broker=broker, why=self._client.failure)
        client.disconnect()  # paho would wait and try itself; the session does that, with jitter

    def _on_disconnect(
        self, _c: mqtt.Client, _u: Any, flags: mqtt.DisconnectFlags, reason: ReasonCode, _p: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            why = prose.BROKER_ENDED_IT.format(why=reason)
        elif reason.value == UNSPECIFIED:
            why = prose.LINE_CLOSED
        else:
            why = str(reason)
        self.why_ended = self.why_ended or cut(why)

    def _on_message(self, _c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # foreign: counted and acknowledged
        properties = message.properties
        self._events.arrived(
            Inbound(
                link=self,
                mid=message.mid,
                qos=message.qos,
                topic=topic,
                payload=bytes(message.payload) if len(message.payload) <= LARGEST_PAYLOAD else None,
                retained=message.retain,
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
            )
        )

    def _on_publish(self, _c: mqtt.Client, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        self._tell(_settle, self._pending.publishes, mid, reason.value)

    def _on_subscribe(
        self, _c: mqtt.Client, _u: Any, mid: int, reasons: list[ReasonCode], _p: Any
    ) -> None:
        self._tell(_settle, self._pending.subscriptions, mid, [code.value for code in reasons])

    def _on_thread_ended(self) -> None:
        self._tell(self._end)

    # ------------------------------------------------------------------ told in the loop

    def _connected(self) -> None:
        if not self._over:
            self._events.connected()

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        self._client.let_go()
        waiting: list[asyncio.Future[Any]] = [
            *self._pending.publishes.values(),
            *self._pending.subscriptions.values(),
        ]
        for word in waiting:
            if not word.done():
                word.set_exception(ConnectionError(self.why_ended))
        self._events.ended(self.why_ended or "the connection ended")


def _settle(waiting: Mapping[int, asyncio.Future[Any]], mid: int, word: Any) -> None:
    future = waiting.get(mid)
    if future is not None and not future.done():
        future.set_result(word)


def _properties(packet: int, values: Mapping[str, Any] | None) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho's own
    for name, value in (values or {}).items():
        setattr(properties, name, value)
    return properties


def _no_delay(_client: mqtt.Client, _userdata: Any, line: Any) -> None:
    """Nagle and delayed acknowledgement together cost 40 to 90 ms per message."""
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _password(path: Path | None) -> str | None:
    return None if path is None else path.read_text(encoding="utf-8").rstrip("\r\n")


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    given = [path for path in (files.ca_file, files.cert_file, files.key_file) if path is not None]
    for path in given:
        path.open("rb").close()  # ssl's own message would not name the file

    def passphrase() -> str:  # without this OpenSSL asks on the terminal, and waits there
        raise ValueError(f"{files.key_file or files.cert_file} wants a passphrase: store it plain")

    try:
        context = ssl.create_default_context(cafile=files.ca_file)
        if files.cert_file is not None:
            context.load_cert_chain(files.cert_file, files.key_file, passphrase)
    except ssl.SSLError as error:
        names = ", ".join(str(path) for path in given)
        raise ValueError(f"one of {names} cannot be used: {error}") from None
    return context
