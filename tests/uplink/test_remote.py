"""Acting requests: off by default, carried out at most once, refused when they come late (P14)."""

from __future__ import annotations

from typing import Any

import pytest

from controller.errors import Refused
from controller.uplink.remote import ACTS
from tests.uplink.conftest import Build, Machine, MemoryJournal, Platform
from tests.uplink.test_requests import ask

FILL = {"request_id": "r1", "issued_at": 1_990, "expires_at": 2_030, "channel": "A01", "stock": 5}
PAYLOADS: dict[str, dict[str, Any]] = {
    "stock.set": FILL,
    "lane.enable": FILL,
    "lane.disable": FILL,
    "mode.set": {**FILL, "mode": "service"},
    "lane.test": FILL,
}


@pytest.fixture
async def machine(build: Build, platform: Platform) -> Machine:
    made = build(remote_verbs=tuple(ACTS))
    await made.uplink.session.ready()
    return made


@pytest.mark.parametrize("verb", ACTS)
async def test_each_is_off_unless_the_settings_name_it(
    build: Build, platform: Platform, verb: str
) -> None:
    others = tuple(name for name in ACTS if name != verb)
    machine = build(remote_verbs=others)
    await machine.uplink.session.ready()
    assert (await ask(platform, verb, PAYLOADS[verb]))["code"] == "not_allowed"
    assert machine.hand.done == []


@pytest.mark.parametrize("verb", ACTS)
async def test_it_is_done_once_and_its_repeat_gets_the_stored_answer(
    machine: Machine, platform: Platform, verb: str
) -> None:
    first = await ask(platform, verb, PAYLOADS[verb])
    assert (first["code"], first["request_id"]) == ("ok", "r1")
    again = await ask(platform, verb, PAYLOADS[verb])
    assert (again["code"], again["data"]) == ("ok", first["data"])
    assert machine.hand.done == [(verb, "r1")]


async def test_what_was_done_is_told_however_late_it_is_asked_again(
    machine: Machine, platform: Platform
) -> None:
    """`expired` would say that it was not done (P8)."""
    first = await ask(platform, "lane.test", FILL)
    late = {**FILL, "expires_at": 1_999}
    again = await ask(platform, "lane.test", late)
    assert (again["code"], again["data"]) == ("ok", first["data"])
    assert (await ask(platform, "stock.set", late))["code"] == "conflict"
    assert machine.hand.done == [("lane.test", "r1")]


async def test_the_same_id_for_something_else_is_a_conflict(
    machine: Machine, platform: Platform
) -> None:
    await ask(platform, "stock.set", FILL)
    assert (await ask(platform, "stock.set", {**FILL, "stock": 4}))["code"] == "conflict"
    assert (await ask(platform, "lane.enable", FILL))["code"] == "conflict"
    assert machine.hand.done == [("stock.set", "r1")]


async def test_what_was_begun_before_a_crash_is_not_done_again(
    machine: Machine, platform: Platform
) -> None:
    """Nobody knows whether it was done, and the answer says so."""
    await ask(platform, "stock.set", FILL)
    content, _told = machine.journal.requests["r1"]
    machine.journal.requests["r1"] = (content, None)
    assert (await ask(platform, "stock.set", FILL))["code"] == "interrupted"
    assert machine.hand.done == [("stock.set", "r1")]


async def test_a_refusal_says_why_and_is_stored(machine: Machine, platform: Platform) -> None:
    machine.hand.refusal = Refused("cycle_open", "lane A1 turns")
    refused = await ask(platform, "stock.set", FILL)
    assert (refused["code"], refused["data"]) == ("refused", {"error": "cycle_open"})
    assert refused["message"] == "lane A1 turns"
    machine.hand.refusal = None
    assert (await ask(platform, "stock.set", FILL))["code"] == "refused"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"expires_at": 1_999}, "expired"),
        ({"issued_at": 2_040, "expires_at": 2_041}, "not_yet_valid"),
        ({"expires_at": 2_051}, "bad_field"),
        ({"expires_at": 0}, "bad_field"),
        ({"request_id": ""}, "bad_field"),
        ({"channel": "../A1"}, "bad_field"),
        ({"stock": "5"}, "bad_field"),
        ({"stock": -1}, "bad_field"),
    ],
)
async def test_what_is_late_or_malformed_is_not_done(
    machine: Machine, platform: Platform, changes: dict[str, Any], code: str
) -> None:
    assert (await ask(platform, "stock.set", {**FILL, **changes}))["code"] == code
    assert machine.hand.done == []


@pytest.mark.parametrize("verb", ACTS)
async def test_what_is_needed_is_never_taken_for_zero(
    machine: Machine, platform: Platform, verb: str
) -> None:
    """A stock that was left out or null is no count of an empty lane."""
    needed = {name for name in ACTS[verb].model_fields if name != "reason"}
    assert {"request_id", "issued_at", "expires_at"} < needed
    for name in needed:
        left_out = {field: value for field, value in PAYLOADS[verb].items() if field != name}
        for payload in (left_out, {**left_out, name: None}):
            refused = await ask(platform, verb, payload)
            assert refused["code"] == "bad_field", payload
            assert refused["message"].startswith(name)
    assert machine.hand.done == []


async def test_an_empty_lane_is_counted_by_a_zero_that_is_said(
    machine: Machine, platform: Platform
) -> None:
    assert (await ask(platform, "stock.set", {**FILL, "stock": 0}))["code"] == "ok"


async def test_without_birth_or_journal_nothing_is_done(build: Build, platform: Platform) -> None:
    """P12, P13."""
    journal = MemoryJournal()
    machine = build(journal=journal, remote_verbs=tuple(ACTS))
    await machine.uplink.session.ready()
    journal.unwritable = True
    assert (await ask(platform, "stock.set", FILL))["code"] == "journal_unwritable"
    journal.unwritable, journal.birth = False, None
    assert (await ask(platform, "stock.set", FILL))["code"] == "clock_unset"
    assert machine.hand.done == []


async def test_a_retained_one_is_a_mistake_of_its_sender(
    machine: Machine, platform: Platform
) -> None:
    answer = await ask(platform, "lane.test", FILL, retain=True)
    assert answer["code"] == "retained"
    assert machine.hand.done == []


async def test_diagnostics_is_answered_whatever_the_settings_say(
    build: Build, platform: Platform
) -> None:
    machine = build()
    await machine.uplink.session.ready()
    assert set((await ask(platform, "diagnostics", b""))["data"]) == {"status", "lanes", "ports"}
