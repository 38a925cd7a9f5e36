"""The exit codes, and the exception that carries one to the end of the program."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Public: scripts read these."""

    FINE = 0
    BAD_NEWS = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    TIME_RAN_OUT = 5
    INTERRUPTED = 130
    """Ctrl-C, as shells say it: 128 + SIGINT."""


class Trouble(Exception):
    """No answer, for a reason that a person can do something about."""

    def __init__(self, exit_code: Exit, code: str, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code
