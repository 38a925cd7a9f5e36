"""A machine for `test_killed.py`: accepts nothing and says when it has seen a command.

Run as `python -m tests.uplink.killed_machine PORT PROTOCOL`; meant to be killed.
"""

from __future__ import annotations

import asyncio
import sys

from controller.clock import LoopClock
from controller.uplink.intake import Disposition
from controller.uplink.link import Inbound, MqttSettings
from controller.uplink.session import Handlers, Pace, Session, Witness
from tests.uplink.conftest import MACHINE


async def main(port: int, protocol: str) -> None:
    settings = MqttSettings(MACHINE, "127.0.0.1", port, protocol=protocol)
    session = Session(settings, LoopClock(), lambda: b"{}", Pace(retained_state_wait_s=0.1))
    seen = 0

    async def hold(_payload: bytes | None, _retained: bool) -> Disposition:  # noqa: FBT001
        nonlocal seen
        seen += 1
        print("seen", seen, flush=True)
        return Disposition.LEAVE

    async def request(_message: Inbound) -> None:
        return

    async def adopt(_told: Witness) -> None:
        print("ready", flush=True)

    await session.run(Handlers(hold, hold, request, adopt))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
