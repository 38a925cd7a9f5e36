"""Books what vending machines tell over MQTT: each result once, and no message missed.

    python book_results.py --host broker.example books.db

A message is acknowledged after it is on the disk. A kill in between brings it again, and a
repeat changes nothing. A hole in a machine's numbers that stays is asked for.
Needs paho-mqtt 2 and SQLite 3.35. docs/backend.md tells the rules.
"""

import argparse
import json
import queue
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

TOPICS = ("result", "order", "state", "response/results")
WEEK_S = 7 * 86_400  # the broker keeps messages for us so long, as it does for a machine
ASK_AGAIN_S = 30  # a request that no machine took in this time is thrown away by the broker
OUR_REQUEST = re.compile(r"gap:(\d+):(\d+):(\d+)")
UNREADABLE = (ValueError, KeyError, TypeError, OverflowError, sqlite3.IntegrityError)

Said = dict[str, Any]
Place = tuple[str, int]  # machine_no, journal


def book(db: sqlite3.Connection, machine_no: str, leaf: str, said: Said) -> None:
    """A `result` or `order` message, however often it comes."""
    order = (said["order_id"], said["delivery_id"])
    if leaf == "result":
        row = (*order, said["unit"], said["revision"])
        what = (said["outcome"], said["reason"], said["finished_at"])
        booked = db.execute(
            "INSERT INTO result VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING", (*row, *what)
        )
        if booked.rowcount:  # the first time: refund or charge here, in this transaction
            print("booked", *row, said["outcome"], flush=True)
    else:
        how = (said["status"], said["revision"], said["at"], said["code"])
        db.execute(
            "INSERT INTO command VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
            (*order, *how, said["command_executed"]),
        )
    if said["seq"] is not None:  # null: published past a journal that cannot be written
        place = (machine_no, said["journal"])
        db.execute("INSERT INTO ahead VALUES (?,?,?) ON CONFLICT DO NOTHING", (*place, said["seq"]))
        heard_of(db, place, said["seq"])
        go_on(db, place, 0)


def heard_of(db: sqlite3.Connection, place: Place, last: int) -> None:
    """The machine has numbered so many."""
    db.execute(
        "INSERT INTO place VALUES (?,?,0,?) ON CONFLICT DO UPDATE SET last = max(last, ?)",
        (*place, last, last),
    )


def go_on(db: sqlite3.Connection, place: Place, through: int) -> int:
    """All up to `through` is known, and what came beyond it without a hole."""
    known = db.execute(
        "SELECT max(through, ?) FROM place WHERE machine_no = ? AND journal = ?", (through, *place)
    ).fetchone()[0]
    beyond = "SELECT 1 FROM ahead WHERE machine_no = ? AND journal = ? AND seq = ?"
    while db.execute(beyond, (*place, known + 1)).fetchone():
        known += 1
    db.execute(
        "DELETE FROM ahead WHERE machine_no = ? AND journal = ? AND seq <= ?", (*place, known)
    )
    db.execute("UPDATE place SET through = ? WHERE machine_no = ? AND journal = ?", (known, *place))
    return int(known)


def read_page(db: sqlite3.Connection, machine_no: str, answer: Said) -> None:
    """The answer to a request of ours: after it nothing is missing up to where it ends."""
    ours = OUR_REQUEST.fullmatch(answer["request_id"])
    if ours is None or answer["code"] != "ok":
        return  # somebody else's, or to be asked again
    journal, asked_from, last = map(int, ours.groups())
    for leaf, said in zip(answer["data"]["topics"], answer["data"]["messages"], strict=True):
        book(db, machine_no, leaf, said)
    following = answer["data"]["next"]
    end = following["seq"] if following and following["journal"] == journal else last
    place = (machine_no, journal)
    came = go_on(db, place, 0)
    beyond = "SELECT count(*) FROM ahead WHERE machine_no = ? AND journal = ? AND seq <= ?"
    lost = end - came - db.execute(beyond, (*place, end)).fetchone()[0]
    if asked_from and lost > 0:  # past the machine's retention, or gone with its journal
        print("never to come", *place, f"{lost} of {came + 1}..{end}", flush=True)
    go_on(db, place, end)


def take(db: sqlite3.Connection, prefix: str, message: mqtt.MQTTMessage) -> None:
    """One message, in one transaction. Raises sqlite3.Error where the file cannot be written."""
    machine_no, _, leaf = message.topic.removeprefix(f"{prefix}/").partition("/")
    try:
        with db:
            said = json.loads(message.payload)
            if leaf == "response/results":
                read_page(db, machine_no, said)
            elif leaf != "state":
                book(db, machine_no, leaf, said)
            elif said["journal"] is not None:
                heard_of(db, (machine_no, said["journal"]), said["last_seq"] or 0)
    except UNREADABLE as error:
        print("unreadable", message.topic, repr(error), flush=True)


def ask(
    client: mqtt.Client, db: sqlite3.Connection, prefix: str, stood: dict[Place, int]
) -> dict[Place, int]:
    """Ask for each gap that stood since the last look: `order` and `result` overtake each other."""
    expiring = Properties(PacketTypes.PUBLISH)
    expiring.MessageExpiryInterval = ASK_AGAIN_S
    gaps = db.execute("SELECT * FROM place WHERE through < last").fetchall()
    for machine_no, journal, through, last in gaps:
        if stood.get((machine_no, journal)) == through and client.is_connected():
            request_id = f"gap:{journal}:{through}:{last}"
            request = {"request_id": request_id, "journal": journal, "seq": through, "limit": 200}
            topic = f"{prefix}/{machine_no}/request/results"
            client.publish(topic, json.dumps(request), qos=1, properties=expiring)
    return {(machine_no, journal): through for machine_no, journal, through, _ in gaps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("books", help="the SQLite file")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--prefix", default="vending/v1")
    parser.add_argument("--client-id", default="book-results", help="one per process")
    parser.add_argument("--patience", type=float, default=2.0, help="how long a gap may stand, s")
    options = parser.parse_args()

    db = sqlite3.connect(options.books)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.executescript((Path(__file__).parents[1] / "books.sql").read_text(encoding="utf-8"))

    inbox: queue.SimpleQueue[mqtt.MQTTMessage] = queue.SimpleQueue()
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        options.client_id,
        protocol=mqtt.MQTTv5,
        manual_ack=True,
    )
    client.on_message = lambda _client, _data, message: inbox.put(message)

    def subscribe(client: mqtt.Client, *_: Any) -> None:
        client.subscribe([(f"{options.prefix}/+/{topic}", 1) for topic in TOPICS])

    client.on_connect = subscribe
    lasting = Properties(PacketTypes.CONNECT)
    lasting.SessionExpiryInterval = WEEK_S
    client.connect_async(options.host, options.port, clean_start=False, properties=lasting)
    client.loop_start()

    stood: dict[Place, int] = {}
    due = time.monotonic() + options.patience
    while True:
        left = due - time.monotonic()
        if left <= 0:
            stood = ask(client, db, options.prefix, stood)
            due = time.monotonic() + options.patience
            continue
        try:
            message = inbox.get(timeout=left)
        except queue.Empty:
            continue
        take(db, options.prefix, message)
        client.ack(message.mid, message.qos)


if __name__ == "__main__":
    main()
