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


LATCH = "clock_believed"
"""File in the state directory: the boot in which the clock was first believed."""


class Belief:
    """Whether wall-clock time may judge commands (architecture: *Time*).

    Synchronised once since boot is enough, latched over restarts of the daemon: a
    site whose NTP is blocked later keeps selling. Never while the clock stands more
    than `skew_s` behind the newest time that was written under a believed one.
    """

    def __init__(self, state_dir: Path, boot: str, *, require_sync: bool, skew_s: float) -> None:
        self.newest: Callable[[], float] = lambda: 0.0
        """Set once the journal is open: the newest believed time in it."""
        self._latch = state_dir / LATCH
        self._boot = boot
        self._skew_s = skew_s
        self._synchronised = not require_sync or self._latched()

    def now(self) -> bool:
        if not self._synchronised and kernel_says_synchronised():
            self._synchronised = True
            self._write_latch()
        return self._synchronised and time.time() >= self.newest() - self._skew_s

    def _latched(self) -> bool:
        try:
            return self._latch.read_text(encoding="ascii").strip() == self._boot
        except (OSError, ValueError):
            return False

    def _write_latch(self) -> None:
        try:
            self._latch.write_text(self._boot + "\n", encoding="ascii")
        except OSError:
            return  # not durable: the kernel is asked again after a restart
