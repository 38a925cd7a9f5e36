"""The merchants' side of the fleet: what is sold and what was told of it, each thing once.

`Merchant` is all that the play and its verdict need. `MqttMerchant` speaks the machines' contract
itself; `shop.Shop` goes by the platform's HTTP (order, paid, delivery, callback).
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PREFIX = "vending/v1"
SHARED = (f"$share/books/{PREFIX}/+/result", f"$share/books/{PREFIX}/+/order")
UP_WITHIN_S = 20.0


@dataclass
class Sale:
    """One paid order line. Times are of the monotonic clock, 0 when it has not happened.

    In brackets: what it is where a platform stands between.
    """

    machine_no: str
    product_id: int
    quantity: int
    asked_at: float
    accepted_at: float = 0.0
    """By the machine (each item's delivery has its id)."""
    ended_at: float = 0.0
    ends: int = 0
    """How many different `finished` (of revision 1) or `rejected` came; one is right. (A refused
    order, or a callback for each item.)"""
    code: str = ""
    """Why it was rejected (the API's code of the refused order)."""
    told: Mapping[str, int] = field(default_factory=dict)
    """The counts of its `finished` of the highest revision."""
    told_revision: int = 0
    units: dict[int, dict[int, str]] = field(default_factory=dict)
    """Unit -> revision -> outcome (which callback of that delivery -> outcome)."""

    def outcomes(self) -> Counter[str]:
        return Counter(revisions[max(revisions)] for revisions in self.units.values())


class Merchant(Protocol):
    """What a fleet's customers do, and what its books say."""

    sales: list[Sale]

    @property
    def repeats(self) -> int:
        """Messages that came again with the same bytes."""

    def sell(self, machine_no: str, product_id: int, quantity: int) -> None:
        """A customer paid: have it given out. Returns at once."""

    def waiting(self) -> int:
        """Sales that have no end yet."""

    def missing(self, machine_no: str, journal: int, last_seq: int) -> int:
        """Messages of the machine's journal up to `last_seq` that were never booked."""

    def breaches(self) -> list[str]:
        """What was told that can't be, in sentences."""

    def close(self) -> None: ...


class MqttMerchant:
    """Clients for all machines: MQTT 5, QoS 1, sessions that outlive a broken line. One sells; the
    others share what the machines say between them, as a backend of several processes does, so
    that messages of one machine are booked in any order."""

    def __init__(self, port: int, consumers: int = 2) -> None:
        self.sales: list[Sale] = []
        self.repeats = 0
        """Messages that came again with the same bytes."""
        self._ended = 0
        self._by_key: dict[tuple[int, str], Sale] = {}
        self._numbers: dict[tuple[str, int], set[int]] = defaultdict(set)
        """(machine, journal) -> seq of what was booked."""
        self._bytes: dict[tuple[Any, ...], bytes] = {}
        self._breaches: list[str] = []
        self._order_ids = itertools.count(1)
        self._lock = threading.Lock()
        self._clients = [self._client(port, "fleet-till")]
        for each in range(consumers):
            self._clients.append(self._client(port, f"fleet-books-{each}", SHARED))

    def _client(self, port: int, name: str, topics: Sequence[str] = ()) -> mqtt.Client:
        ready = threading.Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5)
        client.max_queued_messages_set(0)  # what is sold while the broker is away waits
        client.reconnect_delay_set(1, 1)

        def on_connect(*_: Any) -> None:
            if topics:
                client.subscribe([(topic, 1) for topic in topics])
            else:
                ready.set()

        client.on_connect = on_connect
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = self._on_message
        lasting = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has none
        lasting.SessionExpiryInterval = 3600
        client.connect("127.0.0.1", port, clean_start=False, properties=lasting)
        client.loop_start()
        assert ready.wait(UP_WITHIN_S), f"{name} is not let in, or may not subscribe"
        return client

    # ------------------------------------------------------------------ selling

    def sell(self, machine_no: str, product_id: int, quantity: int) -> None:
        order_id = next(self._order_ids)
        delivery_id = f"{order_id}-1"
        now = int(time.time())
        command = {
            "order_id": order_id,
            "delivery_id": delivery_id,
            "trade_id": f"trade-{order_id}",
            "machine_no": machine_no,
            "issued_at": now,
            "expires_at": now + 90,
            "products": [{"product_id": product_id, "quantity": quantity, "record_id": order_id}],
        }
        sale = Sale(machine_no, product_id, quantity, time.monotonic())
        with self._lock:
            self.sales.append(sale)
            self._by_key[order_id, delivery_id] = sale
        self._clients[0].publish(f"{PREFIX}/{machine_no}/dispense", json.dumps(command), qos=1)

    def waiting(self) -> int:
        with self._lock:
            return len(self.sales) - self._ended

    # ------------------------------------------------------------------ booking

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        machine_no, leaf = message.topic.rsplit("/", 2)[1:]
        with self._lock:
            self._book(machine_no, leaf, bytes(message.payload))

    def _book(self, machine_no: str, leaf: str, payload: bytes) -> None:
        body = json.loads(payload)
        if self._known((machine_no, body["journal"], body["seq"]), payload):
            self.repeats += 1
            return
        self._numbers[machine_no, body["journal"]].add(body["seq"])
        sale = self._by_key.get((body["order_id"], body["delivery_id"]))
        if sale is None or sale.machine_no != machine_no:
            self._breaches.append(f"{machine_no} tells of an order that it was not sent: {body}")
        elif leaf == "result":
            self._book_unit(sale, body)
        else:
            self._book_order(sale, body)

    def _known(self, key: tuple[Any, ...], payload: bytes) -> bool:
        before = self._bytes.setdefault(key, payload)
        if before != payload:
            self._breaches.append(f"{key} came with different bytes: {before!r}, {payload!r}")
        return before is not payload

    def _book_unit(self, sale: Sale, body: Mapping[str, Any]) -> None:
        revisions = sale.units.setdefault(body["unit"], {})
        if body["revision"] in revisions:
            self._breaches.append(f"a unit's revision was told twice, under two seq: {body}")
        revisions[body["revision"]] = body["outcome"]

    def _book_order(self, sale: Sale, body: Mapping[str, Any]) -> None:
        now, status = time.monotonic(), body["status"]
        if status == "accepted":
            sale.accepted_at = now
        elif status == "rejected" or (status == "finished" and body["revision"] == 1):
            sale.ends += 1
            self._ended += sale.ends == 1
            sale.ended_at, sale.code = now, body["code"] or ""
        if status == "finished" and body["revision"] > sale.told_revision:
            sale.told_revision = body["revision"]
            sale.told = {name: body[name] for name in ("delivered", "not_delivered", "unknown")}

    # ------------------------------------------------------------------ the books

    def missing(self, machine_no: str, journal: int, last_seq: int) -> int:
        with self._lock:
            return len(set(range(1, last_seq + 1)) - self._numbers[machine_no, journal])

    def breaches(self) -> list[str]:
        with self._lock:
            found = list(self._breaches)
            for (machine_no, journal), seen in self._numbers.items():
                if gap := set(range(1, max(seen, default=0) + 1)) - seen:
                    found.append(f"{machine_no}, journal {journal}: seq {sorted(gap)} never came")
        return found

    def close(self) -> None:
        for client in self._clients:
            client.disconnect()
            client.loop_stop()
