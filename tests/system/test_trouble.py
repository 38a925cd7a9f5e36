"""A missing or broken part degrades what depends on it, nothing else (P5, P9, P11, P12)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest

from tests.system.process import PROGRAMS
from tests.system.site import Site
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system


def wait_board(site: Site, name: str, *, up: bool) -> None:
    wait_for(
        lambda: site.daemon.ctl("status")["boards"][name]["up"] is up,
        f"board {name} is {'up' if up else 'gone'}",
    )


@pytest.mark.parametrize("persistent", [True, False], ids=["persistent", "forgetful"])
def test_p9_the_broker_killed_in_mid_order_loses_no_result(
    make_site: Callable[..., Site], *, persistent: bool
) -> None:
    site = make_site(persistent_broker=persistent).up()
    site.platform.dispense(1, [{"product_id": 122, "quantity": 3}])
    site.wait_ledger("A2", "motor_started")
    site.broker.kill()
    site.wait_ledger("A2", "product_fell", times=3)
    site.broker.up()
    site.platform.wait_subscribed()
    assert site.platform.wait_order(1, "finished", timeout=90)["delivered"] == 3
    site.wait_rest(60)
    site.judge()


@pytest.mark.parametrize("channel", ["A2", "B1"])
def test_p5_p11_the_line_unplugged_in_mid_cycle_and_back(site: Site, channel: str) -> None:
    board, _ = site.board_of(channel)
    product = {"A2": 122, "B1": 221}[channel]
    site.platform.dispense(2, [{"product_id": product, "quantity": 2}])
    site.wait_ledger(channel, "motor_started")
    site.emulator.tell(board, do="unplug")
    site.wait_ledger(channel, "product_fell")
    site.emulator.tell(board, do="plug")
    results = site.platform.wait_results(2, 2, timeout=40)
    wait_board(site, board, up=True)
    if channel == "A2":
        assert results[1]["outcome"] == "delivered", "this board can be asked"
    site.wait_rest(40)
    site.judge()


def test_an_unplugged_board_leaves_the_other_selling(site: Site) -> None:
    site.emulator.tell("main", do="unplug")
    wait_board(site, "main", up=False)
    site.platform.dispense(3, [{"product_id": 221, "quantity": 1}])
    assert site.platform.wait_results(3, 1)[1]["outcome"] == "delivered"
    wait_for(
        lambda: site.daemon.ctl("status")["cabinets"]["A"]["state"] == "out_of_service",
        "cabinet A is out of service",
        timeout=15,
    )
    site.platform.dispense(4, [{"product_id": 122, "quantity": 1}])
    assert site.platform.wait_order(4, "rejected")["code"] == "out_of_service"
    site.emulator.tell("main", do="plug")
    wait_board(site, "main", up=True)
    site.platform.dispense(5, [{"product_id": 122, "quantity": 1}])
    assert site.platform.wait_results(5, 1)[1]["outcome"] == "delivered"


@pytest.mark.parametrize("channel", ["A2", "B1"])
def test_the_board_reset_in_mid_cycle_is_unknown_and_never_tried_again(
    site: Site, channel: str
) -> None:
    board, _ = site.board_of(channel)
    product = {"A2": 122, "B1": 221}[channel]
    site.platform.dispense(6, [{"product_id": product, "quantity": 1}])
    site.wait_ledger(channel, "motor_started")
    site.emulator.tell(board, do="reset")
    (result,) = site.platform.wait_results(6, 1, timeout=30).values()
    assert result["outcome"] == "unknown"
    assert result["reason"] == {"A2": "power_lost", "B1": "board_restarted"}[channel]
    site.wait_rest(30)
    assert len(site.ledger(channel, "drive_frame")) == 1
    lane = next(x for x in site.daemon.ctl("lanes")["lanes"] if x["channel"] == channel)
    assert lane["uncertain"] == 1
    site.platform.dispense(7, [{"product_id": product, "quantity": 1}])
    assert site.platform.wait_order(7, "rejected")["code"] == "out_of_service", (
        "something may hang in the lane"
    )
    site.judge()


def test_p5_silence_is_unknown_and_quarantines_the_board(site: Site) -> None:
    site.fault("B1", "no_ack")
    site.fault("B1", "ack_no_status")
    site.platform.dispense(8, [{"product_id": 221, "quantity": 1}])
    site.platform.dispense(9, [{"product_id": 222, "quantity": 1}])
    (result,) = site.platform.wait_results(8, 1, timeout=30).values()
    assert (result["outcome"], result["reason"]) == ("unknown", "no_answer")
    assert site.daemon.ctl("status")["boards"]["side"]["quarantined_until_s"] is not None
    assert not site.ledger("B2", "drive_frame"), "no further drive on this board meanwhile"
    site.wait_rest(60)
    site.wait_ledger("B2", "product_fell")  # delivered by its motor's word: it falls behind that
    site.judge()


def test_a_second_daemon_on_the_same_state_directory_is_refused(site: Site) -> None:
    second = subprocess.run(
        [PROGRAMS / "vendingd", "--config", site.daemon.settings],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode != 0
    assert str(site.directory / "state") in second.stderr
    assert "Traceback" not in second.stderr
    site.platform.dispense(10, [{"product_id": 122, "quantity": 1}])
    assert site.platform.wait_results(10, 1)[1]["outcome"] == "delivered"


def test_sigterm_finishes_the_running_cycle_and_the_rest_resumes(site: Site) -> None:
    site.platform.dispense(11, [{"product_id": 122, "quantity": 3}])
    site.wait_ledger("A2", "motor_started")
    assert site.daemon.terminate() == 0
    fell = len(site.ledger("A2", "product_fell"))
    assert fell == len(site.ledger("A2", "drive_frame"))
    assert site.platform.of("result", 11), "what was known was published"
    site.platform.wait_for(
        lambda: site.platform.of("state")[-1]["online"] is False, "it said goodbye"
    )
    site.daemon.up()
    assert site.platform.wait_order(11, "finished")["delivered"] == 3
    assert site.daemon.ctl("status")["last_stop"] == "clean"
    site.wait_rest()
    site.judge()


def test_p11_kill_9_in_mid_cycle_is_asked_after(site: Site) -> None:
    site.platform.dispense(12, [{"product_id": 122, "quantity": 2}])
    site.wait_ledger("A2", "motor_started")
    site.daemon.kill()
    site.wait_ledger("A2", "product_fell")
    site.daemon.up()
    assert site.platform.wait_order(12, "finished")["delivered"] == 2
    assert site.daemon.ctl("status")["last_stop"] == "crash"
    site.wait_rest()
    site.judge()


def test_p14_garbage_on_every_topic_moves_nothing_and_stops_nothing(site: Site) -> None:
    for topic in ("dispense", "cancel", "request/status", "request/nonsense"):
        for payload in (b"", b"\xff\x00", b"{", b"[]", b'{"order_id": "x"}', b"9" * 70_000):
            site.platform.send(topic, payload)
    site.platform.dispense(13, [{"product_id": 122, "quantity": 1}])
    assert site.platform.wait_results(13, 1)[1]["outcome"] == "delivered"
    assert site.daemon.alive
    assert len(site.ledger("A2", "drive_frame")) == 1


@pytest.mark.parametrize("channel", ["A2", "B1"])
@pytest.mark.parametrize("kind", ["noise", "corrupt", "truncate", "duplicate", "split_writes"])
def test_p1_a_line_that_garbles_never_makes_a_second_drive(
    site: Site, channel: str, kind: str
) -> None:
    board, _ = site.board_of(channel)
    product = {"A2": 122, "B1": 221}[channel]
    site.emulator.fault(board, kind, probability=0.2)
    site.platform.dispense(14, [{"product_id": product, "quantity": 2}])
    site.platform.wait_results(14, 2, timeout=40)
    site.emulator.lift(board, kind)
    site.wait_rest(40)
    site.judge()


def test_the_clock_of_a_drive_frame_is_the_order_s(site: Site) -> None:
    """P4: what waits behind a quarantined or absent board past its deadline never moves."""
    site.emulator.tell("side", do="unplug")
    command = site.platform.dispense(
        15, [{"product_id": 221, "quantity": 1}], expires_at=int(time.time()) + 3
    )
    site.platform.wait_order(15, "accepted")
    (result,) = site.platform.wait_results(15, 1, timeout=20).values()
    assert (result["outcome"], result["reason"]) == ("not_delivered", "expired")
    site.emulator.tell("side", do="plug")
    wait_board(site, "side", up=True)
    site.platform.send("dispense", command)
    site.platform.wait_order(15, "finished", times=2)
    assert not site.ledger("B1", "drive_frame")
