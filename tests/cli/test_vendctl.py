"""vendctl as a process: exit codes, streams, JSON, confirmation, troubles told to people."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from controller import __version__
from controller.boards.vbp import frames
from controller.cli.main import VERBS
from controller.cli.orders import VBP_CODES
from controller.errors import JournalUnwritable, Refused
from controller.service.server import Service
from tests.cli.conftest import Ran, Vendctl
from tests.service.memory_machine import (
    NOON,
    MemoryMachine,
    board_view,
    cabinet_view,
    lane_view,
    order_detail,
    status_view,
)
from tests.tooling.schemas import SHAPES

pytestmark = pytest.mark.system

ME = getpass.getuser()

READING = [
    (["status"], "status"),
    (["orders", "--limit", "5"], "orders"),
    (["order", "1111111/1733200000000017"], "order"),
    (["link"], "link"),
    (["events"], "events"),
]


@pytest.mark.parametrize(("verb", "answer"), READING)
async def test_reading_prints_the_daemons_json_and_nothing_else(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, verb: list[str], answer: str
) -> None:
    ran = await vendctl(*verb, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == machine.answers[answer]


@pytest.mark.parametrize("verb", [*(verb for verb, _ in READING), ["lanes"], ["lane", "a020"]])
async def test_pages_fit_60_columns_and_have_no_colour_off_a_terminal(
    service: Service, vendctl: Vendctl, verb: list[str]
) -> None:
    ran = await vendctl(*verb)
    assert ran.code == 0, ran.err
    assert ran.out.strip()
    assert "\x1b" not in ran.out
    too_wide = [line for line in ran.out.splitlines() if len(line) > 60]
    assert too_wide == []


ACTING = [
    (["lane", "enable", "A20"], ("lane_enable", "A20", "", ME)),
    (["lane", "disable", "A20", "--reason", "bent"], ("lane_disable", "A20", "bent", ME)),
    (["stock", "set", "a20", "7"], ("stock_set", "A20", 7, ME)),
    (["stock", "fill"], ("stock_fill", None, ME)),
    (["stock", "fill", "A"], ("stock_fill", "A", ME)),
    (["cabinet", "stop", "A", "--reason", "hand"], ("cabinet_stop", "A", "hand", ME)),
    (["cabinet", "start", "A"], ("cabinet_start", "A", ME)),
    (["board", "accept", "main"], ("board_accept", "main", ME)),
    (["clock", "accept"], ("clock_accept", ME)),
    (["service", "on"], ("service_on", ME)),
    (["service", "off"], ("service_off", ME)),
    (["stock", "undo-test"], ("stock_undo_test", None, ME)),
    (["stock", "undo-test", "a20"], ("stock_undo_test", "A20", ME)),
]


def there_is_something_to_do() -> dict[str, Any]:
    return status_view(
        service_mode={"who": "anna", "since": NOON, "idle_left_s": 431.0},
        boards={"main": board_view(out_of_service="board_swapped")},
        cabinets={"A": cabinet_view(state="stopped", reason="hand")},
    )


@pytest.mark.parametrize(("verb", "act"), ACTING)
async def test_acting_verbs_act_with_yes_and_only_then(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, verb: list[str], act: tuple
) -> None:
    machine.answers["status"] = there_is_something_to_do()
    refused = await vendctl(*verb)
    assert refused.code == 2
    assert "--yes" in refused.err, "the remedy"
    assert machine.acts == []
    done = await vendctl("--yes", *verb, "--json")
    assert done.code == 0, done.err
    assert machine.acts == [act]
    assert isinstance(json.loads(done.out), dict)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["lane", "enable", "Z9"], "unknown_channel"),
        (["lane", "disable", "Z9"], "unknown_channel"),
        (["stock", "set", "Z9", "1"], "unknown_channel"),
        (["stock", "undo-test", "Z9"], "unknown_channel"),
        (["test", "Z9"], "unknown_channel"),
        (["stock", "fill", "Z"], "unknown_cabinet"),
        (["cabinet", "stop", "Z"], "unknown_cabinet"),
        (["cabinet", "start", "Z"], "unknown_cabinet"),
        (["board", "accept", "z"], "unknown_board"),
        (["board", "accept", "main"], "nothing_to_accept"),
    ],
)
async def test_nothing_is_announced_that_cannot_be(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, words: list[str], code: str
) -> None:
    ran = await vendctl(*words, "--yes")
    assert (ran.code, machine.acts) == (4, [])
    assert f"({code})" in ran.err
    assert "This " not in ran.err, "no intent before the look"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["service", "off"], "service mode is off\n"),
        (["cabinet", "start", "A"], "cabinet A: ready\n"),
    ],
)
async def test_what_is_so_already_is_said_and_not_done_again(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, words: list[str], told: str
) -> None:
    ran = await vendctl(*words)
    assert (ran.code, ran.out, machine.acts) == (0, told, [])
    assert "nothing was done" in ran.err
    as_json = await vendctl(*words, "--json")
    verb = " ".join(words[:2])
    assert TypeAdapter(SHAPES[verb]).validate_python(json.loads(as_json.out))


async def test_a_cabinet_that_still_moves_is_said_at_once(
    service: Service, vendctl: Vendctl
) -> None:
    ran = await vendctl("cabinet", "stop", "A", "--yes")
    assert ran.code == 0
    assert "may still turn" in ran.err


async def test_service_mode_says_what_still_moves_and_what_waits(
    service: Service, vendctl: Vendctl
) -> None:
    ran = await vendctl("service", "on", "--yes")
    assert ran.code == 0
    assert f"service mode is on ({ME}, since " in " ".join(ran.out.split())
    assert "leaves by itself in 10 min" in " ".join(ran.out.split())
    assert "2 unit(s) of open orders" in " ".join(ran.err.split())
    assert "may still turn" in ran.err
    assert all(len(line) <= 60 for line in ran.out.splitlines())
    off = await vendctl("service", "off", "--yes")
    assert (off.code, off.out) == (0, "service mode is off\n")


# --------------------------------------------------------------------------- bad news


async def test_service_mode_is_told_with_the_minutes_left(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    on = {"who": "anna", "since": NOON, "idle_left_s": 431.0}
    machine.answers["status"] = status_view(mode="service", service_mode=on)
    ran = await vendctl("status")
    assert ran.code == 1
    assert (
        "! service mode is on (anna, since 14:13:20): no order is taken; it leaves by itself in "
        "7 min without an act" in " ".join(ran.out.split())
    )
    assert ran.out.count("service mode") == 1, "once is enough"


async def test_status_exits_1_and_names_what_is_wrong(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.answers["status"] = status_view(
        mode="degraded",
        moving=True,
        moving_lanes=[
            {
                "channel": "A3",
                "cabinet": "A",
                "board": "main",
                "cycle_id": 9,
                "purpose": "1111111#2",
                "since": 1_790_000_000,
            }
        ],
        boards={"main": board_view(up=False, text="\x1b[2Jevil\nboard")},
        broker={"connected": False, "since": None, "host": "h", "port": 1, "problem": "refused"},
    )
    ran = await vendctl("status")
    assert ran.code == 1
    assert ran.out.splitlines()[0].startswith("MOVING: lane A3 for 1111111#2")
    assert "! board main: no link" in ran.out
    assert "! broker: not connected (refused)" in ran.out
    assert "\x1b" not in ran.out, "a board's text moves no cursor"


REMEDIES = [
    ({}, "mode: degraded; see vendctl doctor"),
    (
        {"lanes_down": {"A2": {"health": "disabled", "reason": "bent"}}},
        "lane A2: disabled (bent); to sell: vendctl lane enable A2",
    ),
    (
        {"lanes_down": {"A2": {"health": "suspended", "reason": "jam"}}},
        "lane A2: suspended (jam); see vendctl doctor, mend it, then: vendctl lane enable A2",
    ),
    (
        {"lanes_down": {"A2": {"health": "unresolved", "reason": ""}}},
        "count what is there: vendctl stock set A2 N",
    ),
    ({"cabinets": {"A": cabinet_view(state="stopped", reason="refill")}}, "cabinet start A"),
    (
        {"cabinets": {"A": cabinet_view(state="stopped")}, "stopped_by": {"A": "anna"}},
        "cabinet A: stopped (no reason given, by anna); to sell",
    ),
    (
        {"lanes_down": {"A2": {"health": "disabled", "reason": ""}}},
        "lane A2: disabled (no reason given); to sell: vendctl lane enable A2",
    ),
    (
        {"cabinets": {"A": cabinet_view(state="stopped", reason="stock_unconfirmed")}},
        "vendctl stock fill A or stock set for each lane, then: vendctl cabinet start A",
    ),
    (
        {"boards": {"main": board_view(out_of_service="board_swapped")}},
        "vendctl board accept main",
    ),
]


@pytest.mark.parametrize(("changed", "told"), REMEDIES)
async def test_degraded_says_why_and_what_to_do(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, changed: dict[str, Any], told: str
) -> None:
    machine.answers["status"] = status_view(mode="degraded", **changed)
    ran = await vendctl("status")
    assert ran.code == 1
    assert told in " ".join(ran.out.split())


async def test_an_unknown_unit_is_told_once_with_its_command(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    item = {"channel": "A2", "order_id": 7, "delivery_id": "17", "unit": 2, "reason": "power_loss"}
    tested = {"channel": "A3", "order_id": None, "reason": "stopped"}
    machine.answers["status"] = status_view(
        mode="degraded",
        lanes_down={name: {"health": "unresolved", "reason": ""} for name in ("A2", "A3")},
        unknown={"1": item, "2": tested},
    )
    told = " ".join((await vendctl("status")).out.split())
    assert "look, then: vendctl resolve 7/17 2" in told
    assert "count what is there: vendctl stock set A3 N" in told
    assert told.count("! lane A") == 2
    machine.answers["status"] = status_view(unknown={"1": {**item, "asked": True}})
    asked = await vendctl("status")
    assert "its board is still asked: wait" in " ".join(asked.out.split())
    assert (asked.code, "vendctl resolve" in asked.out) == (1, False)


async def test_of_many_lanes_the_first_few_are_told(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    down = {f"A{number}": {"health": "disabled", "reason": "off"} for number in range(1, 61)}
    machine.answers["status"] = status_view(mode="degraded", lanes_down=down)
    told = (await vendctl("status")).out
    assert "! … and 54 more: vendctl lanes" in told


async def test_what_holds_back_results_or_goods_is_said(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    refused = "topic result is refused (0x10: nobody subscribes to it)"
    machine.answers["status"] = status_view(
        boards={"main": board_view(door="open", eye="blocked")},
        broker={"connected": True, "since": 1.0, "host": "h", "port": 1, "problem": refused},
    )
    ran = await vendctl("status")
    assert ran.code == 1
    assert f"! broker: {refused}; its messages wait here" in " ".join(ran.out.split())
    assert "the door is open; customers get nothing, tests run" in " ".join(ran.out.split())
    told = " ".join(ran.out.split())
    assert "vendctl eye A shows it; before a hand reaches in: vendctl cabinet stop A" in told


async def test_the_first_line_says_whether_anything_moves(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    assert (await vendctl("status")).out.splitlines()[0] == "Nothing moves."
    silent = board_view(quarantined_until_s=12.0)
    machine.answers["status"] = status_view(moving=False, moving_lanes=[], boards={"main": silent})
    first = (await vendctl("status")).out.splitlines()[0]
    assert first == "NOT KNOWN whether a motor turns: board main"
    waits = {"cabinet": "A", "channel": "A2", "purpose": "7003#1", "why": "its turn", "jobs": 1}
    machine.answers["status"] = status_view(may_start=[waits])
    head = " ".join((await vendctl("status")).out.partition("\n\n")[0].split())
    assert head == (
        "Nothing moves now. A motor may start any moment: order 7003 waits in cabinet A (its "
        "turn). Before a hand reaches in: vendctl cabinet stop A"
    )


async def test_events_are_told_without_the_marks_of_a_program(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    detail = {"is": None, "on": True, "raw": {"motor": 0, "why": "rotor"}, "lanes": ["A1", "A2"]}
    machine.answers["events"]["events"][0]["detail"] = detail
    told = " ".join((await vendctl("events")).out.split())
    assert 'is: -, on: true, raw.motor: 0, raw.why: rotor, lanes: ["A1", "A2"]' in told
    record = {"protocol": "vbp", "motor": 5, "drop": 2, "state": 3, "run_ms": 90}
    machine.answers["events"]["events"][0]["detail"] = {"raw": record}
    told = " ".join((await vendctl("events")).out.split())
    assert "raw.motor: 5 (stopped_by_request), raw.drop: 2 (not_seen), raw.state: 3 (done)" in told


def test_the_words_of_a_record_are_those_of_the_protocol() -> None:
    enums = {"motor": frames.Motor, "drop": frames.Drop, "state": frames.RecordState}
    assert {
        name: {code.value: code.name.lower() for code in codes} for name, codes in enums.items()
    } == VBP_CODES


async def test_a_technicians_verdict_is_told_as_one(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    detail = order_detail(delivered=0, not_delivered=1)
    detail["unit_list"][0] |= {
        "outcome": "not_delivered",
        "reason": "no_drop",
        "evidence": "technician",
        "resolved_at": NOON,
    }
    machine.answers["order"] = {"orders": [detail]}
    told = (await vendctl("order", "1111111")).out
    assert "A technician looked, and said so at 2026-09-21 14:13:20" in " ".join(told.split())
    assert "The motor turned" not in told, "nobody knows that"


async def test_an_order_that_did_not_all_arrive_is_bad_news(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.answers["order"] = {"orders": [order_detail(delivered=0, unknown=1)]}
    ran = await vendctl("order", "1111111")
    assert ran.code == 1
    assert "fa fb 06 04 01 1e" in ran.out, "raw beside interpreted"
    assert machine.acts[-1] == ("order", 1111111, None)


async def test_a_sick_lane_is_bad_news(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.lane_views["A20"]["health"] = "suspended"
    assert (await vendctl("lanes")).code == 1
    assert (await vendctl("lane", "A20")).code == 1
    assert (await vendctl("lane", "A1")).code == 0


async def test_what_does_not_exist_is_bad_news_to_read_and_refused_to_act(
    service: Service, vendctl: Vendctl
) -> None:
    read = await vendctl("lane", "Z9", "--json")
    assert read.code == 1
    assert json.loads(read.out)["error"] == "unknown_channel"
    assert (await vendctl("order", "2")).code == 1
    assert (await vendctl("lane", "enable", "Z9", "--yes")).code == 4


@pytest.mark.parametrize(
    "failure",
    [Refused("cycle_open", "a cycle of A20 runs: wait"), JournalUnwritable("the disk is full")],
)
async def test_a_refusal_exits_4_with_its_reason(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, failure: Exception
) -> None:
    machine.failure = failure
    ran = await vendctl("stock", "set", "A20", "7", "--yes")
    assert ran.code == 4
    assert str(failure) in ran.err
    assert ran.out == ""


# --------------------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["stok"],
        ["stock"],
        ["stock", "set", "A20"],
        ["stock", "set", "A20", "-1"],
        ["stock", "set", "20", "1"],
        ["lane"],
        ["lane", "enable"],
        ["lane", "A20", "A21"],
        ["lane", "A20", "--reason", "why"],
        ["order", "abc"],
        ["order", "stop", "1"],
        ["order", "cancel"],
        ["order", "1", "--reason", "why"],
        ["resolve", "1111111"],
        ["resolve", "1111111", "0", "--delivered"],
        ["resolve", "1111111", "1", "--delivered", "--not-delivered"],
        ["stock", "undo-test", "20"],
        ["journal"],
        ["journal", "backup"],
        ["orders", "--limit", "0"],
        ["test", "A20", "--cycles", "21"],
        ["status", "--lang", "tlh"],
        ["status", "--timeout", "0"],
    ],
)
async def test_wrong_usage_exits_2_and_asks_nobody(vendctl: Vendctl, words: list[str]) -> None:
    ran = await vendctl(*words)
    assert ran.code == 2, "no daemon runs here: 3 would mean that it was asked"
    assert "usage:" in ran.err
    assert ran.out == ""


async def test_help_shows_an_example_per_verb_and_the_exit_codes(vendctl: Vendctl) -> None:
    ran = await vendctl("--help")
    assert ran.code == 0
    for verb in VERBS:
        for line in verb.lines:
            assert line.usage in ran.out
            assert line.example in ran.out
    for code in ("0", "1", "2", "3", "4", "5"):
        assert f"\n  {code}  " in ran.out
    own = await vendctl("cabinet", "stop", "--help")
    assert "vendctl cabinet stop A --reason refill" in own.out


# --------------------------------------------------------------------------- unreachable


async def test_no_socket_exits_3_and_says_which_and_what_to_do(
    vendctl: Vendctl, socket_dir: Path
) -> None:
    ran = await vendctl("status", "--json", "--socket", str(socket_dir / "other.sock"))
    assert ran.code == 3
    assert str(socket_dir / "other.sock") in ran.err
    assert "systemctl start vending-controller" in ran.err
    assert json.loads(ran.out)["error"] == "unreachable"


async def test_a_dead_daemons_socket_exits_3(vendctl: Vendctl, socket_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_dir / "control.sock"))
    ran = await vendctl("status")
    assert ran.code == 3
    assert "nobody listens" in ran.err


@pytest.mark.parametrize(
    "said",
    [
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
    ],
    ids=["no HTTP", "no object", "brackets without end"],
)
async def test_something_else_on_the_socket_exits_3(
    vendctl: Vendctl, socket_dir: Path, said: bytes
) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    path = str(socket_dir / "control.sock")
    async with await asyncio.start_unix_server(speak, path):
        ran = await vendctl("status")
    assert ran.code == 3
    assert "Traceback" not in ran.err


async def test_silence_exits_5_and_admits_the_doubt(vendctl: Vendctl, socket_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(socket_dir / "control.sock"))
        deaf.listen(8)
        read = await vendctl("status", "--timeout", "0.2")
        act = await vendctl("stock", "fill", "--yes", "--timeout", "0.2")
    assert (read.code, act.code) == (5, 5)
    assert "may still have been done" not in read.err
    assert "may still have been done" in act.err


AS_NOBODY = """
import os, sys
from controller.cli.main import main, parser
parser().format_help()  # what is imported late, now: nobody may not enter every Python's home
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")
async def test_no_permission_exits_3_and_names_the_group(
    service: Service, environment: dict[str, str], socket_dir: Path
) -> None:
    async def as_nobody() -> Ran:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            AS_NOBODY,
            "status",
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(child.communicate(), 20)
        return Ran(child.returncode or 0, out.decode(), err.decode())

    ran = await as_nobody()
    assert ran.code == 3
    assert "usermod -aG games" in ran.err
    os.chmod(socket_dir / "control.sock", 0o666)  # noqa: PTH101, S103
    ran = await as_nobody()
    assert ran.code == 4, "connected, and refused by the service"
    assert "usermod -aG games" in ran.err
    os.chmod(socket_dir, 0o700)  # noqa: PTH101
    ran = await as_nobody()
    assert ran.code == 3
    assert "may not enter" in ran.err


# --------------------------------------------------------------------------- test vends


async def test_p6_a_test_vend_shows_its_steps_and_a_table(
    service: Service, vendctl: Vendctl
) -> None:
    ran = await vendctl("test", "a20", "--cycles", "2", "--yes")
    assert ran.code == 0
    assert "1/2 the motor is told to turn" in ran.err
    assert "1/2 moving" in ran.err
    assert "[fa fb 04 fa fb 04" in ran.err
    assert max(map(len, ran.err.split("Ctrl-C stops the motor.")[1].splitlines())) <= 60
    table = ran.out.splitlines()
    assert table[0].split() == ["CYCLE", "OUTCOME", "MOTOR", "DROPS", "REASON"]
    assert [line.split()[:2] for line in table[1:3]] == [["1", "delivered"], ["2", "delivered"]]
    assert table[3].split("  ") == ["1,2", "good: it fell; motor 0.8 s, usually 0.8 s"]


async def test_a_test_vend_in_json_is_a_step_a_line(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.outcome = "not_delivered"
    ran = await vendctl("test", "A20", "--yes", "--json")
    assert ran.code == 1, "it did not deliver"
    events = [json.loads(line)["event"] for line in ran.out.splitlines()]
    assert events == ["started", "progress", "progress", "outcome", "finished"]


async def begun_test_vend(environment: dict[str, str]) -> asyncio.subprocess.Process:
    """`vendctl test` once its motor is said to move."""
    child = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "controller.cli.main", "test", "A20", "--cycles", "3", "--yes"],
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A shell's background job ignores Ctrl-C, and so would what the tests start in it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stderr is not None
    async with asyncio.timeout(15):
        await child.stderr.readuntil(b"moving")
    return child


async def test_p6_ctrl_c_stops_the_motor_and_shows_the_outcome(
    service: Service, machine: MemoryMachine, environment: dict[str, str]
) -> None:
    machine.hold.clear()
    child = await begun_test_vend(environment)
    child.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(child.communicate(), 15)
    assert child.returncode == 130
    assert b"The board is told to stop the motor" in err
    assert out.splitlines()[1].split()[:2] == [b"1", b"unknown"], "the outcome is shown"
    assert b"Traceback" not in err
    assert [act[:2] for act in machine.acts] == [
        ("cycle_started", "A20"),
        ("stop_test", "t1"),
        ("cycle_closed", "A20"),
    ]


async def test_p6_a_second_ctrl_c_leaves_at_once_and_says_what_goes_on(
    service: Service, machine: MemoryMachine, environment: dict[str, str]
) -> None:
    machine.motor = "runs_on"
    machine.hold.clear()
    child = await begun_test_vend(environment)
    assert child.stderr is not None
    child.send_signal(signal.SIGINT)
    async with asyncio.timeout(15):
        await child.stderr.readuntil(b"cannot stop a motor")
    child.send_signal(signal.SIGINT)
    _out, err = await asyncio.wait_for(child.communicate(), 15)
    assert child.returncode == 130
    assert b"vendctl lane A20" in err
    assert machine.vends_open == 1, "its cycle is followed by the daemon"


async def test_before_it_starts_vendctl_says_where_a_motor_cannot_be_stopped(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.answers["status"] = status_view(boards={"main": board_view(can_stop=False)})
    for words in (["test", "A20"], ["test", "all"]):
        ran = await vendctl(*words)
        assert ran.code == 2, "nobody confirmed"
        assert "CANNOT STOP A MOTOR" in ran.err
    assert machine.acts == []


async def test_test_all_goes_lane_by_lane_and_ends_with_a_verdict_for_each(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.lane_views = {
        "A1": lane_view("A1"),
        "A2": lane_view("A2", stock=0),
        "A3": lane_view("A3", health="disabled", health_reason="bent"),
        "A4": lane_view("A4"),
    }
    machine.outcome = "not_delivered"
    ran = await vendctl("test", "all", "a", "--yes")
    assert ran.code == 1
    assert [act[1] for act in machine.acts if act[0] == "cycle_started"] == ["A1", "A4"]
    table = ran.out.splitlines()
    assert [line.split()[0] for line in table if not line.startswith(" ")] == [
        "A1",
        "A2",
        "A3",
        "A4",
    ]
    assert "left out: no stock" in ran.out
    assert "left out: disabled (bent)" in ran.out
    assert max(map(len, table)) <= 60


async def test_test_all_with_empty_turns_empty_lanes_too(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.lane_views = {"A2": lane_view("A2", stock=0)}
    ran = await vendctl("test", "all", "--empty", "--yes", "--json")
    assert ran.code == 0
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert lines[-1] == {"event": "verdicts", "lanes": [{"channel": "A2", "verdict": "good"}]}


# --------------------------------------------------------------------------- the eye

EYE = {"event": "eye", "at": 1_790_000_000.0, "cabinet": "A", "board": "main"}
OVER = {"event": "finished", "at": 1_790_000_002.0, "level": "clear", "over_ms": 2000}
DARK_ONCE = [[0, False], [900, True], [945, False]]


async def test_the_eye_is_shown_with_its_pulses_and_a_plot(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.eye_lines = [
        {**EYE, "sight": "read", "selftest": "ok", "level": "clear"},
        {"event": "level", "at": 1_790_000_000.0, "level": "clear", "pulses": 0},
        {"event": "pulse", "at": 1_790_000_000.945, "width_ms": 45, "pulses": 1},
        {**OVER, "pulses": 1, "changes": DARK_ONCE},
    ]
    ran = await vendctl("eye", "a", "--seconds", "2")
    assert (ran.code, machine.acts) == (0, [("eye", "A", 2)])
    assert "self-test: fine" in ran.err
    assert "pulse at 0.90 s: 45 ms" in ran.out
    assert ran.out.count("#") in (1, 2), "45 ms of 2 s are one column or touch two"
    assert max(map(len, ran.out.splitlines())) <= 60


@pytest.mark.parametrize(
    ("sight", "level", "code"),
    [
        ("read", "blocked", 1),
        ("read", "clear", 0),
        ("read", "unverified", 1),
        ("none", "absent", 1),
    ],
)
async def test_an_eye_that_does_not_see_is_bad_news(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, sight: str, level: str, code: int
) -> None:
    machine.eye_lines = [
        {**EYE, "sight": sight, "selftest": "ok", "level": level},
        {**OVER, "level": level, "pulses": 0, "changes": [[0, level == "blocked"]]},
    ]
    assert (await vendctl("eye", "A")).code == code


async def test_an_eye_that_nobody_can_ask_is_said_in_plain_words(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.eye_lines = [
        {**EYE, "sight": "watched", "selftest": "none", "level": "unverified"},
        {**OVER, "level": "unverified", "pulses": 0, "changes": []},
    ]
    ran = await vendctl("eye", "A")
    assert ran.code == 0
    assert "nobody can ask it" in " ".join(ran.err.split())


# --------------------------------------------------------------------------- a person at a terminal


@pytest.mark.parametrize(
    ("typed", "code"), [(b"y\n", 0), ("是\n".encode(), 0), (b"n\n", 4), (b"\n", 4)]
)
async def test_a_person_is_asked_once(
    service: Service,
    machine: MemoryMachine,
    environment: dict[str, str],
    typed: bytes,
    code: int,
) -> None:
    ours, theirs = pty.openpty()
    child = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "controller.cli.main", "lane", "enable", "A20"],
        env=environment,
        stdin=theirs,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(theirs)
    os.write(ours, typed)
    _out, err = await asyncio.wait_for(child.communicate(), 15)
    os.close(ours)
    assert child.returncode == code
    assert err.count(b"[y/N]") == 1
    assert b"lets lane A20 sell again" in err, "it says what it will do before it asks"
    assert bool(machine.acts) == (code == 0)


@pytest.mark.parametrize(("more", "coloured"), [({}, 1), ({"NO_COLOR": "1"}, 0)])
async def test_colour_on_a_terminal_unless_no_color(
    service: Service, environment: dict[str, str], more: dict[str, str], coloured: int
) -> None:
    ours, theirs = pty.openpty()
    child = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "controller.cli.main", "status"],
        env={**environment, "TERM": "xterm", **more},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=theirs,
    )
    assert await asyncio.wait_for(child.wait(), 15) == 0
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert b"Nothing moves." in shown
    assert (b"\x1b[" in shown) == bool(coloured)


async def test_a_reader_that_has_enough_is_no_error(
    service: Service, environment: dict[str, str]
) -> None:
    child = await asyncio.create_subprocess_exec(
        *["sh", "-c", f"{sys.executable} -m controller.cli.main events | true"],
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    _out, err = await asyncio.wait_for(child.communicate(), 15)
    assert err == b""


# --------------------------------------------------------------------------- config, imports


async def test_config_check_needs_no_daemon(vendctl: Vendctl, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[machine]\nmachine_no = "12"\n')
    ran = await vendctl("config", "check", str(file))
    assert ran.code == 1
    assert "machine_no" in ran.out
    as_json = await vendctl("config", "check", str(file), "--json")
    assert as_json.code == 1
    told = json.loads(as_json.out)
    assert told["file"] == str(file)
    assert told["errors"]


async def test_what_a_newcomer_types_first(vendctl: Vendctl) -> None:
    version = await vendctl("--version")
    assert (version.code, version.out) == (0, f"vendctl {__version__}\n")
    for words in ([], ["--json"]):
        bare = await vendctl(*words)
        assert (bare.code, bare.out) == (2, "")
        assert "vendctl --help" in bare.err
    shown = (await vendctl("--help")).out
    verbs = shown[shown.index("verbs:") :].splitlines()[1:]
    named = [line.split()[0] for line in verbs if line.startswith("  ") and line[2:3].strip()]
    assert list(dict.fromkeys(named))[:3] == ["status", "doctor", "watch"]


def test_starting_it_loads_neither_aiohttp_nor_pydantic_nor_asyncio() -> None:
    """On a small board each costs more than all of vendctl."""
    code = (
        "import sys, controller.cli.main; "
        "print({'aiohttp', 'pydantic', 'asyncio'} & sys.modules.keys())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
