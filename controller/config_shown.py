"""The settings as they may leave the machine: by a list of keys that are harmless.

A key that is not on the list is told as `(set)` or `(not set)` and nothing else, so
that a key which comes later is hidden until somebody decided. Not on it: the names
by which the broker knows the machine (with some platforms a user name is a token),
and every path of a file that holds a secret (a path may be the secret itself, typed
into the wrong key).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pydantic costs vendctl more than all the rest, and here it is only a type
    from controller.config import Settings
    from controller.config_tables import Table

SHOWN: Mapping[str, frozenset[str]] = {
    "machine": frozenset(
        {
            "machine_no",
            "state_dir",
            "max_parallel_cycles",
            "max_units_per_order",
            "enforce_stock",
            "order_ttl_s",
            "resume_after_reboot",
            "late_drop_window_s",
            "lane_failure_limit",
            "max_queued_orders",
            "result_retention_days",
        }
    ),
    "clock": frozenset({"require_sync", "skew_s"}),
    "mqtt": frozenset({"host", "port", "prefix", "protocol", "keepalive_s", "session_expiry_s"}),
    "tls": frozenset({"ca_file", "cert_file"}),
    "service": frozenset(
        {
            "socket",
            "read_group",
            "act_group",
            "idle_minutes",
            "remote_verbs",
            "open_orders",
            "tests_need_service_mode",
        }
    ),
    "board": frozenset(
        {
            "name",
            "protocol",
            "port",
            "baudrate",
            "drive_length",
            "jam_means",
            "resend_same_packno",
            "elevator",
            "door_means",
            "poll_ms",
            "status_every_s",
        }
    ),
    "cabinet": frozenset(
        {
            "name",
            "kind",
            "board",
            "drop_sensor",
            "eye_clear_timeout_s",
            "settle_ms",
            "cycle_timeout_s",
            "max_run_ms",
            "drop_wait_ms",
            "second_cycles",
        }
    ),
    "lane": frozenset({"channel", "number", "product_id", "capacity", "initial_stock"}),
}

_LOGIN = re.compile(r"(?<=://)[^/\s@]*@")


def without_login(text: str) -> str:
    """`tcp://user:word@host` without what stands before the @."""
    return _LOGIN.sub("", text)


def shown(settings: Settings) -> dict[str, Any]:
    tls = settings.mqtt.tls
    return {
        "machine": _table("machine", settings.machine),
        "clock": _table("clock", settings.clock),
        "mqtt": {
            **_table("mqtt", settings.mqtt, leave="tls"),
            "port": settings.mqtt_port,
            "tls": None if tls is None else _table("tls", tls),
        },
        "service": _table("service", settings.service),
        "board": [_table("board", board) for board in settings.boards],
        "cabinet": [
            {
                **_table("cabinet", cabinet.table),
                "lane": [_table("lane", lane) for lane in cabinet.lanes],
            }
            for cabinet in settings.cabinet_tables
        ],
    }


def _table(name: str, table: Table, leave: str = "") -> dict[str, Any]:
    plain = table.model_dump(mode="json")
    return {
        key: _value(value) if key in SHOWN[name] else ("(not set)" if value is None else "(set)")
        for key, value in plain.items()
        if key != leave
    }


def _value(value: Any) -> Any:
    return without_login(value) if isinstance(value, str) else value
