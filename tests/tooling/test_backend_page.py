"""docs/backend.md: what a backend does is what controller/codes.py says, and its times hold."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from pathlib import Path

import pytest

from controller.codes import CODES, REASONS, RESPONSES, backend_action
from controller.config_rules import CYCLE_TIMEOUT_S
from controller.config_tables import CabinetTable, MachineTable
from controller.dispensing.job import PAUSE_S
from controller.model import OrderStatus, Outcome
from tests.virtual.test_heart import fault, play
from tests.virtual.world import SPIRAL, World
from tests.virtual_time import virtual_wall

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "backend.md").read_text(encoding="utf-8")


def table(head: str) -> list[list[str]]:
    """The cells of the table whose first row begins so, without that row."""
    (found,) = re.findall(rf"^\| {re.escape(head)}.*\n.*\n((?:\|.*\n)*)", PAGE, re.MULTILINE)
    return [[cell.strip(" `") for cell in row.split("|")[1:-1]] for row in found.splitlines()]


def test_each_code_says_what_the_table_of_codes_says() -> None:
    told = {code: (action, meaning) for code, action, meaning in table("code | do")}
    meant = [*CODES.items(), *RESPONSES.items()]
    assert told == {code.value: (meaning.action.value, meaning.en) for code, meaning in meant}


def test_each_outcome_and_status_is_there() -> None:
    told = {outcome: action for outcome, action, _ in table("outcome | do")}
    assert told == {outcome.value: backend_action(outcome).value for outcome in Outcome}
    assert {row[0] for row in table("status | do")} == {status.value for status in OrderStatus}


def test_each_reason_follows_its_outcomes() -> None:
    rows = table("reason | comes with")
    assert {reason: meaning for reason, _, _, meaning in rows} == {
        reason.value: english for reason, (english, _) in REASONS.items()
    }
    for reason, outcomes, actions, _ in rows:
        names = re.findall(r"\w+", outcomes)
        assert names, reason
        assert actions.split(", ") == [backend_action(Outcome(name)).value for name in names]


def longest_s(ttl: float, units: int, second_cycles: int, timeout: float, window: float) -> float:
    """The page's formula."""
    cycles = units * (1 + second_cycles)
    return ttl + cycles * timeout + units * second_cycles * window + (cycles - 1) * PAUSE_S


def test_the_longest_times_are_those_of_the_default_settings() -> None:
    ttl, window, second_cycles = (
        model.model_fields[name].default
        for model, name in (
            (MachineTable, "order_ttl_s"),
            (MachineTable, "late_drop_window_s"),
            (CabinetTable, "second_cycles"),
        )
    )
    assert f"`order_ttl_s` {ttl} s" in PAGE
    assert f"`second_cycles` {second_cycles})" in PAGE
    assert f"x {PAUSE_S:g} s" in PAGE
    expected = [
        [
            kind,
            f"{timeout:g}",
            f"{longest_s(ttl, 1, second_cycles, timeout, window):g}",
            f"{longest_s(ttl, 3, second_cycles, timeout, window):g}",
            f"{longest_s(ttl, 3, 1, timeout, window):g}",
        ]
        for kind, timeout in CYCLE_TIMEOUT_S.items()
    ]
    assert table("cabinet | `cycle_timeout_s`") == expected


def finished_after(machine: World, order_id: int, issued_at: float) -> float:
    (last,) = [body for body in machine.of("order", order_id) if body["status"] == "finished"]
    return datetime.fromisoformat(last["at"]).timestamp() - issued_at


@pytest.mark.parametrize("quiet", [1, 2])
def test_an_order_whose_last_moment_and_whose_board_fail_is_finished_in_that_time(
    tmp_path: Path, quiet: int
) -> None:
    """Its board is back just before expires_at, and falls silent in the cycle number `quiet`."""

    async def story(machine: World) -> None:
        ttl, units = 20, 2
        fault(machine, "side", "ack_no_status", lane=1, cycle=quiet)
        machine.ports["side"].unplug()
        issued_at = int(virtual_wall())
        await machine.order(1, (221, units), ttl=ttl)
        await asyncio.sleep(ttl - 5)
        machine.ports["side"].plugged = True
        await machine.rest()
        bound = longest_s(ttl, units, 0, SPIRAL.cycle_timeout_s, 30)
        took = finished_after(machine, 1, issued_at)
        assert ttl < took <= bound
        assert "unknown" in {body["outcome"] for body in machine.of("result", 1)}

    play(tmp_path, story)


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert len(links) > 5
    assert [link for link in links if not (DOCS / link).exists()] == []
