"""What the platform may do from afar: the same as vendctl, allowed by name, once."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.system.conftest import SiteMaker
from tests.system.site import TRACK_ON_VBP, Site
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system


def ask(site: Site, verb: str, request_id: str, **more: Any) -> dict[str, Any]:
    now = int(time.time())
    topic = f"response/{verb}"
    before = len(site.platform.of(topic))
    asked = {"request_id": request_id, "issued_at": now, "expires_at": now + 30, **more}
    site.platform.send(f"request/{verb}", asked)
    ours = (request_id, "")  # a broker delivers again what a crash left unacknowledged

    def answers() -> list[dict[str, Any]]:
        return [told for told in site.platform.of(topic)[before:] if told["request_id"] in ours]

    return wait_for(answers, f"the answer to {verb}")[0]


def test_the_stock_is_set_once_over_a_crash_and_a_lane_is_tested(make_site: SiteMaker) -> None:
    """P6, P8, P10."""
    site = make_site(service={"remote_verbs": ["stock.set", "lane.test"]}).up()
    told = ask(site, "stock.set", "s1", channel="A2", stock=3)
    assert (told["code"], told["data"]["lane"]["stock"]) == ("ok", 3)
    site.daemon.kill()
    site.daemon.up()
    assert site.daemon.ctl("stock", "set", "A2", "5", "--yes")["lane"]["stock"] == 5
    assert ask(site, "stock.set", "s1", channel="A2", stock=3)["data"] == told["data"]
    diagnostics = ask(site, "diagnostics", "d1")["data"]
    assert diagnostics["lanes"] == site.daemon.ctl("lanes")["lanes"]
    assert [lane["stock"] for lane in diagnostics["lanes"] if lane["channel"] == "A2"] == [5]
    assert ask(site, "lane.disable", "l1", channel="A1")["code"] == "not_allowed"
    tested = ask(site, "lane.test", "t1", channel="A1")
    assert tested["code"] == "ok", tested
    assert ask(site, "lane.test", "t1", channel="A1")["data"] == tested["data"]
    site.wait_ledger("A1", "product_fell")
    wait_for(
        lambda: [e for e in site.platform.of("event") if e["kind"] == "test_vend"],
        "the outcome of the test",
    )
    assert ask(site, "lane.test", "t2", channel="Z9")["data"]["error"] == "unknown_channel"
    site.wait_rest()
    site.judge(test_cycles={"A1": 1})


def test_service_mode_is_turned_on_from_afar(make_site: SiteMaker) -> None:
    site = make_site(service={"remote_verbs": ["mode.set"]}).up()
    assert ask(site, "mode.set", "m1", mode="service")["code"] == "ok"
    assert site.daemon.ctl("status")["mode"] == "service"
    assert ask(site, "mode.set", "m2", mode="ready")["data"]["service_mode"] is None


def told_of(site: Site, test_id: str) -> dict[str, Any]:
    """The one event that says how this test vend ended."""

    def told() -> list[dict[str, Any]]:
        return [detail for detail in ends_of_test_vends(site) if detail["test_id"] == test_id]

    (detail,) = wait_for(told, f"the outcome of {test_id}")
    return detail


def ends_of_test_vends(site: Site) -> list[dict[str, Any]]:
    """Each once: a PUBACK that a stop took away brings the same event again (QoS 1)."""
    events = {e["event_seq"]: e for e in site.platform.of("event") if e["kind"] == "test_vend"}
    return [event["detail"] for event in events.values()]


def test_a_test_that_a_crash_met_is_never_begun_again_and_has_an_outcome(
    make_site: SiteMaker,
) -> None:
    """P6, P8: killed before it is carried out; killed, and stopped, while its vend waits."""
    waits = replace(TRACK_ON_VBP, settings={**TRACK_ON_VBP.settings, "eye_clear_timeout_s": 60})
    site = make_site([waits], service={"remote_verbs": ["lane.test"]})
    daemon = site.daemon
    daemon.command = [sys.executable, "-m", "tests.crash.killed", "--config", str(daemon.settings)]
    site.up({"KILL_AT": "perform:before:1"})
    now = int(time.time())
    claimed = {"request_id": "t1", "issued_at": now, "expires_at": now + 30, "channel": "A1"}
    site.platform.send("request/lane.test", claimed)
    died = wait_for(lambda: daemon.exit_code, "the daemon dies between claim and vend")
    assert died == -signal.SIGKILL
    daemon.up()
    assert ask(site, "lane.test", "t1", channel="A1")["code"] == "interrupted"
    site.emulator.fault("main", "eye_stuck_blocked")
    answers = {}
    for request_id, end in (("t2", daemon.kill), ("t3", daemon.terminate)):
        answers[request_id] = ask(site, "lane.test", request_id, channel="A1")
        assert answers[request_id]["code"] == "ok", answers[request_id]
        end()
        daemon.up()
        told = told_of(site, answers[request_id]["data"]["test_id"])
        assert (told["outcome"], told["reason"]) == ("not_delivered", "not_started")
        assert told["cycle_id"] is None
    site.emulator.lift("main", "eye_stuck_blocked")
    assert ask(site, "lane.test", "t1", channel="A1")["code"] == "interrupted"
    assert ask(site, "lane.test", "t2", channel="A1")["data"] == answers["t2"]["data"]
    assert daemon.run_ctl("test", "A2", "--yes").returncode == 0, "what waited would go before it"
    assert site.ledger("A1", "motor_started") == []
    assert len(ends_of_test_vends(site)) == 3
    site.wait_rest()
    site.judge(test_cycles={"A2": 1})
