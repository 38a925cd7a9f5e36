"""vendctl with streams that are closed, full, unread, or of an encoding that lacks signs."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys

import pytest

from controller.service.server import Service
from tests.cli.conftest import Ran
from tests.service.memory_machine import MemoryMachine

pytestmark = pytest.mark.system

ME = getpass.getuser()


async def in_shell(line: str, environment: dict[str, str], **more: str) -> Ran:
    """`{vendctl}` in the line is the program."""
    child = await asyncio.create_subprocess_exec(
        *["bash", "-c", line.format(vendctl=f"{sys.executable} -m controller.cli.main")],
        env={**environment, **more},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode is not None
    return Ran(child.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{vendctl} status >&-", 0),
        ("{vendctl} stock fill <&-", 2),
        ("{vendctl} stock fill --yes >&- 2>&- <&-", 0),
        ("{vendctl} lane disable A1 --yes --reason $'\\xff'", 0),
        ("{vendctl} cabinet stop $'\\xff' --yes", 4),
        ("{vendctl} config check $'\\xff' --json", 1),
    ],
)
async def test_closed_streams_and_odd_bytes_are_no_crash(
    service: Service, environment: dict[str, str], line: str, code: int
) -> None:
    ran = await in_shell(line, environment)
    assert (ran.code, "Traceback" in ran.err) == (code, False)


async def test_with_stderr_closed_stdout_has_only_data(
    service: Service, environment: dict[str, str]
) -> None:
    ran = await in_shell("{vendctl} stock fill --yes --json 2>&-", environment)
    assert list(json.loads(ran.out)) == ["lanes"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk"])
async def test_any_locale_shows_any_text(
    service: Service, machine: MemoryMachine, environment: dict[str, str], encoding: str
) -> None:
    """An act that was done is told as done, whatever the terminal can show."""
    line = "{vendctl} lane disable A20 --yes --reason '卡住 é 😀'"
    for more in ("", " --json"):
        ran = await in_shell(line + more, environment, PYTHONIOENCODING=f"{encoding}:strict")
        assert (ran.code, "Traceback" in ran.err) == (0, False)
    assert json.loads(ran.out)["lane"]["health_reason"] == "卡住 é 😀"


async def test_an_answer_that_cannot_be_written_is_said(
    service: Service, environment: dict[str, str]
) -> None:
    for verb in ("status", "status --json", "orders"):
        ran = await in_shell(f"{{vendctl}} {verb} >/dev/full", environment)
        assert ran.code == 1
        assert ran.err.endswith("vendctl: cannot write the answer: No space left on device\n")


async def unread(stream: str, environment: dict[str, str], *words: str) -> Ran:
    """vendctl with nobody at the other end of this stream."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    child = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "controller.cli.main", *words],
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        **{**streams, stream: writer},
    )
    os.close(writer)
    out, err = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode is not None
    return Ran(child.returncode, (out or b"").decode(), (err or b"").decode())


async def test_a_reader_that_went_away_hides_no_bad_news(
    service: Service, machine: MemoryMachine, environment: dict[str, str]
) -> None:
    machine.lane_views["A20"]["health"] = "suspended"
    ran = await unread("stdout", environment, "lanes")
    assert (ran.code, ran.err) == (1, "")


async def test_words_that_nobody_reads_stop_no_act(
    service: Service, machine: MemoryMachine, environment: dict[str, str]
) -> None:
    ran = await unread("stderr", environment, "stock", "fill", "--yes")
    assert (ran.code, machine.acts) == (0, [("stock_fill", None, ME)])


async def test_p6_a_test_vend_whose_reader_went_away_was_interrupted(
    service: Service, environment: dict[str, str]
) -> None:
    ran = await unread("stdout", environment, "test", "A20", "--yes", "--json")
    assert ran.code == 130
    assert "No further cycle begins" in ran.err
