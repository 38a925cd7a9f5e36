"""The simulation's judge with a short memory: what is proved of a watch is forgotten.

At the end of a watch the machine is at rest, all of it is judged, and the technician counts
and fills. Kept across that: up to which `seq` everything came, and of the last watch's
orders each message, byte for byte, so that a repeat of them is still held to P8.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tests.sim.invariants import Judge, Key
from tests.system.platform_client import Message

if TYPE_CHECKING:
    from tests.sim.world import World


class ForgetfulJudge(Judge):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.old: dict[Key, set[bytes]] = {}
        """Orders of the watch before -> every message that was told of them."""

    def heard(self, message: Message) -> None:
        if message.topic in {"result", "order"}:
            body = message.json
            told = self.old.get((body["order_id"], body["delivery_id"]), set())
            if message.payload in told:
                self.counts["old_messages_repeated"] += 1
                return
            if message.topic == "result" and told:
                self.must(body["revision"] > 1, "P8", f"{body} comes again with other bytes")
        super().heard(message)

    def forget(self) -> None:
        """After `last_word`, and after a count of every lane."""
        self.old = defaultdict(set)
        for message in self.messages:
            if message.topic in {"result", "order"}:
                body = message.json
                self.old[body["order_id"], body["delivery_id"]].add(message.payload)
                if body["seq"] is not None:
                    known = self.seen_seq.get(body["journal"], 0)
                    self.seen_seq[body["journal"]] = max(known, body["seq"])
        self.old = dict(self.old)
        self.counts["messages"] += len(self.messages)
        self.messages.clear()
        self.commands.clear()
        self.acked.clear()
        self.arrivals.clear()
        self.refused.clear()
        self.cycles.clear()
        self.outcomes.clear()
        self.time.accepted.clear()
        self.fills = Counter()
        self.fooled = 0
        self.books.forget()
        self.hands = [hand for hand in self.hands if not hand.done()]
