"""Drivers of motor boards: from a board's table in the settings to a `Board`.

They know frames and the boards' own numbers of lanes, and nothing of orders,
MQTT or the journal. `PROTOCOLS` is the list of what is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.boards.base import read_options
from controller.boards.port import Port, PortFactory, real_port
from controller.boards.vbp.driver import VbpBoard, VbpOptions
from controller.boards.xy.driver import XyBoard
from controller.boards.xy.options import XyOptions
from controller.dispensing.interfaces import Board, Clock
from controller.errors import ConfigError

__all__ = ["PROTOCOLS", "Protocol", "VbpOptions", "XyOptions", "make_board"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """`options` is the frozen dataclass of a board's settings: names, ranges, defaults."""

    options: type[VbpOptions | XyOptions]
    build: Callable[[str, Port, Clock, Any], Board]


PROTOCOLS: Mapping[str, Protocol] = {
    "vbp": Protocol(VbpOptions, lambda name, port, clock, _options: VbpBoard(name, port, clock)),
    "xy": Protocol(XyOptions, XyBoard),
}


def make_board(
    name: str,
    protocol: str,
    port_spec: str,
    options: Mapping[str, Any],
    clock: Clock,
    port_factory: PortFactory = real_port,
) -> Board:
    """Raises ConfigError for an unknown protocol, a bad option or a bad `tcp://` port."""
    known = PROTOCOLS.get(protocol)
    if known is None:
        names = ", ".join(PROTOCOLS)
        raise ConfigError(f"board {name!r}: protocol {protocol!r} is not built; there are {names}")
    read = read_options(known.options, options)
    return known.build(name, port_factory(port_spec, read.baudrate, clock), clock, read)
