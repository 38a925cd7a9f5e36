"""A disk that loses what was not synced: a layer under Python's and SQLite's file calls.

The C part is compiled once into `.cache/disk/` and preloaded (LD_PRELOAD) into
the process that is to be looked at. It tracks the files below one root
directory. The real files hold what every reader must see; beside them, in
memory, the layer keeps what is durable, and the operations since. `cut` then
rewrites the real files to a state that a disk may hold after the power went.
What such states are is written in model.h.

    run([sys.executable, "-m", "tests.disk.something"])     # a process in the layer
    disk = Disk(root)                                       # in it
    disk.die_at(17)                                         # ... work, until it fails
    disk.cut(seed)                                          # ... and open again

A death is of the process that wrote, not of ours: the call that died and every
changing call after it fail with EIO and do nothing. The dead world must close
its files (that is allowed) before `cut` or `revive`; both refuse while one is
open, because what it does later would spoil the new world.

Only one process may change files below the root: children are not tracked.
Times, modes and owners of files are not modelled, nor are symbolic links, which
the root must not contain either.

For a program that cannot call us, as the real daemon, `environment` puts root,
death and cut into its environment: it dies by SIGKILL and leaves the files as
the cut has made them.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache/disk"
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-format-truncation", "-fPIC", "-shared",
         "-fvisibility=hidden")  # fmt: skip


class NoCompiler(RuntimeError):
    pass


class FilesOpen(RuntimeError):
    """The dead world still holds files: close its journals first."""


class Op(IntEnum):
    """What is counted and may fail; `enum operation` of gate.h."""

    ANY = 0
    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    RENAME = 5
    UNLINK = 6
    LINK = 7
    MKDIR = 8
    RMDIR = 9
    SYNC_FOLDER = 10


class Where(IntEnum):
    """Where in an operation death comes."""

    BEFORE = 0
    HALF = 1
    """Half of a write's bytes are written, in whole sectors; another operation is not done."""
    AFTER = 2
    """It is done, and its caller does not hear of it."""


class Kept(IntEnum):
    """What a power cut leaves of pending operations."""

    RANDOM = 0
    NOTHING = 1
    EVERYTHING = 2


def compiler() -> str:
    """The C compiler: $CC, cc, gcc or clang. Raises NoCompiler with the remedy."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and (found := shutil.which(name)):
            return found
    raise NoCompiler(
        "no C compiler found (cc, gcc, clang): the disk model of the simulation is written in C. "
        "Remedy: apt-get install gcc libc6-dev, or name another with CC"
    )


def library() -> Path:
    """The layer, compiled now if its source was never compiled here. Raises NoCompiler."""
    sources = sorted(HERE.glob("*.c"))
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in (*sources, *sorted(HERE.glob("*.h"))):
        digest.update(path.read_bytes())
    made = CACHE / f"layer-{digest.hexdigest()[:16]}.so"
    if made.exists():
        return made
    command = compiler()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        part = Path(folder) / "layer.so"
        done = subprocess.run(
            [command, *FLAGS, "-o", part, *sources, "-ldl", "-lpthread"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise NoCompiler(f"{command} cannot compile the disk layer:\n{done.stderr}")
        part.rename(made)  # two test processes may both have compiled it
    return made


def environment(
    root: Path | None = None,
    *,
    die_at: int = 0,
    where: Where = Where.BEFORE,
    cut_seed: int | None = None,
    capacity: int = 0,
    count_file: Path | None = None,
) -> dict[str, str]:
    """Ours with the layer preloaded. With a root the process is looked at from its start.

    It kills itself at its operation number `die_at` (0: never); with `cut_seed`
    the power goes in that moment, else the files stay as they are. `capacity` in
    bytes. Into `count_file` it writes its number of operations when it exits.
    """
    told = {"LD_PRELOAD": str(library())}
    if root is not None:
        told["DISK_ROOT"] = str(without_links(root))
        told["DISK_DIE_AT"] = str(die_at)
        told["DISK_DIE_WHERE"] = where.name.lower()
        told["DISK_CAPACITY"] = str(capacity)
        if cut_seed is not None:
            told["DISK_CUT_SEED"] = str(cut_seed)
        if count_file is not None:
            told["DISK_COUNT_FILE"] = str(count_file)
    return {**os.environ, **told}


def run(command: Sequence[str | Path], **more: Any) -> subprocess.CompletedProcess[str]:
    """A command in the layer, its output as text. It chooses its root itself (`Disk`)."""
    return subprocess.run(command, env=environment(), text=True, check=False, **more)


def without_links(root: Path) -> Path:
    if root.resolve() != root.absolute():
        raise ValueError(f"{root} leads over a symbolic link: use {root.resolve()}")
    return root.absolute()


def is_preloaded() -> bool:
    return hasattr(ctypes.CDLL(None), "disk_reset")


class Disk:
    """The control of the layer in this process. There is one layer: the newest Disk has it."""

    def __init__(self, root: Path, seed: int = 0) -> None:
        """Track the files below `root`, an existing directory; all that is there is durable.

        `seed` decides what a failed sync loses. Faults and counters begin anew.
        """
        self._calls = ctypes.CDLL(None, use_errno=True)
        if not is_preloaded():
            raise RuntimeError("the disk layer is not in this process: start it with `run`")
        for name in ("disk_count", "disk_written", "disk_pending", "disk_used"):
            getattr(self._calls, name).restype = ctypes.c_uint64
        self._calls.disk_durable.restype = ctypes.c_int64
        self._refused = ctypes.c_uint64.in_dll(self._calls, "disk_refused")
        self._dead = ctypes.c_bool.in_dll(self._calls, "disk_dead")
        self.root = without_links(root)
        self._reset(str(self.root), seed)

    def stop(self) -> None:
        """Track nothing any more."""
        self._reset("", 0)

    def _reset(self, root: str, seed: int) -> None:
        result = self._calls.disk_reset(os.fsencode(root), ctypes.c_uint64(seed))
        if result == -1:
            raise OSError(ctypes.get_errno(), f"cannot read all below {root}")
        self._refuse_open(result)

    # ------------------------------------------------------------------ what goes wrong

    def cut(self, seed: int, kept: Kept = Kept.RANDOM) -> None:
        """The power goes and comes back. Ends death and faults, keeps capacity and read_only."""
        self._refuse_open(self._calls.disk_power_cut(ctypes.c_uint64(seed), int(kept)))

    def die(self) -> None:
        """Now: every later change fails with EIO."""
        self._calls.disk_die()

    def die_at(self, n: int, where: Where = Where.BEFORE) -> None:
        """Die at the n-th operation from now, any that `Op` names; 0 disarms."""
        self._calls.disk_die_at(ctypes.c_uint64(n), int(where))

    def revive(self) -> None:
        """The process starts again on the files as they are; pending stays pending."""
        self._refuse_open(self._calls.disk_revive())

    @property
    def dead(self) -> bool:
        return self._dead.value

    def fail(self, op: Op, n: int, error: int) -> None:
        """The n-th next operation of the kind fails once with this errno; 0 disarms.

        A failed sync loses or keeps each pending change at random, and later
        syncs succeed without it, as on Linux.
        """
        self._calls.disk_fail(int(op), ctypes.c_uint64(n), int(error))

    def capacity(self, bytes_: int | None) -> None:
        """Room for so many bytes in blocks of 4096; growth beyond fails with ENOSPC."""
        self._calls.disk_capacity(ctypes.c_uint64(bytes_ or 0))

    def read_only(self, on: bool) -> None:  # noqa: FBT001 - a switch
        self._calls.disk_read_only(int(on))

    # ------------------------------------------------------------------ what is known

    def count(self, op: Op = Op.ANY) -> int:
        """Operations since the start, the failed ones too, those refused when dead not."""
        return int(self._calls.disk_count(int(op)))

    @property
    def refused(self) -> int:
        """Operations that failed by a fault, by death or by `read_only`."""
        return self._refused.value

    @property
    def written(self) -> int:
        """Bytes written."""
        return int(self._calls.disk_written())

    @property
    def pending(self) -> int:
        """Operations that no sync has made durable."""
        return int(self._calls.disk_pending())

    @property
    def used(self) -> int:
        """Bytes in use, in blocks of 4096."""
        return int(self._calls.disk_used())

    def durable(self, path: Path) -> bytes | None:
        """What a file of this name has after a cut that keeps nothing; None: there is none.

        The directories above it are not asked: theirs is another name.
        """
        name = os.fsencode(path.absolute().relative_to(self.root))
        size = self._calls.disk_durable(name, None, ctypes.c_size_t(0))
        if size < 0:
            return None
        content = ctypes.create_string_buffer(size)
        self._calls.disk_durable(name, content, ctypes.c_size_t(size))
        return content.raw

    def escaped(self) -> str | None:
        """A path whose real content is not what the layer knows of it; None when all is."""
        wrong = ctypes.create_string_buffer(4096)
        if self._calls.disk_verify(wrong, ctypes.c_size_t(4096)):
            return None
        return os.fsdecode(wrong.value)

    def _refuse_open(self, result: int) -> None:
        if not result:
            return
        held = []
        for link in Path("/proc/self/fd").iterdir():
            try:
                target = str(link.readlink())
            except OSError:
                continue  # the one that listed them
            if target.startswith(str(self.root)):
                held.append(target)
        raise FilesOpen(f"still open: {', '.join(sorted(held))}")


SQLITE_TESTCTRL_PRNG_SEED = 28
"""Of sqlite3.h, since SQLite 3.27."""


def seed_sqlite(seed: int) -> None:
    """Make SQLite's random numbers (salts of the log) those of the seed, for exact replay.

    A nonzero 32-bit number. Source: https://www.sqlite.org/c3ref/c_testctrl_always.html
    """
    import _sqlite3  # the library that Python's module is linked to

    ctypes.CDLL(_sqlite3.__file__).sqlite3_test_control(
        SQLITE_TESTCTRL_PRNG_SEED, ctypes.c_int(seed), None
    )
