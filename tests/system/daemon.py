"""vendingd as a process: READY awaited as systemd would, killed and restarted at will."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.system.process import PROGRAMS, Process

READY_BOUND_S = 20.0
"""Ready needs 5 s at most where a board is absent; the rest is for a busy machine."""


class Daemon(Process):
    """`directory` holds its settings (`vendingd.toml`), its log and its notification socket."""

    def __init__(self, directory: Path, settings: str, control: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.settings = directory / "vendingd.toml"
        self.settings.write_text(settings, encoding="utf-8")
        self.control = control
        self._notify_path = directory / "notify.sock"
        self._notify: socket.socket | None = None
        self.notified: list[str] = []
        """Every line that it told its service manager, in this life."""
        super().__init__(
            [PROGRAMS / "vendingd", "--config", self.settings], directory / "vendingd.log"
        )

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Does not wait; see `up`."""
        self.close_notify()
        self._notify_path.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self._notify_path))
        self._notify.settimeout(0.05)
        self.notified = []
        super().start({"NOTIFY_SOCKET": str(self._notify_path), **(environment or {})})

    def up(self, environment: Mapping[str, str] | None = None) -> float:
        """Start, and READY=1 when this returns. Seconds that it took."""
        begun = time.monotonic()
        self.start(environment)
        self.wait_ready()
        return time.monotonic() - begun

    def wait_ready(self, timeout: float = READY_BOUND_S) -> None:
        self.wait_notified("READY=1", timeout)

    def wait_notified(self, line: str, timeout: float = READY_BOUND_S) -> None:
        """Until it told its service manager exactly this line."""
        end = time.monotonic() + timeout
        while line not in self.notified:
            assert time.monotonic() < end, f"no {line} in {timeout:g} s:\n{self.output()}"
            if not self._hear():
                assert self.alive, f"vendingd ended with {self.exit_code}:\n{self.output()}"

    def _hear(self) -> bool:
        assert self._notify is not None
        try:
            told = self._notify.recv(65536)
        except TimeoutError:
            return False
        self.notified += told.decode().splitlines()
        return True

    def end(self) -> None:
        super().end()
        self.close_notify()

    def close_notify(self) -> None:
        if self._notify is not None:
            self._notify.close()
            self._notify = None

    def ctl(self, *words: str, timeout: float = 30.0) -> Any:
        """`vendctl … --json` against this daemon: what it printed, parsed.

        AssertionError with its words when it exits with anything but 0 or 1 (bad news).
        """
        done = self.run_ctl(*words, "--json", timeout=timeout)
        assert done.returncode in (0, 1), f"vendctl {' '.join(words)}: {done.stderr or done.stdout}"
        return json.loads(done.stdout)

    def run_ctl(self, *words: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        command = [str(PROGRAMS / "vendctl"), "--socket", str(self.control), *words]
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
