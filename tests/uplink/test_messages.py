"""Payloads: deterministic, compact, and what their models say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.codes import CODES, REASONS, RESPONSES, Action, backend_action, rejection_action
from controller.dispensing.interfaces import LaneState, OrderFacts, ResultFacts
from controller.model import (
    Code,
    Evidence,
    Executed,
    Lane,
    LaneHealth,
    OrderKey,
    OrderStatus,
    Outcome,
    Reason,
)
from controller.uplink.jsontext import BadJson, read_object, write
from controller.uplink.messages import (
    OUTGOING,
    InventoryMessage,
    OrderMessage,
    Payloads,
    ResultMessage,
    StateMessage,
    iso_ms,
    joined_page,
    json_schemas,
    lane_entry,
)
from tests.uplink.conftest import MACHINE, MemoryJournal, View

PAYLOADS = Payloads(MACHINE)


def facts(**changes: Any) -> ResultFacts:
    usual: dict[str, Any] = {
        "key": OrderKey(1111111),
        "trade_id": "3f2a58ad69b74e86b8a1a3da6fd75cc1",
        "record_id": 78,
        "unit": 2,
        "units": 3,
        "revision": 1,
        "product_id": 122,
        "channel": "A20",
        "outcome": Outcome.DELIVERED,
        "reason": None,
        "evidence": Evidence.DROP_SENSOR,
        "lane_health": LaneHealth.OK,
        "raw": {"protocol": "vbp", "motor": 0, "drop": 1},
        "late": False,
        "cycles": 1,
        "started_at": 1_763_900_000.12,
        "finished_at": 1_763_900_003.48,
    }
    return ResultFacts(**(usual | changes))


def test_a_result_is_these_bytes() -> None:
    """The contract, byte for byte: changing this line changes what the platform stored."""
    assert PAYLOADS.result(facts(), 1_763_800_000, 4711) == (
        b'{"schema":1,"machine_no":"16327129","journal":1763800000,"seq":4711,'
        b'"order_id":1111111,"delivery_id":"","trade_id":"3f2a58ad69b74e86b8a1a3da6fd75cc1",'
        b'"record_id":78,"unit":2,"units":3,"revision":1,"product_id":122,"channel":"A20",'
        b'"cabinet":"A","outcome":"delivered","reason":null,"evidence":"drop_sensor",'
        b'"lane_health":"ok","raw":{"protocol":"vbp","motor":0,"drop":1},"late":false,'
        b'"cycles":1,"started_at":"2025-11-23T12:13:20.120Z",'
        b'"finished_at":"2025-11-23T12:13:23.480Z"}'
    )


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary()
    | st.text(st.characters(exclude_categories=()))
    | st.just(object()),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text(st.characters(exclude_categories=())), inner)
    ),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(raw=st.dictionaries(st.text(), JUNK))
def test_building_a_result_never_raises(raw: dict[str, Any]) -> None:
    """P7: it is built inside the transaction that closes a cycle."""
    built = PAYLOADS.result(facts(raw=raw), 1, 2)
    ResultMessage.model_validate_json(built)
    assert built == PAYLOADS.result(facts(raw=raw), 1, 2)


@given(st.recursive(st.none() | st.integers(-(2**63), 2**63) | st.text(), st.lists, max_leaves=5))
def test_what_we_write_we_can_read(value: Any) -> None:
    assert read_object(write({"v": value})) == {"v": value}


def test_a_result_with_unbounded_raw_is_built_all_the_same() -> None:
    """P7: a driver's mistake must not keep a cycle open."""
    endless: dict[str, Any] = {"number": 10**5000}
    endless["itself"] = endless
    ResultMessage.model_validate_json(PAYLOADS.result(facts(raw=endless), 1, 2))


def test_an_order_past_the_journal_has_null_numbers() -> None:
    """P12, P13."""
    built = PAYLOADS.order(
        OrderFacts(
            OrderKey(1, "d"),
            "t",
            OrderStatus.REJECTED,
            "clock_unset",
            "m",
            Executed.NO,
            3,
            0,
            0,
            0,
            1,
            0.0,
        ),
        None,
        None,
    )
    message = OrderMessage.model_validate_json(built)
    assert (message.journal, message.seq, message.command_executed) == (None, None, Executed.NO)


def test_state_and_inventory_fit_their_models() -> None:
    journal = MemoryJournal()
    StateMessage.model_validate_json(PAYLOADS.state(View(journal).state(), online=True))
    lane = Lane("A1", 1, 121, 8, "A")
    entry = lane_entry(LaneState(lane, 8, 0, 0, 0, 0, 8, LaneHealth.OK, "", 0, 0, None))
    InventoryMessage.model_validate_json(
        PAYLOADS.inventory({"journal": 1, "lanes": [entry]}, 1_000.0)
    )


def test_an_event_tells_what_was_lost() -> None:
    event = json.loads(PAYLOADS.event("lost", {"count": 3, "first": 1}, 1, 2, 0.0))
    assert (event["lost"], event["detail"]) == (3, {"count": 3, "first": 1})
    assert json.loads(PAYLOADS.event("jam", {"count": 3}, 1, 2, 0.0))["lost"] == 0


@pytest.mark.parametrize(
    ("unix", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_763_900_000.9996, "2025-11-23T12:13:21.000Z"),
        (-5, "1970-01-01T00:00:00.000Z"),
        (1e18, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_have_milliseconds_and_never_raise(unix: float, text: str) -> None:
    assert iso_ms(unix) == text


def test_a_page_holds_the_stored_bytes() -> None:
    head = PAYLOADS.response("results", "", "ok", "", 0.0, {"next": None, "messages": []})
    page = joined_page(head, [b'{"a": 1}', b'{"b":2}'])
    assert json.loads(page)["data"]["messages"] == [{"a": 1}, {"b": 2}]
    assert b'[{"a": 1},{"b":2}]' in page


def test_every_topic_has_a_schema() -> None:
    schemas = json_schemas()
    assert set(OUTGOING) <= set(schemas)
    assert schemas["result"]["properties"]["schema"]["const"] == 1
    json.dumps(schemas)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"1", b'{"a":1,"a":1}', b'{"a":NaN}', b'{"a":-Infinity}', b"\xff\xfe{\x00}\x00",
        b'{"a":' + b"9" * 5000 + b"}", b"[" * 60_000, b'{"a":' * 10_000, b'{"a":1}x',
        b"\xef\xbb\xbf{}", b'"' + b'\\"' * 30_000,
    ],
)  # fmt: skip
def test_bytes_that_are_no_object_of_ours(data: bytes) -> None:
    """P14."""
    with pytest.raises(BadJson):
        read_object(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_object_or_bad_json(data: bytes) -> None:
    """P14."""
    try:
        value = read_object(data)
    except BadJson:
        return
    assert isinstance(value, dict)


def test_each_code_and_reason_is_in_the_table() -> None:
    assert set(CODES) == set(Code)
    assert set(REASONS) == set(Reason)
    assert RESPONSES
    texts = [m.zh for m in CODES.values()] + [zh for _, zh in REASONS.values()]
    assert all(any(char > "\u4e00" for char in text) for text in texts)
    assert len(set(texts)) == len(texts)


def test_what_may_have_been_executed_is_never_simply_refunded() -> None:
    for code in (Code.CONFLICT, Code.JOURNAL_RESET):
        assert CODES[code].action is Action.ASK
    assert rejection_action(Code.EXPIRED, Executed.UNKNOWN) is Action.ASK
    assert rejection_action(Code.EXPIRED, Executed.NO) is Action.REFUND
    assert rejection_action(Code.UNKNOWN_ORDER, Executed.UNKNOWN) is Action.ASK
    assert rejection_action(Code.TOO_LATE, Executed.UNKNOWN) is Action.WAIT  # units still open
    assert backend_action(Outcome.UNKNOWN) is Action.ASK
