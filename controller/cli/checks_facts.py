"""The facts that `vendctl doctor` judges: what the daemon says, and what anybody can see here."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.certificate_dates import dates_of
from controller.cli.checks_ports import PortFacts, port_facts
from controller.cli.client import Daemon
from controller.cli.exits import Trouble
from controller.cli.settings import DEFAULT_FILE
from controller.errors import ConfigError

UNIT = "vending-controller"

SYSTEMCTL_S = 5.0
"""systemd answers within milliseconds, or its bus is stuck."""

HANDSHAKE_S = 3.0
"""To see a broker's certificate: a mobile line takes a second."""

SECOND_LOOK_S = 2.5
"""A lost board is tried again every 2 s (boards.port.REOPEN_MAX_S), and heard meanwhile."""

UNIT_FACTS = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "User",
    "SupplementaryGroups",
)


@dataclass(frozen=True, slots=True)
class User:
    """Who runs vendctl."""

    name: str
    uid: int
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Facts:
    now: float
    user: User
    socket: str
    unreachable: str = ""
    """Why the daemon could not be asked; empty when it answered."""
    no_checkup: str = ""
    """Why it answered everything but the doctor's own question."""
    status: Mapping[str, Any] = field(default_factory=dict)
    lanes: Sequence[Mapping[str, Any]] = ()
    link: Sequence[Mapping[str, Any]] = ()
    link_later: Sequence[Mapping[str, Any]] = ()
    """The same once more where a board was lost, so that growing counters can be seen."""
    checkup: Mapping[str, Any] = field(default_factory=dict)
    unit: Mapping[str, str] = field(default_factory=dict)
    """systemd's word about the service; empty where there is none."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """As shapes.ConfigFacts; `unreadable` in place of it all where nobody could read the file."""
    disk: Mapping[str, Any] | None = None
    state_dir_owner: str | None = None
    """None: the directory is not there."""
    ports: Mapping[str, PortFacts] = field(default_factory=dict)
    """By board."""
    certificates: Sequence[Mapping[str, Any]] = ()
    """As shapes.CertificateFacts, the server's among them."""

    @property
    def reached(self) -> bool:
        return not self.unreachable

    @property
    def settings(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.config.get("settings") or {}
        return found

    @property
    def daemon_user(self) -> str:
        return self.unit.get("User") or UNIT


def gather(daemon: Daemon, config_file: str | None) -> Facts:
    """Ask everybody. The daemon not being there is a fact, not the end."""
    unreachable = no_checkup = ""
    status: Mapping[str, Any] = {}
    checkup: Mapping[str, Any] = {}
    lanes: Sequence[Mapping[str, Any]] = ()
    link: Sequence[Mapping[str, Any]] = ()
    later: Sequence[Mapping[str, Any]] = ()
    try:
        status = daemon.read("/v1/status")
        lanes = daemon.read("/v1/lanes").get("lanes", [])
        link = daemon.read("/v1/link").get("ports", [])
        if any(_was_understood(port) and not port.get("up") for port in link):
            time.sleep(SECOND_LOOK_S)
            later = daemon.read("/v1/link").get("ports", [])
    except Trouble as trouble:
        unreachable = str(trouble)
    if not unreachable:
        try:
            checkup = daemon.read("/v1/doctor")
        except Trouble as trouble:
            no_checkup = str(trouble)
    config = dict(checkup.get("config") or {})
    if not config or config_file is not None:
        config = config_facts(config_file or config.get("file") or DEFAULT_FILE)
    unit = unit_facts()
    settings = config.get("settings") or {}
    folder = (settings.get("machine") or {}).get("state_dir", "/var/lib/vending-controller")
    boards = {board["name"]: str(board["port"]) for board in settings.get("board") or ()}
    boards |= {str(port.get("board")): str(port.get("port")) for port in link if port.get("port")}
    return Facts(
        now=time.time(),
        user=current_user(),
        socket=daemon.socket_path,
        unreachable=unreachable,
        no_checkup=no_checkup,
        status=status,
        lanes=lanes,
        link=link,
        link_later=later,
        checkup=checkup,
        unit=unit,
        config=config,
        disk=checkup.get("disk") or disk_facts(folder),
        state_dir_owner=owner_of(folder),
        ports={name: port_facts(port) for name, port in boards.items() if "://" not in port},
        certificates=[*(checkup.get("certificates") or ()), *server_certificate(settings)],
    )


def _was_understood(port: Mapping[str, Any]) -> bool:
    return bool((port.get("counters") or {}).get("frames_in"))


def current_user() -> User:
    uid = os.geteuid()
    names = set()
    for gid in {os.getegid(), *os.getgroups()}:
        with contextlib.suppress(KeyError):
            names.add(grp.getgrgid(gid).gr_name)
    return User(user_name(uid), uid, frozenset(names))


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def config_facts(file: str) -> dict[str, Any]:
    """The settings, judged here: for a daemon that does not answer."""
    from controller.config import check_text, load  # late: pydantic is slow to load
    from controller.config_shown import shown

    path = Path(file)
    try:
        if path.is_file():  # the check says what else it is; a pipe would keep us waiting
            path.open("rb").close()
    except PermissionError:
        return {"file": file, "unreadable": True}
    except OSError:
        pass  # the check says so, with its remedy
    errors, warnings = check_text(path)
    settings: dict[str, Any] = {}
    with contextlib.suppress(ConfigError):
        settings = shown(load(path)[0])
    return {
        "file": file,
        "errors": errors,
        "warnings": warnings,
        "changed": False,
        "settings": settings,
    }


def unit_facts() -> dict[str, str]:
    """`systemctl show`; nothing where no systemd runs, or no such unit is installed."""
    command = ["systemctl", "show", UNIT, "--property", ",".join(UNIT_FACTS)]
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            command, capture_output=True, text=True, timeout=SYSTEMCTL_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return unit_of(done.stdout) if done.returncode == 0 else {}


def unit_of(text: str) -> dict[str, str]:
    facts = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return facts if facts.get("LoadState") == "loaded" else {}


def disk_facts(folder: str) -> dict[str, Any] | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return {
        "folder": folder,
        "free_bytes": found.f_bavail * found.f_frsize,
        "total_bytes": found.f_blocks * found.f_frsize,
        "free_files": found.f_favail,
        "total_files": found.f_files,
        "read_only": bool(found.f_flag & os.ST_RDONLY),
    }


def owner_of(folder: str) -> str | None:
    try:
        return user_name(Path(folder).stat().st_uid)
    except FileNotFoundError:
        return None
    except OSError:
        return ""  # it may be there; this user may not see


def server_certificate(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The dates of what the broker shows, trusted or not: nothing is sent but the handshake."""
    mqtt = settings.get("mqtt") or {}
    if not mqtt.get("tls"):
        return []
    import ssl  # late: of all verbs only this one needs it

    host, port = str(mqtt["host"]), int(mqtt["port"])
    found: dict[str, Any] = {
        "role": "server",
        "file": f"{host}:{port}",
        "not_before": None,
        "not_after": None,
        "problem": "",
    }
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # to read the dates of one that would be refused
    try:
        with (
            socket.create_connection((host, port), HANDSHAKE_S) as line,
            context.wrap_socket(line, server_hostname=host) as tls,
        ):
            shown_to_us = tls.getpeercert(binary_form=True)
        dates = dates_of(shown_to_us or b"")
    except (OSError, ValueError) as error:
        return [] if isinstance(error, ConnectionError | TimeoutError) else [_unread(found, error)]
    return [{**found, "not_before": dates.not_before, "not_after": dates.not_after}]


def _unread(found: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    return {**found, "problem": str(error)[:200]}
