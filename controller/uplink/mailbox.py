"""A bounded queue from paho's thread into the loop."""

from __future__ import annotations

import asyncio
from collections import deque

from controller.uplink.link import Inbound


class Mailbox:
    """`offer` may be called from any thread, `take` only in the loop's."""

    def __init__(self, bound: int, loop: asyncio.AbstractEventLoop) -> None:
        self._bound = bound
        self._loop = loop
        self._messages: deque[Inbound] = deque()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    def offer(self, message: Inbound) -> bool:
        """False when it is full: the message was not taken."""
        if len(self._messages) >= self._bound:
            return False
        self._messages.append(message)
        self._loop.call_soon_threadsafe(self._filled.set)
        return True

    async def take(self) -> Inbound:
        while not self._messages:
            self._filled.clear()
            if not self._messages:  # one may have come between the look and the clear
                await self._filled.wait()
        return self._messages.popleft()
