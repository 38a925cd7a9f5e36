"""What the platform may do from afar: the same as vendctl, allowed by name, once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.system.conftest import SiteMaker
from tests.system.site import Site
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system


def ask(site: Site, verb: str, request_id: str, **more: Any) -> dict[str, Any]:
    now = int(time.time())
    topic = f"response/{verb}"
    before = len(site.platform.of(topic))
    asked = {"request_id": request_id, "issued_at": now, "expires_at": now + 30, **more}
    site.platform.send(f"request/{verb}", asked)
    return wait_for(lambda: site.platform.of(topic)[before:], f"the answer to {verb}")[0]


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
