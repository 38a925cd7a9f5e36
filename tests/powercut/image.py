"""The guest's initramfs: Debian's files, the packages of .venv, the project.

Two archives, one behind the other, as the kernel allows: the base, which is made once for
each set of packages, and a layer with the project and the settings, made for each run.
"""

from __future__ import annotations

import compileall
import hashlib
import py_compile
import re
import shutil
import stat
import sys
from importlib import metadata
from pathlib import Path

from tests.powercut import cpio

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache/powercut"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
LIBRARIES = "x86_64-linux-gnu"
OURSELVES = "vending-controller"
UNUSED = {"test", "idlelib", "tkinter", "lib2to3", "ensurepip", "pydoc_data", "__pycache__"}
"""Of the standard library."""
MODULES = (
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
)


def kernel() -> Path:
    return next((CACHE / "kernel/boot").glob("vmlinuz-*"))


def initramfs(into: Path, settings: str) -> None:
    """Write the whole of it, with `settings` as the daemon's file."""
    base = CACHE / f"base-{_fingerprint()}.cpio"
    if not base.exists():
        print("powercut: making the guest's base image (half a minute, once)", flush=True)
        for old in CACHE.glob("base-*.cpio"):
            old.unlink()
        _make(base)
    layer = CACHE / "layer"
    _fresh(layer)
    shutil.copytree(ROOT / "controller", layer / "opt/site/controller", ignore=_unused)
    _compile(layer / "opt/site")
    (layer / "etc").mkdir()
    (layer / "etc/vendingd.toml").write_text(settings, encoding="utf-8")
    shutil.copy(ROOT / "tests/powercut/init.sh", layer / "init")
    (layer / "init").chmod(0o755)
    into.write_bytes(base.read_bytes() + b"".join(cpio.tree(layer)) + cpio.end())


def _make(base: Path) -> None:
    stage = CACHE / "stage"
    _fresh(stage)
    for name in ("dev", "proc", "sys", "run", "tmp", "state", "modules", "opt/site", "etc"):
        (stage / name).mkdir(parents=True)
    _debian(CACHE / PYTHON, stage)
    for name in MODULES:
        found = next((CACHE / "kernel").rglob(f"{name}.ko"))
        shutil.copy(found, stage / "modules")
    for name in sorted(_needed()):
        _package(name, stage / "opt/site")
    (stage / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n", encoding="ascii")
    (stage / "etc/group").write_text("root:x:0:\n", encoding="ascii")
    for tree in (stage / "opt/site", stage / "usr/lib" / PYTHON):
        _compile(tree)
    # The kernel opens its first console before /init could make a device file.
    console = cpio.entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    whole = b"".join(cpio.tree(stage)) + console + cpio.end()
    new = base.with_suffix(".new")
    new.write_bytes(whole)
    new.replace(base)
    shutil.rmtree(stage)


def _debian(packages: Path, stage: Path) -> None:
    """What is needed of the unpacked packages; /bin and the like are links, as in Debian."""
    usr = stage / "usr"
    for name in ("bin", "sbin", "lib", "lib64"):
        (usr / name).mkdir(parents=True)
        (stage / name).symlink_to(f"usr/{name}")
    libraries = usr / "lib" / LIBRARIES
    libraries.mkdir()
    for half in (packages, packages / "usr"):  # before Debian 13 some lie outside usr
        for name in ("busybox", PYTHON, "e2fsck", "mke2fs"):
            for directory in ("bin", "sbin"):
                if (half / directory / name).exists():
                    shutil.copy(half / directory / name, usr / directory)
        for library in (half / "lib" / LIBRARIES).glob("*.so*"):
            shutil.copy(library, libraries, follow_symlinks=False)
        for loader in (half / "lib64").glob("ld-linux*"):
            shutil.copy(loader, usr / "lib64", follow_symlinks=False)
    (usr / "bin/python3").symlink_to(PYTHON)
    for applet in ("sh", "mount", "insmod", "ip", "grep", "cat", "mkdir", "sleep"):
        (usr / "bin" / applet).symlink_to("busybox")
    shutil.copy(packages / "etc/mke2fs.conf", stage / "etc")
    shutil.copytree(packages / "usr/lib" / PYTHON, usr / "lib" / PYTHON, ignore=_unused)


def _needed() -> set[str]:
    """Names of the packages that the daemon needs when it runs, without those for tests."""
    todo, seen = [OURSELVES], set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # needed on another Python or system only
        seen.add(name)
        todo += [
            re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0].lower()
            for requirement in requirements
            if "extra ==" not in requirement
        ]
    return seen - {OURSELVES}


def _package(name: str, site: Path) -> None:
    distribution = metadata.distribution(name)
    for file in distribution.files or []:
        if ".." in file.parts or "__pycache__" in file.parts:
            continue  # a program of the package, or compiled for another place
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(distribution.locate_file(file)), target)


def _compile(tree: Path) -> None:
    """To compiled modules and no sources: half the bytes, and the guest compiles nothing."""
    compileall.compile_dir(
        tree,
        quiet=2,
        legacy=True,  # beside the source, where Python looks when there is none
        stripdir=str(tree),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    for compiled in tree.rglob("*.pyc"):
        compiled.with_suffix(".py").unlink()


def _unused(_directory: str, names: list[str]) -> set[str]:
    return {name for name in names if name in UNUSED or name.startswith("config-")}


def _fresh(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def _fingerprint() -> str:
    """Of all that the base is made from; fetched packages never change once they are there."""
    hashed = hashlib.sha256(sys.version.encode())
    for name in sorted(_needed()):
        hashed.update(f"{name} {metadata.version(name)}\n".encode())
    for part in (CACHE / PYTHON, CACHE / "kernel"):
        hashed.update(str(part.stat().st_ctime_ns).encode())
    for source in (Path(__file__), Path(cpio.__file__)):
        hashed.update(source.read_bytes())
    return hashed.hexdigest()[:12]
