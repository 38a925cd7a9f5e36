"""Why the daemon stopped: written after its end, read by the journal at the next start.

systemd runs `vendingd --record-stop` after every end of the service
(ExecStopPost=), also after a crash, and tells the reason in the environment
(systemd.exec(5), $SERVICE_RESULT). The journal takes the file away when it has
read it, so that finding none means that nobody could write one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

FILE = "last_stop"
LONGEST_WORD = 64
"""Characters of one value out of the environment."""


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


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
