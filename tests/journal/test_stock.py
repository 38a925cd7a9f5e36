"""P10: the arithmetic of a lane, and what technicians and faults do to lanes and cabinets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import Refused
from controller.journal.tally import Tally, booked, more_dropped, rebooked, recounted
from controller.model import Evidence, Finding, LaneHealth, Outcome, Reason

from .conftest import (
    DELIVERED,
    JAMMED,
    PLAN,
    SILENT,
    Bench,
    accepted,
    balanced,
    cabinet,
    intent,
    make_order,
    one_cycle,
    stock_of,
    unsent,
)

outcomes = st.sampled_from(Outcome)
tallies = st.builds(
    lambda stock, gone, uncertain, adjusted: Tally(
        stock, gone, uncertain, adjusted, stock + gone + uncertain + adjusted
    ),
    st.integers(0, 20), st.integers(0, 50), st.integers(0, 5), st.integers(0, 9),
)  # fmt: skip


@given(tallies, outcomes, st.integers(0, 5))
def test_booking_keeps_the_sum(tally: Tally, outcome: Outcome, drops: int) -> None:
    after = booked(tally, outcome, drops)
    assert after.balanced
    assert after.stock >= 0
    assert after.gone - tally.gone == (max(1, drops) if outcome is Outcome.DELIVERED else 0)
    assert after.uncertain - tally.uncertain == (outcome is Outcome.UNKNOWN)


@given(tallies, st.sampled_from([Outcome.DELIVERED, Outcome.NOT_DELIVERED]), st.booleans())
def test_settling_the_uncertain_keeps_the_sum(tally: Tally, new: Outcome, counted: bool) -> None:  # noqa: FBT001
    """A unit that turns out delivered ends as if it had been at once."""
    unsure = booked(tally, Outcome.UNKNOWN, 0)
    after = rebooked(unsure, Outcome.UNKNOWN, new, 1, counted=counted)
    assert after.balanced
    if not counted:
        assert after.uncertain == tally.uncertain
        assert after.gone - tally.gone == (new is Outcome.DELIVERED)
    if counted:
        assert (after.stock, after.uncertain) == (unsure.stock, unsure.uncertain)


@given(tallies, st.integers(0, 30))
def test_a_count_settles_everything(tally: Tally, stock: int) -> None:
    after = recounted(tally, stock)
    assert after.balanced
    assert (after.stock, after.uncertain, after.gone) == (stock, 0, tally.gone)
    assert after.loaded >= tally.loaded


@given(tallies, st.integers(1, 4), st.booleans())
def test_further_drops_keep_the_sum(tally: Tally, items: int, counted: bool) -> None:  # noqa: FBT001
    after = more_dropped(tally, items, counted=counted)
    assert after.balanced
    assert after.stock >= 0


async def test_a_count_absorbs_what_was_uncertain_and_a_late_word_leaves_it(bench: Bench) -> None:
    """After a person counted, a late `delivered` changes the ledger and not the stock."""
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    opened = await one_cycle(journal, job.ref, SILENT)
    assert (await stock_of(journal)).health is LaneHealth.UNRESOLVED
    counted = await journal.set_stock("A1", 9, "tech")
    assert (counted.stock, counted.uncertain, counted.health) == (9, 0, LaneHealth.OK)
    assert await journal.revise(opened.cycle_id, DELIVERED, {}, lift=False)
    lane = await stock_of(journal)
    assert (lane.stock, lane.gone, lane.uncertain) == (9, 1, 0)
    assert balanced(lane)


async def test_a_lane_that_is_counted_empty_never_goes_below_zero(bench: Bench) -> None:
    """enforce_stock = false: delivered from a lane counted 0 is an adjustment of -1."""
    journal = await bench.ready(cabinet(stock=1))
    (job,) = await accepted(journal, make_order())
    await journal.set_stock("A1", 0, "tech")
    await one_cycle(journal, job.ref, DELIVERED)
    lane = await stock_of(journal)
    assert (lane.stock, lane.gone, lane.adjusted) == (0, 1, 0)
    assert balanced(lane)


async def test_a_double_drop_is_booked_and_suspends_the_lane(bench: Bench) -> None:
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    two = Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR, drops=2)
    await one_cycle(journal, job.ref, two)
    lane = await stock_of(journal)
    assert (lane.stock, lane.gone, lane.health) == (8, 2, LaneHealth.SUSPENDED)
    events = await unsent(journal, "event")
    assert [e["kind"] for e in events] == ["double_drop", "lane_suspended"]


async def test_a_second_item_that_is_seen_later_is_booked_too(bench: Bench) -> None:
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    opened = await one_cycle(journal, job.ref, DELIVERED)
    two = Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR, drops=2)
    assert not await journal.revise(opened.cycle_id, two, {}, lift=False)
    assert not await journal.revise(opened.cycle_id, two, {}, lift=False)
    assert (await stock_of(journal)).gone == 2
    assert len(await unsent(journal, "result")) == 1


async def test_failures_in_a_row_suspend_and_a_delivery_resets(bench: Bench) -> None:
    journal = await bench.ready()
    jobs = await accepted(journal, make_order(quantity=6))
    healths = []
    for job, finding in zip(jobs, (JAMMED, JAMMED, DELIVERED, JAMMED, JAMMED, JAMMED), strict=True):
        await one_cycle(journal, job.ref, finding)
        lane = await stock_of(journal)
        healths.append((lane.failures, lane.health.value))
    assert healths == [
        (1, "ok"), (2, "ok"), (0, "ok"), (1, "ok"), (2, "ok"), (3, "suspended"),
    ]  # fmt: skip
    assert lane.health_reason == "failures"
    bench.crash()
    journal, _ = bench.open()
    assert (await stock_of(journal)).health is LaneHealth.SUSPENDED
    enabled = await journal.enable_lane("A1", "cleared", "tech")
    assert (enabled.health, enabled.failures) == (LaneHealth.OK, 0)


async def test_what_does_not_count_as_a_failure_never_suspends(bench: Bench) -> None:
    journal = await bench.ready()
    jobs = await accepted(journal, make_order(quantity=5))
    door = Finding(Outcome.NOT_DELIVERED, Reason.DOOR_OPEN, left_home=False)
    for job in jobs:
        await one_cycle(journal, job.ref, door)
    assert (await stock_of(journal)).health is LaneHealth.OK


async def test_the_boards_table_suspends_at_once_and_a_turning_motor_stops_the_cabinet(
    bench: Bench,
) -> None:
    journal = await bench.ready()
    jobs = await accepted(journal, make_order(quantity=2))
    open_motor = Finding(Outcome.NOT_DELIVERED, Reason.MOTOR_MISSING, suspend_lane=True)
    await one_cycle(journal, jobs[0].ref, open_motor)
    assert (await stock_of(journal)).health_reason == "motor_missing"
    running = Finding(Outcome.UNKNOWN, Reason.MOTOR_DID_NOT_STOP, cabinet_fault=True)
    await one_cycle(journal, jobs[1].ref, running)
    assert await journal.stopped_cabinets() == {"A": "motor_may_turn"}
    bench.crash()
    journal, _ = bench.open()
    assert await journal.stopped_cabinets() == {"A": "motor_may_turn"}
    await journal.start_cabinet("A", "tech")
    assert await journal.stopped_cabinets() == {}
    kinds = [e["kind"] for e in await unsent(journal, "event")]
    assert kinds == ["lane_suspended", "cabinet_stopped", "restart", "cabinet_started"]


async def test_a_disabled_lane_stays_disabled_whatever_happens(bench: Bench) -> None:
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    await journal.disable_lane("A1", "bent flap", "tech")
    await journal.suspend_lane("A1", "anything")
    await one_cycle(journal, job.ref, DELIVERED)
    lane = await stock_of(journal)
    assert (lane.health, lane.health_reason) == (LaneHealth.DISABLED, "bent flap")


async def test_what_a_technician_may_not_do(bench: Bench) -> None:
    """Refusals have a code and change nothing."""
    journal = await bench.ready()
    opened = await journal.open_cycle(intent(None, test_id="t"))
    for code, act in {
        "cycle_open": lambda: journal.set_stock("A1", 5, "tech"),
        "over_capacity": lambda: journal.set_stock("A2", 21, "tech"),
        "unknown_channel": lambda: journal.set_stock("Z9", 1, "tech"),
        "unknown_cabinet": lambda: journal.fill("Z", "tech"),
        "unknown_board": lambda: journal.accept_board("nope", "tech"),
    }.items():
        with pytest.raises(Refused) as refused:
            await act()
        assert refused.value.code == code
    with pytest.raises(Refused) as refused:
        await journal.fill(None, "tech")
    assert refused.value.code == "cycle_open"
    assert [lane["stock"] for lane in await journal.lanes()] == [10, 10, 10]
    await journal.withdraw_cycle(opened.cycle_id, written=False)
    filled = await journal.fill("A", "tech\n\ud800")
    assert [state.stock for state in filled] == [20, 20, 20]
    history = await journal.lane("A1")
    assert history["audit"] == []


async def test_every_act_has_its_row_in_the_audit(bench: Bench) -> None:
    journal = await bench.ready()
    await journal.set_stock("A1", 3, "li")
    await journal.disable_lane("A1", "bent", "li")
    await journal.enable_lane("A1", "mended", "wu")
    found = (await journal.lane("A1"))["audit"]
    assert [(row["who"], row["action"]) for row in found] == [
        ("wu", "lane_enable"), ("li", "lane_disable"), ("li", "stock_set"),
    ]  # fmt: skip
    assert found[2]["detail"] == {"was": 10, "uncertain": 0, "is": 3}


async def test_lanes_follow_the_settings_and_keep_their_stock(bench: Bench) -> None:
    """initial_stock counts only for a lane never seen; one that goes and comes keeps its count."""
    journal = await bench.ready(cabinet(lanes=3, stock=10))
    await journal.set_stock("A1", 4, "tech")
    await journal.sync_lanes([cabinet(lanes=1, stock=7), cabinet("B", lanes=1, stock=2)])
    assert [(s.lane.channel, s.stock) for s in await journal.lane_states()] == [
        ("A1", 4), ("B1", 2),
    ]  # fmt: skip
    await journal.sync_lanes([cabinet(lanes=3, stock=9)])
    assert [(s.lane.channel, s.stock) for s in await journal.lane_states()] == [
        ("A1", 4), ("A2", 10), ("A3", 10),
    ]  # fmt: skip


async def test_boards_are_remembered_piece_by_piece(bench: Bench) -> None:
    journal = await bench.ready()
    assert await journal.board_memory("main") == {}
    await journal.remember_board("main", {"memory_id": 7})
    await journal.remember_board("main", {"out_of_service": "board_swapped"})
    bench.crash()
    journal, _ = bench.open()
    assert await journal.board_memory("main") == {
        "memory_id": 7, "out_of_service": "board_swapped",
    }  # fmt: skip
    await journal.accept_board("main", "tech", memory_id=9)
    assert await journal.board_memory("main") == {"memory_id": 9, "out_of_service": ""}


async def test_reservations_end_with_their_order(bench: Bench) -> None:
    """P10: whatever way a unit ends, its reservation is gone."""
    journal = await bench.ready(cabinet(stock=3))
    await accepted(journal, make_order(quantity=3))
    assert (await stock_of(journal)).free == 0
    assert getattr(await journal.accept(make_order(2), PLAN), "code", None) == "out_of_stock"
    nothing = Finding(Outcome.NOT_DELIVERED, Reason.EXPIRED, left_home=False)
    for job in await journal.waiting_units():
        await journal.finish_unit(job.ref, nothing)
    assert (await stock_of(journal)).free == 3
    await accepted(journal, make_order(2))
