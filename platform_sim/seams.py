"""Where the parts of the platform meet: the two pumps on one side, the books on the other.

The books (orders, deliveries) are durable; the pumps are not and need not be. Each pump asks
for what is due, does it, and says so: whatever a kill interrupts is asked for again, so both
machines and merchants hear everything at least once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Command:
    """A message that a machine shall get. Lies in the outbox until the broker has it."""

    id: int
    """Grows; the commands of one machine go out in this order."""
    machine_no: str
    leaf: str
    """Below the machine's root: "dispense", "cancel", "request/results"."""
    payload: bytes
    expires_at: float | None = None
    """Unix seconds after which nobody wants it any more; None: never."""


class Commands(Protocol):
    """The outbox towards the machines: durable, oldest first for each machine."""

    async def next_commands(self, limit: int) -> Sequence[Command]:
        """The oldest `limit` that are not yet `sent`; asked again, the same ones again."""
        ...

    async def sent(self, command_id: int) -> None:
        """The broker has it (PUBACK with a reason below 80 hex)."""
        ...


class Booker(Protocol):
    """Who writes down what machines say."""

    async def book(self, machine_no: str, leaf: str, payload: bytes) -> None:
        """Durable when it returns. Never raises for bad input (it counts it).

        `leaf`: "result", "order", "state", "inventory", "event", "response/results".
        """
        ...


@dataclass(frozen=True, slots=True)
class Callback:
    """What a merchant shall be told."""

    id: int
    order_id: int
    """The callbacks of one order go out one at a time and in order."""
    url: str
    body: bytes
    """JSON in UTF-8."""
    tries: int
    """How often it was not told so far."""


class CallbackQueue(Protocol):
    """The outbox towards the merchants: durable."""

    async def due_callbacks(self, now: float, limit: int) -> Sequence[Callback]:
        """Those whose time has come, oldest first, and of each order only its oldest."""
        ...

    async def told(self, callback_id: int) -> None:
        """The merchant answered 2xx; the order's next one is due."""
        ...

    async def not_told(self, callback_id: int, why: str, again_at: float | None) -> None:
        """`again_at`: Unix seconds of the next try; None: given up, the order's next is due.

        `why` is short and printable, for people.
        """
        ...
