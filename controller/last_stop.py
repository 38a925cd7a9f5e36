"""Why the daemon stopped the last time: written when it has, read at the next start.

systemd runs `vendingd --record-stop` after every end of the service
(ExecStopPost=), also after a crash, and tells the reason in the environment
(systemd.exec(5), $SERVICE_RESULT). The file is taken away when it is read, so
that finding none means that nobody could write it: power was lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

FILE = "last_stop"
LONGEST_WORD = 64
"""Characters of one value out of the environment."""
MAX_BYTES = 4096
"""The file is one line of three short words."""

_KINDS = {"success": "clean", "watchdog": "watchdog"}
"""$SERVICE_RESULT -> the word in `state`. Every other result is a crash."""


def record_stop(state_dir: Path, environ: Mapping[str, str]) -> None:
    """Write `{"result", "exit_code", "exit_status"}` as one line, whole or not at all.

    Raises OSError when the directory cannot be written.
    """
    names = ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS")
    result, code, status = (environ.get(name, "unknown")[:LONGEST_WORD] for name in names)
    line = json.dumps({"result": result, "exit_code": code, "exit_status": status}) + "\n"
    new = state_dir / f".{FILE}.new"
    with new.open("w", encoding="ascii") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    new.replace(state_dir / FILE)
    _sync_directory(state_dir)


def take_last_stop(state_dir: Path) -> str | None:
    """`clean`, `watchdog` or `crash`; None when nobody recorded the last stop.

    The record is gone afterwards, durably, so that the next power cut does not
    find it. None at the first start too: the caller knows whether this is one.
    Raises OSError when the directory cannot be read or written.
    """
    path = state_dir / FILE
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES)
    except FileNotFoundError:
        return None
    path.unlink()
    _sync_directory(state_dir)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return "crash"
    result = found.get("result") if isinstance(found, dict) else None
    return _KINDS.get(result, "crash") if isinstance(result, str) else "crash"


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
