"""The room put together: one object for the daemon to run and to leave.

Everything inside is built from settings and the interfaces of the other rooms.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from controller.dispensing.interfaces import Clock, CommandJournal, OrderDesk, Outbox
from controller.uplink.intake import Disposition, Intake, IntakeSettings
from controller.uplink.link import MqttSettings
from controller.uplink.messages import Payloads
from controller.uplink.outbox import TOPICS, pumps
from controller.uplink.presence import MachineView, beat, show_state
from controller.uplink.remote import Remote
from controller.uplink.requests import Reports, Requests
from controller.uplink.session import USUAL_PACE, Handlers, Pace, Session, Witness

FAREWELL_S = 3.0
"""How long a leaving machine waits for the broker to take its last `state`."""


class Uplink:
    """`run` until `leave`. Build it inside the running loop."""

    def __init__(
        self,
        settings: MqttSettings,
        rules: IntakeSettings,
        clock: Clock,
        *,
        journal: CommandJournal,
        desk: OrderDesk,
        outbox: Outbox,
        reports: Reports,
        view: MachineView,
        remote: Remote,
        on_retained_state: Callable[[Witness], Awaitable[None]],
        pace: Pace = USUAL_PACE,
    ) -> None:
        """`on_retained_state` gets what our own retained state said, all None where there was
        none, before the first command is handled (P13)."""
        self._clock = clock
        self._view = view
        self._payloads = Payloads(settings.machine_no)
        self.session = Session(settings, clock, self._last_will, pace)
        self.intake = Intake(rules, journal, desk, clock, self._payloads, self._publish_now)
        self.requests = Requests(self.session, view, reports, self._payloads, clock, remote)
        self.pumps = pumps(self.session, outbox, clock)
        self._handlers = Handlers(
            self._dispense, self._cancel, self.requests.handle, on_retained_state
        )

    async def run(self) -> None:
        """Connected for ever; returns after `leave`, or ends by cancellation."""
        async with asyncio.TaskGroup() as group:
            others = [
                group.create_task(pump.run(), name=f"uplink {pump.topic}") for pump in self.pumps
            ]
            look = (self.session, self._view, self._payloads, self._clock)
            others.append(group.create_task(show_state(*look), name="uplink state"))
            others.append(group.create_task(beat(*look), name="uplink telemetry"))
            await self.session.run(self._handlers)
            for task in others:
                task.cancel()

    async def leave(self) -> None:
        """Say `online: false` and disconnect; waits a bounded time for the broker."""
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(FAREWELL_S):
                await self.session.leave(self._last_will())
                return
        self.session.abandon()

    def counters(self) -> Mapping[str, Any]:
        """Totals since the start, for telemetry and the doctor."""
        return {
            "connections": self.session.number,
            "session": dict(self.session.counters),
            "commands": dict(self.intake.counters),
            "requests": dict(self.requests.counters),
            "outbox": {pump.topic: dict(pump.counters) for pump in self.pumps},
        }

    def stuck_topics(self) -> Mapping[str, int]:
        """Topic -> reason code of each outbox topic whose oldest row the broker refuses."""
        return {pump.topic: pump.stuck for pump in self.pumps if pump.stuck is not None}

    # ------------------------------------------------------------------ wiring

    def _last_will(self) -> bytes:
        return self._payloads.state(self._view.state(), online=False)

    async def _publish_now(self, topic: str, payload: bytes) -> bool:
        result = await self.session.publish(f"{self.session.settings.root}/{topic}", payload)
        return TOPICS[topic](result)

    async def _dispense(self, payload: bytes | None, retained: bool) -> Disposition:  # noqa: FBT001
        return await self.intake.dispense(payload, retained=retained)

    async def _cancel(self, payload: bytes | None, retained: bool) -> Disposition:  # noqa: FBT001
        return await self.intake.cancel(payload, retained=retained)
