"""The platform's end of the wire: sends commands, keeps everything that the machine says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

OUTGOING = ("result", "order", "event", "state", "inventory", "telemetry", "response/+")
WAIT_S = 20.0
"""A bound for a busy machine, for what takes well under a second."""


@dataclass(frozen=True)
class Message:
    topic: str
    """Below the machine's root: result, order, event, state, response/status, …"""
    payload: bytes
    retained: bool
    at: float
    """Unix seconds of its arrival here."""

    @cached_property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.payload))


class Platform:
    """MQTT 5, QoS 1, with a session that outlives a broken connection."""

    def __init__(self, port: int, machine_no: str, prefix: str = "vending/v1") -> None:
        self.machine_no = machine_no
        self.root = f"{prefix}/{machine_no}"
        self.messages: list[Message] = []
        self._news = threading.Condition()
        self._subscribed = False
        self._port = port
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, f"platform-{machine_no}", protocol=mqtt.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    # ------------------------------------------------------------------ connection

    def up(self) -> None:
        """Connect, and subscribed when this returns."""
        lasting = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has none here
        lasting.SessionExpiryInterval = 3600
        self._client.connect(
            "127.0.0.1", self._port, keepalive=30, clean_start=False, properties=lasting
        )
        self._client.loop_start()
        self.wait_subscribed()

    def wait_subscribed(self, timeout: float = WAIT_S) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self._subscribed, timeout), "platform not connected"

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe([(f"{self.root}/{topic}", 1) for topic in OUTGOING])

    def _on_disconnect(self, *_: Any) -> None:
        with self._news:
            self._subscribed = False
            self._news.notify_all()

    def _on_subscribe(self, *_: Any) -> None:
        with self._news:
            self._subscribed = True
            self._news.notify_all()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        topic = message.topic.removeprefix(self.root + "/")
        with self._news:
            self.messages.append(
                Message(topic, bytes(message.payload), message.retain, time.time())
            )
            self._news.notify_all()

    # ------------------------------------------------------------------ commands

    def send(self, topic: str, payload: bytes | Mapping[str, Any], *, retain: bool = False) -> None:
        """QoS 1, and the broker has it when this returns; where it is away, it gets it when it
        is back."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        sent = self._client.publish(f"{self.root}/{topic}", body, qos=1, retain=retain)
        if sent.rc != mqtt.MQTT_ERR_NO_CONN:
            sent.wait_for_publish(WAIT_S)

    def dispense(
        self, order_id: int, products: Sequence[Mapping[str, Any]], **fields: Any
    ) -> dict[str, Any]:
        """Send an order; returns the command, so that `send("dispense", …)` can repeat it.

        `products` as on the wire; `fields` add to it or replace what is filled in here.
        """
        command = {
            "order_id": order_id,
            "trade_id": f"{order_id:020d}",
            "machine_no": self.machine_no,
            "issued_at": int(time.time()),
            "products": [dict(product) for product in products],
            **fields,
        }
        self.send("dispense", command)
        return command

    # ------------------------------------------------------------------ what came

    def of(self, topic: str, order_id: int | None = None) -> list[dict[str, Any]]:
        """Messages of a topic in the order of their arrival, repeats included."""
        with self._news:
            came = [message.json for message in self.messages if message.topic == topic]
        return [body for body in came if order_id is None or body.get("order_id") == order_id]

    def write_down(self, path: Path) -> None:
        """All that came, a line each, for whoever looks for the cause of a breach."""
        with path.open("w", encoding="utf-8") as file:
            for message in self.messages:
                body = message.payload.decode(errors="replace")
                file.write(json.dumps([message.at, message.topic, body]) + "\n")

    def has_all(self, last_seq: int) -> bool:
        """Whether every message of `result` and `order` up to this seq came."""
        seen = {body["seq"] for topic in ("result", "order") for body in self.of(topic)}
        return seen.issuperset(range(1, last_seq + 1))

    def wait_for(self, condition: Callable[[], Any], what: str, timeout: float = WAIT_S) -> Any:
        """The first true value of `condition`, asked again at each message."""
        found: list[Any] = []

        def holds() -> bool:
            found.append(condition())
            del found[:-1]
            return bool(found[0])

        with self._news:
            assert self._news.wait_for(holds, timeout), (
                f"{what}: not within {timeout:g} s; came: "
                + "; ".join(f"{m.topic} {m.payload[:160]!r}" for m in self.messages[-12:])
            )
        return found[0]

    def wait_order(
        self, order_id: int, status: str, timeout: float = WAIT_S, *, times: int = 1
    ) -> dict[str, Any]:
        """The order's message with this status, at its `times`-th arrival."""

        def arrived() -> dict[str, Any] | None:
            came = [body for body in self.of("order", order_id) if body["status"] == status]
            return came[times - 1] if len(came) >= times else None

        found: dict[str, Any] = self.wait_for(arrived, f"order {order_id} {status}", timeout)
        return found

    def wait_results(
        self, order_id: int, units: int, timeout: float = WAIT_S
    ) -> dict[int, dict[str, Any]]:
        """A result for each of so many units: unit -> its highest revision so far."""

        def complete() -> dict[int, dict[str, Any]] | None:
            newest = newest_results(self.of("result", order_id))
            return newest if len(newest) >= units else None

        found: dict[int, dict[str, Any]] = self.wait_for(
            complete, f"{units} results of order {order_id}", timeout
        )
        return found


def newest_results(results: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Unit -> its result of the highest revision, for the results of one command."""
    newest: dict[int, dict[str, Any]] = {}
    for body in results:
        if body["revision"] >= newest.get(body["unit"], body)["revision"]:
            newest[body["unit"]] = dict(body)
    return newest
