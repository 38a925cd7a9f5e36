"""A bare host: the hop, the two commits and the bytes of one unit, and nothing of ours.

    python -m benchmarks.bare.host PROTOCOL LINK BROKER_PORT ROOT DATABASE

For each message on ROOT/dispense: a durable commit, the exchange of one cycle on the
pty, a second durable commit, and a result on ROOT/result; then the message is
acknowledged. All of it in the callback of the MQTT client, the shortest way that
there is. It keeps no order, checks nothing, and survives nothing.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import sys
import tty
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.bare.exchange import EXCHANGES, Exchange, Turn

OPENING_BYTES = (350, 180, 60, 330)
"""What the daemon's journal writes before the motor turns: the message `accepted`, the rows of
order and unit, the cycle with its ticket."""
CLOSING_BYTES = (560, 340, 900, 120)
"""And after it: result, `finished`, the closed cycle with its trace, lane and counters."""
SCHEMA = "CREATE TABLE rows (id INTEGER PRIMARY KEY, name INTEGER, body BLOB)"
PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL")


class BareHost:
    def __init__(self, exchange: Exchange, line: int, database: Path) -> None:
        self._exchange = exchange
        self._line = line
        self._database = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
        for pragma in PRAGMAS:
            self._database.execute(pragma).fetchall()
        self._database.execute(SCHEMA)

    def unit(self, order_id: int) -> None:
        for turn in self._exchange.before:
            self._say(turn)
        self._commit(order_id, OPENING_BYTES)
        for turn in self._exchange.cycle:
            self._say(turn)
        self._commit(order_id, CLOSING_BYTES)

    def afterwards(self) -> None:
        for turn in self._exchange.after:
            self._say(turn)

    def _say(self, turn: Turn) -> None:
        os.write(self._line, turn.request)
        wanted = len(turn.answer) + len(turn.later)
        while wanted > 0:
            wanted -= len(os.read(self._line, wanted))

    def _commit(self, order_id: int, sizes: tuple[int, ...]) -> None:
        run = self._database.execute
        run("BEGIN IMMEDIATE")
        for size in sizes:
            run("INSERT INTO rows (name, body) VALUES (?, ?)", (order_id, bytes(size)))
        run("COMMIT")


def main() -> None:
    protocol, link, port, root, database = sys.argv[1:]
    line = os.open(link, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    host = BareHost(EXCHANGES[protocol], line, Path(database))
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, root.replace("/", "-"), protocol=mqtt.MQTTv5, manual_ack=True
    )
    result_mids: set[int] = set()

    def connected(client: mqtt.Client, *_: Any) -> None:
        client.subscribe(f"{root}/dispense", 1)

    def subscribed(client: mqtt.Client, *_: Any) -> None:
        client.publish(f"{root}/state", b"{}", qos=1, retain=True)  # it is at work

    def no_delay(_client: mqtt.Client, _data: Any, connection: Any) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def dispense(client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        order = json.loads(message.payload)
        host.unit(order["order_id"])
        result = {"order_id": order["order_id"], "unit": 1, "revision": 1, "outcome": "delivered"}
        body = json.dumps(result).encode().ljust(OPENING_BYTES[0])
        result_mids.add(client.publish(f"{root}/result", body, qos=1).mid)
        client.ack(message.mid, message.qos)

    def published(_client: mqtt.Client, _data: Any, mid: int, *_: Any) -> None:
        if mid in result_mids:
            result_mids.remove(mid)
            host.afterwards()  # after the result has left, as the daemon does

    client.on_connect = connected
    client.on_subscribe = subscribed
    client.on_socket_open = no_delay
    client.on_message = dispense
    client.on_publish = published
    client.connect("127.0.0.1", int(port))
    client.loop_forever()


if __name__ == "__main__":
    main()
