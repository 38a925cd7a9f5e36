"""What the drivers share: counters of a link, how options are read, a bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast

from controller.boards.port import Traffic
from controller.errors import ConfigError

RECENT_LOSSES = 5
"""Causes of the last losses of a link that `status` shows."""
REMEMBERED = 256
"""Cycle ids and event keys that are kept in memory; the board shows forgotten ones again."""


def remember(known: OrderedDict[Any, Any], key: object, value: object = None) -> None:
    """What was remembered longest ago is forgotten first."""
    known[key] = value
    known.move_to_end(key)
    while len(known) > REMEMBERED:
        known.popitem(last=False)


@dataclass(slots=True)
class LinkCounters:
    """Totals since the daemon's start, for `vendctl link`. Round trips in microseconds."""

    frames_in: int = 0
    frames_bad: int = 0
    """Blocks that were no frame: wrong check, length or version."""
    frames_out: int = 0
    resends: int = 0
    duplicates: int = 0
    """Frames that came again; answered and not processed."""
    stray: int = 0
    """Well-formed frames that nothing waited for."""
    unanswered: int = 0
    """Requests given up, and questions of the board that came too late to be answered."""
    downs: int = 0
    """Times that a link that had been usable was lost, whoever found out."""
    resets: int = 0
    """Restarts of the board that were seen."""
    round_trips: int = 0
    round_trip_last_us: int = 0
    round_trip_total_us: int = 0

    def timed(self, seconds: float) -> None:
        """One round trip; only of a frame that was sent once, else it is anybody's answer."""
        self.round_trips += 1
        self.round_trip_last_us = int(seconds * 1_000_000)
        self.round_trip_total_us += self.round_trip_last_us

    def as_mapping(self, traffic: Traffic) -> dict[str, int]:
        """Everything of link and port under one roof, with the mean instead of the total."""
        counts = {name: getattr(self, name) for name in LinkCounters.__slots__}
        total = counts.pop("round_trip_total_us")
        counts["round_trip_mean_us"] = total // self.round_trips if self.round_trips else 0
        for name in ("bytes_in", "bytes_out", "opens", "failed_opens", "losses"):
            counts[name] = getattr(traffic, name)
        return counts


OptionsT = TypeVar("OptionsT")

BAUDRATES = range(1200, 4_000_001)


def read_options(kind: type[OptionsT], given: Mapping[str, Any]) -> OptionsT:
    """The options of a protocol out of a board's table. Raises ConfigError with the remedy.

    `kind` is a frozen dataclass whose `__post_init__` raises ValueError `key: what is right`.
    """
    known = {field.name for field in fields(cast("Any", kind))}
    foreign = sorted(set(given) - known)
    if foreign:
        raise ConfigError(
            f"unknown board option {', '.join(foreign)}; known are {', '.join(sorted(known))}"
        )
    try:
        return kind(**given)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"board option {error}") from error


def check_number(name: str, value: object, allowed: range) -> None:
    """Raises ValueError when the value is no whole number of the range."""
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise ValueError(f"{name}: a whole number {allowed[0]}..{allowed[-1]}, not {value!r:.40}")


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: one of {', '.join(allowed)}, not {value!r:.40}")


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name}: true or false, not {value!r:.40}")  # noqa: TRY004 one error kind
