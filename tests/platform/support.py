"""What the tests of the platform's pumps share: queues at the seams, in memory, and waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from platform_sim.seams import Callback, Command

LONGEST_WAIT_S = 10.0


async def until(condition: Callable[[], Any]) -> Any:
    """Wait for the condition to be true, and return what it gave."""
    deadline = time.monotonic() + LONGEST_WAIT_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        await asyncio.sleep(0.005)
    raise AssertionError(f"not within {LONGEST_WAIT_S} s")


@dataclass
class Callbacks:
    """A CallbackQueue; what a real one keeps on disk, this keeps over lives of a pump."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: dict[int, tuple[float, Callback]] = field(default_factory=dict)
    done: list[int] = field(default_factory=list)
    failures: list[tuple[int, str, float | None]] = field(default_factory=list)
    broken: Exception | None = None
    slow_s: float = 0.0
    """Between the moment that a look is true of and its answer, as with a real database."""

    def put(self, order_id: int, url: str, body: bytes = b"{}", tries: int = 0) -> int:
        number = len(self.waiting) + len(self.done) + 1
        self.waiting[number] = (0.0, Callback(number, order_id, url, body, tries))
        self.woken.set()
        return number

    async def due_callbacks(self, now: float, limit: int) -> Sequence[Callback]:
        oldest: dict[int, tuple[float, Callback]] = {}
        for at, callback in self.waiting.values():
            oldest.setdefault(callback.order_id, (at, callback))
        found = [callback for at, callback in oldest.values() if at <= now][:limit]
        await asyncio.sleep(self.slow_s)
        return found

    async def told(self, callback_id: int) -> None:
        if self.broken is not None:
            raise self.broken
        del self.waiting[callback_id]
        self.done.append(callback_id)
        self.woken.set()

    async def not_told(self, callback_id: int, why: str, again_at: float | None) -> None:
        assert why.isprintable()
        assert len(why) <= 200
        self.failures.append((callback_id, why, again_at))
        _, callback = self.waiting[callback_id]
        if again_at is None:
            del self.waiting[callback_id]
        else:
            again = replace(callback, tries=callback.tries + 1)
            self.waiting[callback_id] = (again_at, again)
        self.woken.set()


@dataclass
class Outbox:
    """Commands in memory."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: list[Command] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    looks: int = 0
    slow_s: float = 0.0
    """Between the moment that a look is true of and its answer, as with a real database."""
    broken: Exception | None = None

    writing: int = 0
    most_writing: int = 0
    writing_s: float = 0.0

    def put(
        self, machine_no: str, payload: bytes, leaf: str = "dispense", until: float | None = None
    ) -> int:
        number = len(self.waiting) + len(self.gone) + 1
        self.waiting.append(Command(number, machine_no, leaf, payload, until))
        self.woken.set()
        return number

    async def next_commands(self, limit: int) -> Sequence[Command]:
        self.looks += 1
        found = self.waiting[:limit]
        await asyncio.sleep(self.slow_s)
        return found

    async def sent(self, command_id: int) -> None:
        if self.broken is not None:
            raise self.broken
        self.writing += 1
        self.most_writing = max(self.most_writing, self.writing)
        await asyncio.sleep(self.writing_s)
        self.writing -= 1
        self.waiting = [command for command in self.waiting if command.id != command_id]
        self.gone.append(command_id)
        self.woken.set()


@dataclass
class Books:
    """A Booker in memory; `before` may hold it up or break it."""

    booked: list[tuple[str, str, bytes]] = field(default_factory=list)
    before: Callable[[bytes], Awaitable[None]] | None = None
    tried: list[bytes] = field(default_factory=list)

    async def book(self, machine_no: str, leaf: str, payload: bytes) -> None:
        self.tried.append(payload)
        if self.before is not None:
            await self.before(payload)
        self.booked.append((machine_no, leaf, payload))

    def of(self, machine_no: str, leaf: str = "result") -> list[bytes]:
        return [text for who, what, text in self.booked if (who, what) == (machine_no, leaf)]


PREFIX = "vending/v1"


class Machine:
    """The machine's end of the line: says things, and hears its commands."""

    def __init__(self, port: int, machine_no: str) -> None:
        self.machine_no = machine_no
        self.heard: list[tuple[str, bytes]] = []
        self.expiries: list[int | None] = []
        self.subscribed = 0
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=machine_no, protocol=MQTTProtocolVersion.MQTTv5
        )
        self.client.max_queued_messages_set(0)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = self._connected
        self.client.on_subscribe = self._subscribed
        self.client.on_message = self._heard
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.SessionExpiryInterval = 3_600
        self.client.connect("127.0.0.1", port, clean_start=False, properties=wishes)
        self.client.loop_start()

    def _connected(self, client: mqtt.Client, *_rest: Any) -> None:
        for leaf in ("dispense", "cancel", "request/+"):
            client.subscribe(f"{PREFIX}/{self.machine_no}/{leaf}", qos=1)

    def _subscribed(self, *_rest: Any) -> None:
        self.subscribed += 1

    def _heard(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.heard.append((message.topic.removeprefix(f"{PREFIX}/"), bytes(message.payload)))
        self.expiries.append(getattr(message.properties, "MessageExpiryInterval", None))

    def say(self, leaf: str, payload: bytes, *, wait: bool = True, **rest: Any) -> None:
        """With the broker when this returns, unless it shall not wait."""
        told = self.client.publish(f"{PREFIX}/{self.machine_no}/{leaf}", payload, qos=1, **rest)
        if wait:
            told.wait_for_publish(LONGEST_WAIT_S)
            assert told.is_published()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
