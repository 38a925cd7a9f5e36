"""`vendctl --offline`: the same verbs while the daemon is stopped.

The daemon's own program runs for as long as the verb: without its broker, behind a socket of
its own, under the journal's lock, as the user to whom the journal belongs. So a test vend
obeys the same rules and is journalled all the same; what it has to tell leaves when the
real daemon starts again. Units that wait for customers go on waiting.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from controller.cli import screen
from controller.cli.client import Daemon
from controller.cli.exits import Exit, Trouble
from controller.cli.meanings import meant_finding
from controller.cli.words import say

READY_S = 60.0
"""A start waits 5 s for its boards; the rest is for the journal on a worn SD card."""

END_S = 180.0
"""The longest default cycle, 90 s, and what the daemon's own stop may take beyond it."""

TOLD = 2000
"""Bytes of its log that are worth looking at when it could not start."""


@contextlib.contextmanager
def daemon_without_broker(settings_file: Path, daemon_socket: str) -> Iterator[str]:
    """The path of a socket at which the verb is answered, until the block ends. Raises Trouble:
    a daemon answers at `daemon_socket`, the settings are wrong, the journal is not ours."""
    _refuse_beside_a_daemon(daemon_socket)
    owner = _owner_of_the_journal(settings_file)
    folder = Path(tempfile.mkdtemp(prefix="vendctl-"))
    try:
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        with _notified(folder / "notify", owner) as notified:
            running = _start(settings_file, folder, owner)
            try:
                _wait_until_ready(running, notified, folder / "log")
                screen.words(say("The daemon is stopped: vendctl drives the boards itself."))
                yield str(folder / "s")
            finally:
                _end(running)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_beside_a_daemon(daemon_socket: str) -> None:
    try:
        Daemon(daemon_socket, 2.0).read("/v1/status")
    except Trouble as trouble:
        if trouble.code in {"unreachable", "connection_lost"}:
            return
    raise Trouble(
        Exit.REFUSED,
        "daemon_runs",
        say("The daemon runs: leave --offline out, or stop it (systemctl stop vending-controller)"),
    )


def _owner_of_the_journal(settings_file: Path) -> pwd.struct_passwd | None:
    """Whom root must become, lest the daemon finds files that it may not write; None: as we are."""
    from controller.config import check_text, load  # late: pydantic costs more than all the rest
    from controller.errors import ConfigError

    try:
        settings, _ = load(settings_file)
    except ConfigError:
        errors, _ = check_text(settings_file)
        raise Trouble(Exit.USAGE, "bad_settings", "\n".join(map(meant_finding, errors))) from None
    state_dir = settings.machine.state_dir
    try:
        owner = state_dir.stat().st_uid
    except OSError as error:
        raise Trouble(
            Exit.REFUSED,
            "no_journal",
            say("{path}: {why}. Use sudo", path=state_dir, why=error.strerror or error),
        ) from error
    if os.geteuid() == owner:
        return None
    try:
        user = pwd.getpwuid(owner)
    except KeyError:
        user = None
    if user is None or os.geteuid() != 0:
        raise Trouble(
            Exit.REFUSED,
            "not_ours",
            say(
                "{path} belongs to {user}: sudo vendctl --offline …",
                path=state_dir,
                user=user.pw_name if user else owner,
            ),
        )
    return user


@contextlib.contextmanager
def _notified(path: Path, owner: pwd.struct_passwd | None) -> Iterator[socket.socket]:
    """Where the daemon says that it is ready, as to a service manager (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        if owner is not None:
            os.chown(path, owner.pw_uid, owner.pw_gid)
        yield listening


def _start(
    settings_file: Path, folder: Path, owner: pwd.struct_passwd | None
) -> subprocess.Popen[bytes]:
    """In a session of its own: a Ctrl-C is vendctl's matter, and ends no cycle."""
    command = [sys.executable, "-m", "controller.daemon", "--config", str(settings_file)]
    as_owner: dict[str, Any] = {}
    if owner is not None:
        groups = os.getgrouplist(owner.pw_name, owner.pw_gid)
        as_owner = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": groups}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own program
            [*command, "--offline", str(folder / "s")],
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
            stdin=subprocess.PIPE,  # it ends when this end is closed, also by a kill -9
            stdout=log,
            stderr=log,
            start_new_session=True,
            **as_owner,
        )


def _wait_until_ready(running: subprocess.Popen[bytes], notified: socket.socket, log: Path) -> None:
    notified.settimeout(0.2)  # how soon its end is seen
    for _ in range(int(READY_S / 0.2)):
        with contextlib.suppress(TimeoutError):
            if b"READY=1" in notified.recv(4096):
                return
        if running.poll() is not None:
            break
    told = log.read_text(encoding="utf-8", errors="replace")[-TOLD:].strip()
    why = told.splitlines()[-1] if told else say("it said nothing")
    raise Trouble(Exit.REFUSED, "not_started", say("--offline could not begin: {why}", why=why))


def _end(running: subprocess.Popen[bytes]) -> None:
    """A cycle that runs is finished first."""
    running.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.wait(END_S)
