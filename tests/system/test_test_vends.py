"""Test vends and the light eye with vendctl, before a real daemon and emulated motors (P6)."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from tests.system.conftest import SiteMaker
from tests.system.process import PROGRAMS
from tests.system.site import SPIRAL_ON_XY, TRACK_ON_VBP, Site
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system

SLOW_TRACK = replace(
    TRACK_ON_VBP,
    run_ms=4000,
    settings={**TRACK_ON_VBP.settings, "max_run_ms": 6000, "cycle_timeout_s": 12},
)
SLOW_SPIRAL = replace(SPIRAL_ON_XY, run_ms=2000)
"""Motors that a hand on a keyboard is in time for."""


def steps_of(site: Site, *words: str) -> list[dict[str, Any]]:
    """The lines of a test's stream."""
    done = site.daemon.run_ctl("test", *words, "--yes", "--json", timeout=60)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def outcome(site: Site, lane: str) -> dict[str, Any]:
    (found,) = [step for step in steps_of(site, lane) if step["event"] == "outcome"]
    return found


def begin(site: Site, *words: str) -> subprocess.Popen[str]:
    command = [PROGRAMS / "vendctl", "--socket", site.daemon.control, *words]
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_a_test_shows_is_what_the_board_measured_and_the_eye_did(site: Site) -> None:
    """Each fault of the street has its verdict, and one round over all lanes tells them apart."""
    good = outcome(site, "A2")
    (run,) = site.ledger("A2", "motor_stopped")
    assert good["verdict"] == "good"
    assert abs(good["run_ms"] - run["run_ms"]) <= 1, "the board's own measure"
    assert good["measured"] == "board"
    (pulse,) = good["eye"]["pulses"]
    dark, clear = (
        next(line["at"] for line in site.emulator.ledger("main") if line["event"] == event)
        for event in ("eye_blocked", "eye_clear")
    )
    fell_ms = (clear - dark) * 1000  # 30 to 80, more on a busy machine: the ledger is the judge
    assert pulse["width_ms"] is None or abs(pulse["width_ms"] - fell_ms) <= 60, fell_ms
    steps = [step.get("note") for step in steps_of(site, "A2")]
    assert {"acknowledged", "moving"} & set(steps), "the steps are told"

    for channel, fault in (("A1", "jam"), ("A2", "no_drop"), ("A3", "motor_open")):
        site.fault(channel, fault)
    shown = site.daemon.run_ctl("test", "all", "--yes", timeout=60)
    assert shown.returncode == 1
    rows = " ".join(shown.stdout.split())
    assert "did not come home: look for a jam or a worn coupling" in rows
    assert "nothing fell: the lane is empty or an item hangs" in rows
    assert "A3 the motor is open: look at its connector" in rows
    assert "B1 the motor made its turn" in rows
    assert max(map(len, shown.stdout.splitlines())) <= 60

    def reasons() -> list[str | None]:
        told = [e["detail"] for e in site.platform.of("event") if e["kind"] == "test_vend"]
        return [each["reason"] for each in told if each["channel"].startswith("A")]

    wait_for(lambda: len(reasons()) == 5, "each outcome is an event")
    assert reasons() == [None, None, "jammed", "no_drop", "motor_missing"]


def test_a_slow_motor_is_told_from_the_lanes_own_history(make_site: SiteMaker) -> None:
    site = make_site((TRACK_ON_VBP,)).up()
    steps = steps_of(site, "A1", "--cycles", "5")
    assert [s["verdict"] for s in steps if s["event"] == "outcome"] == ["good"] * 5
    site.emulator.end()
    scenario = site.emulator.directory / "scenario.toml"
    worn = scenario.read_text(encoding="utf-8").replace("run_ms = 300", "run_ms = 700")
    scenario.write_text(worn, encoding="utf-8")
    site.emulator.up()
    wait_for(lambda: site.daemon.ctl("status")["boards"]["main"]["up"], "the board is back")
    late = outcome(site, "A1")
    assert late["usual"]["cycles"] == 5
    assert 250 < late["usual"]["median_ms"] < 350
    assert late["run_ms"] > 600
    assert (late["outcome"], late["verdict"]) == ("delivered", "slow_motor")


def test_p6_ctrl_c_stops_a_vbp_motor_and_its_outcome_is_journalled(make_site: SiteMaker) -> None:
    site = make_site((SLOW_TRACK, SPIRAL_ON_XY)).up()
    vend = begin(site, "test", "A2", "--cycles", "3", "--yes")
    site.wait_ledger("A2", "motor_started")
    vend.send_signal(signal.SIGINT)
    out, err = vend.communicate(timeout=20)
    assert vend.returncode == 130
    assert "The board is told to stop the motor" in err
    assert "stopped half-way: an item may hang" in " ".join(out.split())
    (stopped,) = site.ledger("A2", "motor_stopped")
    assert stopped["why"] == "by_request"
    assert stopped["run_ms"] < SLOW_TRACK.run_ms / 2
    assert len(site.ledger("A2", "drive_frame")) == 1, "no further cycle"
    lane = site.daemon.ctl("lane", "A2")
    (newest,) = lane["history"]
    assert (newest["outcome"], newest["reason"]) == ("unknown", "stopped")
    assert {row["action"] for row in lane["audit"]} == {"lane_test", "test_stop"}
    refused = site.daemon.run_ctl("test", "A2", "--yes")
    assert refused.returncode == 4
    assert "vendctl stock set A2" in " ".join(refused.stderr.split()), "the remedy"
    site.judge(test_cycles={"A2": 1})


def test_p6_a_session_that_is_lost_stops_the_motor_too(make_site: SiteMaker) -> None:
    site = make_site((SLOW_TRACK,)).up()
    vend = begin(site, "test", "A1", "--yes")
    site.wait_ledger("A1", "motor_started")
    vend.kill()
    vend.communicate(timeout=10)
    (stopped,) = site.wait_ledger("A1", "motor_stopped")
    assert stopped["why"] == "by_request"
    wait_for(
        lambda: [e for e in site.platform.of("event") if e["kind"] == "test_vend"], "its outcome"
    )


def test_p6_an_xy_motor_cannot_be_stopped_and_vendctl_says_so_first(make_site: SiteMaker) -> None:
    site = make_site((TRACK_ON_VBP, SLOW_SPIRAL)).up()
    vend = begin(site, "test", "B1", "--yes")
    site.wait_ledger("B1", "motor_started")
    vend.send_signal(signal.SIGINT)
    out, err = vend.communicate(timeout=20)
    assert vend.returncode == 130
    before, _, after = " ".join(err.split()).partition("told to turn")
    assert "CANNOT STOP A MOTOR" in before
    assert "the turn ends by itself" in after
    assert "delivered" in out, "its outcome was waited for"
    (stopped,) = site.ledger("B1", "motor_stopped")
    assert stopped["why"] == "home"
    site.judge(test_cycles={"B1": 1})


def test_p6_a_customers_cycle_is_neither_tested_beside_nor_stopped(make_site: SiteMaker) -> None:
    site = make_site((SLOW_TRACK,)).up()
    site.platform.dispense(1, [{"product_id": 122, "quantity": 1}])
    site.wait_ledger("A2", "motor_started")
    refused = site.daemon.run_ctl("test", "A1", "--yes")
    assert (refused.returncode, "busy" in refused.stderr) == (4, True)
    site.platform.wait_order(1, "finished")
    (stopped,) = site.ledger("A2", "motor_stopped")
    assert stopped["why"] == "home"
    assert site.ledger("A1", "drive_frame") == []


# --------------------------------------------------------------------------- the eye


def test_the_eye_is_told_live_with_its_level_and_its_self_test(site: Site) -> None:
    watch = begin(site, "eye", "A", "--seconds", "3", "--json")
    assert watch.stdout is not None
    first = json.loads(watch.stdout.readline())
    assert (first["sight"], first["selftest"]) == ("read", "ok")
    assert json.loads(watch.stdout.readline())["level"] == "clear"
    site.emulator.fault("main", "eye_stuck_blocked", seconds=0.5)
    rest = [json.loads(line) for line in watch.communicate(timeout=20)[0].splitlines()]
    (pulse,) = [line for line in rest if line["event"] == "pulse"]
    assert 400 <= pulse["width_ms"] <= 700
    assert rest[-1]["event"] == "finished"
    assert rest[-1]["pulses"] == 1
    levels = [line["level"] for line in rest if line["event"] == "level"]
    assert levels[-1] == "clear"
    assert "blocked" in levels
    assert watch.returncode == 0
    assert levels_of_eye(site, "B") == (1, {"absent"}), "a cabinet without one"


def test_the_eye_verb_asks_nothing_of_a_board_whose_motor_turns(make_site: SiteMaker) -> None:
    site = make_site((SLOW_TRACK, SPIRAL_ON_XY)).up()
    site.platform.dispense(1, [{"product_id": 122, "quantity": 1}])
    site.wait_ledger("A2", "motor_started")

    def frames() -> int:
        (main,) = [p for p in site.daemon.ctl("link")["ports"] if p["board"] == "main"]
        return int(main["counters"]["frames_out"])

    before = frames()
    done = site.daemon.run_ctl("eye", "A", "--seconds", "1", "--json")
    asked = frames() - before
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["selftest"] == "not_run"
    assert all(line["cycle_runs"] for line in lines if line["event"] == "level")
    assert asked < 10, "the cycle's own questions, not fifty a second"
    site.platform.wait_order(1, "finished")
    site.wait_rest()
    site.judge()


def test_an_xy_board_keeps_its_eye_to_itself_and_vendctl_says_so(make_site: SiteMaker) -> None:
    watched = replace(SPIRAL_ON_XY, drop_sensor=True, scenario={})
    site = make_site((watched,)).up()
    shown = site.daemon.run_ctl("eye", "B")
    assert shown.returncode == 0
    assert "keeps its light eye to itself" in " ".join(shown.stderr.split())
    assert levels_of_eye(site, "B") == (0, {"unverified"})


def levels_of_eye(site: Site, cabinet: str) -> tuple[int, set[str]]:
    """Exit code of `eye`, and the levels that its lines name."""
    told = site.daemon.run_ctl("eye", cabinet, "--seconds", "1", "--json")
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    return told.returncode, {line["level"] for line in lines if "level" in line}
