"""A real mosquitto of one's own: own port, own directory, killed and restarted at will."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
from pathlib import Path

from tests.system.process import Process
from tests.system.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]


def find_mosquitto() -> str:
    """In PATH, where Debian puts it, or where `make setup broker` unpacked it."""
    places = (os.environ.get("PATH", ""), "/usr/sbin", str(ROOT / ".cache/broker/bin"))
    found = shutil.which("mosquitto", path=os.pathsep.join(places))
    assert found, "no mosquitto on this machine; `make broker` fetches one"
    return found


PORTS = range(15_000, 32_000)
"""Below the ports that Linux gives to outgoing connections: while a broker is down, none
of those can take its port away."""

_taken: set[int] = set()


def free_port() -> int:
    """One that nobody listens on, and that was given to nobody else in this process."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _taken:
            _taken.add(port)
            return port


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Broker(Process):
    """`persistent`: sessions and messages survive `kill` and `start`, as on a careful server."""

    def __init__(
        self, directory: Path, *, persistent: bool = True, port: int | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.persistent = persistent
        self._config = directory / "mosquitto.conf"
        super().__init__([find_mosquitto(), "-c", self._config], directory / "mosquitto.log")

    def config(self) -> str:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "set_tcp_nodelay true",  # without it every exchange waits 40 ms for a delayed ACK
            "max_queued_messages 0",  # what waits for a subscriber that is away is never dropped
            "log_type error",
            "log_type warning",
            "log_type notice",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it drops to a user who may not write our directory
        if self.persistent:
            lines += [
                "persistence true",
                f"persistence_location {self._config.parent}/",
                "autosave_on_changes true",  # with the interval: saved after each change,
                "autosave_interval 1",  # so that kill -9 forgets hardly anything; see `save`
            ]
        return "\n".join(lines) + "\n"

    def up(self) -> None:
        """Start, and answering when this returns; again after `kill`, on the same port."""
        self._config.write_text(self.config(), encoding="utf-8")
        self.start()
        wait_for(self._is_up, "mosquitto answers on its port")

    def _is_up(self) -> bool:
        assert self.alive, f"mosquitto ended with {self.exit_code}: {self.output()}"
        return answers(self.port)

    def save(self) -> None:
        """What it knows is on its disk when this returns. By itself it writes after each
        change, but a little after it acknowledged it, so that a kill may come first."""
        before = self._saved_at()
        self.signal(signal.SIGUSR1)
        wait_for(lambda: self._saved_at() != before, "mosquitto saved what it knows")

    def forget(self) -> None:
        """What it kept is gone: sessions, queues, retained messages. It must not run."""
        assert not self.alive, "a running broker would write it again"
        self._database().unlink(missing_ok=True)

    def _database(self) -> Path:
        return self._config.parent / "mosquitto.db"

    def _saved_at(self) -> int:
        database = self._database()
        return database.stat().st_mtime_ns if database.exists() else 0
