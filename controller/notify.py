"""Words to systemd: ready, status, alive, stopping (sd_notify(3)).

Without $NOTIFY_SOCKET, as when started by hand, nothing is sent. Nothing here
raises or waits: a service manager that does not listen is not our trouble.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

LONGEST_STATUS = 300
"""Characters: one line of `systemctl status`."""


def ready(status: str = "", environ: Mapping[str, str] = os.environ) -> bool:
    """Start-up is over: what waits for us may start."""
    return send(f"READY=1\nSTATUS={_line(status)}", environ)


def status(text: str, environ: Mapping[str, str] = os.environ) -> bool:
    """One line for people, seen in `systemctl status`."""
    return send(f"STATUS={_line(text)}", environ)


def watchdog(environ: Mapping[str, str] = os.environ) -> bool:
    """The loop is alive. To be sent by the loop itself every `watchdog_interval_s`."""
    return send("WATCHDOG=1", environ)


def stopping(text: str, within_s: float, environ: Mapping[str, str] = os.environ) -> bool:
    """An orderly stop has begun and ends within so long, whatever TimeoutStopSec= says."""
    extended = f"EXTEND_TIMEOUT_USEC={round(within_s * 1_000_000)}"
    return send(f"STOPPING=1\nSTATUS={_line(text)}\n{extended}", environ)


def watchdog_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two `watchdog` calls, or None when systemd expects none.

    Half of WatchdogSec, as sd_watchdog_enabled(3) advises.
    """
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
        meant_for = int(environ.get("WATCHDOG_PID", "0")) or os.getpid()
    except ValueError:
        return None
    if microseconds <= 0 or meant_for != os.getpid():
        return None
    return microseconds / 1_000_000 / 2


def send(message: str, environ: Mapping[str, str] = os.environ) -> bool:
    """One datagram to the service manager; False when it could not be handed over."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):  # nothing, or a transport that systemd uses for VMs
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace, unix(7)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.settimeout(0)  # a full queue of the manager must not stop the loop
            out.sendto(message.encode(errors="replace"), address)
    except (OSError, ValueError):
        return False
    return True


def _line(text: str) -> str:
    return " ".join(text.split())[:LONGEST_STATUS]
