"""What a live view is told of the journal: the newest of each, and what is unknown now."""

from __future__ import annotations

from controller.journal import watching
from controller.live import difference
from controller.model import Outcome
from tests.journal.conftest import (
    DELIVERED,
    JAMMED,
    SILENT,
    Bench,
    accepted,
    make_order,
    one_cycle,
)


async def test_an_unknown_unit_is_listed_until_a_later_fact_or_a_verdict(bench: Bench) -> None:
    journal = await bench.ready()
    for number, settle in ((1, "fact"), (2, "verdict")):
        (job,) = await accepted(journal, make_order(number))
        opened = await one_cycle(journal, job.ref, SILENT)
        unknown = (await journal.at_hand())["unknown"]
        assert list(unknown) == [str(opened.cycle_id)]
        unit = unknown[str(opened.cycle_id)]
        assert (unit["order_id"], unit["unit"], unit["channel"]) == (number, 1, "A1")
        assert (unit["reason"], unit["revision"], unit["asked"]) == ("no_answer", 1, False)
        if settle == "fact":
            await journal.revise(opened.cycle_id, JAMMED, {}, lift=True)
        else:
            await journal.set_stock("A1", 5, "tech")
            told = (await journal.at_hand())["unknown"]
            assert list(told) == [str(opened.cycle_id)], "a count says nothing of their money"
            await journal.resolve(job.ref, Outcome.DELIVERED, 1, "seen", "tech")
        assert (await journal.at_hand())["unknown"] == {}


async def test_messages_are_told_in_words_and_whether_the_broker_has_them(bench: Bench) -> None:
    journal = await bench.ready()
    (job,) = await accepted(journal, make_order(7))
    await one_cycle(journal, job.ref, DELIVERED)
    await journal.sent(await journal.oldest("order", 1))
    told = list((await journal.at_hand())["messages"].values())
    assert [(each["topic"], each["what"]) for each in told] == [
        ("order", "accepted"),
        ("result", "delivered"),
        ("order", "finished"),
    ]
    assert [each["sent_at"] is None for each in told] == [False, True, True]


async def test_only_the_newest_are_told_and_reading_writes_nothing(bench: Bench) -> None:
    journal = await bench.ready()
    for number in range(watching.EVENTS + 3):
        await journal.event("door", {"number": number})
    before = journal.commits
    events = list((await journal.at_hand())["events"].values())
    assert len(events) == watching.EVENTS
    assert events[-1]["detail"] == {"number": watching.EVENTS + 2}
    assert journal.commits == before
    await journal.event("door", {})
    assert journal.commits > before


def test_a_difference_has_what_is_new_or_other_and_none_for_what_is_gone() -> None:
    told, now = {"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5}
    assert difference(told, now) == {"c": 4, "d": 5, "a": None}
    assert difference(now, now) == {}
