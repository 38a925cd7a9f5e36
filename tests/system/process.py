"""One program as a child process: its output in a file, ended by its own pid."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAMS = Path(sys.executable).parent
"""Where vendingd, vendctl and firmware-sim were installed, beside this Python."""

SETPRIV = shutil.which("setpriv")
LEASH = [SETPRIV, "--pdeathsig", "KILL", "--"] if SETPRIV else []
"""Ends a program when the thread that started it ends, also by a kill -9, so that a test
run that is killed leaves nothing behind. It becomes the program: the pid is the program's."""


class Process:
    """Started with `start`, as often as one likes; `log` keeps the output of all its lives."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self.command = [str(word) for word in command]
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to ours. Its stdin is empty."""
        assert not self.alive, f"{self.command[0]} runs already"
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                [*LEASH, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # a Ctrl-C is ours alone: we end them in order
            )

    @property
    def pid(self) -> int:
        assert self._child is not None, f"{self.command[0]} was never started"
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the number of the signal that ended it."""
        return None if self._child is None else self._child.poll()

    def signal(self, number: int) -> None:
        if self.alive:
            os.kill(self.pid, number)

    def wait(self, timeout: float = 10.0) -> int:
        """Until it ends by itself. Raises subprocess.TimeoutExpired."""
        assert self._child is not None, f"{self.command[0]} was never started"
        return self._child.wait(timeout)

    def kill(self) -> None:
        """kill -9, and gone when this returns. Nothing to do when it does not run."""
        self.signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait(10)

    def terminate(self, timeout: float = 20.0) -> int:
        """SIGTERM, then its exit code. Raises subprocess.TimeoutExpired."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def end(self) -> None:
        """For tearing down: asks, and kills what does not listen."""
        if not self.alive:
            return
        try:
            self.terminate(3.0)
        except subprocess.TimeoutExpired:
            self.kill()

    def output(self, last: int = 4000) -> str:
        """The last characters of what it printed, for people."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return text[-last:]
