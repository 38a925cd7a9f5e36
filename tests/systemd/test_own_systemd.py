"""The service under a real systemd, in its own sandbox: started, killed, hung, stopped.

What systemd makes of the unit is the question here, so nothing of it is replaced; a
drop-in shortens the watchdog and the pause before a restart, as a site may.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.system.broker import free_port
from tests.system.site import TRACK_ON_VBP, Site
from tests.system.waiting import wait_for
from tests.systemd.own_systemd import PYTHON_LIBRARIES, OwnSystemd, install, missing

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

UNIT = "vending-controller"
VENDCTL = "/opt/vending-controller/.venv/bin/vendctl"
DROP_IN = f"""[Service]
WatchdogSec=3
RestartSec=100ms
Environment=LD_LIBRARY_PATH={PYTHON_LIBRARIES}
"""


@dataclass
class Installed:
    site: Site
    world: OwnSystemd

    def show(self, name: str) -> str:
        return self.world.must("systemctl", "show", "--value", "-p", name, UNIT).strip()

    def restarted(self, before: str) -> bool:
        return self.show("MainPID") not in {"0", before} and self.show("ActiveState") == "active"

    def status(self) -> dict[str, Any]:
        done = self.world.run(VENDCTL, "status", "--json")
        assert done.returncode in {0, 1}, done.stderr  # 1: it sells, and something needs a person
        return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    directory = Path(tempfile.mkdtemp(prefix="vc-"))
    port = free_port()
    plan = replace(
        TRACK_ON_VBP,
        board_settings={"port": f"tcp://127.0.0.1:{port}"},
        scenario={"port": f"tcp:127.0.0.1:{port}"},
    )
    site = Site(directory, [plan], machine={"state_dir": "/var/lib/vending-controller"})
    settings = site.daemon.settings.read_text(encoding="utf-8")
    settings = settings.replace(str(directory / "ctl.sock"), "/run/vending-controller/control.sock")
    world = OwnSystemd(directory / "world")
    install(world.directory / "install", settings, DROP_IN)
    try:
        site.broker.up()
        site.emulator.up()
        site.platform.up()
        world.up()
        world.must("systemd-sysusers")
        world.must("systemd-tmpfiles", "--create", f"/etc/tmpfiles.d/{UNIT}.conf")
        for user, groups in {"anna": "vending,vending-tech", "look": "vending", "none": ""}.items():
            world.must("useradd", "-G", groups, user)
        started = world.run("systemctl", "start", UNIT)
        assert started.returncode == 0, world.must("journalctl", "--no-pager", "-u", UNIT)
        yield Installed(site, world)
    finally:
        world.end()
        site.close()
        shutil.rmtree(directory, ignore_errors=True)


def test_it_is_ready_and_sells_from_within_its_sandbox(installed: Installed) -> None:
    assert installed.show("ActiveState") == "active"
    assert "main up" in installed.show("StatusText")
    installed.site.platform.dispense(1, [{"product_id": 122, "quantity": 1}])
    assert installed.site.platform.wait_results(1, 1)[1]["outcome"] == "delivered"
    modes = installed.world.must(
        "stat", "-c", "%a %U %G", "/var/lib/vending-controller/journal.db",
        "/run/vending-controller/control.sock", "/etc/vending-controller/config.toml",
    ).splitlines()  # fmt: skip
    assert modes == [
        "600 vending-controller vending-controller",
        "660 vending-controller vending",
        "640 root vending-controller",
    ]


def test_an_order_is_followed_in_the_journal_by_its_id_with_priorities(
    installed: Installed,
) -> None:
    lines = installed.world.must("journalctl", "-u", UNIT, "-o", "json", "--no-pager")
    entries = [json.loads(line) for line in lines.splitlines()]
    ours = [entry for entry in entries if "order=1" in entry["MESSAGE"]]
    assert {entry["PRIORITY"] for entry in ours} == {"6"}
    assert any("cycle_closed" in entry["MESSAGE"] for entry in ours)


def test_who_may_look_and_who_may_act_is_a_matter_of_groups(installed: Installed) -> None:
    run = installed.world.run
    act = (VENDCTL, "lane", "disable", "A3", "--reason", "test", "--yes")
    assert run(VENDCTL, "status", user="look").returncode == 0
    refused = run(*act, user="look")
    assert (refused.returncode, "vending-tech" in refused.stderr) == (4, True)
    assert run(*act, user="anna").returncode == 0
    stranger = run(VENDCTL, "status", user="none")
    assert (stranger.returncode, "usermod -aG vending none" in stranger.stderr) == (3, True)


def test_after_kill_9_systemd_starts_it_again_and_it_knows(installed: Installed) -> None:
    before = installed.show("MainPID")
    installed.site.platform.dispense(2, [{"product_id": 122, "quantity": 2}])
    installed.site.wait_ledger("A2", "motor_started", times=2)
    installed.world.must("systemctl", "kill", "-s", "KILL", "--kill-who=main", UNIT)
    wait_for(lambda: installed.restarted(before), "it runs again", 20)
    assert installed.status()["last_stop"] == "crash"
    assert installed.site.platform.wait_order(2, "finished")["delivered"] == 2


def test_a_loop_that_hangs_is_ended_by_the_watchdog(installed: Installed) -> None:
    before = installed.show("MainPID")
    installed.world.must("systemctl", "kill", "-s", "STOP", "--kill-who=main", UNIT)
    wait_for(lambda: installed.restarted(before), "it runs again", 20)
    assert installed.status()["last_stop"] == "watchdog"


def test_a_stop_is_clean_and_says_goodbye(installed: Installed) -> None:
    installed.world.must("systemctl", "stop", UNIT)
    assert installed.show("Result") == "success"
    assert installed.show("ExecMainStatus") == "0"
    installed.site.platform.wait_for(
        lambda: installed.site.platform.of("state")[-1]["online"] is False, "it said goodbye"
    )
    installed.world.must("systemctl", "start", UNIT)
    assert installed.status()["last_stop"] == "clean"
