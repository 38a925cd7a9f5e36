"""A technician on orders, stock and journal of a real machine (P8, P10, P13)."""

from __future__ import annotations

import contextlib
import getpass
import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from controller.cli.client import Daemon as Asked
from controller.service.peers import Right
from controller.service.routes import ROUTES
from tests.system.conftest import SiteMaker
from tests.system.site import SPIRAL_ON_XY, TRACK_ON_VBP, Site
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system

ME = getpass.getuser()
LONG_LOOK = replace(TRACK_ON_VBP, settings={**TRACK_ON_VBP.settings, "eye_clear_timeout_s": 60})


def lane(site: Site, channel: str) -> dict[str, Any]:
    found: dict[str, Any] = site.daemon.ctl("lane", channel)["lane"]
    return found


def leave_unknown(site: Site, order_id: int) -> None:
    """Its motor turns on B1, and the board never says that it stopped."""
    site.fault("B1", "ack_no_status")
    site.platform.dispense(order_id, [{"product_id": 221, "quantity": 1, "channel": "B1"}])
    site.platform.wait_results(order_id, 1)


def wait_settled(site: Site) -> None:
    wait_for(
        lambda: site.daemon.ctl("status")["boards"]["side"]["quarantined_until_s"] is None,
        "the board is not asked any more",
        20,
    )


def test_p10_an_unknown_unit_is_resolved_once_the_board_is_asked_no_more(
    make_site: SiteMaker,
) -> None:
    site = make_site().up()
    leave_unknown(site, 1)
    assert lane(site, "B1")["health"] == "unresolved"
    verdict = ("resolve", "1", "1", "--delivered", "--reason", "customer has it", "--yes")
    early = site.daemon.run_ctl(*verdict)
    assert early.returncode == 4
    assert "being_settled" in early.stderr
    wait_settled(site)
    done = site.daemon.ctl(*verdict)
    assert (done["lane"]["uncertain"], done["lane"]["gone"], done["lane"]["health"]) == (0, 1, "ok")
    site.platform.wait_for(
        lambda: (
            [
                (result["outcome"], result["evidence"], result["revision"])
                for result in site.platform.of("result", 1)
            ][-1:]
            == [("delivered", "technician", 2)]
        ),
        "the new revision",
    )
    site.platform.wait_for(
        lambda: (
            [o["revision"] for o in site.platform.of("order", 1) if o["status"] == "finished"]
            == [1, 2]
        ),
        "finished again",
    )
    assert site.daemon.run_ctl(*verdict).returncode == 4, "it is unknown no more"
    site.wait_rest()
    site.judge()


def test_p10_what_fell_in_a_test_is_put_back_and_what_waits_is_cancelled(
    make_site: SiteMaker,
) -> None:
    site = make_site((LONG_LOOK, SPIRAL_ON_XY)).up()
    full = lane(site, "A1")["stock"]
    assert site.daemon.run_ctl("test", "A1", "--yes").returncode == 0
    assert lane(site, "A1")["stock"] == full - 1
    undone = site.daemon.ctl("stock", "undo-test", "A1", "--yes")
    assert (undone["put_back"], undone["lanes"][0]["stock"]) == ({"A1": 1}, full)
    again = site.daemon.run_ctl("stock", "undo-test", "--yes")
    assert (again.returncode, "nothing_to_undo" in again.stderr) == (4, True)
    site.emulator.fault("main", "eye_stuck_blocked")
    site.platform.dispense(7, [{"product_id": 122, "quantity": 2}])
    site.platform.wait_order(7, "accepted")
    cancelled = site.daemon.ctl("order", "cancel", "7", "--yes")
    assert (cancelled["code"], cancelled["order"]["not_delivered"]) == ("ok", 2)
    assert site.platform.wait_order(7, "cancelled")["code"] == "ok"
    site.platform.wait_order(7, "finished")
    assert site.daemon.run_ctl("order", "cancel", "7", "--yes").returncode == 0, "still all of it"
    assert site.daemon.run_ctl("order", "cancel", "8", "--yes").returncode == 4
    assert site.ledger("A2", "drive_frame") == []
    assert lane(site, "A2")["reserved"] == 0


def test_p13_a_backup_of_the_running_daemon_is_put_back_and_admits_it(
    make_site: SiteMaker,
) -> None:
    site = make_site().up()
    site.platform.dispense(1, [{"product_id": 221, "quantity": 1}])
    site.platform.wait_order(1, "finished")
    birth = site.daemon.ctl("status")["journal"]["birth"]
    backup = site.directory / "backup.db"
    made = site.daemon.ctl("journal", "backup", str(backup), "--yes")
    assert (made["birth"], made["bytes"]) == (birth, backup.stat().st_size)
    assert not (site.directory / "state" / "journal.copy").exists()
    assert site.daemon.run_ctl("journal", "check", "--yes").returncode == 0
    assert site.daemon.ctl("journal", "prune")["gone"] == {}
    site.platform.dispense(2, [{"product_id": 222, "quantity": 1}])
    site.platform.wait_order(2, "finished")
    restore = ("journal", "restore", str(backup), "--config", str(site.daemon.settings), "--yes")
    refused = site.daemon.run_ctl(*restore)
    assert (refused.returncode, "daemon_runs" in refused.stderr) == (4, True)
    site.broker.end()
    held = site.daemon.run_ctl("cabinet", "stop", "B", "--yes")
    assert held.returncode == 0, held.stderr
    wait_for(lambda: site.daemon.run_ctl("outbox").returncode == 1, "the broker is missed")
    waiting = {topic["topic"]: topic for topic in json.loads(outbox(site))["topics"]}
    assert (waiting["event"]["count"], waiting["event"]["why"]) == (1, "not_connected")
    site.daemon.terminate()
    restored = site.daemon.ctl("--offline", *restore)
    assert restored["set_aside"].endswith(".db")
    site.broker.up()
    site.daemon.up()
    status = site.daemon.ctl("status")
    assert status["journal"]["birth"] > birth
    assert {cabinet["state"] for cabinet in status["cabinets"].values()} == {"stopped"}
    kinds = [event["kind"] for event in site.daemon.ctl("events")["events"]]
    assert kinds.count("journal_restored") == 1
    checks = json.loads(site.daemon.run_ctl("doctor", "--json").stdout)["checks"]
    said = {check["code"] for check in checks}
    assert said & {"journal_lost", "journal_restored"} == {"journal_restored"}
    with contextlib.closing(sqlite3.connect(restored["set_aside"])) as aside:
        assert aside.execute("SELECT COUNT(*) FROM orders").fetchone() == (2,)


def outbox(site: Site) -> str:
    return site.daemon.run_ctl("outbox", "--json").stdout


# ------------------------------------------------------------------ every act is journalled

ACTS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    # route -> where, body, and the action of its row in the audit, in an order that works
    "/v1/clock/accept": ("/v1/clock/accept", {}, "clock_accept"),
    "/v1/boards/{name}/accept": ("/v1/boards/main/accept", {}, "board_accept"),
    "/v1/lanes/{channel}/disable": ("/v1/lanes/A1/disable", {"reason": "x"}, "lane_disable"),
    "/v1/lanes/{channel}/enable": ("/v1/lanes/A1/enable", {"reason": "x"}, "lane_enable"),
    "/v1/lanes/{channel}/stock": ("/v1/lanes/A1/stock", {"stock": 7}, "stock_set"),
    "/v1/stock/fill": ("/v1/stock/fill", {"cabinet": "A"}, "stock_fill"),
    "/v1/lanes/{channel}/test": ("/v1/lanes/A1/test", {"cycles": 1}, "lane_test"),
    "/v1/stock/undo-test": ("/v1/stock/undo-test", {"channel": "A1"}, "stock_undo_test"),
    "/v1/service/on": ("/v1/service/on", {}, "service_on"),
    "/v1/service/off": ("/v1/service/off", {}, "service_off"),
    "/v1/cabinets/{name}/stop": ("/v1/cabinets/A/stop", {"reason": "x"}, "cabinet_stop"),
    "/v1/cabinets/{name}/start": ("/v1/cabinets/A/start", {}, "cabinet_start"),
    "/v1/journal/check": ("/v1/journal/check", {}, "journal_check"),
    "/v1/journal/backup": ("/v1/journal/backup", {}, "journal_backup"),
    "/v1/journal/prune": ("/v1/journal/prune", {}, "journal_prune"),
    "/v1/orders/{order_id}/units/{unit}/resolve": (
        "/v1/orders/1/units/1/resolve",
        {"outcome": "not_delivered", "revision": 1},
        "resolve",
    ),
    "/v1/orders/{order_id}/cancel": ("/v1/orders/1/cancel", {}, "order_cancel"),
}


TRIED_ELSEWHERE = {
    # It needs a motor that turns: tests/system/test_test_vends.py looks for its row.
    "/v1/tests/{test_id}/stop",
}


def test_every_acting_route_has_its_row_in_the_audit_with_the_users_name(
    make_site: SiteMaker,
) -> None:
    """A new acting route fails here until the table above says how it is asked and what it
    writes, and until it writes it."""
    acting = {
        route.path: route
        for route in ROUTES
        if route.right is Right.ACT and route.path not in TRIED_ELSEWHERE
    }
    assert acting.keys() == ACTS.keys()
    assert len({action for _, _, action in ACTS.values()}) == len(ACTS), "one of its own each"
    site = make_site().up()
    site.daemon.terminate()
    with contextlib.closing(sqlite3.connect(site.directory / "state" / "journal.db")) as journal:
        # A clock that ran ahead, and a board that was swapped: both wait for a person.
        journal.execute("UPDATE journal SET newest_time = ?", (time.time() + 86_400,))
        journal.execute(
            "UPDATE boards SET memory = json_set(memory, '$.out_of_service', 'board_swapped')"
            " WHERE name = 'main'"
        )
        journal.commit()
    site.daemon.up()
    asked = Asked(str(site.daemon.control))
    for path, (where, body, _action) in ACTS.items():
        if path.endswith("/resolve"):
            wait_settled(site)
        if acting[path].stream is not None:
            steps = [step["event"] for step in asked.stream(where, **body)]
            assert steps[-1] == "finished", (path, steps)
        else:
            asked.act(where, **body)
        if path == "/v1/clock/accept":
            leave_unknown(site, 1)
    site.daemon.terminate()
    with contextlib.closing(sqlite3.connect(site.directory / "state" / "journal.db")) as journal:
        rows = journal.execute("SELECT action, who FROM audit ORDER BY id").fetchall()
    for path, (_where, _body, action) in ACTS.items():
        assert rows.count((action, ME)) == 1, f"{path} left no row of {action} by {ME}: {rows}"
