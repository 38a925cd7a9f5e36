"""Logging: one event a line, `event key=value …`, for journald and for grep.

Everywhere in the daemon the convention is the standard library's:

    logging.getLogger("vending.uplink").info("connected", extra={"fields": {"host": host}})

or, shorter, `log(LOG, logging.INFO, "connected", host=host)`. The message is the
event's name; everything else is a field. An order is printed as
`order=1111111/delivery`, so that `grep order=1111111` follows it.

No value can end its line or look like another field: what is not plain is
quoted and escaped, and cut. Values whose key smells of a secret are never shown.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from types import TracebackType
from typing import IO, Any

ROOT = "vending"
LONGEST_VALUE = 200
"""Characters of one value. A peer's text must not fill a disk with one message."""
LONGEST_WORDS = 2000
"""Characters of a sentence of our own: its remedy stands at its end."""
MOST_FIELDS = 40
"""Fields of one line; the widest event of ours has fewer than 20."""
LAST_FRAMES = 4
"""Frames of a traceback in its line: where it happened and how we came there."""

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO + 5, 5), (logging.INFO, 6))
"""Level -> syslog priority, sd-daemon(3). CRITICAL is an error too: 0 to 2 shout on consoles."""
_DEBUG_PRIORITY = 7

_PLAIN = re.compile(r"[A-Za-z0-9_./:#@+,%~*-]+")
"""Needs no quotes: holds no space, quote, equal sign or backslash."""
_EVENT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_KEY = re.compile(r"[^A-Za-z0-9_.]")
_SECRET = re.compile(
    r"password|passwd|secret|token|key_material|private_key|credential", re.IGNORECASE
)
_HIDDEN = "(hidden)"


class Words(str):
    """A sentence of our own, with a remedy that must not be cut off."""

    __slots__ = ()


def log(logger: logging.Logger, level: int, event: str, /, **fields: Any) -> None:
    """`event` with its fields, at a level of the standard library."""
    logger.log(level, event, extra={"fields": fields})


def configure(level: int = logging.INFO, stream: IO[str] | None = None) -> None:
    """Send everything of this process to `stream` (stderr), formatted for who reads it.

    Also what nobody caught, in any thread: one line instead of a traceback.
    """
    out = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    handler.setFormatter(LineFormatter(journal=is_journal(out, os.environ)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries speak only when something is wrong
    logging.getLogger(ROOT).setLevel(level)
    logging.raiseExceptions = False  # a closed stderr must not become a traceback on stderr
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def is_journal(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Whether this stream goes to journald: systemd.exec(5), $JOURNAL_STREAM."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class LineFormatter(logging.Formatter):
    """A record as one line. With `journal`, a priority stands where else time and level do."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        line = _line(record)
        if self._journal:
            return f"<{priority(record.levelno)}>{line}"
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return f"{stamp.replace('+00:00', 'Z')} {record.levelname.lower():7} {line}"


def priority(level: int) -> int:
    """The syslog priority of a level, 3 (error) to 7 (debug)."""
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG_PRIORITY)


def _line(record: logging.LogRecord) -> str:
    room = record.name.removeprefix(f"{ROOT}.")
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001  a library's wrong format string is not worth a crash
        message = str(record.msg)
    ours = _EVENT.fullmatch(message) is not None
    parts = [message if ours else "message", f"room={rendered(room)}"]
    if not ours:
        parts.append(f"text={rendered(message)}")
    fields = getattr(record, "fields", None)
    if isinstance(fields, Mapping):
        named = list(fields.items())[:MOST_FIELDS]
        parts += [f"{_key(key)}={_value(key, value)}" for key, value in named]
    if record.exc_info and record.exc_info[1] is not None:
        parts += _trouble(record.exc_info[1])
    return " ".join(parts)


def _key(key: object) -> str:
    return _KEY.sub("_", str(key)[:64]) or "_"


def _value(key: object, value: Any) -> str:
    return _HIDDEN if _SECRET.search(str(key)) else rendered(value)


def rendered(value: Any) -> str:
    """A value of one line: plain where it can be, else in quotes with escapes, and cut."""
    try:
        text = _text(value)
    except Exception:  # noqa: BLE001  somebody's __str__ must not cost us the event
        text = f"<{type(value).__name__}>"
    longest = LONGEST_WORDS if isinstance(value, Words) else LONGEST_VALUE
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if _PLAIN.fullmatch(text):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return (
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
    )


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")  # no duration here is finer than a ms
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value[:LONGEST_VALUE]).hex()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return json.dumps(_open(value), default=_text, ensure_ascii=False, separators=(",", ":"))
    return str(value)


def _open(value: Any, depth: int = 4) -> Any:
    """A nested value with its secrets hidden, its keys as text, and not endless."""
    if isinstance(value, Mapping):
        if depth == 0:
            return "…"
        some = list(value.items())[:MOST_FIELDS]
        return {
            str(key): _HIDDEN if _SECRET.search(str(key)) else _open(each, depth - 1)
            for key, each in some
        }
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return [_open(each, depth - 1) for each in list(value)[:MOST_FIELDS]] if depth else "…"
    return value if isinstance(value, str | int | float | None) else _text(value)


def _trouble(error: BaseException) -> list[str]:
    """What was raised, what caused it, and where: `file:line in function`, innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-LAST_FRAMES:]
    where = " < ".join(
        f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}"  # noqa: PTH119  text only
        for frame in reversed(frames)
    )
    parts = [f"error={rendered(error)}"]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if isinstance(error, BaseExceptionGroup) and error.exceptions:
        cause = error.exceptions[0]
    if cause is not None:
        parts.append(f"cause={rendered(cause)}")
    if where:
        parts.append(f"at={rendered(where)}")
    return parts


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger(f"{ROOT}.daemon").critical("uncaught", exc_info=error)


def _uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is None or issubclass(found.exc_type, SystemExit):
        return
    name = found.thread.name if found.thread else "?"
    logging.getLogger(f"{ROOT}.daemon").critical(
        "uncaught", exc_info=found.exc_value, extra={"fields": {"thread": name}}
    )
