"""An archive for the kernel: the "newc" form of cpio, as an initramfs has it.

From the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. Owners and
times are left at zero, so that the same files give the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path


def entry(
    name: str, mode: int, data: bytes = b"", number: int = 0, device: tuple[int, int] = (0, 0)
) -> bytes:
    """`name` without a leading slash; `data` is the content, or where a link points to;
    `device` the major and minor number of a device file."""
    path = name.encode() + b"\0"
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return _padded(head) + _padded(data)


def end() -> bytes:
    return entry("TRAILER!!!", 0)


def tree(root: Path) -> Iterator[bytes]:
    """Entries of all that lies below `root`, each directory before what is in it."""
    for number, path in enumerate(sorted(root.rglob("*")), start=1):
        name = str(path.relative_to(root))
        if path.is_symlink():
            yield entry(name, stat.S_IFLNK | 0o777, bytes(path.readlink()), number)
        elif path.is_dir():
            yield entry(name, stat.S_IFDIR | 0o755, b"", number)
        else:
            yield entry(name, stat.S_IFREG | path.stat().st_mode & 0o777, path.read_bytes(), number)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
