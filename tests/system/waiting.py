"""Waiting for a condition with a bound: the only wait of the system tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.005
"""Between two looks: short beside everything waited for, long beside a look."""


def wait_for(condition: Callable[[], T], what: str, timeout: float = 10.0) -> T:
    """The first true value of `condition`; AssertionError naming `what` when time is over.

    `timeout` is a bound in seconds for a busy machine, not what one expects to wait.
    """
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {timeout:g} s"
        time.sleep(POLL_S)
    return found
