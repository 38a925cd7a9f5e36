"""The load: customers who buy all the time, also while the machine has no power."""

from __future__ import annotations

import random
import threading
from typing import Any

from tests.powercut.machine import PRODUCTS
from tests.system.platform_client import Platform

PAUSE_S = 0.25
"""Mean time between two orders."""
WAITING = 5
"""Orders without an end at which nobody buys: a queue of a few, always."""
REPEATED = 0.15
"""Share of the messages that are an old command again, as a broker may well send it."""


class Customers:
    """A thread of its own from `start` to `stop`."""

    def __init__(self, platform: Platform, seed: int) -> None:
        self.commands: list[dict[str, Any]] = []
        """Each once, oldest first."""
        self.repeats = 0
        self._platform = platform
        self._chance = random.Random(f"{seed} customers")
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._buy, name="customers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()

    def unanswered(self) -> list[int]:
        """Orders that nobody accepted or rejected, or that were accepted and are not finished."""
        ended = {
            body["order_id"]
            for body in self._platform.of("order")
            if body["status"] in {"rejected", "finished"}
        }
        return [c["order_id"] for c in self.commands if c["order_id"] not in ended]

    def _buy(self) -> None:
        while not self._enough.wait(self._chance.expovariate(1 / PAUSE_S)):
            if len(self.unanswered()) >= WAITING:
                continue
            if self.commands and self._chance.random() < REPEATED:
                self._platform.send("dispense", self._chance.choice(self.commands[-20:]))
                self.repeats += 1
                continue
            products = [
                {"product_id": product, "quantity": self._chance.randint(1, 2)}
                for product in self._chance.sample(PRODUCTS, self._chance.randint(1, 2))
            ]
            order_id = len(self.commands) + 1
            self.commands.append(self._platform.dispense(order_id, products))
