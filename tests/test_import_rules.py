"""Who may import whom: the rooms of the house, held by reading every file's imports.

`model`, `errors` and `prose` import nothing of ours and everybody may import them. The
heart (`dispensing`) knows those three and itself, and no library that does I/O.
`boards`, `uplink` and `journal` never import each other, nor the heart's workers:
they meet only in `dispensing.interfaces`. The emulator shares the frames and
captures of them with the drivers and nothing else. The composition root alone knows all.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("controller", "firmware_sim", "platform_sim", "benchmarks", "tests")

VOCABULARY = ("controller.model", "controller.errors", "controller.prose")
MEETING_PLACE = (*VOCABULARY, "controller.dispensing.interfaces")

SETTINGS = tuple(
    f"controller.{name}"
    for name in (
        "config",
        "config_lines",
        "config_prose",
        "config_rules",
        "config_schema",
        "config_shown",
        "config_tables",
        "config_words",
    )
)
"""The settings: they know what options each kind of board has."""

EVERYTHING = ("controller",)
"""What the composition root may import: all of the daemon, and still not the emulator."""

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "controller.model": (),
    "controller.errors": (),
    "controller.prose": (),
    "controller.clock": (),
    "controller.capture": VOCABULARY,
    "controller.certificate_dates": (),
    "controller.codes": VOCABULARY,
    **dict.fromkeys(SETTINGS, (*VOCABULARY, *SETTINGS, "controller.boards")),
    "controller.lane_verdict": VOCABULARY,
    "controller.logs": VOCABULARY,
    "controller.notify": VOCABULARY,
    "controller.dispensing": (*VOCABULARY, "controller.dispensing"),
    "controller.journal": (*MEETING_PLACE, "controller.journal"),
    "controller.boards": (*MEETING_PLACE, "controller.boards", "controller.capture"),
    "controller.uplink": (*MEETING_PLACE, "controller.codes", "controller.uplink"),
    "controller.service": (*MEETING_PLACE, "controller.codes", "controller.service"),
    "controller.cli": (
        *VOCABULARY,
        "controller.capture",
        "controller.codes",
        "controller.certificate_dates",
        "controller.config",
        "controller.config_prose",
        "controller.config_schema",
        "controller.lane_verdict",
        "controller.journal.restoring",  # offline: no daemon is there to ask
        "controller.config_shown",
        "controller.cli",
    ),
    "controller": EVERYTHING,
    "firmware_sim": (
        "controller.boards.reading",
        "controller.boards.vbp.frames",
        "controller.boards.vbp.words",
        "controller.boards.xy.frames",
        "controller.boards.xy.words",
        "controller.capture",
        "firmware_sim",
    ),
    "platform_sim": ("platform_sim",),
}
"""Module or package -> what of ours it may import. The longest name that fits counts.

`controller` itself stands for what lies at its top beside the rooms: `daemon` and
the other files of the composition root.
"""

NO_IO_IN_THE_HEART = (
    "aiohttp",
    "http",
    "os",
    "paho",
    "pathlib",
    "pydantic",
    "serial",
    "serial_asyncio",
    "shutil",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "urllib",
)
"""Outside libraries that `dispensing` never needs: it waits by the clock and asks interfaces."""


def under(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Every import of a file as (line, module). `from a import b` counts as `a.b`
    where that is a module of ours, and as `a` where b is only a name in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = module if is_package else module.rpartition(".")[0]
            for _ in range(node.level - 1):
                parent = parent.rpartition(".")[0]
            base = ".".join(filter(None, (parent if node.level else "", node.module)))
            for name in node.names:
                whole = f"{base}.{name.name}"
                yield node.lineno, whole if is_module(whole) else base


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    room = max((name for name in MAY_IMPORT if under(module, name)), key=len)
    found = []
    for line, target in imported(source, module, is_package=is_package):
        ours = target.split(".")[0] in OURS
        if ours and target != "controller" and not any(under(target, p) for p in MAY_IMPORT[room]):
            found.append(f"{module}:{line}: {room} may not import {target}")
        if room == "controller.dispensing" and target.split(".")[0] in NO_IO_IN_THE_HEART:
            found.append(f"{module}:{line}: the heart does no I/O, and imports {target}")
    return found


FILES = sorted(
    path
    for package in ("controller", "firmware_sim", "platform_sim")
    for path in (ROOT / package).rglob("*.py")
)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    is_package = path.name == "__init__.py"
    source = path.read_text(encoding="utf-8")
    assert violations(source, module_name(path), is_package=is_package) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("controller.model", "from controller.errors import Refused"),
        ("controller.dispensing.cabinet", "from controller.journal import store"),
        ("controller.dispensing.cabinet", "import sqlite3"),
        ("controller.dispensing.planner", "from ..boards import vbp"),
        ("controller.journal.orders", "from controller.dispensing.planner import plan"),
        ("controller.journal.orders", "import controller.uplink.session"),
        ("controller.uplink.outbox", "from controller import journal"),
        ("controller.boards.vbp.driver", "def late():\n    from controller.journal import store"),
        ("controller.cli.main", "from controller.service import server"),
        ("firmware_sim.main", "from controller.model import Outcome"),
        ("firmware_sim.firmware.vbp", "from controller.boards.vbp.driver import Driver"),
        ("controller.daemon", "import firmware_sim.machine"),
    ],
)
def test_the_rule_finds_a_breach(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("controller.dispensing.cabinet", "from . import interfaces\nimport asyncio"),
        ("controller.boards.xy.driver", "from controller.dispensing.interfaces import Ended"),
        ("controller.daemon", "from controller.dispensing.cabinet import run"),
        ("firmware_sim.firmware.vbp", "from controller.boards.vbp import frames"),
        ("controller.uplink.outbox", "from controller import __version__"),
    ],
)
def test_the_rule_lets_through_what_is_allowed(module: str, source: str) -> None:
    assert violations(source, module) == []
