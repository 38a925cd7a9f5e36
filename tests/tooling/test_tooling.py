"""The scripts behind `make`, and the pins that they install."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURSELVES = "vending-controller"
PROGRAMS = sorted(set(re.findall(r"-m ((?:tests|benchmarks)\S*)", (ROOT / "Makefile").read_text())))
NOT_PINNED = {OURSELVES, "pip"}
"""pip is the one that Python or Debian brought."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    text = (ROOT / "config/constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {canonical(name): version for name, version in (line.split("==") for line in lines)}


def test_every_package_that_we_need_is_pinned() -> None:
    pinned, seen, todo = pins(), set(), [OURSELVES]
    while todo:
        name = canonical(todo.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # needed on another Python or system only
        for requirement in needed:
            other_extra = "extra ==" in requirement and name != OURSELVES
            if not other_extra:
                todo.append(re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0])
    installed = {name for name in seen - NOT_PINNED if is_installed(name)}
    assert installed, "nothing was looked at"
    assert installed <= set(pinned), f"not pinned: {sorted(installed - set(pinned))}"


def is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.system
def test_the_broker_script_prints_a_path_that_runs() -> None:
    script = ROOT / "tests/tooling/broker.sh"
    path = subprocess.run([script], capture_output=True, text=True, check=True).stdout
    said = subprocess.run([path.strip(), "--help"], capture_output=True, text=True, check=False)
    assert "mosquitto version" in said.stdout + said.stderr


@pytest.mark.skipif(not (ROOT / ".cache/clients/node/stamp").exists(), reason="run `make node`")
def test_the_node_script_prints_a_path_that_runs() -> None:
    """With everything there it fetches nothing."""
    ran = subprocess.run(
        [ROOT / "tests/tooling/node.sh"], capture_output=True, text=True, check=True
    )
    said = subprocess.run(
        [ran.stdout.strip(), "--version"], capture_output=True, text=True, check=True
    )
    assert tuple(map(int, said.stdout.strip().lstrip("v").split(".")[:2])) >= (22, 13)
    assert ran.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("module", PROGRAMS)
def test_what_make_starts_can_be_started(module: str) -> None:
    """Some of these run for hours and never in the suite: at least they are all there."""
    said = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert "usage" in said.stdout


@pytest.mark.system
def test_make_alone_says_what_there_is() -> None:
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "test", "check", "bench", "fuzz", "clean"):
        assert f"make {target} " in said
