"""A real service on a real Unix socket, before a machine in memory."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from controller.service.server import Service, start_service
from tests.service.memory_machine import MemoryMachine

READ_GROUP = "games"
ACT_GROUP = "audio"
"""Groups that every Debian has; what they are for does not matter here."""


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that other users may enter; pytest's own tmp_path is closed to them."""
    with tempfile.TemporaryDirectory(prefix="service") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.fixture
def socket_path(open_dir: Path) -> Path:
    return open_dir / "control.sock"


@pytest.fixture
def machine() -> MemoryMachine:
    return MemoryMachine()


@pytest.fixture
async def service(machine: MemoryMachine, socket_path: Path) -> AsyncIterator[Service]:
    running = await start_service(
        machine, socket=socket_path, read_group=READ_GROUP, act_group=ACT_GROUP
    )
    yield running
    machine.hold.set()
    await running.close(grace_s=1)
