"""Real faults, one after the other, and what `vendctl doctor` finds (the seams: tests/cli)."""

from __future__ import annotations

import getpass
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.cli.checks_facts import gather
from controller.cli.client import Daemon
from controller.cli.doctor import as_check, examine
from controller.clock import kernel_says_synchronised
from tests.certificates import self_signed
from tests.cli.test_bundle import MARK, unpacked
from tests.system.broker import Broker, free_port
from tests.system.conftest import SiteMaker
from tests.system.site import BOTH, MACHINE_NO, SPIRAL_ON_XY, TRACK_ON_VBP, CabinetPlan, Lane, Site
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system

Checks = Mapping[str, list[Mapping[str, Any]]]


LOOK_S = 0.1
"""Between two looks of a doctor who is asked again."""


def doctor(site: Site, config: Path | None = None) -> Checks:
    """Code -> its findings. In this process: as a program it starts for most of its time, and
    that is tried by the tests that call `run_ctl`."""
    daemon = Daemon(str(site.daemon.control))
    found: dict[str, list[Mapping[str, Any]]] = {}
    for finding in examine(gather(daemon, None if config is None else str(config))):
        check = as_check(finding)
        assert "{" not in check["cause"] + check["remedy"], "every field was filled in"
        found.setdefault(check["code"], []).append(check)
    return found


def finds(site: Site, code: str, timeout: float = 20.0) -> Mapping[str, Any]:
    """Until the doctor finds it; its first finding."""

    def look() -> list[Mapping[str, Any]]:
        found = doctor(site).get(code, [])
        if not found:
            time.sleep(LOOK_S)
        return found

    return wait_for(look, f"the doctor finds {code}", timeout)[0]


# --------------------------------------------------------------------------- boards at work


def test_a_machine_in_order_has_nothing_to_mend(make_site: SiteMaker) -> None:
    site = make_site().up()
    finds(site, "eye_fine")
    found = doctor(site)
    assert {each["state"] for checks in found.values() for each in checks} <= {"fine", "look"}
    assert {
        "daemon_fine", "config_fine", "rights_fine", "disk_fine", "journal_fine", "port_fine",
        "board_fine", "door_fine", "cabinet_fine", "lanes_fine", "broker_fine", "outbox_fine",
        "units_fine", "stops_fine",
    } <= found.keys()  # fmt: skip
    shown = site.daemon.run_ctl("doctor")
    assert shown.returncode == 0
    assert "Nothing to mend" in shown.stdout
    assert [line for line in shown.stdout.splitlines() if len(line) > 60 and " " in line] == []


def test_door_eye_lanes_cabinet_and_board(make_site: SiteMaker) -> None:
    site = make_site().up()
    site.emulator.fault("main", "door_open")
    assert finds(site, "door_open")["subject"] == "main"
    site.emulator.lift("main", "door_open")
    site.emulator.fault("main", "eye_stuck_blocked")
    remedy = finds(site, "eye_blocked")["remedy"]
    assert "clean both lenses" in remedy
    assert remedy.startswith("vendctl cabinet stop A."), "a unit that waits would start"
    assert remedy.endswith("Hands out: vendctl cabinet start A")
    site.emulator.lift("main", "eye_stuck_blocked")
    site.emulator.fault("main", "eye_faulty")
    finds(site, "eye_faulty")
    site.emulator.lift("main", "eye_faulty")
    finds(site, "eye_fine")

    site.fault("A1", "motor_runs_on")
    site.daemon.run_ctl("test", "A1", "--yes")
    suspended = finds(site, "lane_suspended")
    assert suspended["subject"] == "A1"
    site.daemon.ctl("lane", "disable", "A3", "--yes")
    by = {name: f"(no reason given, by {getpass.getuser()})" for name in ("A3", "B")}
    site.daemon.ctl("cabinet", "stop", "B", "--yes")
    shown = " ".join(site.daemon.run_ctl("status").stdout.split())
    assert f"lane A3: disabled {by['A3']}" in shown
    assert f"cabinet B: stopped {by['B']}" in shown
    site.daemon.ctl("lane", "disable", "A2", "--reason", "bent", "--yes")
    site.daemon.ctl("stock", "set", "A3", "0", "--yes")
    site.daemon.ctl("cabinet", "stop", "B", "--reason", "refill", "--yes")
    found = doctor(site)
    assert "bent" in found["lane_disabled"][0]["cause"]
    assert found["lanes_empty"][0]["facts"]["lanes"] == "A3"
    assert "refill" in found["cabinet_stopped"][0]["cause"]

    site.daemon.ctl("service", "on", "--yes")
    assert doctor(site)["service_mode"][0]["state"] == "look"
    site.daemon.ctl("service", "off", "--yes")

    site.emulator.fault("main", "swap")
    assert "vendctl board accept main" in finds(site, "board_swapped")["remedy"]


def test_all_motors_open_is_the_harness_and_not_the_motors(make_site: SiteMaker) -> None:
    """The stop rule: one finding for the board in place of one for each lane."""
    site = make_site().up()
    for channel in ("B1", "B2"):
        site.fault(channel, "motor_open")
        site.daemon.run_ctl("test", channel, "--yes")
    harness = finds(site, "harness_open")
    assert (harness["subject"], harness["facts"]["count"]) == ("side", 2)
    assert "not at the motors" in harness["remedy"]
    assert "lane_suspended" not in doctor(site)
    done = site.daemon.run_ctl("test", "B1", "--yes")
    assert done.returncode == 0, "the fault struck once: this motor turns"
    assert "harness_open" not in doctor(site), "one that works: it is not the harness"


def test_a_unit_that_nobody_knows_is_waited_for_then_asked_of_a_person(
    make_site: SiteMaker,
) -> None:
    short = replace(SPIRAL_ON_XY, settings={**SPIRAL_ON_XY.settings, "cycle_timeout_s": 2})
    site = make_site((short,)).up()
    site.fault("B1", "ack_no_status")
    site.platform.dispense(7, [{"product_id": 221, "quantity": 1}])
    finds(site, "board_quarantined")
    assert finds(site, "unit_asked")["facts"]["order"] == "7"
    unknown = finds(site, "unit_unknown", 30)
    assert "vendctl resolve 7 1 --delivered" in unknown["remedy"]
    assert unknown["state"] == "bad"
    assert "vendctl resolve 7 1 first" in finds(site, "lane_unresolved")["remedy"]
    site.daemon.ctl("stock", "set", "B1", "4", "--yes")
    counted = site.daemon.run_ctl("status")
    assert counted.returncode == 1, "the customer's money is still open"
    assert "vendctl resolve 7 1" in " ".join(counted.stdout.split())
    site.daemon.ctl("resolve", "7", "1", "--delivered", "--yes")
    assert "vendctl resolve" not in site.daemon.run_ctl("status").stdout


# --------------------------------------------------------------------------- ports


def misread(data: bytes, factor: int = 2) -> bytes:
    """What a receiver at `factor` times the sender's baud rate makes of it (8N1)."""
    levels: list[int] = []
    for byte in data:
        bits = [0, *((byte >> place) & 1 for place in range(8)), 1]
        levels += [bit for bit in bits for _ in range(factor)]
    levels += [1] * 20
    got, at = bytearray(), 0
    while at + 9 < len(levels):
        if levels[at]:
            at += 1
            continue
        got.append(sum(levels[at + 1 + place] << place for place in range(8)))
        at += 10
    return bytes(got)


@contextmanager
def board_at_another_baud_rate() -> Iterator[str]:
    """A port on which an XY board polls at half the baud rate that the settings say."""
    ours, theirs = pty.openpty()
    over = threading.Event()

    def poll() -> None:
        while not over.wait(0.05):
            if select.select([], [ours], [], 0)[1]:
                os.write(ours, misread(bytes.fromhex("fafb410040")))

    talker = threading.Thread(target=poll)
    talker.start()
    try:
        yield os.ttyname(theirs)
    finally:
        over.set()
        talker.join()
        os.close(ours)
        os.close(theirs)


HOLDER = """
import fcntl, os, sys
device = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
fcntl.flock(device, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(port: str) -> Iterator[int]:
    """Another process has the port; its pid. It ends with its stdin."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        yield holder.pid
    finally:
        holder.communicate()


def plan(
    name: str, board: str, protocol: str = "vbp", emulated: str = "vbp", **settings: Any
) -> CabinetPlan:
    """A cabinet on a board of its own, of the protocol that the settings say and that it speaks."""
    return CabinetPlan(
        name=name,
        kind="spiral",
        board=board,
        protocol=emulated,
        drop_sensor=False,
        lanes=(Lane(f"{name}1", 1, 300 + ord(name)),),
        settings={"cycle_timeout_s": 10, "max_run_ms": 1000},
        board_settings={"protocol": protocol, **settings},
    )


def test_every_way_in_which_a_board_can_be_out_of_reach(make_site: SiteMaker) -> None:
    ours, theirs = pty.openpty()
    busy = os.ttyname(theirs)
    with board_at_another_baud_rate() as garbled, held(busy) as pid:
        site = make_site(
            (
                TRACK_ON_VBP,
                plan("C", "missing", port="/dev/serial/by-path/nowhere"),
                plan("D", "busy", port=busy),
                plan("E", "tcp", port=f"tcp://127.0.0.1:{free_port()}"),
                plan("F", "garbled", protocol="xy", port=garbled),
                plan("G", "silent"),
                plan("H", "other", emulated="xy"),
            )
        )
        site.broker.up()
        site.emulator.up()
        site.emulator.fault("silent", "go_silent")
        site.daemon.up()
        wait_for(lambda: "board_silent" in doctor(site), "a silent board is silent after its sends")
        found = doctor(site)
        of = {
            check["subject"]: check
            for checks in found.values()
            for check in checks
            if check["subject"] in ("missing", "busy", "tcp", "garbled", "silent", "other")
        }
        assert {name: check["code"] for name, check in of.items()} == {
            "missing": "port_missing",
            "busy": "port_busy",
            "tcp": "port_unreachable",
            "garbled": "board_not_understood",
            "silent": "board_silent",
            "other": "board_not_understood",
        }
        assert f"(process {pid})" in of["busy"]["cause"], "who holds it"
        assert "57600 baud" in of["garbled"]["cause"]

        site.emulator.fault("main", "go_silent")
        wait_for(lambda: not site.daemon.ctl("status")["boards"]["main"]["up"], "it is lost")
        assert finds(site, "board_lost")["subject"] == "main"

        site.daemon.kill()
        alone = doctor(site, site.daemon.settings)
        assert alone["daemon_unreachable"][0] == next(iter(alone.values()))[0], "it comes first"
        assert {check["subject"] for check in alone["port_busy"]} == {"busy"}
        assert [check["subject"] for check in alone["port_missing"]] == ["missing"]
    os.close(ours)
    os.close(theirs)


def test_a_port_that_the_daemon_may_not_open(make_site: SiteMaker) -> None:
    """The kernel's own refusal. As root the daemon runs without the right to pass over modes."""
    site = make_site([TRACK_ON_VBP])
    site.broker.up()
    site.emulator.up()
    port = site.emulator.port("main").resolve()
    port.chmod(0)
    if os.geteuid() == 0:
        strict = ("--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all", "--")
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root passes over modes, and there is no setpriv to take that away")
        site.daemon.command = [setpriv, *strict, *site.daemon.command]
    site.daemon.up()
    denied = finds(site, "port_denied")
    assert denied["subject"] == "main"
    assert "mode 0000" in denied["cause"]
    port.chmod(0o600)
    wait_for(lambda: site.daemon.ctl("status")["boards"]["main"]["up"], "the board is there")
    assert "port_denied" not in doctor(site)


# --------------------------------------------------------------------------- broker


class GuardedBroker(Broker):
    """With further lines in its file; anonymous users only where `anonymous`."""

    def __init__(self, directory: Path, lines: str, *, anonymous: bool) -> None:
        super().__init__(directory, persistent=False)
        self._lines = lines
        self._anonymous = anonymous

    def config(self) -> str:
        plain = super().config()
        if not self._anonymous:
            plain = plain.replace("allow_anonymous true", "allow_anonymous false")
        return plain + self._lines + "\n"


def with_broker(site: Site, lines: str, *, anonymous: bool = True) -> Site:
    """The same site behind a broker that minds; no platform."""
    guarded = GuardedBroker(site.directory / "guarded", lines, anonymous=anonymous)
    guarded.port = site.broker.port
    site.broker = guarded
    guarded.up()
    site.emulator.up()
    site.daemon.up()
    return site


def test_a_broker_that_is_away_and_one_that_nobody_listens_to(make_site: SiteMaker) -> None:
    site = make_site((SPIRAL_ON_XY,), persistent_broker=False).up()
    site.platform._client.unsubscribe(f"{site.platform.root}/order")
    site.platform.dispense(1, [{"product_id": 221, "quantity": 1}])
    unheard = finds(site, "topic_unheard")
    assert (unheard["subject"], unheard["state"]) == ("order", "bad")
    site.broker.kill()
    away = finds(site, "broker_unreachable")
    assert "Nobody listens on that port" in away["remedy"]
    assert "outbox_waits" in doctor(site)


def test_a_broker_whose_acl_forbids_a_topic(make_site: SiteMaker, short_dir: Path) -> None:
    """Mosquitto cuts the line, too: both are said, whether it is connected just now or not."""
    acl = short_dir / "acl"
    allowed = ("state", "telemetry", "inventory", "order", "result")
    acl.write_text("".join(f"topic readwrite vending/v1/{MACHINE_NO}/{each}\n" for each in allowed))
    acl.chmod(0o644)
    site = with_broker(make_site((SPIRAL_ON_XY,)), f"acl_file {acl}")
    site.daemon.run_ctl("test", "B1", "--yes")
    refused = finds(site, "topic_refused")
    assert (refused["subject"], refused["facts"]["reason"]) == ("event", 0x87)
    acl.write_text("")
    site.broker.terminate()
    site.broker.up()
    assert "ACL" in finds(site, "broker_lost")["remedy"]


def test_a_broker_that_wants_a_password(make_site: SiteMaker, short_dir: Path) -> None:
    passwords = short_dir / "passwords"
    passwords.touch(0o644)
    site = with_broker(make_site((SPIRAL_ON_XY,)), f"password_file {passwords}", anonymous=False)
    assert "[mqtt] username" in finds(site, "broker_refuses")["remedy"]


def test_certificates_that_ended_begin_later_or_end_soon(
    make_site: SiteMaker, short_dir: Path
) -> None:
    def days(number: int) -> timedelta:
        return timedelta(days=number)

    expired = self_signed(short_dir, "expired", begins=days(-90), ends=days(-2))
    early = self_signed(short_dir, "early", begins=days(2), ends=days(90))
    soon = self_signed(short_dir, "soon", begins=days(-90), ends=days(12))
    tls = {"ca_file": str(soon), "cert_file": str(early), "key_file": str(short_dir / "early.key")}
    for each in short_dir.glob("*.key"):
        each.chmod(0o644)
    site = make_site((SPIRAL_ON_XY,))
    text = site.daemon.settings.read_text()
    lines = "\n".join(f'{key} = "{value}"' for key, value in tls.items())
    site.daemon.settings.write_text(text.replace("[service]", f"[mqtt.tls]\n{lines}\n\n[service]"))
    with_broker(site, f"certfile {expired}\nkeyfile {short_dir / 'expired.key'}")
    finds(site, "broker_tls")
    found = doctor(site)
    assert found["certificate_expired"][0]["subject"] == f"server 127.0.0.1:{site.broker.port}"
    assert found["certificate_early"][0]["subject"] == f"cert_file {early}"
    assert found["certificate_ends"][0]["facts"]["days"] == 11
    soon.write_text("no certificate\n")
    assert doctor(site)["certificate_unread"][0]["subject"] == f"ca_file {soon}"


# --------------------------------------------------------------------------- memory, settings


def test_settings_that_changed_and_settings_that_are_wrong(make_site: SiteMaker) -> None:
    site = make_site((SPIRAL_ON_XY,), persistent_broker=False).up()
    text = site.daemon.settings.read_text()
    site.daemon.settings.write_text(text + "\n# a remark\n")
    assert set(doctor(site)) >= {"config_changed"}
    site.daemon.settings.write_text(text.replace("[clock]", '[clock]\npassword = "hunter2"'))
    wrong = doctor(site)["config_invalid"][0]
    assert "unknown key" in wrong["cause"]
    assert "hunter2" not in wrong["cause"], "what stands in a wrong place may be a secret"
    relative = text.replace(f'"{site.directory / "state"}"', '"state"')
    site.daemon.settings.write_text(relative)
    assert "relative path" in doctor(site)["config_warning"][0]["cause"]


@pytest.mark.skipif(kernel_says_synchronised(), reason="this machine's clock is synchronised")
def test_a_clock_that_was_never_set(make_site: SiteMaker) -> None:
    site = make_site((SPIRAL_ON_XY,), persistent_broker=False)
    text = site.daemon.settings.read_text()
    site.daemon.settings.write_text(text.replace("require_sync = false", "require_sync = true"))
    site.up()
    assert "timedatectl" in doctor(site)["clock_unset"][0]["remedy"]


def test_crashes_and_a_damaged_journal(make_site: SiteMaker) -> None:
    site = make_site((SPIRAL_ON_XY,), persistent_broker=False).up()
    site.daemon.kill()
    site.daemon.up()
    assert doctor(site)["last_stop"][0]["facts"]["kind"] == "crash"
    for _ in range(2):
        site.daemon.kill()
        site.daemon.up()
    assert doctor(site)["crashes"][0]["facts"]["count"] == 3
    state = site.directory / "state"
    (state / "journal.damaged").touch()
    assert "journal.db" in doctor(site)["journal_damaged"][0]["subject"]
    site.daemon.terminate()
    site.daemon.up()
    found = doctor(site)
    assert found["journal_lost"][0]["subject"] == "B"
    assert found["journal_set_aside"][0]["facts"]["count"] == 1


def test_a_state_directory_that_is_gone(make_site: SiteMaker) -> None:
    site = make_site(BOTH)
    (site.directory / "state").rmdir()
    found = doctor(site, site.daemon.settings)
    assert found["state_dir_missing"][0]["subject"] == str(site.directory / "state")
    missing = site.directory / "no.toml"
    assert "no.toml" in doctor(site, missing)["config_invalid"][0]["cause"]


# --------------------------------------------------------------------------- the bundle


def test_a_real_machine_tells_its_settings_orders_and_journal(
    make_site: SiteMaker, tmp_path: Path
) -> None:
    site = make_site((SPIRAL_ON_XY,), persistent_broker=False)
    text = site.daemon.settings.read_text()
    password = site.directory / "password"
    password.write_text(f"{MARK}password\n")
    login = f'username = "{MARK}user"\npassword_file = "{password}"'
    site.daemon.settings.write_text(text.replace("[service]", f"{login}\n\n[service]", 1))
    site.up()
    site.platform.dispense(5, [{"product_id": 221, "quantity": 1}])
    site.platform.wait_order(5, "finished")
    archive = tmp_path / "out.tar.gz"
    assert site.daemon.ctl("doctor", "--bundle", str(archive))["members"]
    contents = unpacked(archive)
    assert [name for name, content in contents.items() if MARK.encode() in content] == []
    settings = json.loads(contents["settings.json"])["settings"]
    assert settings["mqtt"]["username"] == settings["mqtt"]["password_file"] == "(set)"
    assert settings["cabinet"][0]["lane"][0]["channel"] == "B1"
    tables = json.loads(contents["journal.json"])["tables"]
    assert tables["units"][0]["outcome"] == "delivered"
    assert not any(content.startswith(b"SQLite format") for content in contents.values())
    frames = json.loads(contents["order-details.json"])[0]["orders"][0]["unit_list"][0]["cycles"]
    assert frames[0]["trace"]
