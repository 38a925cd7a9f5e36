"""Simulated machines that only talk: each command is accepted and done at once.

    python -m benchmarks.fleet PORT MACHINE_NO…

One session for all of them, `vending/v1/+/dispense`. For a command of one unit a machine says what
a daemon says: `order` accepted, `result` delivered, `order` finished, and the `inventory` behind
it. Prints `ready` when every machine's `state` is with the broker; runs until it is ended.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.rig import no_delay

ROOT = "vending/v1"
CAPACITY = 999
"""Goods in a lane: the platform's own bound."""


@dataclass
class Machine:
    number: str
    journal: int = field(default_factory=lambda: int(time.time()))
    seq: int = 0
    stock: dict[str, int] = field(default_factory=dict)

    def head(self) -> dict[str, Any]:
        return {"schema": 1, "machine_no": self.number, "journal": self.journal}

    def numbered(self, command: dict[str, Any]) -> dict[str, Any]:
        self.seq += 1
        identity = {name: command[name] for name in ("order_id", "delivery_id", "trade_id")}
        return self.head() | {"seq": self.seq} | identity


def state(machine: Machine) -> dict[str, Any]:
    """As retained, less the boards and cabinets, which no backend books."""
    return machine.head() | {"online": True, "mode": "ready", "last_seq": 0, "outbox": 0}


def order(machine: Machine, command: dict[str, Any], status: str) -> dict[str, Any]:
    done = status == "finished"
    return machine.numbered(command) | {
        "status": status,
        "code": None,
        "message": "",
        "command_executed": "yes" if done else "unknown",
        "units": 1,
        "delivered": int(done),
        "not_delivered": 0,
        "unknown": 0,
        "revision": 1,
        "at": now(),
    }


def result(machine: Machine, command: dict[str, Any]) -> dict[str, Any]:
    line = command["products"][0]
    return machine.numbered(command) | {
        "record_id": line["record_id"],
        "unit": 1,
        "units": 1,
        "revision": 1,
        "product_id": line["product_id"],
        "channel": line["channel"],
        "cabinet": line["channel"][0],
        "outcome": "delivered",
        "reason": None,
        "evidence": "drop_sensor",
        "lane_health": "ok",
        "raw": {"protocol": "vbp", "motor": 0, "drop": 1},
        "late": False,
        "cycles": 1,
        "started_at": now(),
        "finished_at": now(),
    }


def inventory(machine: Machine, channel: str) -> dict[str, Any]:
    left = machine.stock[channel] = machine.stock.get(channel, CAPACITY) - 1
    lane = {"channel": channel, "stock": left, "reserved": 0, "health": "ok", "health_reason": ""}
    return machine.head() | {"lanes": [lane], "at": now()}


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def main() -> None:
    port, machines = int(sys.argv[1]), {number: Machine(number) for number in sys.argv[2:]}
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, client_id="fleet", protocol=MQTTProtocolVersion.MQTTv5
    )
    client.max_inflight_messages_set(1000)
    client.on_socket_open = no_delay

    def say(machine: Machine, leaf: str, body: dict[str, Any], *, retain: bool = False) -> None:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        client.publish(f"{ROOT}/{machine.number}/{leaf}", text, qos=1, retain=retain)

    def connected(*_: Any) -> None:
        client.subscribe(f"{ROOT}/+/dispense", qos=1)

    def subscribed(*_: Any) -> None:
        for machine in machines.values():
            say(machine, "state", state(machine), retain=True)
        print("ready", flush=True)

    def commanded(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        machine, command = machines[message.topic.split("/")[2]], json.loads(message.payload)
        say(machine, "order", order(machine, command, "accepted"))
        say(machine, "result", result(machine, command))
        say(machine, "order", order(machine, command, "finished"))
        say(machine, "inventory", inventory(machine, command["products"][0]["channel"]))

    client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, commanded
    client.connect("127.0.0.1", port)
    client.loop_forever()


if __name__ == "__main__":
    main()
