"""This machine's systemd as process 1 of a world of its own, with our service installed in it.

`boot.sh` says what the world is. Its network is the machine's, so that broker and
emulated boards stand outside, on loopback.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.system.process import Process
from tests.system.waiting import wait_for

ROOT = Path(__file__).parents[2]
PREFIX = Path("opt/vending-controller")
STOPPED_S = 30.0
"""systemd ends a service, asks it again and gives up well within it."""

PYTHON_LIBRARIES = "/opt/python/lib"
"""For a Python that has its own part in a shared library, which it looks for where it was built."""

STARTER = """#!/opt/python/bin/python3
import sys
sys.path[:0] = ["/opt/vending-controller", "/opt/vending-controller/packages"]
from {module} import main
sys.exit(main())
"""


def missing() -> str:
    """Why it can't run here, "" when it can be tried."""
    if os.geteuid() != 0:
        return "only root can boot a systemd of its own"
    for program in ("unshare", "nsenter", "setpriv", "useradd", "systemctl", "systemd-sysusers"):
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            return f"no {program} on this machine"
    if not Path("/usr/lib/systemd/systemd").exists():
        return "no systemd on this machine"
    return ""


def install(into: Path, settings: str, drop_in: str) -> None:
    """As docs/operating.md does, into an empty directory; packages are copied, not downloaded."""
    home = into / PREFIX
    shutil.copytree(ROOT / "controller", home / "controller")
    # The compiled packages among them fit the Python that runs the tests, and no other.
    shutil.copytree(
        sysconfig.get_path("purelib"),
        home / "packages",
        ignore=shutil.ignore_patterns("mypy*", "ruff*", "hypothesis*", "pip*", "__pycache__"),
    )
    programs = home / ".venv/bin"
    programs.mkdir(parents=True)
    for name, module in {
        "vendingd": "controller.daemon",
        "vendctl": "controller.cli.main",
    }.items():
        (programs / name).write_text(STARTER.format(module=module), encoding="utf-8")
        (programs / name).chmod(0o755)
    etc = into / "etc"
    for source, target in {
        "vending-controller.service": "systemd/system",
        "sysusers.d/vending-controller.conf": "sysusers.d",
        "tmpfiles.d/vending-controller.conf": "tmpfiles.d",
    }.items():
        (etc / target).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "systemd" / source, etc / target)
    own = etc / "systemd/system/vending-controller.service.d"
    own.mkdir()
    (own / "test.conf").write_text(drop_in, encoding="utf-8")
    (etc / "vending-controller").mkdir()
    (etc / "vending-controller/config.toml").write_text(settings, encoding="utf-8")


class OwnSystemd:
    """`up` boots it; `run` runs a command in it; `end` ends it and all that it started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._world = Process(
            [ROOT / "tests/systemd/boot.sh", directory, sys.base_prefix], directory / "boot.log"
        )
        self._first = 0

    def up(self) -> None:
        self._world.start()
        self._first = wait_for(self._process_1, "systemd is process 1 of its world", 20)
        wait_for(self._is_up, "systemd has booted", 20)

    def _process_1(self) -> int:
        assert self._world.alive, f"it ended with {self._world.exit_code}: {self._world.output()}"
        path = Path(f"/proc/{self._world.pid}/task/{self._world.pid}/children")
        children = path.read_text().split()
        child = int(children[0]) if children else 0
        if child and Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
            return child
        return 0

    def _is_up(self) -> bool:
        assert self._world.alive, f"it ended with {self._world.exit_code}: {self._world.output()}"
        state = self.run("systemctl", "is-system-running").stdout.strip()
        return state in {"running", "degraded"}

    def run(self, *command: str, user: str = "") -> subprocess.CompletedProcess[str]:
        """As root, or as a user of that world with its own groups."""
        enter = ["nsenter", f"--target={self._first}", "--mount", "--pid", "--root", "--wd=/"]
        if user:
            enter += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        return subprocess.run(
            [*enter, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG": "C.UTF-8",
                "LD_LIBRARY_PATH": PYTHON_LIBRARIES,
            },
        )

    def must(self, *command: str, user: str = "") -> str:
        """`run`, and it went well: what it printed."""
        done = self.run(*command, user=user)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def end(self) -> None:
        if self._first:
            os.kill(self._first, signal.SIGKILL)
        self._world.end()
        for group in Path("/sys/fs/cgroup").glob(f"**/vc-test-{self._world.pid}"):
            for inner in sorted(group.glob("**/"), reverse=True):
                wait_for(lambda inner=inner: _removed(inner), f"{inner} is empty")


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # a process in it is still being ended by the kernel
    return True
