"""What acting requests over MQTT do: the methods behind vendctl's verbs (uplink.remote.Hand)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from controller.errors import ControllerError, Refused
from controller.operations import Operations
from controller.uplink.remote import Acting

log = logging.getLogger("vending.daemon")

WHO = "remote"
"""In the audit, in place of a user's name; the request's id stands beside it in the journal."""

ACTS: Mapping[str, Callable[[Operations, Any], Awaitable[Mapping[str, Any]]]] = {
    "stock.set": lambda machine, asked: machine.stock_set(asked.channel, asked.stock, WHO),
    "lane.enable": lambda machine, asked: machine.lane_enable(asked.channel, asked.reason, WHO),
    "mode.set": lambda machine, asked: _set_mode(machine, asked.mode),
    "lane.disable": lambda machine, asked: machine.lane_disable(asked.channel, asked.reason, WHO),
}


async def _set_mode(machine: Operations, mode: str) -> Mapping[str, Any]:
    return await (machine.service_on(WHO) if mode == "service" else machine.service_off(WHO))


class RemoteHand:
    def __init__(self, machine: Operations) -> None:
        self._machine = machine
        self._tests: set[asyncio.Task[None]] = set()

    async def diagnostics(self) -> Mapping[str, Any]:
        machine = self._machine
        return {
            "status": await machine.status(),
            **await machine.lanes(),
            **await machine.link(),
        }

    async def perform(self, verb: str, asked: Acting) -> Mapping[str, Any]:
        if verb == "lane.test":
            return await self._begin_test(asked)
        return await ACTS[verb](self._machine, asked)

    async def _begin_test(self, asked: Any) -> Mapping[str, Any]:
        """Answered when it waits or turns; its outcome is an event, as of every test vend (P6)."""
        steps = self._machine.test_lane(asked.channel, 1, WHO)
        first = await anext(steps, None)
        if first is None:
            raise Refused("not_begun", "the test vend ended before it began")
        test = asyncio.create_task(_followed(steps), name=f"remote test {asked.channel}")
        self._tests.add(test)
        test.add_done_callback(self._tests.discard)
        return {"test_id": first["test_id"], "channel": asked.channel}


async def _followed(steps: AsyncGenerator[Mapping[str, Any], None]) -> None:
    try:
        async for _ in steps:
            pass
    except ControllerError as trouble:
        log.warning("remote_test_ended", extra={"fields": {"why": str(trouble)}})
