"""The load: customers who buy all the time, also while the machine is down."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.system.platform_client import Platform

Command = dict[str, Any]


@dataclass(frozen=True)
class Habits:
    """Shares are of all messages; what is left of them are new orders."""

    products: Sequence[int]
    pause_s: float = 0.25
    """Mean time between two messages."""
    waiting: int = 5
    """Orders without an end at which nobody orders: a queue of a few, always."""
    repeated: float = 0.15
    """An old command again, as a broker may well send it."""
    cancelled: float = 0.0
    """A cancel of a command of late, open or not."""
    conflicting: float = 0.0
    """The identity of an old command with another content."""
    hasty: float = 0.0
    """Share of the new orders that expire after a few seconds."""


RECENT = 20
"""An old command is one of so many of late."""
HASTY_S = (2, 5)
"""Whole seconds until a hasty order expires: some are served, some are not."""


@dataclass
class Counts:
    sent: int = 0
    """Messages of all kinds that the broker has, or will have when it is back."""
    repeats: int = 0
    cancels: dict[int, Command] = field(default_factory=dict)
    """Order -> the last cancel of it, whether or not there was anything left to cancel."""
    conflicts: int = 0


class Customers:
    """A thread of its own from `start` to `stop`, as often as one likes."""

    def __init__(self, platform: Platform, habits: Habits, seed: int) -> None:
        self.commands: list[Command] = []
        """Each once, oldest first."""
        self.counts = Counts()
        self._platform = platform
        self._habits = habits
        self._chance = random.Random(f"{seed} customers")
        self._enough = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="customers")
        self._buying: Future[None] | None = None

    def start(self) -> None:
        self._enough.clear()
        self._buying = self._pool.submit(self._buy)

    def stop(self) -> None:
        """Nobody buys when this returns. Raises what went wrong among them."""
        self._enough.set()
        if self._buying is not None:
            self._buying.result()
            self._buying = None

    def dismiss(self) -> None:
        """For tearing down: nobody is waited for."""
        self._enough.set()
        self._pool.shutdown(wait=False)

    def unanswered(self) -> list[Command]:
        """Orders that nobody accepted or rejected, or that were accepted and are not finished.
        The rejection of a conflict is the answer to another command."""
        ended = {
            body["order_id"]
            for body in self._platform.of("order")
            if body["status"] == "finished"
            or (body["status"] == "rejected" and body["code"] != "conflict")
        }
        return [command for command in self.commands if command["order_id"] not in ended]

    def unanswered_cancels(self) -> list[Command]:
        """Those of orders of which no cancel was ever answered."""
        answered = {
            body["order_id"] for body in self._platform.of("order") if body["status"] == "cancelled"
        }
        return [cancel for order, cancel in self.counts.cancels.items() if order not in answered]

    def _buy(self) -> None:
        habits = self._habits
        deeds = {
            self._repeat: habits.repeated,
            self._cancel: habits.cancelled,
            self._conflict: habits.conflicting,
        }
        weights = [*deeds.values(), 1 - sum(deeds.values())]
        while not self._enough.wait(self._chance.expovariate(1 / habits.pause_s)):
            (deed,) = self._chance.choices([*deeds, self._order], weights)
            if not self.commands:
                deed = self._order
            if deed == self._order and len(self.unanswered()) >= habits.waiting:
                continue
            deed()

    def _order(self) -> None:
        chance, habits = self._chance, self._habits
        now = int(time.time())
        command = {
            "order_id": len(self.commands) + 1,
            "trade_id": f"{len(self.commands) + 1:020d}",
            "machine_no": self._platform.machine_no,
            "issued_at": now,
            "products": [
                {"product_id": product, "quantity": chance.randint(1, 2)}
                for product in chance.sample(habits.products, chance.randint(1, 2))
            ],
        }
        if chance.random() < habits.hasty:
            command["expires_at"] = now + chance.randint(*HASTY_S)
        self.commands.append(command)
        self._send("dispense", command)

    def _recent(self) -> Command:
        return self._chance.choice(self.commands[-RECENT:])

    def _repeat(self) -> None:
        self.counts.repeats += 1
        self._send("dispense", self._recent())

    def _cancel(self) -> None:
        command = self._recent()
        fields = ("order_id", "trade_id", "machine_no")
        cancel = {**{name: command[name] for name in fields}, "issued_at": int(time.time())}
        self.counts.cancels[command["order_id"]] = cancel
        self._send("cancel", cancel)

    def _conflict(self) -> None:
        command = self._recent()
        self.counts.conflicts += 1
        more = [*command["products"], {"product_id": self._habits.products[0], "quantity": 1}]
        self._send("dispense", {**command, "products": more})

    def _send(self, topic: str, command: Command) -> None:
        self._platform.send(topic, command)
        self.counts.sent += 1
