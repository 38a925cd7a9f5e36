"""A scenario file (TOML) -> frozen settings of the emulated boards, or every mistake in it.

A mistake is told as `file:line: key: what is wrong; remedy`, all of them at once.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from controller.boards.vbp.frames import Capability
from firmware_sim.faults import KINDS, Fault

STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)
BY_NAME_TOO = ConfigDict(**STRICT, populate_by_name=True)
"""For code that builds a board without a file."""
MINUTES_MS = 600_000.0

EDGES = {"track": 1.0, "spiral": 0.8, "locker": 1.0}
"""Where in the motor's run the item leaves its lane: a spiral lets go before home."""


class ScenarioError(Exception):
    """The scenario cannot be played; the message has one line for each mistake."""


class LaneSettings(BaseModel):
    """A row of goods and its motor. Milliseconds of machine time."""

    model_config = STRICT

    number: int = Field(ge=1, le=0xFFFF)
    kind: Literal["track", "spiral", "locker"] = "track"
    goods: int = Field(default=8, ge=0, le=250)
    run_ms: float = Field(default=2500, ge=1, le=MINUTES_MS, strict=False)
    """One item's motor time, from home to home."""
    fall_ms: float = Field(default=350, ge=0, le=MINUTES_MS, strict=False)
    """From the edge to the eye."""
    jitter: float = Field(default=0.1, ge=0, le=0.9, strict=False)
    """Each run and fall is up to this fraction shorter or longer, by the seed."""
    edge: float | None = Field(default=None, gt=0, le=1, strict=False)
    """Where in the run the item leaves the lane; by kind when absent."""

    @property
    def edge_at(self) -> float:
        return EDGES[self.kind] if self.edge is None else self.edge


class BoardSettings(BaseModel):
    """One emulated board, its machine and its port."""

    model_config = BY_NAME_TOO

    protocol: Literal["vbp", "xy"]
    port: str = "memory:"
    """pty:PATH, tcp:HOST:PORT or serial:DEVICE; memory: for tests in one process."""
    name: str = Field(default="", max_length=40)
    seed: int | None = Field(default=None, ge=0, le=2**63)
    ledger: Path | None = Field(default=None, strict=False)
    control: Path | None = Field(default=None, strict=False)
    memory: Path | None = Field(default=None, strict=False)
    lanes: tuple[LaneSettings, ...] = Field(alias="lane", min_length=1, strict=False)
    faults: tuple[Fault, ...] = Field(default=(), alias="fault", strict=False)

    eye: bool = True
    """A drop sensor is fitted."""
    door: bool = True
    """A door switch is fitted."""
    baudrate: int | None = Field(default=None, ge=300, le=4_000_000)
    """Of a real serial port; 115200 for VBP and 57600 for XY when absent."""
    boot_ms: float = Field(default=100, ge=0, le=60_000, strict=False)
    """Real time from power or reset until the firmware listens."""
    drop_wait_ms: float = Field(default=3000, ge=0, le=60_000, strict=False)
    """XY: the board's own wait for a fall after the motor's stop, machine time."""
    run_limit_ms: float | None = Field(default=None, ge=1, le=MINUTES_MS, strict=False)
    """XY: the board's own motor limit; two and a half runs when absent. Machine time."""

    text: str = Field(default="sim 1.0", max_length=100)
    """VBP: what the board calls itself."""
    capabilities: tuple[str, ...] | None = Field(default=None, strict=False)
    """VBP: names of the bits; all that the fitted parts allow when absent."""
    records: int = Field(default=32, ge=1, le=1000)
    """VBP: slots for unreleased records."""
    uptime_ms: int = Field(default=0, ge=0, le=0xFFFFFFFF)
    """VBP: where the uptime begins at the first start, to play its overflow."""

    poll_ms: int = Field(default=200, ge=100, le=2000)
    """XY: real time between polls."""
    answer_window_ms: int = Field(default=100, ge=10, le=1000)
    """XY: within this after a POLL the host must begin its answer. Real time."""
    ack_timeout_ms: int = Field(default=100, ge=10, le=1000)
    """XY: a data frame waits so long for its ACK, then goes again. Real time."""
    drive_length: Literal[5, 6, 7] = 5
    """XY: the one length of 06 that the firmware takes."""
    dedupe: bool = False
    """XY: a command with the last PackNO is acknowledged and not executed again."""
    elevator: bool = False
    """XY: a lift is fitted; without one a drive with the elevator flag ends in 07, FF."""
    temperature: int | None = Field(default=4, ge=-90, le=90)
    """XY: degrees Celsius in 52."""

    @field_validator("capabilities")
    @classmethod
    def _bits(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = [bit.name.lower() for bit in Capability if bit.name]
        for name in names or ():
            if name not in known:
                raise ValueError(f"{name[:40]!r} is no capability; there are {', '.join(known)}")
        return names

    @field_validator("port")
    @classmethod
    def _port(cls, port: str) -> str:
        found = PORT.fullmatch(port)
        if found is None or int(found["number"] or 0) > LAST_PORT:
            raise ValueError("write pty:/path/of/link, tcp:127.0.0.1:4001 or serial:/dev/ttyUSB0")
        return port

    def capability_bits(self) -> Capability:
        """The bits that are set in HELLO: those named, as far as the parts are fitted."""
        bits = ~Capability(0)
        if self.capabilities is not None:
            bits = Capability(0)
            for name in self.capabilities:
                bits |= Capability[name.upper()]
        if not self.eye:
            bits &= ~(Capability.WATCHES_EYE | Capability.READS_EYE)
        if not self.door:
            bits &= ~Capability.DOOR_SWITCH
        return bits


PORT = re.compile(r"pty:.+|tcp:[^:]+:(?P<number>[0-9]{1,5})|serial:.+|memory:")
LAST_PORT = 65_535


class Scenario(BaseModel):
    model_config = STRICT

    boards: tuple[BoardSettings, ...] = Field(alias="board", min_length=1, max_length=64)

    @model_validator(mode="before")
    @classmethod
    def _tables(cls, data: object) -> object:
        """TOML's arrays are lists; the settings are tuples."""
        if isinstance(data, dict) and isinstance(data.get("board"), list):
            return {**data, "board": tuple(data["board"])}
        return data


Place = tuple[str | int, ...]
"""Where in the file, as pydantic says it: ("board", 0, "lane", 1, "number")."""


def contradictions(scenario: Scenario) -> Iterator[tuple[Place, str]]:
    """What is wrong between tables that are right by themselves, and where."""
    taken: dict[str, str] = {}
    for index, board in enumerate(scenario.boards):
        here = ("board", index)
        for key in ("port", "ledger", "control", "memory"):
            value = str(getattr(board, key) or "").removeprefix("pty:")
            if value and value in taken and value != "memory:":
                said = f"{value} is the {taken[value]} of a board already; give each its own"
                yield (*here, key), said
            taken[value] = key
        yield from _board_contradictions(here, board)


def _board_contradictions(here: Place, board: BoardSettings) -> Iterator[tuple[Place, str]]:
    numbers = [lane.number for lane in board.lanes]
    for index, number in enumerate(numbers):
        if number in numbers[:index]:
            said = f"two lanes have the number {number}; give each its own"
            yield (*here, "lane", index, "number"), said
    for index, fault in enumerate(board.faults):
        there = (*here, "fault", index)
        if fault.lane is not None and fault.lane not in numbers:
            lanes = ", ".join(map(str, numbers[:20]))
            yield (*there, "lane"), f"there is no lane {fault.lane}; there are {lanes}"
        if board.protocol not in KINDS[fault.kind].protocols:
            said = f"a {board.protocol} board has no fault {fault.kind!r}; remove it"
            yield (*there, "kind"), said


def load(path: Path) -> Scenario:
    """A file for the program, where each board needs a port.

    Raises ScenarioError with every mistake, or with why the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    scenario = parse(text, str(path))
    bare = [
        (("board", index, "port"), 'none is given; write port = "pty:/path/of/link"')
        for index, board in enumerate(scenario.boards)
        if board.port == "memory:"
    ]
    if bare:
        raise ScenarioError(_sentences(text, str(path), bare))
    return scenario


def parse(text: str, name: str = "scenario") -> Scenario:
    try:
        data = tomllib.loads(text)
    except RecursionError as error:
        raise ScenarioError(f"{name}: nested too deeply; no scenario needs that") from error
    except ValueError as error:  # TOMLDecodeError, or a number of too many digits
        raise ScenarioError(f"{name}: not TOML: {error}") from error
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        details = error.errors()
        mistakes = [(d["loc"], _wrong(d)) for d in details if not _follows(d, details)]
        raise ScenarioError(_sentences(text, name, mistakes)) from error
    if mistakes := list(contradictions(scenario)):
        raise ScenarioError(_sentences(text, name, mistakes))
    return scenario


def _follows(detail: ErrorDetails, others: list[ErrorDetails]) -> bool:
    """A list counts as too short when its items are wrong: their own mistakes say enough."""
    depth = len(detail["loc"])
    return detail["type"] == "too_short" and any(
        other["loc"][:depth] == detail["loc"] for other in others if len(other["loc"]) > depth
    )


def _sentences(text: str, name: str, mistakes: Iterable[tuple[Place, str]]) -> str:
    """One line for each mistake, in the order of the file."""
    placed = sorted({(line_of(text, where), _key(where), what) for where, what in mistakes})
    return "\n".join(f"{name}:{line}: {key}: {what}" for line, key, what in placed)


def _key(where: Place) -> str:
    parts = (f"[{part + 1}]" if isinstance(part, int) else part for part in where)
    return ".".join(parts) or "scenario"


def _wrong(detail: ErrorDetails) -> str:
    """What is wrong, with the value where it is short, and a remedy."""
    given = detail["input"]
    value = f" (got {given!r:.60})" if isinstance(given, str | int | float | bool) else ""
    what = detail["msg"].removeprefix("Value error, ")
    return f"{what}{value}{REMEDIES.get(detail['type'], '')}"


REMEDIES = {
    "extra_forbidden": "; no such key: remove it or mend its spelling",
    "missing": "; add it",
    "tuple_type": '; write a table as [[board]], in double brackets, and names as ["a", "b"]',
}


def line_of(text: str, where: tuple[str | int, ...]) -> int:
    """The line of a table or key, counted from 1; tomllib gives none.

    Scans for the table headers of the path, then for the key in the table; the
    nearest header when the key is not there, 1 when nothing is.
    """
    wanted = _table_path(where)
    key = where[-1] if where and isinstance(where[-1], str) else None
    counts: dict[str, int] = {}
    here: tuple[tuple[str, int], ...] = ()
    header = 1
    for number, line in enumerate(text.splitlines(), start=1):
        found = TABLE.match(line)
        if found:
            here = _entered(here, found[1], counts)
            if here == wanted:
                header = number
        elif key and here == wanted and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return number
    return header


TABLE = re.compile(r"\s*\[\[\s*([a-z_.]+)\s*\]\]")


def _table_path(where: tuple[str | int, ...]) -> tuple[tuple[str, int], ...]:
    return tuple(
        (name, number)
        for name, number in itertools.pairwise(where)
        if isinstance(name, str) and isinstance(number, int)
    )


def _entered(
    here: tuple[tuple[str, int], ...], header: str, counts: dict[str, int]
) -> tuple[tuple[str, int], ...]:
    names = header.split(".")
    outer = here[: len(names) - 1]
    path = "/".join(f"{name}{number}" for name, number in outer) + "/" + names[-1]
    counts[path] = counts.get(path, -1) + 1
    return (*outer, (names[-1], counts[path]))
