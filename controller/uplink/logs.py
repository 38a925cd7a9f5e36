"""One event, one log record: the message is the event's name, the rest are fields.

What came from a peer is cut before it is logged, so that nobody outside can
make this machine write more than a line.
"""

from __future__ import annotations

import logging
from typing import Any

LOG = logging.getLogger("vending.uplink")

LONGEST_TEXT = 200
"""Characters of one field. Enough for an error's text, too short to fill a disk with."""


def cut(text: str, limit: int = LONGEST_TEXT) -> str:
    """`text` on one line and no longer than `limit`."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return shown if shown.isprintable() else ascii(shown)[1:-1][:limit]


def say(level: int, event: str, **fields: Any) -> None:
    """Log `event` with `fields`; texts among them are cut."""
    shown = {
        name: cut(value) if isinstance(value, str) else value for name, value in fields.items()
    }
    LOG.log(level, event, extra={"fields": shown})


def trouble(event: str, error: BaseException, **fields: Any) -> None:
    """The same for an exception that nobody expected, with its traceback."""
    LOG.error(event, exc_info=error, extra={"fields": fields})
