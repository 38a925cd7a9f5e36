"""The socket's place in the file system: taken, given to its group, given back.

It is bound and listening under a name of its own beside the path and then renamed
onto it, so that nobody ever meets it with the wrong owner, and a stale one of a
daemon that died is replaced in one step.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import logging
import os
import socket
import stat
from pathlib import Path

from controller.errors import ControllerError

logger = logging.getLogger("vending.service")

MODE = 0o660
"""The group reads and writes, others nothing; who may act is decided by `peers`."""

LONGEST_PATH = 107
"""Bytes, unix(7): nobody could connect to a longer one."""

BACKLOG = 8
"""Connections that the kernel holds for us; the bound of those that we hold is the server's."""

PROBE_S = 1.0
"""A live daemon's kernel answers a connect at once, or its backlog is full."""


class SocketUnusable(ControllerError, OSError):
    """Scenario: another daemon serves the same path already."""


def group_id(name: str) -> int | None:
    """The gid of a group; None, and a warning, where the system has no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        fields = {
            "group": name,
            "effect": "only root and the daemon's own user come in by it",
            "remedy": f"groupadd --system {name}, then restart the daemon",
        }
        logger.warning("group_missing", extra={"fields": fields})
        return None


def listen(path: Path, gid: int | None) -> socket.socket:
    """A listening socket at `path`, mode 0660, of group `gid`.

    Raises SocketUnusable when a live daemon has it, something else lies there, or
    the directory does not let us.
    """
    if len(bytes(path)) > LONGEST_PATH:
        raise SocketUnusable(_why_not(path, OSError("AF_UNIX path too long")))
    _refuse_occupied(path)
    fresh = path.with_name(f".{os.getpid()}")  # short: config_tables counts its bytes
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        listener.bind(str(fresh))
        fresh.chmod(MODE)
        _give_to_group(fresh, gid)
        listener.listen(BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - the name of the standard library's argument
        fresh.replace(path)
    except OSError as error:
        listener.close()
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise SocketUnusable(_why_not(path, error)) from error
    return listener


def remove(path: Path, identity: tuple[int, int]) -> None:
    """Take the path away, unless somebody else put theirs there meanwhile."""
    with contextlib.suppress(OSError):
        if identity_of(path) == identity:
            path.unlink()


def identity_of(path: Path) -> tuple[int, int]:
    """Device and inode: which socket this name means now."""
    found = path.lstat()
    return found.st_dev, found.st_ino


def _refuse_occupied(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except OSError:
        return  # nothing there, or nothing visible: bind will say what is wrong
    if not stat.S_ISSOCK(kind):
        raise SocketUnusable(
            f"{path} exists and is no socket; it is left alone. "
            "Move it away, or name another path in [service] socket"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # nobody listens: a daemon died and left it
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ETIMEDOUT):
                raise SocketUnusable(_why_not(path, error)) from error
    raise SocketUnusable(
        f"another daemon answers on {path}. Stop it first (systemctl stop vending-controller), "
        "or name another path in [service] socket"
    )


def _give_to_group(path: Path, gid: int | None) -> None:
    if gid is None:
        return
    try:
        os.chown(path, -1, gid)
    except PermissionError:
        fields = {
            "socket": str(path),
            "gid": gid,
            "effect": "the group's members cannot connect",
            "remedy": "make the daemon's user a member of the group (SupplementaryGroups=)",
        }
        logger.warning("socket_group_not_set", extra={"fields": fields})


def _why_not(path: Path, error: OSError) -> str:
    if "too long" in str(error):
        most = f"{LONGEST_PATH} bytes at most"
        return f"{path} is too long for a socket ({most}): shorten [service] socket"
    remedies = {
        errno.ENOENT: f"the directory {path.parent} is missing: create it",
        errno.EACCES: f"the directory {path.parent} does not let this user write: change its owner",
        errno.EROFS: f"{path.parent} is read-only: take a path under /run",
    }
    what = error.strerror or str(error)
    remedy = remedies.get(error.errno or 0, "check the path")
    return f"cannot listen on {path}: {what}. {remedy}, or name another path in [service] socket"
