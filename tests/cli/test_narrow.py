# ruff: noqa: RUF001  (Chinese sentences have Chinese marks)
"""Every page of vendctl fits a phone's 60 columns, in both languages, with the longest names."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from controller.cli.exits import Exit
from controller.cli.main import VERBS, parser
from controller.cli.screen import WIDTH, columns_of
from controller.cli.words import LANGUAGE
from controller.service.server import Service
from tests.cli.conftest import Vendctl
from tests.cli.watch.terminal import Terminal
from tests.cli.watch.terminal import vendctl as vendctl_on
from tests.service.memory_machine import (
    MemoryMachine,
    board_view,
    cabinet_view,
    order_detail,
    order_summary,
    status_view,
)
from tests.system.waiting import wait_for

LONG = "board-" + "n" * 58
"""As long as the settings allow a name."""

CHINESE = "饮料机左侧第一块驱动板光眼被遮挡请清洁后重试" * 4
"""What a board or a person may have written: 176 columns without a space."""

PATH = "/dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.3:1.0-port0"


def crowded(machine: MemoryMachine) -> None:
    """Everything as wide as it gets."""
    machine.answers["status"] = status_view(
        mode="degraded",
        moving=True,
        moving_lanes=[
            {
                "channel": "A65535",
                "cabinet": "A",
                "board": LONG,
                "cycle_id": 9,
                "purpose": f"{2**63 - 1}/{'9' * 32}#2500",
                "since": 1_790_000_000,
            }
        ],
        boards={
            "main": board_view(out_of_service="board_swapped"),
            LONG: board_view(up=False, text=CHINESE, door="open", eye="unverified"),
            "售货机": board_view(out_of_service="board_swapped", quarantined_until_s=88.7),
        },
        cabinets={
            "A": cabinet_view(state="out_of_service", reason=CHINESE, lanes=100, lanes_ok=99),
        },
        broker={
            "connected": False,
            "since": None,
            "host": "b" * 120 + ".example",
            "port": 65535,
            "protocol": "3.1.1",
            "problem": CHINESE,
        },
        clock={"believed": False, "wall": 1.0, "newest": 2.0},
        journal={
            "birth": 1_763_800_000,
            "last_seq": 2**63 - 1,
            "writable": False,
            "problem": "No space left on device",
            "lost": True,
            "set_aside": "/var/lib/vending-controller/journal-20261124T153619.db",
        },
    )
    order = {
        "order_id": 2**63 - 1,
        "delivery_id": "9" * 32,
        "trade_id": "t" * 64,
        "status": "cancelled",
        "code": "out_of_stock",
        "units": 2500,
        "unknown": 2500,
    }
    machine.answers["orders"] = {"orders": [order_summary(**order)], "next_before": 2**63 - 1}
    detail = order_detail(**order, pruned=True)
    detail["unit_list"][0] |= {
        "outcome": "not_delivered",
        "reason": "conflicting_evidence",
        "product_id": 2**63 - 1,
    }
    detail["unit_list"][0]["cycles"][0] |= {"board": LONG, "reason": "motor_did_not_stop"}
    machine.answers["order"] = {"orders": [detail]}
    port = machine.answers["link"]["ports"][0]
    port |= {"board": LONG, "port": PATH, "up": False, "problem": CHINESE}
    port["resets"] = [{"at": 1.0, "cause": CHINESE}]
    machine.answers["events"]["events"][0] |= {
        "kind": "journal_restored",
        "detail": {"text": CHINESE, "path": PATH, "board": LONG},
    }
    for lane in machine.lane_views.values():
        lane |= {
            "product_id": 2**63 - 1,
            "health": "unresolved",
            "health_reason": CHINESE,
            "board": LONG,
        }


PAGES = [
    ["status"],
    ["orders"],
    ["order", "1111111"],
    ["events"],
    ["link"],
    ["lanes"],
    ["lane", "A20"],
    ["stock", "set", "A20", "3", "--yes"],
    ["stock", "fill", "--yes"],
    ["cabinet", "stop", "A", "--yes"],
    ["cabinet", "start", "A", "--yes"],
    ["lane", "disable", "A20", "--yes"],
    ["board", "accept", "main", "--yes"],
    ["clock", "accept", "--yes"],
    ["service", "on", "--yes"],
    ["service", "off", "--yes"],
    ["trace", "--all"],
    ["outbox"],
    ["doctor"],
    ["journal", "prune", "--yes"],
    ["journal", "check", "--yes"],
    ["stock", "undo-test", "--yes"],
    ["test", "A20", "--yes"],
    ["config", "show"],
]

NOT_PAGES = {
    "watch": "a full screen: tests/cli/watch",
    "eye": "a plot of a bound width: tests/cli/test_eye_plot.py",
    "resolve": "shows the page of `order`: tests/cli/test_books.py",
    "completion": "a script for a shell",
    "journal backup": "the name of a file and its digest, to be copied",
    "journal restore": "needs a stopped daemon: tests/cli/test_books.py",
    "config check": "a line a mistake, as an editor jumps to it",
    "config schema": "JSON, for an editor",
}
"""Verb -> why it may be wider."""


@pytest.mark.system
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("words", PAGES, ids=" ".join)
async def test_a_page_is_narrow(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, words: list[str], language: str
) -> None:
    crowded(machine)
    ran = await vendctl(*words, "--lang", language)
    assert ran.code in {0, 1}, ran.err
    assert ran.out.strip()
    assert [line for line in ran.out.splitlines() if columns_of(line) > WIDTH] == []


@pytest.mark.system
@pytest.mark.parametrize("language", ["en", "zh"])
async def test_a_question_and_a_refusal_are_broken_between_words(
    service: Service, machine: MemoryMachine, socket_dir: Path, language: str
) -> None:
    """On a terminal, which would break them inside a word, or a lane's name."""
    machine.answers["order"]["orders"][0]["unit_list"][0]["outcome"] = "unknown"
    control = socket_dir / "control.sock"
    told: list[str] = []
    for asked, end, words in (
        ("[y/N]", "(not_confirmed)", ["lane", "disable", "A20", "--reason", "x"]),
        ("[n]", "(not_confirmed)", ["resolve", "1111111", "1"]),
        ("", "(unreachable)", ["status", "--socket", str(socket_dir / "nobody.sock")]),
    ):
        given = [*words, "--lang", language]
        with vendctl_on(control, *given, size=(WIDTH, 60)) as (terminal, child):
            await asyncio.to_thread(wait_for, partial(shows, terminal, asked), asked)
            terminal.press("x\n" if asked else "")
            assert await asyncio.to_thread(child.wait, 20) in {Exit.UNREACHABLE, Exit.REFUSED}
            await asyncio.to_thread(wait_for, partial(shows, terminal, end), end)
            told += bytes(terminal.sent).decode().splitlines()
    assert [line for line in told if columns_of(line) > WIDTH] == []


def shows(terminal: Terminal, words: str) -> bool:
    return words in " ".join(terminal.text().split())


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("verb", [None, *VERBS], ids=lambda verb: verb.name if verb else "vendctl")
def test_help_is_narrow_and_shows_an_example(
    verb: object, language: str, capsys: pytest.CaptureFixture[str]
) -> None:
    LANGUAGE.set(language)
    words = verb.name.split() if verb else []
    with pytest.raises(SystemExit):
        parser().parse_args([*words, "--help"])
    LANGUAGE.set("en")
    told = capsys.readouterr().out
    for asked in [verb] if verb else VERBS:
        for line in asked.lines:
            assert line.example in told
    assert ("示例：" in told) == (language == "zh")
    # A command is copied from here: it stands on one line, whatever its length.
    examples = [f"  {line.example}" for verb in VERBS for line in verb.lines]
    too_wide = [line for line in told.splitlines() if columns_of(line) > WIDTH]
    assert [line for line in too_wide if line not in examples] == []


def test_every_verb_is_tried_above() -> None:
    tried = {" ".join(words) for words in PAGES}
    verbs = {verb.name for verb in VERBS} - set(NOT_PAGES)
    assert {
        verb for verb in verbs if not any(f"{words} ".startswith(f"{verb} ") for words in tried)
    } == set()


@pytest.mark.system
async def test_json_is_the_same_in_both_languages(service: Service, vendctl: Vendctl) -> None:
    english, chinese = [
        await vendctl("status", "--json", "--lang", language) for language in ("en", "zh")
    ]
    assert json.loads(english.out) == json.loads(chinese.out)
