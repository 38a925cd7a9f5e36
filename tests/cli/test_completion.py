"""The Tab key, in the shells themselves: verbs, options, and the machine's own names."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import select
import shutil
import sys
import time
from pathlib import Path

import pytest

from controller.cli.completion import NAMES, SHELLS
from controller.cli.main import VERBS
from controller.service.server import Service
from tests.cli.conftest import Vendctl

pytestmark = pytest.mark.system

ASK_BASH = r"""
eval "$(vendctl completion bash)"
COMP_LINE=$TYPED COMP_POINT=${#TYPED} COMP_TYPE=9
read -ra COMP_WORDS <<<"$COMP_LINE"
_python_argcomplete vendctl
printf '%s\n' "${COMPREPLY[@]}"
"""
"""Calls what `complete -F` named, with the variables that bash sets for it (bash(1),
Programmable Completion)."""

ASK_FISH = 'vendctl completion fish | source; complete --do-complete "$TYPED"'


@pytest.fixture
def shell(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment in which `vendctl` is this one."""
    here = Path(sys.executable).parent
    return {**environment, "PATH": f"{here}:{environment['PATH']}", "HOME": str(tmp_path)}


async def ask(shell: dict[str, str], command: list[str], typed: str) -> set[str]:
    child = await asyncio.create_subprocess_exec(
        *command, env={**shell, "TYPED": typed}, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(child.communicate(), 20)
    return {line.split("\t")[0].strip() for line in out.decode().splitlines()} - {""}


TYPED = [
    ("vendctl st", {"status", "stock"}),
    ("vendctl stock ", {"set", "fill", "undo-test"}),
    ("vendctl lane ", {"enable", "disable", "A1", "A20"}),
    ("vendctl lane disable A2", {"A20"}),
    ("vendctl stock fill ", {"A"}),
    ("vendctl cabinet stop ", {"A"}),
    ("vendctl board accept ", {"main"}),
    ("vendctl order 1", {"1111111"}),
    ("vendctl orders --li", {"--limit"}),
    ("vendctl completion z", {"zsh"}),
]


@pytest.mark.parametrize(("typed", "offered"), TYPED)
async def test_bash_completes(
    service: Service, shell: dict[str, str], typed: str, offered: set[str]
) -> None:
    assert await ask(shell, ["bash", "--norc", "-c", ASK_BASH], typed) == offered


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
@pytest.mark.parametrize(("typed", "offered"), TYPED[:5])
async def test_fish_completes(
    service: Service, shell: dict[str, str], typed: str, offered: set[str]
) -> None:
    assert await ask(shell, ["fish", "--no-config", "-c", ASK_FISH], typed) == offered


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
async def test_zsh_completes_at_the_tab_key(service: Service, shell: dict[str, str]) -> None:
    """Its completion lives in the line editor only: so a person's terminal is played."""
    ours, theirs = pty.openpty()
    child = await asyncio.create_subprocess_exec(
        *["zsh", "-f", "-i"],
        env={**shell, "TERM": "dumb"},
        preexec_fn=lambda: os.login_tty(theirs),
    )
    os.close(theirs)
    try:
        os.write(ours, b"autoload -U compinit; compinit -u -D\n")
        os.write(ours, b'eval "$(vendctl completion zsh)"; print ready-$((40+2))\n')
        await read_until(ours, "ready-42")
        os.write(ours, b"vendctl lane disable A2\t")
        await read_until(ours, "lane disable A20")
        os.write(ours, b"\x15exit\n")
        await asyncio.wait_for(child.wait(), 10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        os.close(ours)


async def read_until(terminal: int, wanted: str, patience_s: float = 20) -> None:
    """What the terminal shows, without its escape sequences, until `wanted` is in it."""
    shown = ""
    ends = time.monotonic() + patience_s
    while wanted not in shown:
        assert time.monotonic() < ends, shown
        if not select.select([terminal], [], [], 0)[0]:
            await asyncio.sleep(0.02)
            continue
        more = os.read(terminal, 4096)
        shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\x07\x08]", "", more.decode(errors="replace"))


async def test_without_a_daemon_verbs_still_complete(shell: dict[str, str]) -> None:
    bash = ["bash", "--norc", "-c", ASK_BASH]
    assert await ask(shell, bash, "vendctl lane ") == {"enable", "disable"}
    assert await ask(shell, bash, "vendctl stock set ") == set()


@pytest.mark.parametrize("name", SHELLS)
async def test_the_script_is_what_the_shell_can_read(
    vendctl: Vendctl, shell: dict[str, str], name: str
) -> None:
    ran = await vendctl("completion", name)
    assert (ran.code, ran.err) == (0, "")
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    reader = await asyncio.create_subprocess_exec(name, "-n", stdin=asyncio.subprocess.PIPE)
    await reader.communicate(ran.out.encode())
    assert reader.returncode == 0


def test_every_argument_that_the_machine_names_is_known() -> None:
    """A new verb's LANE completes by its metavar; one that is spelt otherwise would not."""
    usages = [line.usage for verb in VERBS for line in verb.lines]
    named = {word.strip("[]") for usage in usages for word in usage.split() if word.isupper()}
    parts = {"ORDER[/DELIVERY", "ID[/DELIVERY]", "ID[/DELIVERY"}
    elsewhere = {"N", "FILE", "SHELL", "NAME", "UNIT"} | parts
    assert named - set(NAMES) - elsewhere == set()
