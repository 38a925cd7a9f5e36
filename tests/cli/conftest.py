"""The real vendctl as a process, before a real service with a machine in memory."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.service.server import Service, start_service
from tests.service.memory_machine import MemoryMachine


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


Vendctl = Callable[..., Awaitable[Ran]]


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    """Enterable by other users, unlike pytest's tmp_path."""
    with tempfile.TemporaryDirectory(prefix="vendctl") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.fixture
def machine() -> MemoryMachine:
    return MemoryMachine()


@pytest.fixture
async def service(machine: MemoryMachine, socket_dir: Path) -> AsyncIterator[Service]:
    running = await start_service(
        machine, socket=socket_dir / "control.sock", read_group="games", act_group="audio"
    )
    yield running
    machine.hold.set()
    await running.close(grace_s=1)


@pytest.fixture
def environment(socket_dir: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "VENDCTL_SOCKET": str(socket_dir / "control.sock"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }


@pytest.fixture
def vendctl(environment: dict[str, str]) -> Vendctl:
    async def run(*words: str, stdin: int = asyncio.subprocess.DEVNULL) -> Ran:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "controller.cli.main",
            *words,
            env=environment,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(child.communicate(), 20)
        assert child.returncode is not None
        return Ran(child.returncode, out.decode(), err.decode())

    return run
