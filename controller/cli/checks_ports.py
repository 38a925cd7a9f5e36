"""A local serial port as anybody sees it: whether it is there, whose it is, who holds it."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    name: str
    """The program's, as the kernel has it; `?` when it hides."""


@dataclass(frozen=True, slots=True)
class PortFacts:
    path: str
    exists: bool
    owner: str = ""
    group: str = ""
    mode: int = 0
    holders: tuple[Holder, ...] = ()
    """Those that this user may see: of other users' processes only the ones that lock it."""


def port_facts(path: str) -> PortFacts:
    try:
        found = Path(path).stat()
    except OSError:
        return PortFacts(path, exists=False)
    return PortFacts(
        path,
        exists=True,
        owner=_user(found.st_uid),
        group=_group(found.st_gid),
        mode=stat.S_IMODE(found.st_mode),
        holders=holders(path, found),
    )


def may_open(port: PortFacts, user: str, further: frozenset[str] = frozenset()) -> bool | None:
    """By the port's owner, group and mode; None when the system does not know the user.

    `further` are groups that the service gives its process besides the user's own.
    """
    try:
        entry = pwd.getpwnam(user)
        gids = os.getgrouplist(user, entry.pw_gid)
    except KeyError:
        return None
    if entry.pw_uid == 0:
        return True
    groups = {_group(gid) for gid in gids} | further
    if port.owner == user:
        return _reads_and_writes(port.mode >> 6)
    if port.group in groups:
        return _reads_and_writes(port.mode >> 3)
    return _reads_and_writes(port.mode)


def _reads_and_writes(bits: int) -> bool:
    return bits & 0o6 == 0o6  # noqa: PLR2004 - rw-


def holders(path: str, found: os.stat_result) -> tuple[Holder, ...]:
    """Who locks it (/proc/locks shows everybody), and who has it open (own processes, or root)."""
    pids = set(_lockers(found)) | set(_openers(os.path.realpath(path)))
    return tuple(Holder(pid, _program(pid)) for pid in sorted(pids - {os.getpid()}))


def _lockers(found: os.stat_result) -> list[int]:
    """proc_locks(5): `1: FLOCK ADVISORY WRITE 708 08:01:13548 0 EOF`, pid -1 when it hides."""
    wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    pids = []
    with contextlib.suppress(OSError, ValueError):
        for line in (PROC / "locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if wanted in words:
                pids.append(int(words[words.index(wanted) - 1]))
    return [pid for pid in pids if pid > 0]


def _openers(device: str) -> list[int]:
    pids = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()) == device for fd in (entry / "fd").iterdir()):
                pids.append(int(entry.name))
    return pids


def _program(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
