"""One TOML file -> validated, frozen settings, or every mistake in it at once.

`load` is for the daemon, `check_text` for `vendingd --check` and `vendctl
config check`. Each line of both reads

    file:line: key: what is wrong (value); remedy

The tables and their defaults are in `config_tables`, what must hold between
them in `config_rules`, the search for line numbers in `config_lines`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller import config_lines, config_prose, config_words, prose
from controller.config_rules import RULES, Draft, Finding, Part, derived
from controller.config_tables import (
    BOARD_TABLES,
    KNOWN_PROTOCOLS,
    SERVED_PROTOCOLS,
    SINGLE_TABLES,
    BoardTable,
    CabinetTable,
    ClockTable,
    LaneTable,
    MachineTable,
    MqttTable,
    ServiceTable,
    Table,
)
from controller.errors import ConfigError
from controller.model import Cabinet, CabinetKind, Lane

MAX_BYTES = 1 << 20
"""A full machine of 600 lanes is 60 KiB; more than this is not a settings file."""
TWICE = ("Cannot overwrite", "Cannot declare", "Cannot redefine", "Cannot mutate", "Duplicate")
"""How tomllib begins to speak of a key or table that is there already, in its versions."""
CREDENTIALS = Path("/run/credentials")
"""Files here exist only inside the running service (systemd.exec(5), LoadCredential=)."""


@dataclass(frozen=True, slots=True)
class CabinetSettings:
    table: CabinetTable
    lanes: tuple[LaneTable, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """A file without mistakes. The defaults that depend on other keys are filled in."""

    machine: MachineTable
    clock: ClockTable
    mqtt: MqttTable
    service: ServiceTable
    boards: tuple[BoardTable, ...]
    cabinet_tables: tuple[CabinetSettings, ...]

    @property
    def mqtt_port(self) -> int:
        """1883, or 8883 with TLS, unless the file says."""
        return self.mqtt.port or (8883 if self.mqtt.tls else 1883)

    @property
    def mqtt_client_id(self) -> str:
        return self.mqtt.client_id or self.machine.machine_no


@dataclass(frozen=True, slots=True)
class Verdict:
    """`settings` is None exactly when there are errors."""

    settings: Settings | None
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


Unreadable = Callable[[Path], str | None]
"""Why a file named in the settings cannot be read, or None."""


def load(path: Path) -> tuple[Settings, tuple[str, ...]]:
    """The settings and the warnings. Raises ConfigError with every mistake, a line each."""
    verdict = _judge_file(path)
    if verdict.settings is None:
        raise ConfigError("\n".join(verdict.errors))
    return verdict.settings, verdict.warnings


def check_text(path: Path) -> tuple[list[str], list[str]]:
    """Errors and warnings as `--check` prints them. Never raises for what the file holds."""
    verdict = _judge_file(path)
    return list(verdict.errors), list(verdict.warnings)


def state_dir(path: Path) -> Path:
    """Where the journal lives, for what must be written whatever else is wrong in the file.

    Its default where the file does not say.
    """
    try:
        if not path.is_file():  # a pipe would keep us waiting
            return _default_state_dir()
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        table = {"machine_no": "00000000", "state_dir": raw["machine"]["state_dir"]}
        return MachineTable.model_validate(table).state_dir
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return _default_state_dir()


def _default_state_dir() -> Path:
    default: Path = MachineTable.model_fields["state_dir"].default
    return default


def cabinets(settings: Settings) -> tuple[Cabinet, ...]:
    """The settings in the words of the heart."""
    protocols = {board.name: board.protocol for board in settings.boards}
    return tuple(_cabinet(each, protocols[each.table.board]) for each in settings.cabinet_tables)


def board_options(board: BoardTable) -> dict[str, Any]:
    """What the driver of this board's protocol is told besides name and port."""
    return board.model_dump(exclude={"name", "protocol", "port"})


def judge(text: str, name: str, unreadable: Unreadable = lambda _: None) -> Verdict:
    """The whole check, without touching a file but through `unreadable`."""
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        return _refused(name, 1, config_prose.NESTED)
    except ValueError as error:
        found = re.search(r" \(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else text.rstrip("\n").count("\n") + 1
        what = str(error)[:200].splitlines()[0] if str(error) else "no TOML"
        if what.startswith(TWICE):
            return _refused(name, line, config_prose.TWICE)
        return _refused(name, line, config_prose.NO_TOML.format(what=what))
    return judge_parsed(raw, text, name, unreadable)


def judge_parsed(
    raw: Mapping[str, Any], text: str, name: str, unreadable: Unreadable = lambda _: None
) -> Verdict:
    """The check of a parsed file; `text` only gives the lines."""
    findings: list[Finding] = []
    draft, tables = _read_tables(raw, findings)
    for rule in RULES:
        findings.extend(rule(draft))
    findings.extend(_files(draft, unreadable))
    lines = config_lines.places(text)
    ordered = sorted(findings, key=lambda each: config_lines.line_of(each.path, lines))
    errors = config_words.texts([each for each in ordered if not each.warning], name, lines, raw)
    warnings = config_words.texts([each for each in ordered if each.warning], name, lines, raw)
    return Verdict(None if errors else _settings(tables), errors, warnings)


# --------------------------------------------------------------------------- the file


def _judge_file(path: Path) -> Verdict:
    name = config_words.shown(str(path))
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would keep us waiting
            return _refused(name, 0, config_prose.NO_FILE)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return _refused(name, 0, config_prose.CANNOT_BE_READ.format(why=why))
    if len(content) > MAX_BYTES:
        return _refused(name, 0, config_prose.TOO_LARGE.format(bytes=MAX_BYTES))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return _refused(name, line, config_prose.NOT_UTF8)
    return judge(text.replace("\r\n", "\n"), name, _why_unreadable)


def _refused(name: str, line: int, what: str) -> Verdict:
    place = f"{name}:{line}" if line else name
    return Verdict(None, (f"{place}: {what}",), ())


def _why_unreadable(path: Path) -> str | None:
    try:
        if not path.exists():
            return prose.NO_SUCH_FILE
        if not path.is_file():
            return prose.NOT_A_FILE
        with path.open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or prose.UNUSABLE_PATH
    return None


def _files(draft: Draft, unreadable: Unreadable) -> Iterator[Finding]:
    """Files that must be there, and paths that depend on where the daemon is started.

    A relative password_file is not shown: it may be the password itself.
    """
    mqtt, service, machine = (draft.single[name] for name in ("mqtt", "service", "machine"))
    tls = mqtt.get("tls")
    needed = {mqtt.at("password_file"): mqtt.get("password_file")}
    for key in ("ca_file", "cert_file", "key_file"):
        needed[*mqtt.at("tls"), key] = getattr(tls, key, None)
    paths = needed | {
        service.at("socket"): service.get("socket"),
        machine.at("state_dir"): machine.get("state_dir"),
    }
    for place, file in paths.items():
        if not isinstance(file, Path):
            continue
        shown = file if file.is_absolute() else None
        if not file.is_absolute():
            yield Finding(
                place,
                "a relative path: it depends on the directory that the daemon is started in",
                "write the whole path from /",
                warning=True,
            )
        why = unreadable(file) if place in needed else None
        if why is None:
            continue
        outside = CREDENTIALS in file.parents and "CREDENTIALS_DIRECTORY" not in os.environ
        yield Finding(
            place,
            "not checked: it exists only inside the running service"
            if outside
            else config_prose.FILE_UNREADABLE.format(why=why),
            "start the service to see"
            if outside
            else "check the path, and that the daemon's user may read it",
            shown,
            warning=outside,
        )


# --------------------------------------------------------------------------- tables


@dataclass(slots=True)
class _Tables:
    """The tables that stood their own check; complete when no finding was an error."""

    single: dict[str, Table]
    boards: list[BoardTable]
    cabinets: list[CabinetSettings]


def _read_tables(raw: Mapping[str, Any], findings: list[Finding]) -> tuple[Draft, _Tables]:
    tables = _Tables({}, [], [])
    single: dict[str, Part] = {}
    for key in raw:
        if key not in SINGLE_TABLES and key not in {"board", "cabinet"}:
            names = (*SINGLE_TABLES, "board", "cabinet")
            findings.append(config_words.unknown((key,), key, names, len(findings), "table"))
    for name, model in SINGLE_TABLES.items():
        content = raw.get(name, {})
        if not isinstance(content, dict):
            findings.append(
                Finding((name,), "must be a table", config_prose.WRITE_TABLE.format(name=name))
            )
            content = None
        table, single[name] = _judge_table(model, content, (name,), findings)
        if table is not None:
            tables.single[name] = table
    boards = []
    for index, content in _array(raw, ("board",), findings):
        board, part = _judge_board(content, ("board", index), findings)
        boards.append(part)
        if board is not None:
            tables.boards.append(board)
    parts = []
    for index, content in _array(raw, ("cabinet",), findings):
        cabinet, part = _judge_cabinet(content, ("cabinet", index), findings)
        parts.append(part)
        if cabinet is not None:
            tables.cabinets.append(cabinet)
    return Draft(single, tuple(boards), tuple(parts)), tables


def _array(
    parent: Mapping[str, Any], path: config_lines.Path, findings: list[Finding]
) -> list[tuple[int, dict[str, Any]]]:
    """The tables of an array of tables that are tables."""
    content = parent.get(str(path[-1]), [])
    dotted = ".".join(str(each) for each in path if isinstance(each, str))
    good = content if isinstance(content, list) else []
    if not isinstance(content, list) or any(not isinstance(each, dict) for each in content):
        findings.append(
            Finding(
                path, "must be an array of tables", config_prose.WRITE_TABLES.format(name=dotted)
            )
        )
    return [(index, each) for index, each in enumerate(good) if isinstance(each, dict)]


def _judge_board(
    raw: dict[str, Any], path: config_lines.Path, findings: list[Finding]
) -> tuple[BoardTable | None, Part]:
    protocol = raw.get("protocol")
    if isinstance(protocol, str) and protocol in BOARD_TABLES:
        table, part = _judge_table(BOARD_TABLES[protocol], raw, path, findings)
        return (table if isinstance(table, BoardTable) else None), part
    if isinstance(protocol, str):
        served = " and ".join(SERVED_PROTOCOLS)
        known = protocol in KNOWN_PROTOCOLS
        near = difflib.get_close_matches(protocol[: config_words.LONGEST_NAME], KNOWN_PROTOCOLS, 1)
        findings.append(
            Finding(
                (*path, "protocol"),
                "a protocol that this version does not serve yet"
                if known
                else "no protocol that we know",
                f"this version drives {served}"
                + (f"; did you mean {near[0]}?" if near and not known else ""),
                protocol,
            )
        )
    # What the protocol would allow is not known: judge the keys that every board has.
    common = {key: raw[key] for key in BoardTable.model_fields if key in raw}
    if isinstance(protocol, str):
        common["protocol"] = SERVED_PROTOCOLS[0]
    _, part = _judge_table(BoardTable, common, path, findings)
    values = {key: value for key, value in part.values.items() if key != "protocol"}
    return None, Part(path, values)


def _judge_cabinet(
    raw: dict[str, Any], path: config_lines.Path, findings: list[Finding]
) -> tuple[CabinetSettings | None, Part]:
    own = {key: value for key, value in raw.items() if key != "lane"}
    table, part = _judge_table(CabinetTable, own, path, findings)
    lanes, parts = [], []
    for index, content in _array(raw, (*path, "lane"), findings):
        lane, lane_part = _judge_table(LaneTable, content, (*path, "lane", index), findings)
        parts.append(lane_part)
        if isinstance(lane, LaneTable):
            lanes.append(lane)
    values = dict(part.values)
    if raw.get("lane"):
        values["lane"] = True
    whole = CabinetSettings(table, tuple(lanes)) if isinstance(table, CabinetTable) else None
    return whole, Part(path, values, tuple(parts))


def _judge_table(
    model: type[Table],
    raw: dict[str, Any] | None,
    path: config_lines.Path,
    findings: list[Finding],
) -> tuple[Table | None, Part]:
    """The table, or findings and those of its values that are sound."""
    if raw is None:
        return None, Part(path, {})
    frozen = {key: tuple(v) if isinstance(v, list) else v for key, v in raw.items()}
    try:
        table = model.model_validate(frozen)
    except ValidationError as error:
        details = error.errors(include_url=False)
        for detail in details:
            findings.append(config_words.from_pydantic(model, detail, path, len(findings)))
        bad = {str(detail["loc"][0]) for detail in details if detail["loc"]}
    else:
        return table, Part(path, dict(table))
    return None, Part(path, _sound(model, frozen, bad))


def _sound(model: type[Table], raw: Mapping[str, Any], bad: set[str]) -> dict[str, Any]:
    kept = {key: value for key, value in raw.items() if key not in bad}
    try:
        values = dict(model.model_validate(kept))
    except ValidationError:  # a required key is among the bad ones
        fields = model.model_fields.items()
        defaults = {key: field.default for key, field in fields if not field.is_required()}
        values = defaults | kept
    return {key: value for key, value in values.items() if key not in bad}


def _settings(tables: _Tables) -> Settings:
    single = tables.single
    machine, clock, mqtt, service = (
        single[name] for name in ("machine", "clock", "mqtt", "service")
    )
    if not (
        isinstance(machine, MachineTable)
        and isinstance(clock, ClockTable)
        and isinstance(mqtt, MqttTable)
        and isinstance(service, ServiceTable)
    ):
        raise TypeError("tables and their models are out of step")
    return Settings(machine, clock, mqtt, service, tuple(tables.boards), tuple(tables.cabinets))


def _cabinet(settings: CabinetSettings, protocol: str) -> Cabinet:
    table = settings.table
    values = derived(dict(table), protocol)
    return Cabinet(
        name=table.name,
        kind=CabinetKind(table.kind),
        board=table.board,
        drop_sensor=values["drop_sensor"],
        lanes=tuple(Lane(cabinet=table.name, **dict(lane)) for lane in settings.lanes),
        eye_clear_timeout_s=table.eye_clear_timeout_s,
        settle_s=values["settle_ms"] / 1000,
        cycle_timeout_s=values["cycle_timeout_s"],
        max_run_ms=values["max_run_ms"],
        drop_wait_ms=values["drop_wait_ms"],
        second_cycles=table.second_cycles,
    )
