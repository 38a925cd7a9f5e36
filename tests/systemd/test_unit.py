"""The unit and its companions, judged by systemd's own tools and by the kernel."""

from __future__ import annotations

import ctypes.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from controller.config_rules import CYCLE_TIMEOUT_S
from controller.daemon import DRAIN_MARGIN_S, FLUSH_S, STOP_REST_S

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"
UNIT = SYSTEMD / "vending-controller.service"
PROGRAM = "/opt/vending-controller/.venv/bin/vendingd"
EXPOSURE_BOUND = 2.0

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine"
)


def setting(name: str) -> list[str]:
    """Every value of a setting of the unit, in order."""
    return re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text())


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is on this machine: `verify` looks for it."""
    stand_in = shutil.which("true")
    assert stand_in is not None
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(PROGRAM, stand_in))
    return copy


@needs_analyze
def test_systemd_understands_every_line(unit: Path) -> None:
    done = run("systemd-analyze", "verify", "--man=no", str(unit))
    said = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, said) == (0, [])


@needs_analyze
def test_verify_can_fail(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("Restart=on-failure", "Restrat=on-failure"))
    assert "Restrat" in run("systemd-analyze", "verify", "--man=no", str(unit)).stderr


@needs_analyze
def test_exposure_stays_below_its_bound(unit: Path) -> None:
    threshold = f"--threshold={EXPOSURE_BOUND * 10:.0f}"
    done = run("systemd-analyze", "security", "--offline=true", "--no-pager", threshold, str(unit))
    level = re.search(r"exposure level for \S+ ([0-9.]+)", done.stdout)
    assert level is not None, done.stderr
    assert float(level[1]) <= EXPOSURE_BOUND
    assert done.returncode == 0


def test_what_the_daemon_needs_of_the_sandbox() -> None:
    """Reasons are at each line of the unit; this holds them against a well-meant hardening."""
    assert setting("ProtectClock") == ["no"]  # adjtimex
    assert setting("PrivateUsers") == []  # SO_PEERCRED, SO_PEERGROUPS
    assert setting("ProcSubset") == []  # boot_id
    assert setting("PrivateDevices") == []  # serial ports
    assert setting("PrivateNetwork") == []
    assert setting("CapabilityBoundingSet") == [""]
    assert set(setting("SupplementaryGroups")[0].split()) == {"dialout", "vending", "vending-tech"}
    assert {line.split()[0] for line in setting("DeviceAllow")} == {
        "char-4",
        "char-204",
        "char-188",
        "char-166",
    }


def test_the_life_of_the_service() -> None:
    assert setting("Type") == ["notify"]
    assert setting("Restart") == ["on-failure"]
    assert setting("StartLimitIntervalSec") == ["0"]
    assert setting("ExecStart") == [f"{PROGRAM} --config /etc/vending-controller/config.toml"]
    assert setting("ExecStopPost")[0].endswith("--record-stop")
    assert int(setting("WatchdogSec")[0]) > 0
    assert int(setting("TimeoutStartSec")[0]) > 5
    assert int(setting("TimeoutStopSec")[0]) >= max(CYCLE_TIMEOUT_S.values()) + STOP_REST_S
    assert 2 * (DRAIN_MARGIN_S + FLUSH_S) < STOP_REST_S


# --------------------------------------------------------------------------- system calls

SANDBOX = """
import ctypes, errno, json, os, socket, sqlite3, ssl, sys, tempfile, time
seccomp = ctypes.CDLL(sys.argv[1])
seccomp.seccomp_init.restype = ctypes.c_void_p
seccomp.seccomp_init.argtypes = [ctypes.c_uint32]
seccomp.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
seccomp.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
ALLOW, REFUSE, UNKNOWN = 0x7FFF0000, 0x00050000 | errno.EPERM, -1
box = seccomp.seccomp_init(REFUSE)
for name in json.load(sys.stdin):
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if number != UNKNOWN:
        seccomp.seccomp_rule_add_array(box, ALLOW, number, 0, None)
assert seccomp.seccomp_load(box) == 0

libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(512)
read_clock = libc.adjtimex(buffer)
try:
    time.clock_settime(time.CLOCK_REALTIME, time.time())
    set_clock = "allowed"
except PermissionError:
    set_clock = "refused"

import asyncio, threading
from controller import clock, config, logs, notify
import aiohttp, paho.mqtt.client, serial, serial_asyncio, transitions

with tempfile.TemporaryDirectory() as directory:
    os.chown(directory, -1, os.getgid())
    base = sqlite3.connect(directory + "/j.db")
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("CREATE TABLE t (x)")
    base.commit()
    base.close()

    async def talk():
        async def answer(reader, writer):
            peer = writer.get_extra_info("socket")
            writer.write(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            writer.close()
        server = await asyncio.start_unix_server(answer, directory + "/s")
        reader, writer = await asyncio.open_unix_connection(directory + "/s")
        who = await reader.read()
        writer.close()
        server.close()
        await asyncio.to_thread(os.getpid)
        return len(who)
    peer = asyncio.run(talk())
master, slave = os.openpty()
serial.Serial(os.ttyname(slave), exclusive=True).close()
print(json.dumps({"read": read_clock, "set": set_clock, "peer": peer,
                  "said": clock.kernel_says_synchronised(), "boot": len(clock.boot_id())}))
"""
"""Puts itself under the unit's filter by libseccomp, then does what the daemon does."""


def expanded(words: str) -> set[str]:
    """The calls that a value of SystemCallFilter= names, groups taken apart."""
    calls: set[str] = set()
    for word in words.removeprefix("~").split():
        if not word.startswith("@"):
            calls.add(word)
            continue
        lines = run("systemd-analyze", "syscall-filter", word).stdout.splitlines()[1:]
        names = (line.strip() for line in lines)
        inner = " ".join(name for name in names if name and not name.startswith("#"))
        calls |= expanded(inner)
    return calls


def allowed_calls() -> set[str]:
    """As systemd adds the lines up: the first is an allow list, `~` takes away."""
    calls = expanded("@default")
    for value in setting("SystemCallFilter"):
        calls = calls - expanded(value) if value.startswith("~") else calls | expanded(value)
    return calls


@needs_analyze
def test_the_filter_lets_the_clock_be_read_and_not_set() -> None:
    calls = allowed_calls()
    assert {"adjtimex", "clock_adjtime", "clock_adjtime64"} <= calls
    assert not calls & {"clock_settime", "clock_settime64", "settimeofday", "reboot", "mount"}
    assert {"fsync", "fdatasync", "ioctl", "flock", "chown", "fchownat", "getsockopt"} <= calls


@needs_analyze
@pytest.mark.slow
def test_the_daemons_work_under_the_filter() -> None:
    """A real seccomp filter out of the unit's lines, and the daemon's libraries beneath it."""
    library = ctypes.util.find_library("seccomp") or "libseccomp.so.2"
    try:
        ctypes.CDLL(library)
    except OSError:
        pytest.skip("libseccomp is not on this machine")
    done = subprocess.run(
        [sys.executable, "-c", SANDBOX, library],
        input=json.dumps(sorted(allowed_calls())),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["read"] != -1  # ProtectClock=yes would make it -1, EPERM
    assert found["set"] == "refused"
    assert found["peer"] == 12
    assert found["boot"] == 36


# --------------------------------------------------------------------------- companions


def test_the_documents_commands_install_the_files_on_a_bare_debian(tmp_path: Path) -> None:
    """Debian 12 has no /etc/sysusers.d until somebody makes it."""
    for directory in ("systemd/system", "tmpfiles.d"):
        (tmp_path / "etc" / directory).mkdir(parents=True)
    document = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"The service's own files:\n\n```\n(.*?)```", document, re.DOTALL)
    installs = [line.removeprefix("sudo ") for line in block.splitlines() if "install" in line]
    for line in installs:
        done = subprocess.run(
            ["sh", "-ec", line.replace("/etc/", f"{tmp_path}/etc/")],
            capture_output=True,
            text=True,
            check=False,
            cwd=SYSTEMD,
        )
        assert (done.returncode, done.stderr) == (0, ""), line
    installed = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert installed == {
        "etc/systemd/system/vending-controller.service",
        "etc/sysusers.d/vending-controller.conf",
        "etc/tmpfiles.d/vending-controller.conf",
    }


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="no systemd-sysusers here")
def test_sysusers_makes_the_user_and_its_groups(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    file = SYSTEMD / "sysusers.d" / "vending-controller.conf"
    done = run("systemd-sysusers", f"--root={tmp_path}", "--dry-run", str(file))
    assert done.returncode == 0, done.stderr
    created = set(re.findall(r"Creating (?:group|user) '([a-z-]+)'", done.stderr + done.stdout))
    assert {"vending-controller", "vending", "vending-tech"} <= created


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="no systemd-tmpfiles here")
def test_tmpfiles_closes_the_directory_of_the_settings(tmp_path: Path) -> None:
    """With this machine's root in place of user and group that are not made here."""
    file = tmp_path / "vending-controller.conf"
    text = (SYSTEMD / "tmpfiles.d" / file.name).read_text()
    group, ours = "root vending-controller", "- -"
    assert group in text
    file.write_text(text.replace(group, ours))
    root = tmp_path / "root"
    (root / "etc" / "vending-controller").mkdir(parents=True)
    settings = root / "etc" / "vending-controller" / "config.toml"
    settings.touch(0o644)
    done = run("systemd-tmpfiles", f"--root={root}", "--create", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert settings.parent.stat().st_mode & 0o777 == 0o750
    assert settings.stat().st_mode & 0o777 == 0o640


def test_udev_rules_are_matches_and_assignments() -> None:
    text = (SYSTEMD / "udev" / "70-vending-controller.rules").read_text()
    rules = [line for line in text.splitlines() if line and not line.startswith("#")]
    part = r'[A-Z]+(\{[A-Z_]+\})?(==|!=|\+=|=)"[^"]*"'
    assert rules
    assert [rule for rule in rules if not re.fullmatch(rf"{part}(, {part})*", rule)] == []
