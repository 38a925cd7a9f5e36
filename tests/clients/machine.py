"""A machine's end of the wire, which may forget to send what it has stored."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from controller.dispensing.interfaces import OrderFacts, ResultFacts
from controller.model import Evidence, Executed, LaneHealth, OrderKey, OrderStatus, Outcome, Reason
from controller.uplink.messages import Payloads, joined_page

JOURNAL = 1_763_800_000
AT = 1_763_900_000.0
SMALLEST_PAGE = 3
"""Messages of a page here, so that a gap takes several."""


class Machine:
    """Payloads of the daemon's own builder. `stored`: seq -> (topic, payload)."""

    def __init__(self, machine_no: str, port: int) -> None:
        self.payloads = Payloads(machine_no)
        self.root = f"vending/v1/{machine_no}"
        self.stored: dict[int, tuple[str, bytes]] = {}
        self.asked: list[dict[str, Any]] = []
        self._port = port
        self._ready = threading.Event()
        self._mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, f"machine-{machine_no}")
        self._mqtt.on_connect = lambda client, *_: client.subscribe(f"{self.root}/request/+", 1)
        self._mqtt.on_subscribe = lambda *_: self._ready.set()
        self._mqtt.on_message = self._answer

    def up(self) -> Machine:
        self._mqtt.connect("127.0.0.1", self._port)
        self._mqtt.loop_start()
        assert self._ready.wait(10)
        return self

    def close(self) -> None:
        self._mqtt.disconnect()
        self._mqtt.loop_stop()

    def store_result(
        self, order_id: int, unit: int, outcome: Outcome, revision: int = 1, units: int = 1
    ) -> int:
        """Numbered and kept; returns its seq."""
        seq = max(self.stored, default=0) + 1
        facts = ResultFacts(
            key=OrderKey(order_id, "1733200000000017"),
            trade_id=f"{order_id:020d}",
            record_id=None,
            unit=unit,
            units=units,
            revision=revision,
            product_id=121,
            channel="A1",
            outcome=outcome,
            reason=None if outcome is Outcome.DELIVERED else Reason.NO_ANSWER,
            evidence=Evidence.NONE,
            lane_health=LaneHealth.OK,
            raw={},
            late=revision > 1,
            cycles=1,
            started_at=AT,
            finished_at=AT + seq,
        )
        self.stored[seq] = ("result", self.payloads.result(facts, JOURNAL, seq))
        return seq

    def store_order(self, order_id: int, status: OrderStatus, code: str | None = None) -> int:
        seq = max(self.stored, default=0) + 1
        self.stored[seq] = ("order", self.order(order_id, status, code, seq))
        return seq

    def order(self, order_id: int, status: OrderStatus, code: str | None, seq: int | None) -> bytes:
        """`seq` None: told past the journal."""
        facts = OrderFacts(
            key=OrderKey(order_id, ""),
            trade_id=f"{order_id:020d}",
            status=status,
            code=code,
            message="",
            executed=Executed.NO,
            units=1,
            delivered=0,
            not_delivered=0,
            unknown=0,
            revision=0,
            at=AT + (seq or 0),
        )
        return self.payloads.order(facts, None if seq is None else JOURNAL, seq)

    def send(self, *seqs: int) -> None:
        """The broker has them, in this order, when this returns."""
        sent = [self.publish(*self.stored[seq]) for seq in seqs]
        for message in sent:
            message.wait_for_publish(10)

    def publish(self, leaf: str, payload: bytes, *, retain: bool = False) -> mqtt.MQTTMessageInfo:
        return self._mqtt.publish(f"{self.root}/{leaf}", payload, qos=1, retain=retain)

    def tell_state(self, last_seq: int) -> None:
        state = self.payloads.state({"journal": JOURNAL, "last_seq": last_seq}, online=True)
        self.publish("state", state, retain=True).wait_for_publish(10)

    def _answer(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        request = json.loads(message.payload)
        self.asked.append(request)
        after = [seq for seq in sorted(self.stored) if seq > request["seq"]]
        page = after[:SMALLEST_PAGE]
        data = {
            "next": {"journal": JOURNAL, "seq": page[-1]} if page != after else None,
            "topics": [self.stored[seq][0] for seq in page],
            "messages": [],
        }
        head = self.payloads.response("results", request["request_id"], "ok", "Done.", AT, data)
        self.publish("response/results", joined_page(head, self._bodies(page)))

    def _bodies(self, page: Sequence[int]) -> list[bytes]:
        return [self.stored[seq][1] for seq in page]
