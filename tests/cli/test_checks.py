"""Facts -> findings, where a real fault cannot be made on every machine.

The seams, each named with its test: systemd's word, the clock, the disk's numbers, the
rights of another user, and what a broker or an old daemon would have to say. Everything
else is provoked for real in tests/system/test_doctor.py.
"""

from __future__ import annotations

import getpass
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.boards.port import explain
from controller.cli import checks_facts, checks_words
from controller.cli.checks_facts import Facts, User
from controller.cli.checks_ports import Holder, PortFacts, may_open
from controller.cli.checks_words import LANE_HINTS, MEANINGS, RANK, State
from controller.cli.doctor import as_check, examine, needs_attention, page
from controller.model import Reason
from tests.service.memory_machine import (
    NOON,
    board_view,
    cabinet_view,
    checkup,
    lane_view,
    status_view,
)

PORT = {
    "board": "main",
    "protocol": "vbp",
    "port": "/dev/ttyUSB0",
    "up": True,
    "since": NOON,
    "counters": {"frames_in": 1000, "frames_bad": 0, "bytes_in": 20_000},
    "resets": [],
    "problem": "",
}


def facts(**changed: Any) -> Facts:
    told = checkup(**changed.pop("checkup", {}))
    whole = Facts(
        now=NOON,
        user=User("anna", 1000, frozenset({"vending", "vending-tech"})),
        socket="/run/vending-controller/control.sock",
        status=status_view(**changed.pop("status", {})),
        lanes=changed.pop("lanes", [lane_view("A1"), lane_view("A2")]),
        link=[{**PORT, **changed.pop("port", {})}],
        checkup=told,
        config=told["config"],
        disk=told["disk"],
        state_dir_owner="vending-controller",
    )
    return replace(whole, **changed)


def found(**changed: Any) -> dict[str, Any]:
    """Code -> its first finding, all of them in words."""
    checks = [as_check(finding) for finding in examine(facts(**changed))]
    return {check["code"]: check for check in reversed(checks)}


def test_a_machine_in_order_has_only_fine_findings() -> None:
    assert not needs_attention(examine(facts()))
    years = {"not_before": NOON - 1, "not_after": NOON + 400 * 86400, "problem": ""}
    told = found(certificates=[{"role": "server", "file": "broker:8883", **years}])
    assert {check["state"] for check in told.values()} == {"fine"}
    assert {"certificate_fine", "clock_fine"} <= told.keys()


# --------------------------------------------------------------------------- the daemon

UNIT = """LoadState=loaded
ActiveState={active}
SubState={sub}
Result={result}
NRestarts={restarts}
User=vending-controller
SupplementaryGroups=dialout vending vending-tech
"""
AWAY: dict[str, Any] = {
    "unreachable": "nobody listens there", "link": (), "lanes": (), "checkup": {}
}  # fmt: skip


@pytest.mark.parametrize(
    ("active", "sub", "result", "restarts", "code"),
    [
        ("failed", "failed", "exit-code", 0, "daemon_not_running"),
        ("inactive", "dead", "success", 0, "daemon_not_running"),
        ("activating", "auto-restart", "exit-code", 7, "daemon_restarting"),
    ],
)
def test_seam_systemd_what_it_says_of_a_daemon_that_is_away(
    active: str, sub: str, result: str, restarts: int, code: str
) -> None:
    text = UNIT.format(active=active, sub=sub, result=result, restarts=restarts)
    told = found(**AWAY, unit=checks_facts.unit_of(text))
    assert {code, "daemon_unreachable"} <= told.keys()
    assert result in told[code]["cause"]
    order = [finding.code for finding in examine(facts(**AWAY, unit=checks_facts.unit_of(text)))]
    assert order.index(code) < order.index("disk_fine"), "the first thing to mend comes first"


def test_seam_systemd_a_unit_that_is_not_installed_says_nothing() -> None:
    assert checks_facts.unit_of("LoadState=not-found\nActiveState=inactive\n") == {}


def test_seam_old_daemon_and_other_version() -> None:
    told = found(no_checkup="there is no /v1/doctor here", status={"version": "0.9.0"})
    assert "daemon_no_facts" in told
    assert "0.9.0" in told["versions_differ"]["cause"]


def test_offline_has_no_broker_by_design_and_that_is_no_trouble() -> None:
    broker = {**status_view()["broker"], "connected": False, "offline": True}
    told = found(status={"broker": broker})
    assert {"offline_fine"} <= told.keys()
    assert "broker_unreachable" not in told


@pytest.mark.parametrize(
    ("kind", "begins"),
    [("power", "Did somebody"), ("crash", "vendctl doctor --bundle"), ("watchdog", "It hung")],
)
def test_each_end_of_a_life_has_a_remedy_of_its_own(kind: str, begins: str) -> None:
    remedy = found(status={"last_stop": kind})["last_stop"]["remedy"]
    assert remedy.startswith(begins)


def test_seam_user_who_may_not_act_or_not_read_the_settings() -> None:
    told = found(user=User("bob", 1001, frozenset({"vending"})))
    assert "usermod -aG vending-tech bob" in told["may_only_look"]["remedy"]
    unreadable = {"file": "/etc/vending-controller/config.toml", "unreadable": True}
    assert "sudo vendctl doctor" in found(**AWAY, config=unreadable)["config_unread"]["remedy"]


def test_seam_user_a_state_directory_of_somebody_else() -> None:
    unit = {"User": "vending-controller", "ActiveState": "failed"}
    told = found(**AWAY, unit=unit, state_dir_owner="mallory")
    assert "mallory" in told["state_dir_not_ours"]["cause"]


# --------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ({"free_bytes": 3 << 20}, "disk_full"),
        ({"free_files": 2}, "disk_full"),
        ({"free_bytes": 100 << 20}, "disk_low"),
        ({"read_only": True}, "disk_read_only"),
    ],
)
def test_seam_disk_numbers(numbers: dict[str, Any], code: str) -> None:
    disk = {**checkup()["disk"], **numbers}
    assert code in found(disk=disk)


def test_seam_disk_a_journal_that_cannot_be_written() -> None:
    journal = {**status_view()["journal"], "writable": False, "problem": "No space left on device"}
    assert "No space" in found(status={"journal": journal})["journal_unwritable"]["cause"]
    assert "reserve_missing" in found(checkup={"reserve_whole": False})


@pytest.mark.parametrize(
    ("told", "own", "code"),
    [
        ({"believed": False}, {"synchronised": False}, "clock_unset"),
        ({"believed": False, "wall": NOON - 9999}, {}, "clock_behind"),
        ({"believed": False}, {}, "clock_not_believed"),
        ({}, {"require_sync": False, "synchronised": False}, "clock_unguarded"),
    ],
)
def test_seam_clock(told: dict[str, Any], own: dict[str, Any], code: str) -> None:
    clock = {**status_view()["clock"], **told}
    assert code in found(status={"clock": clock}, checkup={"clock": {**checkup()["clock"], **own}})


# --------------------------------------------------------------------------- boards


def test_seam_rights_a_port_that_the_daemon_may_not_open() -> None:
    """The daemon's own words for EACCES, as `boards.port` makes them."""
    why = explain("/dev/ttyUSB0", PermissionError(13, "Permission denied"))
    ports = {"main": PortFacts("/dev/ttyUSB0", exists=True, owner="root", group="tty", mode=0o660)}
    told = found(port={"up": False, "problem": why}, ports=ports)["port_denied"]
    assert "group tty, mode 0660" in told["cause"]
    assert "usermod -aG tty vending-controller" in told["remedy"]
    assert "port_trouble" in found(
        port={"up": False, "problem": explain("/dev/ttyUSB0", OSError(5, "x"))}
    )


def test_the_rights_of_a_port_by_its_mode_bits(tmp_path: Path) -> None:
    port = tmp_path / "tty"
    port.touch()
    port.chmod(0o600)
    seen = checks_facts.port_facts(str(port))
    assert (seen.exists, seen.owner, seen.mode) == (True, getpass.getuser(), 0o600)
    assert may_open(seen, "nobody") is False
    assert may_open(replace(seen, mode=0o606), "nobody") is True
    assert may_open(replace(seen, mode=0o660, group="dialout"), "nobody") is False
    assert may_open(replace(seen, mode=0o660, group="dialout"), "nobody", frozenset({"dialout"}))
    assert may_open(seen, "no-such-user") is None
    told = found(**AWAY, ports={"main": seen}, unit={"User": "nobody", "ActiveState": "failed"})
    assert told["port_denied"]["subject"] == "main"


def test_a_board_that_restarts_a_noisy_line_and_one_out_of_service() -> None:
    resets = [{"at": NOON - 60 * each, "cause": "brown-out"} for each in range(3)]
    told = found(port={"resets": resets, "counters": {"frames_in": 1000, "frames_bad": 50}})
    assert "brown-out" in told["board_restarts"]["cause"]
    assert "50 of 1050" in told["line_noisy"]["cause"]
    boards = {"main": board_view(out_of_service="cycle_id_collision")}
    assert "cycle_id_collision" in found(status={"boards": boards})["board_out_of_service"]["cause"]


def test_a_lost_board_that_another_took_the_place_of_is_seen_by_growing_counters() -> None:
    port = {**PORT, "up": False, "problem": "no answer"}
    later = {**port, "counters": {**PORT["counters"], "bytes_in": 20_500}}
    assert found(port=port)["board_lost"]["subject"] == "main"
    assert found(port=port, link_later=[later])["board_not_understood"]["facts"]["bytes_in"] == 500


def test_eyes_that_nobody_reads() -> None:
    cabinets = {"A": cabinet_view(eye="unverified")}
    assert "eye_unverified" in found(status={"cabinets": cabinets})
    refused = {"channel": "A1", "board": "main", "outcome": "not_delivered", "closed_at": NOON}
    cycles = [{**refused, "reason": "board_refused"}]
    watched = {"cabinets": {"A": cabinet_view(eye="watched")}}
    assert "eye_refuses" in found(status=watched, checkup={"newest_cycles": cycles})


def test_an_item_in_the_eye_of_a_running_cycle_is_no_dirt() -> None:
    moving = [{"board": "main", "channel": "A1"}]
    cabinets = {"A": cabinet_view(eye="blocked")}
    assert "eye_blocked" not in found(status={"cabinets": cabinets, "moving_lanes": moving})


def test_a_motor_that_may_turn_is_said_before_a_hand_reaches_in() -> None:
    cabinets = {"A": cabinet_view(state="stopped", reason="motor_may_turn")}
    assert "Do not reach in" in found(status={"cabinets": cabinets})["motor_may_turn"]["remedy"]


def test_a_cabinet_whose_eye_is_shut_is_not_among_what_is_fine() -> None:
    for shut in ({"eye": "blocked"}, {"eye": "faulty"}):
        told = found(status={"cabinets": {"A": cabinet_view(**shut)}})
        assert "cabinet_fine" not in told
        assert f"eye_{shut['eye']}" in told
    moving = {"A": cabinet_view(eye="blocked", state="running")}
    assert "cabinet_fine" in found(status={"cabinets": moving})
    door = {"boards": {"main": board_view(door="open")}}
    assert found(status=door).keys() & {"cabinet_fine", "door_open"} == {"door_open"}


def test_a_restored_journal_is_not_a_lost_one() -> None:
    waits = {"cabinets": {"A": cabinet_view(state="stopped", reason="stock_unconfirmed")}}
    for kind in ("journal_lost", "journal_restored"):
        told = found(status=waits, checkup={"memory_lost_by": kind})
        assert told.keys() & {"journal_lost", "journal_restored"} == {kind}
        assert "vendctl stock fill A" in told[kind]["remedy"]


def test_no_code_and_no_question_mark_stands_for_words() -> None:
    """What a technician reads is a sentence, whatever the daemon did not say."""
    codes = [*(reason.value for reason in Reason), "failures", "double_drop", "board", ""]
    lanes = [lane_view(f"A{n}", health="suspended", health_reason=c) for n, c in enumerate(codes)]
    lanes += [lane_view("B1", health="disabled", health_reason="")]
    unit = {"order_id": 1, "delivery_id": "", "unit": 1, "channel": "A1", "asked": False,
            "reason": "", "finished_at": NOON}  # fmt: skip
    away = {"host": "broker", "port": 1883, "connected": False}
    problems = ["", "no connection to broker:1883: connection refused",
                "the broker refused: Not authorized"]  # fmt: skip
    for problem in problems:
        told = found(
            lanes=lanes,
            port={"up": False, "counters": {}, "problem": ""},
            status={
                "cabinets": {"A": cabinet_view(state="stopped", reason="")},
                "broker": {**away, "problem": problem},
                "last_stop": "power",
                "outbox": {"result": 1, "order": 0, "event": 0},
            },
            checkup={"unknown_units": [unit, {**unit, "unit": 2, "reason": "no_answer"}]},
        )
        assert {"cabinet_stopped", "lane_disabled", "unit_unknown", "last_stop"} <= told.keys()
        for check in told.values():
            text = f"{check['cause']}\n{check['remedy']}"
            assert not re.search(r"\?\.|: \?|\(\?|\bsince (\?|-)|\(\)", text), text
            assert text.lower().count("no connection to") <= 1, text
            assert len(re.findall(r"refuse", check["cause"])) <= 1, text
    every = [as_check(finding) for finding in examine(facts(lanes=lanes))]
    suspended = [check for check in every if check["code"] == "lane_suspended"]
    assert len(suspended) == len(codes)
    for check in suspended:
        assert "?." not in check["remedy"]
        assert "_" not in check["cause"], check["cause"]


def test_lanes_that_nobody_is_sure_of_and_hints_by_reason() -> None:
    lanes = [lane_view("A1", health="unresolved"), lane_view("A2")]
    assert "vendctl stock set A1 N" in found(lanes=lanes)["lane_unresolved"]["remedy"]
    unit = {
        "order_id": 7, "delivery_id": "17", "unit": 2, "channel": "A1", "reason": "no_answer",
        "revision": 1, "finished_at": NOON, "asked": True,
    }  # fmt: skip
    asked = found(lanes=lanes, checkup={"unknown_units": [unit]})
    assert asked["lane_unresolved"]["remedy"].startswith("Wait")
    assert "stock set" not in asked["lane_unresolved"]["remedy"]
    rests = found(lanes=lanes, checkup={"unknown_units": [{**unit, "asked": False}]})
    assert rests["lane_unresolved"]["remedy"].startswith("vendctl resolve 7/17 2 first")
    known = {reason.value for reason in Reason} | {"failures", "double_drop"}
    assert LANE_HINTS.keys() <= known, "a hint for what no lane is ever suspended for"


def test_nobody_is_told_to_end_the_daemon_that_does_not_answer_him() -> None:
    held = PortFacts("/dev/ttyUSB0", exists=True, mode=0o600, holders=(Holder(612, "vendingd"),))
    told = found(**AWAY, ports={"main": held}, unit={"User": "nobody", "ActiveState": "active"})
    assert "port_fine" in told
    assert not {"port_busy", "port_denied"} & told.keys()
    other = replace(held, holders=(Holder(613, "ModemManager"),))
    assert (
        "ModemManager (process 613)" in found(**AWAY, ports={"main": other})["port_busy"]["cause"]
    )


# --------------------------------------------------------------------------- broker


def test_seam_broker_that_refuses_a_subscription() -> None:
    """Mosquitto's ACL file grants every subscription and then delivers nothing."""
    broker = {"refused_subscriptions": ["vending/v1/16327129/dispense"], "refused_topics": {}}
    told = found(checkup={"broker": broker})
    assert "vending/v1/16327129/dispense" in told["subscription_refused"]["cause"]


def test_seam_time_a_message_that_waits_although_the_broker_is_there() -> None:
    told = found(
        status={"outbox": {"result": 3, "order": 1, "event": 0}},
        checkup={"oldest_unsent": {"result": NOON - 3600, "order": NOON - 1}},
    )
    assert told["outbox_stuck"]["subject"] == "result", "the order is on its way"


# --------------------------------------------------------------------------- the table

EVERY_CODE = sorted(MEANINGS)
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("code", EVERY_CODE)
def test_each_finding_is_provoked_by_a_test(code: str) -> None:
    texts = [(TESTS / name).read_text() for name in ("cli/test_checks.py", "system/test_doctor.py")]
    assert any(f'"{code}"' in text for text in texts)


@pytest.mark.parametrize("code", EVERY_CODE)
def test_each_meaning_is_whole(code: str) -> None:
    meaning = MEANINGS[code]
    assert meaning.cause
    assert bool(meaning.remedy) == (meaning.state is not State.FINE)
    assert (meaning.state is State.FINE) == code.endswith("_fine")


def test_what_must_be_mended_comes_before_what_can_wait() -> None:
    states = [MEANINGS[code].state for code in sorted(MEANINGS, key=RANK.__getitem__)]
    assert states == sorted(states, key=list(State).index)


def test_commands_in_remedies_are_verbs_that_there_are() -> None:
    from controller.cli.main import VERBS

    names = {verb.name for verb in VERBS} | {"lane enable", "lane disable", "resolve"}
    spoken = " ".join(f"{m.cause} {m.remedy}" for m in MEANINGS.values())
    for words in re.findall(r"vendctl ([a-z]+ ?[a-z]*)", spoken):
        assert any(words == name or words.startswith(f"{name} ") for name in names) or (
            words.split()[0] in names
        ), words


def test_the_page_is_narrow_and_bounded() -> None:
    lanes = [lane_view(f"A{n}", health="suspended", health_reason="jammed") for n in range(1, 60)]
    shown = page(examine(facts(lanes=lanes)))
    assert [line for line in shown if len(line) > 60] == []
    assert len(shown) < 120
    assert any("more: --json" in line for line in shown)


def test_the_state_directory_is_not_there_for_whom_it_is_hidden(tmp_path: Path) -> None:
    assert checks_facts.owner_of(str(tmp_path / "none")) is None
    assert checks_facts.owner_of(str(tmp_path)) == getpass.getuser()
    assert checks_facts.disk_facts(str(tmp_path))["free_bytes"] == pytest.approx(  # type: ignore[index]
        os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize, rel=0.1
    )
    assert checks_words.RANK
