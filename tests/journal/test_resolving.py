"""A person's verdict on an unknown unit: a revision by the ranks of evidence, and its stock."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.dispensing.interfaces import Cancellation
from controller.errors import Refused
from controller.journal.tally import Tally, booked, put_back
from controller.model import (
    Code,
    Evidence,
    Finding,
    LaneHealth,
    OrderKey,
    Outcome,
    Reason,
    UnitRef,
)

from .conftest import (
    DELIVERED,
    JAMMED,
    SILENT,
    Bench,
    accepted,
    balanced,
    cabinet,
    ending,
    intent,
    make_order,
    one_cycle,
    stock_of,
    unsent,
)

SAW_NOTHING = Finding(Outcome.NOT_DELIVERED, Reason.NO_DROP, Evidence.BOARD_RECORD)
VERDICTS = [Outcome.DELIVERED, Outcome.NOT_DELIVERED]


def audited(bench: Bench, action: str) -> list[tuple[str, str, dict[str, object]]]:
    """(who, target, detail) of each such row, oldest first."""
    rows = bench.journals[-1]._store._connection.execute(
        "SELECT who, target, detail FROM audit WHERE action = ? ORDER BY id", (action,)
    )
    return [(row["who"], row["target"], json.loads(row["detail"])) for row in rows]


@pytest.mark.parametrize("verdict", VERDICTS)
async def test_p10_a_verdict_is_a_revision_and_settles_the_stock(
    bench: Bench, verdict: Outcome
) -> None:
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    await one_cycle(journal, job.ref, SILENT)
    assert (await stock_of(journal)).health is LaneHealth.UNRESOLVED
    order, lane = await journal.resolve(job.ref, verdict, 1, "saw it", "anna")
    assert (lane.uncertain, lane.health, lane.failures) == (0, LaneHealth.OK, 0)
    assert (lane.stock, lane.gone) == ((9, 1) if verdict is Outcome.DELIVERED else (10, 0))
    assert balanced(lane)
    assert (order["unknown"], order[verdict.value], order["revision"]) == (0, 1, 2)
    unit = order["unit_list"][0]
    assert (unit["outcome"], unit["evidence"], unit["revision"]) == (verdict, "technician", 2)
    results = await unsent(journal, "result")
    assert [(r["outcome"], r["revision"]) for r in results] == [("unknown", 1), (verdict, 2)]
    assert [m["revision"] for m in await unsent(journal, "order")] == [0, 1, 2], "finished again"
    assert results[1]["raw"]["resolved"] == verdict
    told = json.dumps([results, await unsent(journal, "event")])
    assert "anna" not in told, "names stay on the machine"
    assert "saw it" not in told, "and what a person wrote"
    assert unit["resolved_at"] is not None
    ((who, target, detail),) = audited(bench, "resolve")
    assert (who, target, detail["outcome"], detail["reason"]) == (
        "anna", "1111111#1", verdict, "saw it",
    )  # fmt: skip


async def test_the_ranks_hold_after_a_verdict(bench: Bench) -> None:
    """A drop that was seen replaces it, a record that saw nothing does not, delivered is final."""
    journal = await bench.ready()
    first, second = await accepted(journal, make_order(quantity=2))
    fell = await one_cycle(journal, first.ref, SILENT)
    hung = await one_cycle(journal, second.ref, SILENT)
    await journal.resolve(first.ref, Outcome.NOT_DELIVERED, 1, "", "anna")
    await journal.resolve(second.ref, Outcome.DELIVERED, 1, "", "anna")
    assert not await journal.revise(hung.cycle_id, SAW_NOTHING, {}, lift=True)
    assert not await journal.revise(fell.cycle_id, SAW_NOTHING, {}, lift=True)
    assert await journal.revise(fell.cycle_id, DELIVERED, {}, lift=True)
    lane = await stock_of(journal)
    assert (lane.stock, lane.gone, lane.uncertain) == (8, 2, 0)
    assert balanced(lane)


async def test_the_eye_that_sees_late_what_a_person_saw_books_no_second_item(bench: Bench) -> None:
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    opened = await one_cycle(journal, job.ref, SILENT)
    await journal.resolve(job.ref, Outcome.DELIVERED, 1, "", "anna")
    known = await journal.cycle(opened.cycle_id)
    assert known is not None
    assert known.finding is not None
    late = Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR, drops=known.finding.drops + 1)
    assert not await journal.revise(opened.cycle_id, late, {}, lift=False)
    lane = await stock_of(journal)
    assert (lane.gone, lane.health) == (1, LaneHealth.OK)


async def test_after_a_count_a_verdict_moves_only_the_ledger(bench: Bench) -> None:
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    await one_cycle(journal, job.ref, SILENT)
    await journal.set_stock("A1", 9, "anna")
    _order, lane = await journal.resolve(job.ref, Outcome.DELIVERED, 1, "", "anna")
    assert (lane.stock, lane.gone, lane.uncertain) == (9, 1, 0)
    assert balanced(lane)


async def test_what_the_cycle_did_to_lane_and_cabinet_is_not_done_again(bench: Bench) -> None:
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    hot = Finding(
        Outcome.UNKNOWN, Reason.MOTOR_DID_NOT_STOP, Evidence.MOTOR, counts_as_failure=True,
        suspend_lane=True, cabinet_fault=True,
    )  # fmt: skip
    await one_cycle(journal, job.ref, hot)
    await journal.enable_lane("A1", "looked", "anna")
    await journal.start_cabinet("A", "anna")
    _order, lane = await journal.resolve(job.ref, Outcome.NOT_DELIVERED, 1, "", "anna")
    assert (lane.health, lane.failures) == (LaneHealth.OK, 0)
    assert await journal.stopped_cabinets() == {}


async def test_what_cannot_be_resolved_is_refused_with_its_code(bench: Bench) -> None:
    journal = await bench.ready()
    jobs = await accepted(journal, make_order(quantity=4))
    asked, jammed, silent, waiting = (job.ref for job in jobs)
    quarantined = await one_cycle(journal, asked, SILENT, quarantined=True)
    await one_cycle(journal, jammed, JAMMED)
    await one_cycle(journal, silent, SILENT)
    refusals = [
        (UnitRef(OrderKey(9), 1), 1, "unknown_order"),
        (UnitRef(asked.key, 5), 1, "unknown_unit"),
        (asked, 1, "being_settled"),
        (jammed, 1, "not_unknown"),
        (waiting, 0, "not_unknown"),
        (silent, 2, "changed"),
    ]
    before = len(await unsent(journal, "result"))
    for ref, seen, code in refusals:
        with pytest.raises(Refused) as refused:
            await journal.resolve(ref, Outcome.DELIVERED, seen, "", "anna")
        assert refused.value.code == code
    assert len(await unsent(journal, "result")) == before
    assert audited(bench, "resolve") == [], "a refusal is no act"
    await journal.lift_quarantine(quarantined.cycle_id)
    await journal.resolve(asked, Outcome.DELIVERED, 1, "", "anna")
    with pytest.raises(Refused) as refused:
        await journal.resolve(asked, Outcome.NOT_DELIVERED, 1, "", "bob")
    assert refused.value.code == "changed", "somebody was quicker"


async def test_a_unit_whose_cycle_is_open_is_being_settled(bench: Bench) -> None:

    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    await journal.open_cycle(intent(job.ref))
    with pytest.raises(Refused) as refused:
        await journal.resolve(job.ref, Outcome.DELIVERED, 0, "", "anna")
    assert refused.value.code == "being_settled"


# ------------------------------------------------------------------ cancel by a person


async def test_a_persons_cancel_answers_the_platform_and_is_audited(bench: Bench) -> None:
    journal = await bench.ready()
    first, _second = await accepted(journal, make_order(quantity=2))
    await one_cycle(journal, first.ref, DELIVERED)
    asked = Cancellation(first.ref.key, "", 0, who="anna", reason="machine moves")
    code, ended = await journal.cancel(asked)
    assert (code, [ref.number for ref in ended]) == (Code.OK, [2])
    told = await unsent(journal, "order")
    assert [(m["status"], m["code"]) for m in told[1:]] == [("cancelled", "ok"), ("finished", None)]
    again, none = await journal.cancel(asked)
    assert (again, none) == (Code.TOO_LATE, ()), "nothing waits any more"
    assert [(who, d["code"], d["units"]) for who, _, d in audited(bench, "order_cancel")] == [
        ("anna", "ok", [2]),
        ("anna", "too_late", []),
    ]


async def test_p8_a_mistyped_cancel_of_a_person_bars_no_order(bench: Bench) -> None:
    journal = await bench.ready()
    with pytest.raises(Refused) as refused:
        await journal.cancel(Cancellation(OrderKey(1111111), "", 0, who="anna"))
    assert refused.value.code == "unknown_order"
    await accepted(journal, make_order())


# ------------------------------------------------------------------ undo-test


async def vend(bench: Bench, finding: Finding, test_id: str, who: str, **how: str) -> int:

    journal = bench.journals[-1]
    opened = await journal.open_cycle(replace(intent(None, test_id=test_id, **how), who=who))
    await journal.close_cycle(opened.cycle_id, ending(finding))
    return opened.cycle_id


tallies = st.builds(
    lambda stock, gone, uncertain, adjusted: Tally(
        stock, gone, uncertain, adjusted, stock + gone + uncertain + adjusted
    ),
    st.integers(0, 20), st.integers(0, 50), st.integers(0, 5), st.integers(0, 9),
)  # fmt: skip


@given(tallies, st.lists(st.integers(0, 3), max_size=5))
def test_p10_what_fell_and_was_put_back_leaves_the_sum_and_the_gone(
    tally: Tally, drops: list[int]
) -> None:
    after = tally
    for seen in drops:
        after = booked(after, Outcome.DELIVERED, seen)
    undone = put_back(after, sum(max(1, seen) for seen in drops))
    assert undone.balanced
    assert undone.gone == tally.gone
    assert undone.stock >= after.stock


async def test_own_tests_are_put_back_once_and_nobody_elses(bench: Bench) -> None:
    journal = await bench.ready()
    two = Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR, drops=2)
    await vend(bench, two, "t1", "anna")
    await vend(bench, JAMMED, "t2", "anna")
    await vend(bench, DELIVERED, "t3", "bob")
    await vend(bench, DELIVERED, "t4", "anna", channel="A2")
    assert (await stock_of(journal)).stock == 7
    assert await journal.undo_tests("A1", "anna") == {"A1": 2}
    lane = await stock_of(journal)
    assert (lane.stock, lane.gone) == (9, 1)
    assert balanced(lane)
    with pytest.raises(Refused, match="1 of others did") as refused:
        await journal.undo_tests("A1", "anna")
    assert refused.value.code == "nothing_to_undo"
    assert await journal.undo_tests(None, "anna") == {"A2": 1}
    assert await journal.undo_tests(None, "bob") == {"A1": 1}
    assert [row[:2] for row in audited(bench, "stock_undo_test")] == [
        ("anna", "A1"), ("anna", "A2"), ("bob", "A1"),
    ]  # fmt: skip
    history = (await journal.lane("A1"))["history"]
    assert history, "what was undone stays in the lane's history"


async def test_a_count_has_what_was_put_back_already(bench: Bench) -> None:
    journal = await bench.ready()
    await vend(bench, DELIVERED, "t1", "anna")
    await journal.set_stock("A1", 10, "anna")
    with pytest.raises(Refused):
        await journal.undo_tests("A1", "anna")
    await vend(bench, DELIVERED, "t2", "anna")
    await journal.fill(None, "bob")
    with pytest.raises(Refused):
        await journal.undo_tests(None, "anna")
    assert (await stock_of(journal)).stock == 20


async def test_never_more_than_the_lane_holds_and_then_nothing_is_changed(bench: Bench) -> None:

    journal = await bench.ready(cabinet(stock=20))
    await vend(bench, DELIVERED, "t1", "anna")
    await vend(bench, DELIVERED, "t2", "anna", channel="A2")
    bench.journals[-1]._store._connection.execute(
        "UPDATE lanes SET capacity = 5 WHERE channel = 'A2'"  # the settings said otherwise since
    )
    with pytest.raises(Refused, match="A2") as refused:
        await journal.undo_tests(None, "anna")
    assert refused.value.code == "over_capacity"
    assert (await stock_of(journal)).stock == 19, "all lanes or none"
    assert await journal.undo_tests("A1", "anna") == {"A1": 1}


async def test_a_running_lane_takes_nothing_back(bench: Bench) -> None:

    journal = await bench.ready()
    await vend(bench, DELIVERED, "t1", "anna")
    await journal.open_cycle(intent(None, test_id="t2"))
    with pytest.raises(Refused) as refused:
        await journal.undo_tests("A1", "anna")
    assert refused.value.code == "cycle_open"
    with pytest.raises(Refused) as refused:
        await journal.set_stock("A1", 3, "anna")
    assert refused.value.code == "cycle_open"
