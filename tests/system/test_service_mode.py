"""Service mode of a real daemon, by vendctl: over a kill, by its clock, as the platform sees it."""

from __future__ import annotations

import signal
import sqlite3
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.system.conftest import SiteMaker
from tests.system.site import SPIRAL_ON_XY, TRACK_ON_VBP, Site
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system


def mode_at_platform(site: Site) -> str:
    states = site.platform.of("state")
    return str(states[-1].get("mode")) if states else ""


def rejection(site: Site, order_id: int, product_id: int) -> tuple[str, str]:
    site.platform.dispense(order_id, [{"product_id": product_id, "quantity": 1}])
    told = site.platform.wait_order(order_id, "rejected")
    return told["code"], told["command_executed"]


def test_p11_it_outlives_kill_9_and_tests_work_in_it(make_site: SiteMaker) -> None:
    site = make_site(service={"tests_need_service_mode": True}).up()
    outside = site.daemon.run_ctl("test", "A1", "--yes")
    assert outside.returncode == 4
    assert "not_in_service_mode" in outside.stderr
    site.daemon.ctl("service", "on", "--yes")
    site.daemon.signal(signal.SIGKILL)
    site.daemon.wait()
    site.daemon.up()
    status: dict[str, Any] = site.daemon.ctl("status")
    assert status["mode"] == "service"
    assert 590 < status["service_mode"]["idle_left_s"] <= 600
    wait_for(lambda: mode_at_platform(site) == "service", "the platform sees it")
    assert rejection(site, 1, 121) == ("service_mode", "no")
    assert site.daemon.run_ctl("test", "A1", "--yes").returncode == 0
    assert site.daemon.ctl("service", "off", "--yes")["service_mode"] is None
    wait_for(lambda: mode_at_platform(site) == "ready", "the platform sees that it sells")
    site.platform.dispense(2, [{"product_id": 121, "quantity": 1}])
    site.platform.wait_order(2, "finished")
    site.wait_rest()
    site.judge(test_cycles={"A1": 1})
    site.daemon.signal(signal.SIGTERM)
    assert site.daemon.wait() == 0
    with sqlite3.connect(site.directory / "state" / "journal.db") as connection:
        who = connection.execute("SELECT who, action FROM audit ORDER BY id").fetchall()
    connection.close()
    assert [action for _, action in who] == ["service_on", "lane_test", "service_off"]
    assert who[0][0] == status["service_mode"]["who"] != ""


def test_it_leaves_by_itself_and_what_waited_is_given_out(make_site: SiteMaker) -> None:
    cabinets = (TRACK_ON_VBP, replace(SPIRAL_ON_XY, run_ms=1500))
    site = make_site(cabinets, service={"idle_minutes": 0.05}).up()  # 3 s
    site.platform.dispense(1, [{"product_id": 221, "quantity": 2}])
    site.wait_ledger("B1", "motor_started")
    answer = site.daemon.ctl("service", "on", "--yes")
    began = time.monotonic()
    assert answer["moving"]
    assert answer["open_units"] == 2
    wait_for(lambda: site.daemon.ctl("status")["service_mode"] is None, "it leaves by itself")
    assert time.monotonic() - began > 2.5
    site.platform.wait_order(1, "finished")
    site.wait_rest()
    assert len(site.ledger("B1", "drive_frame")) == 2
    (left,) = [e for e in site.daemon.ctl("events")["events"] if e["detail"].get("why") == "idle"]
    assert (left["kind"], left["detail"]["who"]) == ("service_mode", "daemon")
