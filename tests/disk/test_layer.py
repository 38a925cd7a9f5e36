"""The disk model, and the journal on it. Most of it runs within the layer, in a process of its own.

More seeds: LIVES="1000 500" python -m pytest tests/disk -k many
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.disk import layer
from tests.disk.layer import NoCompiler, Where
from tests.disk.work import at_once, is_whole
from tests.journal.conftest import Bench, balanced

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def compiled() -> None:
    try:
        layer.library()
    except NoCompiler as missing:
        pytest.skip(str(missing))


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(mkdtemp(prefix="disk-", dir="/dev/shm"))
    (made / "state").mkdir()
    yield made / "state"
    shutil.rmtree(made)


def inside(monkeypatch: pytest.MonkeyPatch, lives: str, *which: str) -> None:
    """Run tests within the layer; their output is the message of ours."""
    monkeypatch.setenv("LIVES", os.environ.get("LIVES", lives))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *which]
    done = layer.run(command, capture_output=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
    print(done.stdout)


def test_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    inside(monkeypatch, "0 2", "tests/disk/inside_layer.py")


def test_the_journal_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    inside(monkeypatch, "0 2", "tests/disk/inside_journal.py")


@pytest.mark.slow
def test_many_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    inside(monkeypatch, "3 40", "tests/disk/inside_journal.py", "-k", "lives or making", "-s")


def test_without_a_compiler_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(NoCompiler, match="apt-get install gcc libc6-dev"):
        layer.compiler()


# ------------------------------------------------------------------ what the journal calls

HARMLESS = {
    "access", "close", "faccessat2", "fcntl", "flock", "fstat", "getcwd", "getdents64", "ioctl",
    "lseek", "lstat", "newfstatat", "pread64", "read", "readlink", "stat", "statx", "fchown",
}  # fmt: skip
"""Change nothing that the model has."""
MODELLED = {
    "fdatasync", "fsync", "ftruncate", "mkdir", "open", "openat", "pwrite64", "rename", "unlink",
    "write",
}  # fmt: skip


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace: apt-get install strace")
def test_the_kernel_sees_no_call_that_the_model_does_not(folder: Path) -> None:
    """All system calls of the journal's work on its directory, as the kernel saw them."""
    work = "from tests.disk.work import undisturbed; from pathlib import Path; import sys;"
    work += "undisturbed(Path(sys.argv[1]), 1, 20)"
    trace = folder.parent / "trace"
    command = ["strace", "-f", "-y", "-o", str(trace), sys.executable, "-c", work, str(folder)]
    traced = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "ptrace" in traced.stderr:
        pytest.skip(f"strace may not look here: {traced.stderr.strip()}")
    assert traced.returncode == 0, traced.stderr
    lines = [
        line for line in trace.read_text(encoding="utf-8").splitlines()
        if f"{folder}" in line and "execve(" not in line
    ]  # fmt: skip
    calls = {match[1] for line in lines if (match := re.match(r"\d+ +(\w+)\(", line))}
    assert {"pwrite64", "fdatasync"} <= calls
    assert calls <= HARMLESS | MODELLED
    assert "mmap" not in calls
    assert not [line for line in lines if "open" in line and "-shm" in line]


# ------------------------------------------------------------------ a process of its own


def written(folder: Path, die_at: int, where: Where, cut_seed: int | None) -> dict[str, set[int]]:
    """Run the journal's writer until it dies; what it said was durable."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.journal.writer", folder, "1"],
        env=layer.environment(folder.parent, die_at=die_at, where=where, cut_seed=cut_seed),
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    said: dict[str, set[int]] = {"accepted": set(), "opened": set(), "closed": set()}
    for line in done.stdout.splitlines():
        word, _, number = line.partition(" ")
        if word in said:
            said[word].add(int(number))
    return said


def test_a_real_process_loses_its_power(folder: Path) -> None:
    """P7, P11: with its own thread for the journal, killed at an operation, the files cut."""
    dice = random.Random(3)
    bench = Bench(folder)
    everything: dict[str, set[int]] = {"accepted": set(), "opened": set(), "closed": set()}
    for _ in range(4):
        said = written(
            folder, dice.randint(60, 600), dice.choice(list(Where)),
            None if dice.random() < 0.2 else dice.getrandbits(32),
        )  # fmt: skip
        for word, numbers in said.items():
            everything[word] |= numbers
        bench.inline = True
        journal, opening = bench.open()
        assert not opening.lost
        assert not opening.first
        assert is_whole(journal)
        for number in everything["accepted"]:
            assert len(at_once(journal.order(number))) == 1
        for cycle_id in everything["opened"]:
            cycle = at_once(journal.cycle(cycle_id))
            assert cycle is not None
            assert cycle.closed or cycle_id not in everything["closed"]
        assert all(balanced(state) for state in at_once(journal.lane_states()))
        journal.abandon()
    assert everything["closed"]


def test_a_process_tells_how_many_operations_it_made(folder: Path, tmp_path: Path) -> None:
    count = tmp_path / "count"
    code = "import sys; open(sys.argv[1] + '/file', 'w').write('x')"
    subprocess.run(
        [sys.executable, "-c", code, folder],
        env=layer.environment(folder, count_file=count), check=True,
    )  # fmt: skip
    assert int(count.read_text(encoding="utf-8")) == 2  # made and written
