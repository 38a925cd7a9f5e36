"""The tables of the daemon's file: every key, its range and its default.

Frozen and strict: a number in quotes is a mistake, not a number. These models
judge one value at a time; what holds between values is in `config_rules`.
A default of None means that `config_rules` derives it (by kind of cabinet, by
protocol, or from another key) before the settings leave `config`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from controller.model import canonical_channel

SERVED_PROTOCOLS = ("vbp", "xy")
KNOWN_PROTOCOLS = (*SERVED_PROTOCOLS, "tcn", "evb", "ubox", "vmc96")
ACTING_VERBS = ("stock.set", "lane.enable", "lane.disable", "mode.set", "lane.test")
"""Request verbs that change something. This version carries out none over MQTT."""

UNIX_SOCKET_PATH_MAX = 107
"""Bytes: sun_path of unix(7) is 108 with its closing NUL."""
FRESH_SOCKET_MAX = len("/.4194304")
"""Bytes below its directory of the name that it is bound as first: a dot and the largest pid."""


def _path(value: object) -> object:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a path in quotes")  # noqa: TRY004  pydantic collects ValueErrors
    if not value or "\0" in value:
        raise ValueError("must be a path")
    return Path(value)


def _socket(value: Path) -> Path:
    longest = max(len(bytes(value)), len(bytes(value.parent)) + FRESH_SOCKET_MAX)
    if longest > UNIX_SOCKET_PATH_MAX:
        raise ValueError(f"is longer than the {UNIX_SOCKET_PATH_MAX} bytes of a socket's path")
    return value


def _port(value: str) -> str:
    """A device path (local serial, pty) or tcp://host:port."""
    if value.startswith("tcp://"):
        try:
            parts = urlsplit(value)
            complete = parts.hostname and parts.port and not (parts.path or parts.query)
        except ValueError:
            complete = False
        if not complete:
            raise ValueError("must be tcp://host:port with a port of 1 to 65535")
        return value
    scheme = re.match(r"([a-z]+):", value)
    if scheme is not None:
        raise ValueError(f"{scheme[1]}: is no port of the daemon; a path or tcp://host:port is")
    if "/" not in value or not value.isprintable():
        raise ValueError("is neither the path of a device nor tcp://host:port")
    return value


def _topic_prefix(value: str) -> str:
    if not value.isprintable() or set(value) & set("+#") or "" in value.split("/"):
        raise ValueError("must be topic levels like vending/v1: no wildcards, no empty level")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be printable text")
    return value


FilePath = Annotated[Path, BeforeValidator(_path)]
PortSpec = Annotated[str, StringConstraints(min_length=1, max_length=512), AfterValidator(_port)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_printable)]
GroupName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Table(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class MachineTable(Table):
    machine_no: Annotated[str, StringConstraints(pattern=r"^[0-9]{8}$")]
    """The machine's number on the platform: eight ASCII digits."""
    state_dir: FilePath = Path("/var/lib/vending-controller")
    """Where journal.db lives."""
    max_parallel_cycles: Annotated[int, Field(ge=1, le=16)] = 1
    """Boards that may move at once: power supplies are small."""
    max_units_per_order: Annotated[int, Field(ge=1, le=2500)] = 50
    """2500 is what 50 lines of 50, the most a command can carry, would be."""
    enforce_stock: bool = True
    order_ttl_s: Annotated[int, Field(ge=1, le=86_400)] = 90
    resume_after_reboot: bool = False
    late_drop_window_s: Annotated[Seconds, Field(ge=0, le=300)] = 30.0
    lane_failure_limit: Annotated[int, Field(ge=1, le=1000)] = 3
    max_queued_orders: Annotated[int, Field(ge=1, le=10_000)] = 100
    result_retention_days: Annotated[int, Field(ge=1, le=36_500)] = 400


class ClockTable(Table):
    require_sync: bool = True
    skew_s: Annotated[Seconds, Field(ge=0, le=3600)] = 30.0


class TlsTable(Table):
    ca_file: FilePath | None = None
    """None: the system's certificate authorities."""
    cert_file: FilePath | None = None
    key_file: FilePath | None = None


class MqttTable(Table):
    host: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:%-]{1,253}$")] = "localhost"
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """1883, or 8883 with [mqtt.tls]."""
    prefix: Annotated[
        str, StringConstraints(min_length=1, max_length=200), AfterValidator(_topic_prefix)
    ] = "vending/v1"
    protocol: Literal["5", "3.1.1"] = "5"
    client_id: Annotated[Text, StringConstraints(max_length=128)] | None = None
    """The machine's number by default."""
    keepalive_s: Annotated[int, Field(ge=1, le=65_535)] = 30
    session_expiry_s: Annotated[int, Field(ge=1, le=0xFFFF_FFFF)] = 604_800
    """Never 0: a session that dies with its connection loses commands."""
    username: Text | None = None
    password_file: FilePath | None = None
    tls: TlsTable | None = None


class ServiceTable(Table):
    socket: Annotated[FilePath, AfterValidator(_socket)] = Path(
        "/run/vending-controller/control.sock"
    )
    read_group: GroupName = "vending"
    act_group: GroupName = "vending-tech"
    idle_minutes: Annotated[Seconds, Field(gt=0, le=1440)] = 10.0
    open_orders: Literal["wait", "end"] = "wait"
    """What service mode does to units that wait: on to their deadline (P4), or end them at once."""
    tests_need_service_mode: bool = False
    remote_verbs: tuple[Text, ...] = ()


class BoardTable(Table):
    """The keys of every board. A subclass adds what its protocol leaves open."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    protocol: Literal["vbp", "xy"]
    port: PortSpec


class VbpTable(BoardTable):
    baudrate: Annotated[int, Field(ge=1200, le=4_000_000)] = 115_200


class XyTable(BoardTable):
    baudrate: Annotated[int, Field(ge=1200, le=4_000_000)] = 57_600
    drive_length: Literal[5, 6, 7] = 5
    """Length byte of the drive frame 06: differs between firmwares."""
    jam_means: Literal["not_delivered", "unknown"] = "not_delivered"
    """What status 03 means on a cabinet with drop sensor."""
    resend_same_packno: Annotated[int, Field(ge=0, le=4)] = 0
    """Resends of an unacknowledged drive: only for firmware known to drop duplicates (P1)."""
    elevator: bool = False
    door_means: Literal["unknown", "nonzero_open", "nonzero_closed"] = "unknown"
    """How the door byte of the machine status 52 is to be read."""
    poll_ms: Annotated[int, Field(ge=100, le=2000)] = 200
    """The interval that the board polls in; 2000 is the protocol's longest."""
    status_every_s: Annotated[int, Field(ge=0, le=3600)] = 60
    """How often the machine status is asked for; 0: never."""


BOARD_TABLES: dict[str, type[BoardTable]] = {"vbp": VbpTable, "xy": XyTable}


class LaneTable(Table):
    channel: Annotated[str, AfterValidator(canonical_channel)]
    number: Annotated[int, Field(ge=0, le=65_535)]
    """Two bytes on every wire that we serve."""
    product_id: Annotated[int, Field(ge=1, le=2**63 - 1)]
    """Fits the journal's 64-bit integers."""
    capacity: Annotated[int, Field(ge=1, le=10_000)]
    initial_stock: Annotated[int, Field(ge=0, le=10_000)] = 0


class CabinetTable(Table):
    """A cabinet without its lanes; see `CabinetSettings`."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Z]$")]
    kind: Literal["track", "spiral", "locker"]
    board: str
    drop_sensor: bool | None = None
    eye_clear_timeout_s: Annotated[Seconds, Field(ge=0, le=600)] = 10.0
    settle_ms: Annotated[int, Field(ge=0, le=60_000)] | None = None
    cycle_timeout_s: Annotated[Seconds, Field(gt=0, le=600)] | None = None
    max_run_ms: Annotated[int, Field(ge=1, le=65_534)] | None = None
    """Two bytes on the wire, where FFFF means *saturated*."""
    drop_wait_ms: Annotated[int, Field(ge=0, le=65_534)] | None = None
    second_cycles: Annotated[int, Field(ge=0, le=10)] = 0


class SecurityTable(Table):
    command_keys: Any = None
    """Refused whatever it holds, by a rule."""


SINGLE_TABLES: dict[str, type[Table]] = {
    "machine": MachineTable,
    "clock": ClockTable,
    "mqtt": MqttTable,
    "service": ServiceTable,
    "security": SecurityTable,
}
