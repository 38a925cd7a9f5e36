"""Service mode: a technician has the machine until they give it back, or do nothing for a while.

While it is on, orders are rejected as `service_mode` and no customer's cycle begins; a
cycle that runs goes on to its end. What becomes of units that wait: `Rules.service_ends_orders`.

It leaves by itself after `[service] idle_minutes` without an act: a row of the audit, or
the end of a test vend's cycle. Reading is none. A restart begins the minutes anew, for
nobody knows how long the technician was idle before it: a clock may be set meanwhile, and
a restart may be their own work. Too late costs a few minutes of sale, too early a finger.
"""

from __future__ import annotations

import logging

from controller.dispensing.bell import Bell
from controller.dispensing.dispenser import Dispenser
from controller.dispensing.interfaces import Clock
from controller.errors import JournalError, Refused
from controller.journal.journal import Journal
from controller.service.shapes import ServiceModeView

log = logging.getLogger("vending.service")

AGAIN_S = 1.0
"""Between two tries to leave while the journal cannot be written: nothing may be sold then."""


class ServiceSwitch:
    """Turns it on and off, durable first; `run` is its clock."""

    def __init__(self, dispenser: Dispenser, journal: Journal, clock: Clock, idle_s: float) -> None:
        self._dispenser = dispenser
        self._journal = journal
        self._clock = clock
        self._idle_s = idle_s

    async def on(self, who: str) -> None:
        """Durable when it returns, and no further customer's cycle begins. Repeatable: the idle
        minutes begin anew."""
        self._dispenser.floor.service = await self._journal.service_on(who)
        log.warning("service_mode_on", extra={"fields": {"who": who}})
        self._dispenser.bell.ring()

    async def off(self, who: str, why: str = "asked") -> None:
        """Refused: `busy` while a test vend waits or runs, for its cabinet is about to move."""
        if self._dispenser.testing():
            raise Refused("busy", "a test vend waits or runs; stop it, or wait for its end")
        await self._journal.service_off(who, why)
        self._dispenser.floor.service = None
        log.warning("service_mode_off", extra={"fields": {"who": who, "why": why}})
        self._dispenser.bell.ring()

    def view(self) -> ServiceModeView | None:
        """For `status`; None: it is off."""
        service = self._dispenser.floor.service
        if service is None:
            return None
        left_s = max(0.0, self._left_s())
        return {"who": service.who, "since": service.since, "idle_left_s": round(left_s, 1)}

    async def run(self) -> None:
        """Leave when nobody did anything for so long. For ever."""
        while True:
            tick = self._dispenser.bell.tick()
            if self._dispenser.floor.service is None:
                await Bell.wait(tick, self._clock, None)
            elif self._left_s() > 0:
                await Bell.wait(tick, self._clock, self._left_s())
            else:
                await self._leave()

    def _left_s(self) -> float:
        if self._dispenser.testing():
            return self._idle_s
        return self._journal.acted_at + self._idle_s - self._clock.monotonic()

    async def _leave(self) -> None:
        try:
            await self.off("daemon", "idle")
        except JournalError as trouble:
            log.warning("service_mode_stays", extra={"fields": {"error": str(trouble)}})
            await self._clock.sleep(AGAIN_S)
