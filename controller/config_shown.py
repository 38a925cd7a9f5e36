"""The settings as they may leave the machine: by a list of keys that are harmless.

A key that is not on the list is told as `(set)` or `(not set)` and nothing else, so
that a key which comes later is hidden until somebody decided. Not on it: the names
by which the broker knows the machine (with some platforms a user name is a token),
and every path of a file that holds a secret (a path may be the secret itself, typed
into the wrong key).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from controller import config_lines

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
    from controller.config_rules import derived  # late, as above

    tls = settings.mqtt.tls
    protocols = {board.name: board.protocol for board in settings.boards}
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
                **derived(dict(cabinet.table), protocols[cabinet.table.board]),
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


# --------------------------------------------------------------------------- listed


def listed(tables: Mapping[str, Any], text: str | None) -> list[dict[str, Any]]:
    """Each setting of `shown`, in its order: `setting` as the check names it
    (`cabinet[A].lane[A1].capacity`), `value`, and its `source`: `file` (with the `line`, from 1),
    `default`, or `unknown` where the `text` of the file cannot be had."""
    try:
        raw = {} if text is None else tomllib.loads(text)
    except (ValueError, RecursionError):
        text, raw = None, {}
    lines = {} if text is None else config_lines.places(text)
    found = []
    for path, name, value in _leaves(tables, (), ""):
        stands = _stands(raw, path)
        source = "unknown" if text is None else "file" if stands else "default"
        line = config_lines.line_of(path, lines) if stands else None
        found.append({"setting": name, "value": value, "source": source, "line": line})
    return found


def _leaves(
    content: Mapping[str, Any], path: config_lines.Path, name: str
) -> Iterator[tuple[config_lines.Path, str, Any]]:
    for key, value in content.items():
        at, label = (*path, key), f"{name}.{key}" if name else key
        if isinstance(value, Mapping):
            yield from _leaves(value, at, label)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for index, each in enumerate(value):
                known = each.get("name") or each.get("channel")
                yield from _leaves(each, (*at, index), f"{label}[{known}]")
        else:
            yield at, label, value


def _stands(raw: Any, path: config_lines.Path) -> bool:
    """Whether the file itself has a value there."""
    for step in path:
        try:
            raw = raw[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True
