"""What must hold between the values of the daemon's file, and defaults that depend on others.

Each rule is a function from a draft of the file to findings; all run, so that
one reading names every mistake. A draft holds only values that are sound by
themselves: a rule is silent about a value that is absent there, because the
table's own check has spoken already.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller import config_prose
from controller.config_lines import Path
from controller.config_tables import ACTING_VERBS
from controller.model import canonical_channel

STOP_MARGIN_MS = 3_000
"""Between the latest end of a board's own cycle and our giving it up: the board's
300 ms for a second drop, its event's repeat (500 ms) and a lost answer asked for again."""

PLATFORM_BACKSTOP_S = 120
"""The platform books an order as failed when no result came for so long."""

CYCLE_TIMEOUT_S = {"locker": 15.0, "spiral": 30.0, "track": 90.0}
MAX_RUN_MS = {"locker": 5_000, "spiral": 15_000, "track": 15_000}
DROP_WAIT_MS = 3_000
"""Longer than any fall: from the motor's stop to the light eye."""
SETTLE_MS_EYE_UNREAD = 500
"""The item leaves the eye before the next cycle, where we cannot look."""

EYE_IS_READ = frozenset({"vbp"})
TAKES_LIMITS = frozenset({"vbp"})
"""Protocols whose drive frame carries max_run_ms and drop_wait_ms."""
LOWEST_LANE = {"vbp": 0, "xy": 1}
"""XY: selection 0 means *cancel* or *the lane now selected*."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong (or, as a warning, doubtful) at a place of the file."""

    path: Path
    what: str
    remedy: str
    value: Any = None
    """Shown, cut, when not None."""
    warning: bool = False

    @property
    def text(self) -> str:
        shown = "" if self.value is None else f" ({cut(self.value)})"
        return f"{self.what}{shown}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Part:
    """A table of the file: where it is, and those of its values that are sound."""

    path: Path
    values: Mapping[str, Any]
    parts: tuple[Part, ...] = ()
    """The lanes of a cabinet."""

    def at(self, key: str) -> Path:
        return (*self.path, key)

    def get(self, key: str) -> Any:
        return self.values.get(key)


@dataclass(frozen=True, slots=True)
class Draft:
    single: Mapping[str, Part]
    boards: tuple[Part, ...]
    cabinets: tuple[Part, ...]

    def protocol_of(self, cabinet: Part) -> str | None:
        for board in self.boards:
            if board.get("name") == cabinet.get("board"):
                protocol: str | None = board.get("protocol")
                return protocol
        return None


Rule = Callable[[Draft], Iterator[Finding]]

LONGEST_SHOWN = 60
"""Characters of a value in a message: enough to find it again."""


def cut(value: Any) -> str:
    shown = repr(str(value) if isinstance(value, os.PathLike) else value)
    return shown if len(shown) <= LONGEST_SHOWN else shown[: LONGEST_SHOWN - 1] + "…"


def derived(values: Mapping[str, Any], protocol: str | None) -> dict[str, Any]:
    """The cabinet's values that have a default by kind, protocol or drop sensor."""
    kind = values.get("kind") or "track"
    watched = bool(values.get("drop_sensor"))
    unread = watched and protocol not in EYE_IS_READ
    defaults = {
        "drop_sensor": watched,
        "settle_ms": SETTLE_MS_EYE_UNREAD if unread else 0,
        "cycle_timeout_s": CYCLE_TIMEOUT_S[kind],
        "max_run_ms": MAX_RUN_MS[kind],
        "drop_wait_ms": DROP_WAIT_MS if watched else 0,
    }
    return {
        key: value if values.get(key) is None else values[key] for key, value in defaults.items()
    }


# --------------------------------------------------------------------------- names


def something_to_sell(draft: Draft) -> Iterator[Finding]:
    if not draft.boards:
        yield Finding(("board",), "no [[board]] table", "describe at least one motor board")
    if not draft.cabinets:
        yield Finding(("cabinet",), "no [[cabinet]] table", "describe at least one cabinet")
    for cabinet in draft.cabinets:
        if not cabinet.parts and "lane" not in cabinet.values:
            yield Finding(
                cabinet.path, "a cabinet without lanes", "add its [[cabinet.lane]] tables below it"
            )


def _twice(parts: Iterator[tuple[Any, Part, str]], what: str, remedy: str) -> Iterator[Finding]:
    """A finding at the second and each further place of one identity."""
    seen: set[Any] = set()
    for identity, part, key in parts:
        if identity in seen:
            yield Finding(part.at(key), what, remedy, part.get(key))
        seen.add(identity)


def names_are_unique(draft: Draft) -> Iterator[Finding]:
    def named(parts: tuple[Part, ...]) -> Iterator[tuple[Any, Part, str]]:
        return ((part.get("name"), part, "name") for part in parts if part.get("name"))

    yield from _twice(named(draft.boards), "two boards with one name", "rename one of them")
    yield from _twice(named(draft.cabinets), "two cabinets with one name", "rename one of them")


def ports_are_unique(draft: Draft) -> Iterator[Finding]:
    ports = (
        (os.path.normpath(board.get("port")), board, "port")
        for board in draft.boards
        if board.get("port")
    )
    yield from _twice(ports, "two boards with one port", "give each board the port it is wired to")


def port_names_survive(draft: Draft) -> Iterator[Finding]:
    for board in draft.boards:
        port = board.get("port") or ""
        if port.startswith(("/dev/ttyUSB", "/dev/ttyACM")):
            yield Finding(
                board.at("port"),
                "this name changes when USB devices are found in another order",
                "use the board's name below /dev/serial/by-path/",
                port,
                warning=True,
            )


# --------------------------------------------------------------------------- cabinets, lanes


def cabinets_have_boards(draft: Draft) -> Iterator[Finding]:
    names = [board.get("name") for board in draft.boards if board.get("name")]
    known = ", ".join(names[:16]) or "none"
    used = {cabinet.get("board") for cabinet in draft.cabinets}
    for cabinet in draft.cabinets:
        board = cabinet.get("board")
        if board is not None and board not in names:
            yield Finding(
                cabinet.at("board"),
                "names a board that no [[board]] table defines",
                config_prose.USE_ONE_OF.format(names=known),
                board,
            )
    for board_part in draft.boards:
        name = board_part.get("name")
        if name and name not in used:
            yield Finding(
                board_part.at("name"),
                "no cabinet uses this board",
                "name it in a [[cabinet]] or remove it",
                name,
                warning=True,
            )


def tracks_speak_of_their_eye(draft: Draft) -> Iterator[Finding]:
    for cabinet in draft.cabinets:
        silent = "drop_sensor" in cabinet.values and cabinet.get("drop_sensor") is None
        if cabinet.get("kind") == "track" and silent:
            yield Finding(
                cabinet.at("drop_sensor"),
                "a track cabinet without a word on its drop sensor",
                "write drop_sensor = true when it has a light eye, else false",
            )


def channels_belong(draft: Draft) -> Iterator[Finding]:
    for cabinet in draft.cabinets:
        name = cabinet.get("name")
        for lane in cabinet.parts:
            channel = lane.get("channel")
            if name and channel and not channel.startswith(name):
                yield Finding(
                    lane.at("channel"),
                    config_prose.OTHER_CABINET.format(name=name, letter=name),
                    config_prose.RENAME_OR_MOVE.format(channel=name + channel[1:], name=channel[0]),
                    channel,
                )


def channels_are_unique(draft: Draft) -> Iterator[Finding]:
    lanes = (
        (canonical_channel(lane.get("channel")), lane, "channel")
        for cabinet in draft.cabinets
        for lane in cabinet.parts
        if lane.get("channel")
    )
    yield from _twice(
        lanes, "two lanes with one channel", "renumber one of them; A1 and A01 are the same"
    )


def lane_numbers_fit(draft: Draft) -> Iterator[Finding]:
    numbered = [
        ((cabinet.get("board"), lane.get("number")), lane, "number")
        for cabinet in draft.cabinets
        for lane in cabinet.parts
        if cabinet.get("board") and lane.get("number") is not None
    ]
    yield from _twice(
        iter(numbered),
        "two lanes with one number on one board",
        "write the number by which the board itself knows this lane",
    )
    for cabinet in draft.cabinets:
        protocol = draft.protocol_of(cabinet)
        lowest = LOWEST_LANE.get(protocol or "", 0)
        for lane in cabinet.parts:
            number = lane.get("number")
            if number is not None and number < lowest:
                yield Finding(
                    lane.at("number"),
                    f"lanes of a board with protocol {protocol} count from {lowest}",
                    "write the number by which the board itself knows this lane",
                    number,
                )


def stock_fits(draft: Draft) -> Iterator[Finding]:
    for cabinet in draft.cabinets:
        for lane in cabinet.parts:
            stock, capacity = lane.get("initial_stock"), lane.get("capacity")
            if stock is not None and capacity is not None and stock > capacity:
                yield Finding(
                    lane.at("initial_stock"),
                    config_prose.ABOVE_CAPACITY.format(capacity=capacity),
                    config_prose.WRITE_UP_TO.format(capacity=capacity),
                    stock,
                )


# --------------------------------------------------------------------------- time


def cycles_outlast_the_board(draft: Draft) -> Iterator[Finding]:
    """The board must have had its own time before we call a cycle `unknown`."""
    for cabinet in draft.cabinets:
        protocol = draft.protocol_of(cabinet)
        takes = protocol in TAKES_LIMITS
        written = [key for key in ("max_run_ms", "drop_wait_ms") if cabinet.get(key) is not None]
        if protocol is not None and not takes:
            for key in written:
                yield Finding(
                    cabinet.at(key),
                    f"has no effect: boards with protocol {protocol} keep their own limit",
                    "remove it",
                    cabinet.get(key),
                    warning=True,
                )
        unsound = "kind" not in cabinet.values or "cycle_timeout_s" not in cabinet.values
        if unsound or not (takes or written):
            continue
        times = derived(cabinet.values, protocol)
        needed = times["max_run_ms"] + times["drop_wait_ms"] + STOP_MARGIN_MS
        if needed >= times["cycle_timeout_s"] * 1000:
            yield Finding(
                cabinet.at("cycle_timeout_s"),
                f"max_run_ms {times['max_run_ms']} + drop_wait_ms {times['drop_wait_ms']} + "
                f"{STOP_MARGIN_MS} = {needed} ms is not below "
                f"cycle_timeout_s {times['cycle_timeout_s']:g} = "
                f"{times['cycle_timeout_s'] * 1000:g} ms",
                f"raise cycle_timeout_s above {needed / 1000:g}, or lower max_run_ms",
            )


def units_end_in_time(draft: Draft) -> Iterator[Finding]:
    late = draft.single["machine"].get("late_drop_window_s")
    for cabinet in draft.cabinets:
        sound = {"kind", "cycle_timeout_s", "second_cycles", "eye_clear_timeout_s"}
        if late is None or not sound <= cabinet.values.keys():
            continue
        timeout = derived(cabinet.values, None)["cycle_timeout_s"]
        second = cabinet.get("second_cycles")
        eye = cabinet.get("eye_clear_timeout_s")
        total = eye + (1 + second) * timeout + second * late
        if total > PLATFORM_BACKSTOP_S:
            yield Finding(
                cabinet.at("cycle_timeout_s"),
                f"a unit may take {total:g} s (eye {eye:g} + {1 + second} x cycle {timeout:g} + "
                f"{second} x late drop {late:g}); the platform gives up after "
                f"{PLATFORM_BACKSTOP_S} s",
                "lower cycle_timeout_s or second_cycles, or expect results marked late",
                warning=True,
            )


def orders_expire_in_time(draft: Draft) -> Iterator[Finding]:
    machine = draft.single["machine"]
    ttl = machine.get("order_ttl_s")
    if ttl is not None and ttl >= PLATFORM_BACKSTOP_S:
        yield Finding(
            machine.at("order_ttl_s"),
            f"the platform gives up after {PLATFORM_BACKSTOP_S} s and may have refunded",
            "stay below it; 90 is the default",
            ttl,
            warning=True,
        )


# --------------------------------------------------------------------------- mqtt, service


def mqtt_is_whole(draft: Draft) -> Iterator[Finding]:
    mqtt = draft.single["mqtt"]
    if "username" in mqtt.values and mqtt.get("password_file") and mqtt.get("username") is None:
        yield Finding(
            mqtt.at("password_file"), "a password without a user", "add username, or remove it"
        )
    tls = mqtt.get("tls")
    if tls is not None and (tls.cert_file is None) is not (tls.key_file is None):
        key = "cert_file" if tls.key_file is None else "key_file"
        other = "key_file" if tls.key_file is None else "cert_file"
        yield Finding(
            (*mqtt.at("tls"), key), f"stands without {other}", f"add {other}, or remove {key}"
        )
    if "tls" in mqtt.values and tls is None and mqtt.get("host") is not None:
        local = mqtt.get("host") in {"localhost", "127.0.0.1", "::1"}
        if not local:
            yield Finding(
                mqtt.at("host"),
                "without [mqtt.tls] orders and the password cross the network in clear text",
                "add a [mqtt.tls] table",
                mqtt.get("host"),
                warning=True,
            )


def known_acting_verbs(draft: Draft) -> Iterator[Finding]:
    service = draft.single["service"]
    for index, verb in enumerate(service.get("remote_verbs") or ()):
        if verb not in ACTING_VERBS:
            remedy = f"the list may hold only: {', '.join(ACTING_VERBS)}"
            what = "is no acting request verb"
            yield Finding((*service.at("remote_verbs"), index), what, remedy, verb)


def no_signed_commands(draft: Draft) -> Iterator[Finding]:
    """Never silently unsigned: whoever names keys expects that unsigned orders are refused."""
    security = draft.single["security"]
    if security.get("command_keys") is not None:
        yield Finding(
            security.at("command_keys"),
            "signed commands are not supported by this version",
            "remove it and rely on TLS client certificates and the broker's ACL",
        )


RULES: tuple[Rule, ...] = (
    something_to_sell,
    names_are_unique,
    ports_are_unique,
    port_names_survive,
    cabinets_have_boards,
    tracks_speak_of_their_eye,
    channels_belong,
    channels_are_unique,
    lane_numbers_fit,
    stock_fits,
    cycles_outlast_the_board,
    units_end_in_time,
    orders_expire_in_time,
    mqtt_is_whole,
    known_acting_verbs,
    no_signed_commands,
)
