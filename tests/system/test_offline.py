"""vendctl --offline: the daemon is stopped, and a technician tests a lane all the same."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.system.conftest import SiteMaker
from tests.system.process import PROGRAMS
from tests.system.site import Site
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system


def offline(site: Site, *words: str) -> tuple[int, str, str]:
    done = site.daemon.run_ctl(
        "--offline", "--config", str(site.daemon.settings), *words, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def told_tests(site: Site) -> list[dict[str, Any]]:
    return [event for event in site.platform.of("event") if event["kind"] == "test_vend"]


def test_a_test_vend_without_the_daemon_is_journalled_and_told_later(site: Site) -> None:
    """P6, P9: the same rules, the same journal; its event leaves when the daemon is back."""
    code, _, words = offline(site, "test", "A1", "--yes")
    assert (code, "leave --offline out" in words) == (4, True)
    site.daemon.terminate()
    code, said, words = offline(site, "test", "A1", "--yes", "--json")
    assert code == 0, words
    steps = [json.loads(line) for line in said.splitlines()]
    assert [s["outcome"] for s in steps if s["event"] == "outcome"] == ["delivered"]
    assert len(site.ledger("A1", "product_fell")) == 1
    assert told_tests(site) == []
    code, said, words = offline(site, "status")
    assert (code, "not used by --offline" in said) == (0, True), said + words
    site.daemon.up()
    wait_for(lambda: told_tests(site), "the platform hears of the test")
    site.wait_rest()
    site.judge(test_cycles={"A1": 1})


def test_what_waits_for_a_customer_waits_on(make_site: SiteMaker) -> None:
    """P4: no customer's motor turns while a technician has the machine to themselves."""
    site = make_site().up()
    site.emulator.fault("main", "eye_stuck_blocked")
    site.platform.dispense(1, [{"product_id": 121, "quantity": 1}])
    wait_for(lambda: "order_accepted" in site.daemon.output(), "the order is accepted")
    site.daemon.kill()
    site.emulator.lift("main", "eye_stuck_blocked")
    code, _, words = offline(site, "test", "A2", "--yes")
    assert (code, "busy" in words) == (4, True), words
    code, said, words = offline(site, "test", "B1", "--yes")
    assert (code, "delivered" in said) == (0, True), words
    assert site.ledger("A1", "drive_frame") + site.ledger("A3", "drive_frame") == []
    site.daemon.up()
    site.wait_rest()
    site.judge(test_cycles={"B1": 1})


def test_it_says_why_it_cannot_begin(site: Site) -> None:
    """The journal's lock is the daemon's, whatever socket is named."""
    done = site.daemon.run_ctl(
        "--socket", "/nowhere/s", "--offline", "--config", str(site.daemon.settings), "status"
    )
    assert done.returncode == 4
    assert "not_started" in done.stderr
    assert f"is in use by process {site.daemon.pid}" in done.stderr


def test_a_vendctl_that_is_killed_leaves_no_daemon_behind(site: Site) -> None:
    """It would hold the journal and the ports against the real one."""
    site.daemon.terminate()
    words = [
        "--offline",
        "--config",
        str(site.daemon.settings),
        "eye",
        "A",
        "--seconds",
        "60",
        "--json",
    ]
    looking = subprocess.Popen(
        [str(PROGRAMS / "vendctl"), *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert looking.stdout is not None
        assert looking.stdout.readline(), "it looks at the eye"
    finally:
        looking.kill()
        looking.wait()
    wait_for(lambda: offline(site, "status")[0] in {0, 1}, "the journal is free again", 30)
    site.daemon.up()
