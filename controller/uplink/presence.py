"""What the machine shows of itself: `state` and `inventory` retained, `telemetry` as a heartbeat.

Latest wins: a burst of changes becomes one message, and what could not be published
is not kept; the next connection starts with a fresh look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from controller.dispensing.interfaces import Clock
from controller.uplink.messages import Payloads
from controller.uplink.session import Session

QUIET_S = 1.0
"""Least time between two looks. A cycle takes seconds, its steps tens of milliseconds: a burst
of steps becomes one message, and a person who watches still sees each cycle."""

LOOK_AGAIN_S = 30.0
"""After a refusal, and in case a change was not announced."""

HEARTBEAT_S = 60.0
"""Telemetry may be lost; a backend that misses three knows after three minutes, and the last
will is quicker anyway (1.5 keepalives)."""


class MachineView(Protocol):
    """What presence and requests look at. The three methods must not block or raise."""

    @property
    def changed(self) -> asyncio.Event:
        """Set by whoever changed what `state` or `inventory` say; cleared here."""
        ...

    def state(self) -> Mapping[str, Any]:
        """The fields of `state` but schema, machine_no and online."""
        ...

    def inventory(self) -> Mapping[str, Any]:
        """`journal` and `lanes`, see `messages.lane_entry`."""
        ...

    def telemetry(self) -> Mapping[str, Any]:
        """`uptime_s` and `counters`."""
        ...


async def show_state(session: Session, view: MachineView, payloads: Payloads, clock: Clock) -> None:
    """Publish `state` and `inventory` on each connection and on change. For ever.

    Not before our own retained state was read: it would be overwritten unread (P13).
    """
    root = session.settings.root
    shown: dict[str, object] = {}
    connection = 0
    while True:
        current = await session.ready()
        if current != connection:
            connection = current
            shown.clear()
        view.changed.clear()
        inventory = view.inventory()
        looks = {
            "state": (payloads.state(view.state(), online=True), None),
            # `at` alone is no news: what is compared is what was seen
            "inventory": (payloads.inventory(inventory, clock.wall()), dict(inventory)),
        }
        for topic, (payload, seen) in looks.items():
            news = payload if seen is None else seen
            if shown.get(topic) == news:
                continue
            result = await session.publish(f"{root}/{topic}", payload, retain=True)
            if result.accepted:
                shown[topic] = news
        await clock.sleep(QUIET_S)
        await _change_or_connection(session, view, connection, clock)


async def _change_or_connection(
    session: Session, view: MachineView, connection: int, clock: Clock
) -> None:
    waits = [
        asyncio.create_task(view.changed.wait()),
        asyncio.create_task(session.ready(other_than=connection)),
    ]
    try:
        with contextlib.suppress(TimeoutError):
            async with clock.timeout(LOOK_AGAIN_S):
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def beat(session: Session, view: MachineView, payloads: Payloads, clock: Clock) -> None:
    """Publish `telemetry` at QoS 0 each HEARTBEAT_S while connected. For ever."""
    topic = f"{session.settings.root}/telemetry"
    while True:
        await session.ready()
        payload = payloads.telemetry(view.telemetry(), clock.wall())
        await session.publish(topic, payload, qos=0)
        await clock.sleep(HEARTBEAT_S)
