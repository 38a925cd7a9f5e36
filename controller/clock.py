"""Real time: the running loop's own for waiting, the kernel's word for belief."""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Callable
from pathlib import Path

TIMESYNCD_STAMP = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd touches it at its first synchronisation after boot (systemd-timesyncd(8))."""

STA_UNSYNC = 0x40
"""adjtimex(2): clock unsynchronised."""
TIME_ERROR = 5
"""adjtimex(2): return value while the clock is not synchronised."""


class LoopClock:
    """The loop's monotonic time; a virtual loop makes this clock virtual too.

    `believed_now` is asked on each call of `believed` until it first says yes;
    the composition root latches that for the boot (see `daemon`).
    """

    def __init__(
        self,
        believed_now: Callable[[], bool] = lambda: True,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._believed_now = believed_now
        self._wall = wall

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return self._wall()

    def believed(self) -> bool:
        return self._believed_now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        return asyncio.timeout(seconds)


def kernel_says_synchronised() -> bool:
    """Whether NTP discipline was seen: adjtimex(2) without STA_UNSYNC, or timesyncd's stamp.

    False too when the kernel cannot be asked (a sandbox without adjtimex).
    """
    if TIMESYNCD_STAMP.exists():
        return True
    buffer = ctypes.create_string_buffer(512)  # struct timex is 208 bytes; modes = 0 reads only
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return False
    if state in (-1, TIME_ERROR):
        return False
    # struct timex: int modes, pad, long offset, freq, maxerror, esterror, then int status
    word = ctypes.sizeof(ctypes.c_long)
    status = ctypes.c_int.from_buffer(buffer, 5 * word).value
    return not status & STA_UNSYNC


def boot_id() -> str:
    """The kernel's name for this boot of the machine (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
