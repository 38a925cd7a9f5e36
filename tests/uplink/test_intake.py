"""The order of checks, what each rejection says, and any bytes at all (P8, P12, P13, P14)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.clock import LoopClock
from controller.dispensing.interfaces import Rejection
from controller.errors import JournalUncertain, JournalUnwritable
from controller.model import Code, Executed, Order, OrderKey, OrderLine
from controller.uplink.intake import (
    EVENTS_AT_ONCE,
    LARGEST_PAYLOAD,
    Disposition,
    Intake,
    IntakeSettings,
)
from controller.uplink.messages import Payloads
from tests.uplink.conftest import MACHINE, Desk, MemoryJournal, command

ACK, LEAVE = Disposition.ACKNOWLEDGE, Disposition.LEAVE
NOW = 2_000
FIRST = OrderKey(1)


class Bench:
    """An intake with its surroundings, at wall time NOW."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.desk = Desk(self.journal)
        self.believed = True
        self.now = float(NOW)
        self.direct: list[tuple[str, dict[str, Any]]] = []
        self.heard = True
        self.intake = Intake(
            IntakeSettings(MACHINE),
            self.journal,
            self.desk,
            LoopClock(lambda: self.believed, lambda: self.now),
            Payloads(MACHINE),
            self._publish_now,
        )

    async def _publish_now(self, topic: str, payload: bytes) -> bool:
        self.direct.append((topic, json.loads(payload)))
        return self.heard

    async def dispense(self, value: Any, *, retained: bool = False) -> Disposition:
        payload = value if isinstance(value, bytes) else json.dumps(value).encode()
        return await self.intake.dispense(payload, retained=retained)

    async def cancel(self, value: Any, *, retained: bool = False) -> Disposition:
        payload = value if isinstance(value, bytes) else json.dumps(value).encode()
        return await self.intake.cancel(payload, retained=retained)

    def verdict(self, key: OrderKey = FIRST) -> tuple[Code, Executed] | None:
        """The newest stored rejection of a command."""
        found = [word for (known, _), word in self.journal.rejected.items() if known == key]
        return found[-1] if found else None


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_good_command_is_submitted_in_canonical_form(bench: Bench) -> None:
    products = [
        {"product_id": 121, "quantity": 1, "channel": "", "record_id": None},
        {"product_id": 122, "quantity": 2, "channel": "A020", "record_id": "78"},
    ]
    value = command(
        12, order_id="12", products=products, issued_at="1990", delivery_id=None, unknown=[1]
    )
    assert await bench.dispense(value) is ACK
    assert bench.desk.submitted == [
        Order(
            OrderKey(12),
            "trade-12",
            1990,
            1990 + 90,
            (OrderLine(121, 1), OrderLine(122, 2, "A20", 78)),
        )
    ]


NO, UNKNOWN = Executed.NO, Executed.UNKNOWN


@pytest.mark.parametrize(
    ("changes", "code", "executed"),
    [
        ({"machine_no": "00000001"}, Code.WRONG_MACHINE, NO),
        ({"machine_no": [MACHINE]}, Code.WRONG_MACHINE, NO),
        ({"trade_id": ""}, Code.BAD_FIELD, NO),
        ({"trade_id": "x" * 65}, Code.BAD_FIELD, NO),
        ({"trade_id": "a\nb"}, Code.BAD_FIELD, NO),
        ({"trade_id": "\ud800"}, Code.BAD_FIELD, NO),
        ({"products": []}, Code.BAD_FIELD, NO),
        ({"products": {}}, Code.BAD_FIELD, NO),
        ({"products": [None]}, Code.BAD_FIELD, NO),
        ({"products": [{"product_id": 1, "quantity": 1}] * 51}, Code.BAD_FIELD, NO),
        ({"products": [{"product_id": 1, "quantity": "1"}]}, Code.BAD_FIELD, NO),
        ({"products": [{"product_id": 1, "quantity": 1.0}]}, Code.BAD_FIELD, NO),
        ({"products": [{"product_id": 1, "quantity": True}]}, Code.BAD_FIELD, NO),
        ({"products": [{"product_id": 1, "quantity": 51}]}, Code.BAD_FIELD, NO),
        ({"products": [{"product_id": 1, "quantity": -1}]}, Code.BAD_FIELD, NO),
        ({"products": [{"product_id": "1", "quantity": 1}]}, Code.BAD_FIELD, NO),
        ({"products": [{"product_id": 2**63, "quantity": 1}]}, Code.BAD_FIELD, NO),
        (
            {"products": [{"product_id": 1, "quantity": 1, "channel": "a1"}]},
            Code.BAD_FIELD,
            NO,
        ),
        ({"issued_at": None}, Code.BAD_FIELD, UNKNOWN),
        ({"issued_at": "yesterday"}, Code.BAD_FIELD, UNKNOWN),
        ({"issued_at": 2**63}, Code.BAD_FIELD, UNKNOWN),
        ({"expires_at": 1.5}, Code.BAD_FIELD, UNKNOWN),
        ({"issued_at": NOW + 31}, Code.NOT_YET_VALID, NO),
        ({"issued_at": NOW - 91}, Code.EXPIRED, NO),
        ({"expires_at": NOW - 1}, Code.EXPIRED, NO),
        ({"issued_at": 999, "expires_at": 9_999}, Code.JOURNAL_RESET, UNKNOWN),
        ({"issued_at": 999, "expires_at": 1_000}, Code.JOURNAL_RESET, UNKNOWN),
        ({"products": [{"product_id": 1, "quantity": 26}] * 2}, Code.TOO_MANY_UNITS, NO),
    ],
)
async def test_each_mistake_has_its_code(
    bench: Bench, changes: dict[str, Any], code: Code, executed: Executed
) -> None:
    """P14; and P13: what may have been executed before the memory begins is `unknown`."""
    assert await bench.dispense(command(1, **changes)) is ACK
    assert bench.verdict() == (code, executed)
    assert bench.desk.submitted == []


@pytest.mark.parametrize(
    ("changes"),
    [{"issued_at": NOW + 30}, {"issued_at": NOW - 90}, {"expires_at": NOW}, {"machine_no": ""}],
)
async def test_the_edges_of_the_times_are_inside(bench: Bench, changes: dict[str, Any]) -> None:
    assert await bench.dispense(command(1, **changes)) is ACK
    assert len(bench.desk.submitted) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"issued_at": 1},
        {"issued_at": "soon"},
        {"issued_at": None},
        {"expires_at": 5},
        {"issued_at": 99_999},
        {},
    ],
)
@pytest.mark.parametrize("retained", [False, True])
@pytest.mark.parametrize("believed", [False, True])
async def test_a_known_command_is_replayed_whatever_else_is_wrong(
    bench: Bench, changes: dict[str, Any], *, retained: bool, believed: bool
) -> None:
    """P8: never answered with a rejection."""
    await bench.dispense(command(1))
    bench.believed = believed
    bench.now = 10**9
    bench.desk.verdict = Rejection(Code.SERVICE_MODE, "")
    assert await bench.dispense(command(1, **changes), retained=retained) is ACK
    assert bench.journal.replays == [OrderKey(1)]
    assert bench.verdict() is None
    assert len(bench.desk.submitted) == 1


async def test_other_content_under_a_known_identity_is_a_conflict(bench: Bench) -> None:
    """P8: and nothing of the known command changes."""
    await bench.dispense(command(1))
    await bench.dispense(command(1, trade_id="another"))
    assert bench.verdict() == (Code.CONFLICT, Executed.UNKNOWN)
    await bench.dispense(command(2, trade_id="trade-1"))
    assert bench.verdict(OrderKey(2)) == (Code.CONFLICT, Executed.UNKNOWN)


@pytest.mark.parametrize("changes", [{"products": 7}, {"machine_no": "00000001"}])
async def test_an_unreadable_command_says_nothing_about_a_known_one(
    bench: Bench, changes: dict[str, Any]
) -> None:
    """P8: `command_executed: no` for an order that was executed would be refunded."""
    await bench.dispense(command(1))
    await bench.dispense(command(1, **changes))
    assert bench.verdict() is not None
    assert bench.verdict()[1] is Executed.UNKNOWN  # type: ignore[index]


async def test_the_same_rejected_command_gets_the_same_rejection(bench: Bench) -> None:
    late = command(1, issued_at=1_900)
    await bench.dispense(late)
    bench.now = 1_950
    await bench.dispense(late)
    assert bench.journal.replays == [OrderKey(1)]
    await bench.dispense(command(1, issued_at=1_940))
    assert len(bench.desk.submitted) == 1


async def test_a_cancelled_order_that_comes_later_is_rejected(bench: Bench) -> None:
    cancel = {"order_id": 1, "trade_id": "trade-1", "issued_at": 1_990}
    assert await bench.cancel(cancel) is ACK
    await bench.dispense(command(1))
    assert bench.verdict() == (Code.CANCELLED, Executed.NO)


async def test_retained_commands_are_refused(bench: Bench) -> None:
    await bench.dispense(command(1), retained=True)
    assert bench.verdict() == (Code.RETAINED, Executed.NO)
    await bench.cancel({"order_id": 1, "trade_id": "t", "issued_at": 1_990}, retained=True)
    assert bench.journal.events[-1][1]["code"] == "retained"
    assert bench.desk.cancelled == []


async def test_a_clock_that_nobody_believes_rejects(bench: Bench) -> None:
    bench.believed = False
    await bench.dispense(command(1))
    assert bench.verdict() == (Code.CLOCK_UNSET, Executed.NO)


async def test_without_a_birth_every_answer_goes_past_the_journal(bench: Bench) -> None:
    """P13: `journal` and `seq` null, and acknowledged only when the broker has it."""
    bench.journal.birth = bench.journal.bound = None
    assert await bench.dispense(command(1)) is ACK
    topic, said = bench.direct[0]
    assert (topic, said["code"], said["journal"], said["seq"]) == (
        "order",
        "clock_unset",
        None,
        None,
    )
    bench.heard = False
    assert await bench.dispense(command(2)) is LEAVE
    assert await bench.cancel({"order_id": 1, "trade_id": "t", "issued_at": 1_990}) is LEAVE
    assert await bench.dispense(b"{") is LEAVE


async def test_an_unwritable_journal_is_answered_directly_and_only_then_acknowledged(
    bench: Bench,
) -> None:
    """P12."""
    await bench.dispense(command(7))
    bench.journal.unwritable = True
    assert await bench.dispense(command(1)) is ACK
    topic, said = bench.direct[0]
    assert (topic, said["code"], said["command_executed"], said["seq"]) == (
        "order",
        "journal_unwritable",
        "no",
        None,
    )
    bench.heard = False
    assert await bench.dispense(command(2)) is LEAVE
    assert await bench.cancel({"order_id": 1, "trade_id": "t", "issued_at": 1_990}) is LEAVE
    direct = len(bench.direct)
    assert await bench.dispense(command(7)) is LEAVE  # known: later, and never a rejection
    assert len(bench.direct) == direct


async def test_of_a_flood_each_order_is_answered_and_only_then_acknowledged(bench: Bench) -> None:
    """P9, P14: a command that was acknowledged in silence would be waited for, for ever."""
    bench.journal.flooded = True
    assert await bench.dispense(command(1, expires_at=1_999)) is ACK
    topic, said = bench.direct[0]
    assert (topic, said["code"], said["command_executed"], said["seq"]) == (
        "order",
        "expired",
        "no",
        None,
    )
    bench.heard = False
    assert await bench.dispense(command(2, expires_at=1_999)) is LEAVE


@pytest.mark.parametrize(
    "payload",
    [b"", b"nonsense", b"[]", b'{"order_id": 0}', b'{"order_id": true}', b"{}", b"[" * 1000],
)
async def test_without_an_identity_it_is_an_event(bench: Bench, payload: bytes) -> None:
    """P14."""
    assert await bench.dispense(payload) is ACK
    assert bench.journal.events[0][0] == "dispense_rejected"
    assert bench.journal.rows == []


async def test_an_unusable_delivery_id_is_no_word_about_the_order_without_one(
    bench: Bench,
) -> None:
    await bench.dispense(command(1, delivery_id="x" * 33))
    assert bench.verdict() is None
    assert bench.journal.events[0][1]["code"] == "bad_field"


async def test_garbage_is_rate_limited_and_counted(bench: Bench) -> None:
    """P14: a flood writes ten events, not ten thousand."""
    for _ in range(500):
        assert await bench.dispense(b"garbage") is ACK
    assert len(bench.journal.events) == EVENTS_AT_ONCE
    assert bench.intake.counters["dispense_bad_json"] == 500


@pytest.mark.parametrize("trouble", ["unwritable", "clock"])
async def test_a_cancel_is_not_swallowed_by_the_rate_limit_of_garbage(
    bench: Bench, trouble: str
) -> None:
    """P12, P13: it is acknowledged only after its rejection was heard, however much garbage
    came before it; acknowledged in silence, the platform would believe it cancelled."""
    for _ in range(EVENTS_AT_ONCE + 1):
        await bench.dispense(b"garbage")
    if trouble == "clock":
        bench.journal.birth = bench.journal.bound = None
    bench.journal.unwritable = True
    cancel = {"order_id": 1, "trade_id": "t", "issued_at": 1_990}
    assert await bench.cancel(cancel) is ACK
    assert [said["detail"]["order_id"] for topic, said in bench.direct if topic == "event"] == [1]
    bench.heard = False
    assert await bench.cancel(cancel) is LEAVE


async def test_too_large_is_refused_unread(bench: Bench) -> None:
    assert await bench.intake.dispense(None, retained=False) is ACK
    assert bench.journal.events[0][1]["code"] == "too_large"
    exactly = json.dumps(command(1)).encode().ljust(LARGEST_PAYLOAD)
    await bench.dispense(exactly)
    assert len(bench.desk.submitted) == 1
    await bench.dispense(exactly + b" ")
    assert len(bench.desk.submitted) == 1


async def test_a_cancel_from_before_the_memory_is_not_answered_with_unknown_order(
    bench: Bench,
) -> None:
    """P13: the order may have been executed by the journal that was lost."""
    await bench.cancel({"order_id": 1, "trade_id": "t", "issued_at": 999})
    assert bench.desk.cancelled == []
    assert bench.journal.events[0][1]["code"] == "journal_reset"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        ["order_id", "delivery_id", "trade_id", "machine_no", "issued_at", "expires_at", "products"]
    ),
    JSON
    | st.just(1_990)
    | st.just("7")
    | st.lists(
        st.dictionaries(
            st.sampled_from(["product_id", "quantity", "channel", "record_id"]),
            JSON | st.integers(0, 60) | st.just("A1"),
        ),
        max_size=3,
    ),
)
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def _within_bounds(order: Order) -> None:
    assert 0 < order.key.order_id < 2**63
    assert len(order.key.delivery_id) <= 32
    assert 1 <= len(order.trade_id.encode()) <= 256
    assert 1 <= order.units <= 50
    assert 0 < order.issued_at < 2**63
    assert all(type(line.quantity) is int for line in order.lines)


@FUZZ
@given(payload=st.binary(max_size=200), retained=st.booleans())
async def test_any_bytes_are_acknowledged_and_move_nothing(
    payload: bytes, *, retained: bool
) -> None:
    """P14."""
    bench = Bench()
    assert await bench.dispense(payload, retained=retained) is ACK
    assert await bench.cancel(payload, retained=retained) is ACK
    assert bench.desk.submitted == []


@FUZZ
@given(value=FIELDS | JSON, changes=FIELDS, retained=st.booleans())
async def test_any_json_is_answered_and_only_bounded_orders_pass(
    value: Any, changes: dict[str, Any], *, retained: bool
) -> None:
    """P14: whatever passes fits SQLite and the contract; everything else has its code."""
    bench = Bench()
    for sent in (value, command(1) | changes):
        assert await bench.dispense(sent, retained=retained) is ACK
        assert await bench.cancel(sent, retained=retained) is ACK
    for order in bench.desk.submitted:
        _within_bounds(order)
        assert not retained


@pytest.mark.parametrize(
    ("trouble", "executed"), [(JournalUnwritable, "no"), (JournalUncertain, "unknown")]
)
async def test_p12_what_a_crash_may_bring_back_is_not_called_unexecuted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, trouble: type[Exception], executed: str
) -> None:
    async def fail(_order: Order) -> None:
        raise trouble("the disk")

    monkeypatch.setattr(bench.desk, "submit", fail)
    assert await bench.dispense(command()) is ACK
    ((topic, body),) = bench.direct
    assert (topic, body["code"], body["seq"]) == ("order", "journal_unwritable", None)
    assert body["command_executed"] == executed
