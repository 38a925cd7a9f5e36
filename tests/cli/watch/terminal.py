"""A program on a terminal of its own: a pty, and behind it an emulated screen to read from."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyte

from tests.system.process import LEASH, PROGRAMS


class Terminal:
    """`sent` is every byte that the program wrote to it."""

    def __init__(self, width: int, height: int) -> None:
        self.master, self.slave = os.openpty()
        size = struct.pack("HHHH", height, width, 0, 0)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)
        self.sent = bytearray()
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the program is gone, and with it the pty
            while data := os.read(self.master, 65536):
                with self._lock:
                    self.sent += data
                    self._stream.feed(data)

    def text(self) -> str:
        with self._lock:
            return "\n".join(line.rstrip() for line in self._screen.display)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())


@contextlib.contextmanager
def vendctl(
    control: Path, *words: str, size: tuple[int, int], environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    terminal = Terminal(*size)
    child = subprocess.Popen(
        [*LEASH, str(PROGRAMS / "vendctl"), "--socket", str(control), *words],
        stdin=terminal.slave,
        stdout=terminal.slave,
        stderr=terminal.slave,
        env={**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **(environment or {})},
        start_new_session=True,
    )
    os.close(terminal.slave)
    try:
        yield terminal, child
    finally:
        child.kill()
        child.wait(10)
        os.close(terminal.master)
