"""Files and environments that the daemon and the emulator read, as anybody may have left them."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import json
import os
import random
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from controller import config, notify
from controller.clock import LATCH, Belief
from controller.errors import ConfigError, StateDirInUse
from controller.journal.files import Files, read_births, take_lock, write_births
from controller.journal.opening import last_stop
from controller.journal.wal import FRAME, FRAMES_LOOKED_AT, HEADER, lost_commits
from controller.last_stop import record_stop
from firmware_sim import scenario
from firmware_sim.ledger import Ledger
from firmware_sim.memory import Memory
from firmware_sim.timeline import Timeline
from tests.config.conftest import GOOD
from tests.emulator.hosts import make_board, scenario_text
from tests.fuzz.draw import Draw, text_of
from tests.fuzz.texts import edited, json_value, toml_text


@functools.cache
def folder() -> Path:
    """One for the process, in memory where the system has such a place. The name goes into
    messages, so it is the same in each run."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    made = parent / f"vending-fuzz-{os.getpid()}"
    made.mkdir(exist_ok=True)
    return made


def put_away() -> None:
    """Remove what the targets wrote."""
    if folder.cache_info().currsize:
        for file in folder().iterdir():
            file.unlink()
        folder().rmdir()
        folder.cache_clear()


VALUES = (
    "0", "-1", "1", "90", "1e3", "nan", "inf", "true", '""', '"A1"', '"A01"', '"B1"', '"main"',
    '"vbp"', '"xy"', '"track"', '"locker"', '"tcp://["', '"tcp://h:99999"', '"/dev/x"', "[]", "{}",
    "[[board]]", "[[cabinet]]", "[[cabinet.lane]]", "[mqtt.tls]", "[security]", "[machine]",
    'ca_file = "/nonexistent"', "drop_sensor = false", "max_run_ms = 90000", "second_cycles = 3",
    'remote_verbs = ["stock.set"]', 'jam_means = "unknown"', "drive_length = 6", "1979-05-27",
    "9" * 5000, "[" * 2000, '"""', "'''", '"\\u0000"', "x.y.z = 1", "0x" + "f" * 40,
)  # fmt: skip


def settings(data: bytes) -> None:
    """Settings, or a ConfigError of printable lines that each name the file; never another."""
    path = folder() / "config.toml"
    path.write_bytes(toml_text(Draw(data), GOOD, VALUES))
    errors, warnings = config.check_text(path)
    try:
        loaded, also = config.load(path)
    except ConfigError as error:
        lines = str(error).split("\n")
        assert lines == errors
        assert errors
    else:
        assert (errors, list(also)) == ([], warnings)
        assert config.cabinets(loaded)
        assert [config.board_options(board) for board in loaded.boards]
    for line in errors + warnings:
        assert line.startswith(str(path))
        assert line.isprintable()
    assert isinstance(config.state_dir(path), Path)


ENVIRONMENT = ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS", "WATCHDOG_USEC", "WATCHDOG_PID")
MARKER = [(b"births", b"[1763800000,1763900000]")]
STOPPED = [(b"result", b'"watchdog"'), (b"exit_code", b'"killed"'), (b"exit_status", b'"KILL"')]
WAL_HEAD = HEADER.pack(0x377F0682, 3007000, 4096, 0, 7, 8, 0, 0)
KINDS_OF_STOP = {"clean", "crash", "power", "watchdog"}


def state_directory(data: bytes) -> None:
    """Marker, last_stop, lock, latch and log hold anything: the start reads a sound value or
    none, and what it writes in their place is read back."""
    draw, files = Draw(data), Files(folder())
    files.marker.write_bytes(edited(draw, MARKER, (b"births", b"x")))
    births = read_births(files)
    assert births is not None
    assert all(0 < birth < 1 << 32 for birth in births)
    kept = [*births, 1_763_800_000]
    write_births(files, kept)
    assert read_births(files) == sorted(set(kept))[-100:]
    files.last_stop.write_bytes(edited(draw, STOPPED, (b"result", b"x")))
    counters = SimpleNamespace(boot="b", clean=int(draw.flag()))
    found: Any = SimpleNamespace(counters=counters, lost=draw.flag())
    assert last_stop(files, found, "b") in KINDS_OF_STOP
    environ = {name: text_of(draw.some()) for name in ENVIRONMENT}
    record_stop(files.folder, environ)
    assert last_stop(files, found, "b") in KINDS_OF_STOP
    interval = notify.watchdog_interval_s(environ)
    assert interval is None or interval > 0
    (files.folder / LATCH).write_bytes(draw.some())
    assert Belief(files.folder, "b", require_sync=True, skew_s=30)
    _lock(files, draw.some())
    _log(files.wal, draw)


def _lock(files: Files, holder: bytes) -> None:
    """The lock is another's, and whatever stands in its file is told only where it is a pid."""
    files.lock.write_bytes(holder)
    with files.lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            take_lock(files)
        except StateDirInUse as refused:
            assert str(refused).isprintable()  # noqa: PT017
        else:
            raise AssertionError("two hold the lock")


def _log(path: Path, draw: Draw) -> None:
    head = WAL_HEAD if draw.number(4) else draw.octets(HEADER.size)
    frames = [
        FRAME.pack(draw.number(4), draw.number(3), 7, draw.pick((8, 9)), 0, 0) + bytes(4096)
        for _ in draw.rounds(draw.number(4))
    ]
    log = head + b"".join(frames) + draw.rest()
    path.write_bytes(log)
    recovered = len(frames) // 2
    lost = lost_commits(path, recovered)
    assert 0 <= lost <= min(FRAMES_LOOKED_AT, max(2, len(log) // 536))


SCENARIO = (
    'port = "pty:/tmp/board0"\nmemory = "/tmp/board0.mem"\n',
    '[[board.lane]]\nnumber = 10\nkind = "track"\nrun_ms = 1000\nfall_ms = 300\ngoods = 8\n',
    '[[board.fault]]\nkind = "jam"\nlane = 10\ncycle = 3\n',
)
SCENARIO_VALUES = (
    "0", "-1", "10", "11", "1e300", "nan", "inf", "true", '"xy"', '"vbp"', '"jam"', '"status"',
    '"status_storm"', '"pty:/tmp/board0"', '"tcp:h:99999"', '"serial:/dev/x"', "[[board]]",
    "[[board.lane]]", "[[board.fault]]", 'capabilities = ["remembers_cycles"]', "code = 3",
    "probability = 0.5", "at = 1.5", "seconds = 2", "delay_ms = 1", "after_ms = 10", "count = 2",
    "eye = false", "9" * 5000, "[" * 2000, '"""', "1979-05-27",
)  # fmt: skip


def emulator_scenario(data: bytes) -> None:
    """A scenario, or a ScenarioError that names the file in each line."""
    draw = Draw(data)
    good = scenario_text(draw.pick(("vbp", "xy")), *SCENARIO)
    path = folder() / "scenario.toml"
    path.write_bytes(toml_text(draw, good, SCENARIO_VALUES))
    try:
        loaded = scenario.load(path)
    except scenario.ScenarioError as error:
        lines = str(error).split("\n")
        assert lines[0].startswith(str(path))
    else:
        assert all(board.capability_bits() is not None for board in loaded.boards)


RECORD = (
    b'{"cycle_id":7,"lane":10,"state":2,"motor":255,"drop":255,"drops":0,"first_drop_ms":0,'
    b'"run_ms":0,"peak_ma":0}'
)
MEMORY = [
    (b"memory_id", b"7"),
    (b"boots", b"3"),
    (b"highest_released", b"6"),
    (b"records", b"[" + RECORD + b"]"),
]
MEMORY_NAMES = (*(name for name, _ in MEMORY), b"cycle_id", b"lane", b"state", b"x")


def emulator_memory(data: bytes) -> None:
    """The board's memory file and a ledger that a kill cut short: read or begun anew, the board
    starts with it, and reads again what it wrote."""
    draw, path, ledger = Draw(data), folder() / "board.mem", folder() / "ledger.jsonl"
    path.write_bytes(edited(draw, MEMORY, MEMORY_NAMES) if draw.number(4) else draw.some())
    ledger.write_bytes(
        json_value(draw, MEMORY_NAMES) + (b"\n" if draw.flag() else b"") + draw.rest()
    )
    memory = Memory(path, random.Random(1))
    memory.load()
    again = Memory(path, random.Random(2))
    assert again.load()
    assert (again.memory_id, again.records) == (memory.memory_id, memory.records)
    loop = asyncio.SelectorEventLoop()
    try:
        head = f'memory = "{path}"\nledger = "{ledger}"'
        make_board("vbp", head, loop=loop).close()
        Ledger(Timeline(loop), ledger).close()
    finally:
        loop.close()
    kept, *ours = ledger.read_bytes().rpartition(b'{"event": "power_on"')
    assert ours[0]
    assert json.loads(b"".join(ours))["cause"] == "power_on"
    assert not kept or kept.endswith(b"\n")
