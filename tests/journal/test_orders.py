"""Orders, results, replays, rejections and cancels on a real database."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from controller.dispensing.interfaces import Cancellation, Rejection, Standing
from controller.errors import Refused, UnitDecided
from controller.model import (
    Code,
    Evidence,
    Executed,
    Finding,
    OrderKey,
    Outcome,
    Reason,
    UnitRef,
)

from .conftest import (
    DELIVERED,
    JAMMED,
    NOW,
    PLAN,
    SILENT,
    Bench,
    accepted,
    cabinet,
    ending,
    intent,
    make_order,
    one_cycle,
    stock_of,
    unsent,
)

POWER_LOST = Finding(Outcome.NOT_DELIVERED, Reason.POWER_LOST, left_home=False)


async def test_an_order_of_three_gives_three_results_and_one_finished(bench: Bench) -> None:
    """P7, P9, P10: accepted, three results, finished, with seq 1..5 and true stock."""
    journal = await bench.ready()
    jobs = await accepted(journal, make_order(quantity=3))
    assert [job.ref.number for job in jobs] == [1, 2, 3]
    assert (await stock_of(journal)).reserved == 3
    for job, finding in zip(jobs, (DELIVERED, JAMMED, SILENT), strict=True):
        await one_cycle(journal, job.ref, finding)
    results = await unsent(journal, "result")
    orders = await unsent(journal, "order")
    assert [r["outcome"] for r in results] == ["delivered", "not_delivered", "unknown"]
    assert [o["status"] for o in orders] == ["accepted", "finished"]
    assert orders[0]["executed"] == "unknown"
    assert orders[1] | {"journal": 0} == {
        "is": "order", "journal": 0, "seq": 5, "order": "1111111", "status": "finished",
        "code": None, "executed": "yes", "counts": [3, 1, 1, 1], "revision": 1,
    }  # fmt: skip
    assert sorted(m["seq"] for m in results + orders) == [1, 2, 3, 4, 5]
    assert {m["journal"] for m in results + orders} == {int(NOW)}
    lane = await stock_of(journal)
    assert (lane.stock, lane.reserved, lane.gone, lane.uncertain) == (8, 0, 1, 1)
    assert lane.cycles == 3
    assert await journal.waiting_units() == []


async def test_everything_is_there_after_a_crash(bench: Bench) -> None:
    """P11: what was durable is found again: waiting units, the open cycle, unsent rows."""
    journal = await bench.ready()
    jobs = await accepted(journal, make_order(quantity=2))
    opened = await journal.open_cycle(intent(jobs[0].ref))
    bench.crash()
    journal, opening = bench.open()
    assert (opening.unclean, opening.last_stop, opening.first) == (True, "crash", False)
    assert [found.cycle_id for found in await journal.open_cycles()] == [opened.cycle_id]
    assert (await journal.cycle(opened.cycle_id)) == opened
    assert [job.ref for job in await journal.waiting_units()] == [jobs[1].ref]
    assert [m["status"] for m in await unsent(journal, "order")] == ["accepted"]
    assert await journal.last_ticket("main") == {"pack": 7}


async def test_the_same_command_replays_the_same_bytes(bench: Bench) -> None:
    """P8: known and equal is SAME, replays every stored row byte for byte, across a restart."""
    journal = await bench.ready()
    order = make_order(quantity=2)
    for job in await accepted(journal, order):
        await one_cycle(journal, job.ref, DELIVERED)
    first = {t: await journal.oldest(t, 100) for t in ("result", "order")}
    for rows in first.values():
        await journal.sent(rows)
    assert await journal.waiting() == {"result": 0, "order": 0, "event": 0}
    await journal.close()
    journal, _ = bench.open()
    late = make_order(quantity=2, issued_at=NOW - 500)
    assert await journal.look_up(late) is Standing.SAME
    await journal.replay(late)
    assert {t: await journal.oldest(t, 100) for t in ("result", "order")} == first
    assert journal.signal("result").is_set()
    assert await journal.waiting_units() == []


async def test_a_replay_is_rate_limited(bench: Bench) -> None:
    """P8, P14: a broker that redelivers in a loop is answered once in two seconds."""
    journal = await bench.ready()
    order = make_order()
    await accepted(journal, order)
    counts = []
    for step in (0.0, 1.0, 1.5):
        bench.clock.now += step
        await journal.replay(order)
        rows = await journal.oldest("order", 10)
        counts.append(len(rows))
        await journal.sent(rows)
    assert counts == [1, 0, 1]


@pytest.mark.parametrize(
    ("other", "standing"),
    [
        (make_order(quantity=2), Standing.CONFLICT),
        (make_order(trade="another"), Standing.CONFLICT),
        (make_order(2222222, trade="trade-1111111"), Standing.CONFLICT),
        (make_order(delivery="d2"), Standing.NEW),
        (make_order(2222222), Standing.NEW),
    ],
)
async def test_identity(bench: Bench, other: object, standing: Standing) -> None:
    """P8: identity, content and trade_id decide; a conflict changes nothing of the known one."""
    journal = await bench.ready()
    await accepted(journal, make_order())
    assert await journal.look_up(other) is standing  # type: ignore[arg-type]
    before = await journal.order(1111111)
    if standing is Standing.CONFLICT:
        refused = await journal.accept(other, PLAN)  # type: ignore[arg-type]
        assert isinstance(refused, Rejection)
        assert refused.code is Code.CONFLICT
    assert await journal.order(1111111, "") == before


async def test_nothing_is_written_when_the_planner_refuses(bench: Bench) -> None:
    journal = await bench.ready(cabinet(stock=2))
    refused = await journal.accept(make_order(quantity=3), PLAN)
    assert refused == Rejection(Code.OUT_OF_STOCK, "lane A1 is empty")
    assert await journal.look_up(make_order(quantity=3)) is Standing.NEW
    assert await unsent(journal, "order") == []
    assert journal.last_seq == 0


async def test_a_rejection_is_kept_by_its_issued_at(bench: Bench) -> None:
    """P8: the same command gets the same rejection; a newer issued_at is judged anew."""
    journal = await bench.ready()
    order = make_order()
    rejection = Rejection(Code.OUT_OF_STOCK, "empty")
    told = {"executed": Executed.NO, "units": 1}
    assert await journal.reject(order.key, order.trade_id, order.issued_at, rejection, **told)
    (row,) = await journal.oldest("order", 9)
    await journal.sent([row])
    assert await journal.look_up(order) is Standing.REJECTED
    assert await journal.look_up(make_order(issued_at=NOW + 1)) is Standing.NEW
    bench.clock.now += 5
    await journal.replay(order)
    assert await journal.oldest("order", 9) == [row]
    await journal.sent([row])
    bench.clock.now += 5
    assert await journal.reject(order.key, order.trade_id, order.issued_at, rejection, **told)
    assert await journal.oldest("order", 9) == [row]
    assert json.loads(row.payload)["code"] == "out_of_stock"
    assert isinstance(await journal.accept(order, PLAN), Rejection)
    await accepted(journal, make_order(issued_at=NOW + 1))


async def test_rejections_without_end_are_not_stored(bench: Bench) -> None:
    """P14: a peer that invents orders does not fill the disk; the rest is told past the journal."""
    journal = await bench.ready()
    rejection = Rejection(Code.EXPIRED, "late")
    told = [
        await journal.reject(OrderKey(number), "t", 1, rejection, executed=Executed.NO, units=1)
        for number in range(1, 151)
    ]
    assert told == [True] * 100 + [False] * 50
    assert journal.limited == 50
    assert (await journal.waiting())["order"] == 100


async def test_a_late_fact_makes_a_revision_and_a_new_finished(bench: Bench) -> None:
    """Revisions: unknown becomes delivered; stock, counts and messages follow; late is set."""
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    opened = await one_cycle(journal, job.ref, SILENT, quarantined=True)
    assert (await stock_of(journal)).uncertain == 1
    (held,) = await journal.open_cycles()
    assert held.closed
    seen = Finding(Outcome.DELIVERED, None, Evidence.BOARD_RECORD, drops=1)
    assert await journal.revise(opened.cycle_id, seen, {"record": 1}, lift=True)
    assert not await journal.revise(opened.cycle_id, JAMMED, {}, lift=False), "delivered is final"
    assert await journal.open_cycles() == []
    results = await unsent(journal, "result")
    assert [(r["revision"], r["outcome"], r["late"]) for r in results] == [
        (1, "unknown", False),
        (2, "delivered", True),
    ]
    finished = [m for m in await unsent(journal, "order") if m["status"] == "finished"]
    assert [(m["revision"], m["counts"]) for m in finished] == [
        (1, [1, 0, 0, 1]),
        (2, [1, 1, 0, 0]),
    ]
    lane = await stock_of(journal)
    assert (lane.stock, lane.gone, lane.uncertain) == (9, 1, 0)
    kinds = [e["kind"] for e in await unsent(journal, "event")]
    assert kinds == ["outcome_revised", "late_evidence"]
    totals = await journal.totals()
    assert (totals["delivered"], totals["unknown"]) == (1, 0)


async def test_a_result_after_the_backstop_is_late(bench: Bench) -> None:
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    bench.clock.now += 121
    await one_cycle(journal, job.ref, DELIVERED)
    assert (await unsent(journal, "result"))[0]["late"] is True


async def test_a_second_cycle_only_after_a_certain_miss(bench: Bench) -> None:
    """P2: final=False keeps the unit waiting after not_delivered, and only then."""
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    await one_cycle(journal, job.ref, JAMMED, final=False)
    (again,) = await journal.waiting_units()
    assert (again.cycles, again.last_finding) == (1, JAMMED)
    assert await unsent(journal, "result") == []
    await journal.reassign(job.ref, "A2")
    assert (await stock_of(journal, "A2")).reserved == 1
    await one_cycle(journal, job.ref, SILENT, final=False, channel="A2")
    assert await journal.waiting_units() == []
    (result,) = await unsent(journal, "result")
    assert (result["outcome"], result["channel"], result["cycles"]) == ("unknown", "A2", 2)


async def test_a_late_drop_ends_a_unit_that_waits_for_its_second_cycle(bench: Bench) -> None:
    """P2: it fell after all; no second motor turns for it."""
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    opened = await one_cycle(journal, job.ref, JAMMED, final=False)
    assert await journal.revise(opened.cycle_id, DELIVERED, {}, lift=False)
    assert await journal.waiting_units() == []
    with pytest.raises(UnitDecided):
        await journal.open_cycle(intent(job.ref))
    assert [r["outcome"] for r in await unsent(journal, "result")] == ["delivered"]
    assert (await unsent(journal, "order"))[-1]["status"] == "finished"


async def test_a_drop_of_the_first_cycle_decides_although_the_second_ran(bench: Bench) -> None:
    """Delivered is delivered: the closing of a second cycle finds the late fact of the first."""
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    first = await one_cycle(journal, job.ref, JAMMED, final=False)
    second = await journal.open_cycle(intent(job.ref, channel="A2"))
    assert not await journal.revise(first.cycle_id, DELIVERED, {}, lift=False)
    closed = await journal.close_cycle(second.cycle_id, ending(SILENT))
    assert closed.outcome is Outcome.DELIVERED
    assert (await stock_of(journal, "A1")).gone == 1
    assert (await stock_of(journal, "A2")).uncertain == 1


async def test_a_unit_that_fell_is_not_driven_again_after_a_withdrawn_second_cycle(
    bench: Bench,
) -> None:
    """P2: the first cycle's drop was told while the second stood before the drive frame."""
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    first = await journal.open_cycle(intent(job.ref))
    await journal.close_cycle(first.cycle_id, ending(JAMMED, final=False))
    second = await journal.open_cycle(intent(job.ref))
    await journal.revise(first.cycle_id, DELIVERED, {}, lift=False)
    await journal.withdraw_cycle(second.cycle_id, written=False)
    assert await journal.waiting_units() == []
    with pytest.raises(UnitDecided):
        await journal.open_cycle(intent(job.ref))
    book = await journal.order_book(job.ref.key)
    assert book is not None
    assert (book.status, book.delivered, book.executed) == ("finished", 1, "yes")
    lane = await stock_of(journal)
    assert (lane.stock, lane.gone, lane.reserved) == (9, 1, 0)
    journal.abandon()


async def test_a_withdrawn_cycle_was_never_there(bench: Bench) -> None:
    """P7: no byte left; the unit waits again, and the number is not used twice."""
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    first = await journal.open_cycle(intent(job.ref))
    await journal.withdraw_cycle(first.cycle_id, written=False)
    assert [found.cycles for found in await journal.waiting_units()] == [0]
    second = await journal.open_cycle(intent(job.ref))
    assert second.cycle_id > first.cycle_id
    await journal.withdraw_cycle(second.cycle_id, written=False)
    await journal.finish_unit(job.ref, POWER_LOST)
    assert (await unsent(journal, "order"))[-1]["executed"] == "no"
    with pytest.raises(UnitDecided):
        await journal.finish_unit(job.ref, POWER_LOST)


async def test_cycle_ids_of_a_board_only_grow(bench: Bench) -> None:
    """VBP rule 1: after a collision the board gets its own high half, above all it ever had."""
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order())
    first = await journal.open_cycle(intent(job.ref))
    again = await journal.renumber(first.cycle_id, "main")
    assert again.cycle_id > first.cycle_id
    assert await journal.cycle(first.cycle_id) is None
    assert (await journal.cycle(again.cycle_id)) == again
    await journal.withdraw_cycle(again.cycle_id, written=False)
    bench.clock.now -= 5_000
    third = await journal.open_cycle(intent(job.ref))
    assert third.cycle_id > again.cycle_id
    assert third.cycle_id >> 32 == again.cycle_id >> 32
    newest = await journal.newest_cycle("main")
    assert newest is not None
    assert newest.cycle_id == third.cycle_id


async def test_one_open_cycle_per_board(bench: Bench) -> None:
    journal = await bench.ready()
    jobs = await accepted(journal, make_order(quantity=2))
    await journal.open_cycle(intent(jobs[0].ref))
    with pytest.raises(Refused, match="open cycle"):
        await journal.open_cycle(intent(jobs[1].ref))
    await journal.open_cycle(intent(jobs[1].ref, channel="A2", board="other"))


async def test_cancel_ends_what_has_not_started(bench: Bench) -> None:
    """Units whose cycle is not journalled end cancelled; the running one goes on."""
    journal = await bench.ready()
    jobs = await accepted(journal, make_order(quantity=3))
    opened = await journal.open_cycle(intent(jobs[0].ref))
    asked = Cancellation(OrderKey(1111111), "trade-1111111", int(NOW))
    code, ended = await journal.cancel(asked)
    assert code is Code.OK
    assert ended == (jobs[1].ref, jobs[2].ref)
    cancelled = (await unsent(journal, "order"))[-1]
    assert (cancelled["status"], cancelled["code"]) == ("cancelled", "ok")
    assert cancelled["counts"] == [3, 0, 2, 0]
    assert (await stock_of(journal)).reserved == 1
    closed = await journal.close_cycle(opened.cycle_id, ending(DELIVERED))
    assert closed.order_finished
    rows = await journal.oldest("order", 99)
    await journal.sent(rows)
    bench.clock.now += 5
    assert await journal.cancel(asked) == (Code.OK, ())
    again = await journal.oldest("order", 99)
    assert [json.loads(row.payload)["status"] for row in again] == ["cancelled"]
    later = Cancellation(asked.key, asked.trade_id, int(NOW) + 5)
    assert await journal.cancel(later) == (Code.TOO_LATE, ())


async def test_a_cancelled_whole_order_was_not_executed(bench: Bench) -> None:
    journal = await bench.ready()
    await accepted(journal, make_order(quantity=2))
    await journal.cancel(Cancellation(OrderKey(1111111), "", int(NOW)))
    said = [(m["status"], m["executed"]) for m in await unsent(journal, "order")]
    assert said == [("accepted", "unknown"), ("cancelled", "no"), ("finished", "no")]
    reasons = {r["reason"] for r in await unsent(journal, "result")}
    assert reasons == {"cancelled"}


async def test_a_cancel_before_its_order_leaves_a_tombstone(bench: Bench) -> None:
    """A dispense that arrives later is rejected, after a restart too."""
    journal = await bench.ready()
    assert await journal.cancel(Cancellation(OrderKey(5), "trade-5", int(NOW))) == (
        Code.UNKNOWN_ORDER,
        (),
    )
    assert (await unsent(journal, "order"))[-1]["executed"] == "no"
    bench.crash()
    journal, _ = bench.open()
    order = make_order(5)
    assert await journal.look_up(order) is Standing.TOMBSTONE
    refused = await journal.accept(order, PLAN)
    assert isinstance(refused, Rejection)
    assert refused.code is Code.CANCELLED


async def test_a_test_vend_is_an_event_and_never_a_result(bench: Bench) -> None:
    """P6: same stock, same lane health, its outcome an event with its test_id."""
    journal = await bench.ready()
    opened = await journal.open_cycle(intent(None, test_id="t-1"))
    assert (await stock_of(journal)).reserved == 1
    closed = await journal.close_cycle(opened.cycle_id, ending(DELIVERED))
    assert closed.ref is None
    assert (closed.lane.stock, closed.lane.gone, closed.lane.reserved) == (9, 1, 0)
    (event,) = await unsent(journal, "event")
    assert (event["kind"], event["test_id"], event["outcome"]) == ("test_vend", "t-1", "delivered")
    assert await unsent(journal, "result") == []
    assert await unsent(journal, "order") == []


async def test_a_cancelled_caller_leaves_a_whole_transaction(bench: Bench) -> None:
    """P11: a task that is cancelled while it waits for the commit loses nothing of it."""
    journal = await bench.ready()
    task = asyncio.create_task(journal.accept(make_order(), PLAN))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await journal.look_up(make_order()) is Standing.SAME
    assert len(await unsent(journal, "order")) == 1
    assert journal.signal("order").is_set()


async def test_questions(bench: Bench) -> None:
    """Everything that a technician and the platform may ask about an order is JSON."""
    journal = await bench.ready()
    order = make_order(quantity=2)
    jobs = await accepted(journal, order)
    await one_cycle(journal, jobs[0].ref, DELIVERED)
    (detail,) = await journal.order(1111111)
    assert detail["unit_list"][0]["cycles"][0]["trace"][0]["event"] == "ended"
    assert detail["unit_list"][1]["state"] == "waiting"
    page = await journal.orders(10)
    assert [o["order_id"] for o in page["orders"]] == [1111111]
    book = await journal.order_book(order.key)
    assert book is not None
    assert (book.waiting, book.running, book.delivered) == (1, 0, 1)
    stored = await journal.messages_of(order.key, (0, 0), 10)
    assert stored is not None
    assert [(topic, seq) for topic, _, seq, _ in stored] == [("order", 1), ("result", 2)]
    assert await journal.messages_of(order.key, (0, 0), 1) == stored[:1]
    assert await journal.messages_of(order.key, (int(NOW), 1), 9) == stored[1:]
    assert await journal.messages_since((int(NOW), 1), 10) == stored[1:]
    assert await journal.messages_of(OrderKey(99), (0, 0), 9) is None
    await journal.cancel(Cancellation(OrderKey(98), "", 5))
    told = await journal.messages_of(OrderKey(98), (0, 0), 9)
    assert told is not None
    assert json.loads(told[0][3])["code"] == "unknown_order"
    lane = await journal.lane("A1")
    assert lane["history"][0]["purpose"] == "1111111#1"
    json.dumps([detail, page, lane, await journal.lanes(), await journal.totals()])
    json.dumps(await journal.events(5))
    with pytest.raises(Refused, match="never accepted"):
        await journal.order(99)
    with pytest.raises(Refused, match="no unit"):
        await journal.finish_unit(UnitRef(OrderKey(99), 1), POWER_LOST)


async def test_p8_a_rejected_command_keeps_its_rejection_after_a_cancel(bench: Bench) -> None:
    """The same command with the same issued_at gets the same answer, whatever came since."""
    journal = await bench.ready()
    order = make_order(5)
    rejection = Rejection(Code.OUT_OF_STOCK, "none left")
    await journal.reject(
        order.key, order.trade_id, order.issued_at, rejection, executed=Executed.NO, units=1
    )
    await journal.cancel(Cancellation(order.key, order.trade_id, order.issued_at + 1))
    assert await journal.look_up(order) is Standing.REJECTED
    later = replace(order, issued_at=order.issued_at + 5)
    assert await journal.look_up(later) is Standing.TOMBSTONE


async def test_p7_a_record_that_changes_nothing_is_kept_before_the_board_forgets_it(
    bench: Bench,
) -> None:
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order(6))
    cycle = await one_cycle(journal, job.ref, SILENT, quarantined=True)
    record = Finding(Outcome.UNKNOWN, Reason.POWER_LOST, raw={"state": 4, "motor": 255})
    assert not await journal.revise(cycle.cycle_id, record, {}, lift=True)
    known = await journal.cycle(cycle.cycle_id)
    assert known is not None
    assert known.finding is not None
    assert known.finding.reason is SILENT.reason
    assert known.finding.raw["state"] == 4


async def test_a_technician_is_told_why_an_order_was_never_accepted(bench: Bench) -> None:
    journal = await bench.ready()
    order = make_order(9)
    rejection = Rejection(Code.OUT_OF_STOCK, "product 121: 3 ordered, 1 can be given")
    await journal.reject(
        order.key, order.trade_id, order.issued_at, rejection, executed=Executed.NO, units=3
    )
    with pytest.raises(Refused, match=r"never accepted.*: rejected, out_of_stock.*3 ordered"):
        await journal.order(9)
