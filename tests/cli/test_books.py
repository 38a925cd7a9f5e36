"""vendctl on orders, stock and journal: what it asks, shows, refuses, writes and leaves."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import pty
import sys
from pathlib import Path

import pytest

from controller.service.server import Service
from tests.cli.conftest import Vendctl
from tests.service.memory_books import COPY
from tests.service.memory_machine import MemoryMachine, order_detail

pytestmark = pytest.mark.system

ME = getpass.getuser()
DELIVERY = "1733200000000017"


@pytest.fixture
def unknown(machine: MemoryMachine) -> MemoryMachine:
    """Its unit is unknown, and the board is not asked any more."""
    detail = order_detail(delivered=0, unknown=1)
    detail["unit_list"][0].update(outcome="unknown", reason="no_answer", evidence="none")
    machine.answers["order"] = {"orders": [detail]}
    return machine


def acted(machine: MemoryMachine) -> list[tuple[object, ...]]:
    return [act for act in machine.acts if act[0] not in {"order", "orders"}]


async def typed(environment: dict[str, str], answer: bytes, *words: str) -> tuple[int, str, str]:
    """At a terminal; code, stdout, stderr."""
    ours, theirs = pty.openpty()
    child = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "controller.cli.main", *words],
        env=environment,
        stdin=theirs,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(theirs)
    os.write(ours, answer)
    out, err = await asyncio.wait_for(child.communicate(), 15)
    os.close(ours)
    return child.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (b"d\nsaw it fall\n", "delivered", "saw it fall"),
        (b"y\n\n", "delivered", ""),
        (b"n\nit hangs\n", "not_delivered", "it hangs"),
        (b"\n", None, ""),
    ],
)
async def test_a_person_is_shown_the_unit_and_asked_once_in_plain_words(
    service: Service,
    unknown: MemoryMachine,
    environment: dict[str, str],
    answer: bytes,
    outcome: str | None,
    reason: str,
) -> None:
    code, _out, err = await typed(environment, answer, "resolve", "1111111", "1")
    shown, asked = err.split("Did the customer's item come out?")
    assert "fa fb 06 04 01 1e" in shown, "frames and all"
    assert "no_answer" in shown
    assert "y/N" not in err, "one question is enough"
    assert "y: [d]elivered / [n]ot delivered" in asked
    assert ("How do you know?" in asked) == (outcome is not None), "as watch asks"
    assert code == (4 if outcome is None else 0)
    act = ("resolve", 1111111, DELIVERY, 1, outcome, 1, reason, ME)
    assert acted(unknown) == ([] if outcome is None else [act])


async def test_a_script_says_the_verdict_and_yes(
    service: Service, unknown: MemoryMachine, vendctl: Vendctl
) -> None:
    words = ["resolve", f"1111111/{DELIVERY}", "1"]
    nothing = await vendctl(*words, "--yes")
    assert (nothing.code, acted(unknown)) == (2, [])
    assert "--not-delivered" in nothing.err
    assert (await vendctl(*words, "--delivered")).code == 2, "nobody is here to confirm"
    done = await vendctl(*words, "--not-delivered", "--reason", "hangs", "--yes", "--json")
    assert done.code == 0, done.err
    assert acted(unknown) == [("resolve", 1111111, DELIVERY, 1, "not_delivered", 1, "hangs", ME)]
    assert json.loads(done.out)["unit"] == 1


async def test_nobody_is_asked_about_what_cannot_be_resolved(
    service: Service, machine: MemoryMachine, environment: dict[str, str], vendctl: Vendctl
) -> None:
    code, _out, err = await typed(environment, b"d\n", "resolve", "1111111", "1")
    assert (code, "come out?" in err) == (4, False)
    assert "(not_unknown)" in err
    for words, code in [(("1111111", "2"), 4), (("2", "1"), 4)]:
        assert (await vendctl("resolve", *words, "--delivered", "--yes")).code == code
    two = [order_detail(), order_detail(delivery_id="18")]
    machine.answers["order"] = {"orders": two}
    which = await vendctl("resolve", "1111111", "1", "--delivered", "--yes")
    assert which.code == 2
    assert f"1111111/{DELIVERY}, 1111111/18" in which.err
    assert acted(machine) == []


async def test_a_cancel_names_what_has_not_started(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    machine.answers["order"] = {"orders": [order_detail(units=3, waiting=2)]}
    asked = await vendctl("order", "cancel", "1111111")
    assert asked.code == 2
    assert "2 of 3 unit(s)" in asked.err
    done = await vendctl("order", "cancel", "1111111", "--yes", "--reason", "door")
    assert done.code == 0, done.err
    assert acted(machine) == [("order_cancel", 1111111, DELIVERY, "door", ME)]
    assert (await vendctl("order", "cancel", "2", "--yes")).code == 4


async def test_the_outbox_says_what_holds_it_back(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    ran = await vendctl("outbox")
    assert ran.code == 1
    assert max(map(len, ran.out.splitlines())) <= 60
    assert ran.out.splitlines()[1].split()[:2] == ["result", "3"]
    assert ran.out.splitlines()[1].endswith("12 s")
    assert "nobody subscribes to it" in " ".join(ran.out.split())
    machine.answers["outbox"]["topics"] = machine.answers["outbox"]["topics"][1:]
    assert (await vendctl("outbox")).code == 0


# ------------------------------------------------------------------ the journal


async def test_a_backup_is_the_askers_own_file_whole_and_overwrites_nothing(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, tmp_path: Path
) -> None:
    file = tmp_path / "journal.db"
    done = await vendctl("journal", "backup", str(file), "--yes", "--json")
    assert done.code == 0, done.err
    assert file.read_bytes() == COPY
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(done.out)["bytes"] == len(COPY)
    again = await vendctl("journal", "backup", str(file), "--yes")
    assert (again.code, "(exists)" in again.err) == (4, True)
    nowhere = await vendctl("journal", "backup", str(tmp_path / "no" / "x"), "--yes")
    assert (nowhere.code, "(not_written)" in nowhere.err) == (4, True)
    assert acted(machine) == [("journal_backup", ME)], "the daemon is not asked for nothing"
    machine.torn = True
    torn = await vendctl("journal", "backup", str(tmp_path / "torn.db"), "--yes")
    assert torn.code == 1
    assert not (tmp_path / "torn.db").exists()


async def test_a_check_shows_where_it_is_and_damage_is_bad_news(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    sound = await vendctl("journal", "check", "--yes")
    assert sound.code == 0, sound.err
    assert "2 of 2: events" in sound.err
    machine.damaged = True
    bad = await vendctl("journal", "check", "--yes")
    assert bad.code == 1
    assert bad.out.startswith("DAMAGED: index orders_trade")
    lines = (await vendctl("journal", "check", "--yes", "--json")).out.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["checked", "checked", "damaged"]


async def test_prune_says_what_goes_before_it_asks(
    service: Service, machine: MemoryMachine, vendctl: Vendctl
) -> None:
    asked = await vendctl("journal", "prune")
    assert (asked.code, acted(machine)) == (2, [])
    assert "orders  31" in asked.err
    done = await vendctl("journal", "prune", "--yes")
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].split() == ["orders", "31"]
    machine.answers["would_prune"]["rows"] = {"orders": 0}
    nothing = await vendctl("journal", "prune")
    assert nothing.code == 0, "nothing to ask"


async def test_restore_needs_no_daemon_and_refuses_what_is_no_journal(
    vendctl: Vendctl, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[machine]\nstate_dir = "{tmp_path}"\n')
    (tmp_path / "photo.db").write_bytes(b"no database")
    ran = await vendctl(
        "journal", "restore", str(tmp_path / "photo.db"), "--config", str(config), "--yes"
    )
    assert ran.code == 4
    assert "(not_restored)" in ran.err
    assert "Traceback" not in ran.err
    chinese = await vendctl(
        *("--lang", "zh", "--offline", "journal", "restore", str(tmp_path / "photo.db")),
        *("--config", str(config), "--yes"),
    )
    assert chinese.code == 4
    assert "不是售货机控制程序的日志 (not_restored)" in chinese.err
