"""P1 to P5, P7 to P11: SIGKILL of the real daemon at random instants under load.

More: `make torture`. The seed fixes what is drawn, not the timing: a failure here names the
directory in which the evidence was kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.system import judge
from tests.torture import control
from tests.torture.play import Pace, torture

ROOT = Path(__file__).parents[2]


SEEDS = (4711, 4712)
"""Two machines side by side, for they mostly wait; the kills are shared among them."""
KILLS = 15


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_30_kills_under_load_break_no_promise_and_the_judge_is_awake() -> None:
    said: list[str] = []
    with ThreadPoolExecutor(len(SEEDS)) as pool:
        runs = list(pool.map(lambda seed: torture(KILLS, seed, said.append, Pace()), SEEDS))
    moving = 0
    for numbers, facts, run in runs:
        print(numbers)
        assert not run.broken, "\n".join(said)
        assert numbers["kills"] == KILLS
        for board, ledger in facts.ledgers.items():
            assert any(line["event"] == judge.FELL for line in ledger), f"{board} sold nothing"
        moving += numbers["units in motion at a kill"]
        for wrong, words in tampered(facts):
            found = judge.breaches(wrong)
            assert any(words in sentence for sentence in found), (words, found)
    assert moving, "no kill came while a motor ran"


def tampered(facts: judge.Facts) -> Iterator[tuple[judge.Facts, str]]:
    """These facts with one thing wrong, and words of the breach that must be found in them."""
    main = facts.ledgers["main"]
    drive = next(line for line in main if line["event"] == judge.DRIVE)
    yield (
        replace(facts, ledgers={**facts.ledgers, "main": [*main, drive]}),
        f"started cycle {drive['cycle_id']} 2 times",
    )
    result = next(m for m in facts.messages if m.topic == "result" and m.json["started_at"])
    channel = result.json["channel"]
    lane_board, number = facts.lanes[channel]
    fallen = [
        line
        for line in facts.ledgers[lane_board]
        if (line["event"], line["lane"]) != (judge.FELL, number)
    ]
    if result.json["outcome"] == "delivered":
        yield replace(facts, ledgers={**facts.ledgers, lane_board: fallen}), "told as delivered"
    others = tuple(m for m in facts.messages if m.payload != result.payload)
    yield replace(facts, messages=others), f"lacks seq [{result.json['seq']}]"
    other_bytes = replace(result, payload=result.payload + b" ")
    yield replace(facts, messages=(*facts.messages, other_bytes)), "came with different bytes"


def test_each_planted_mistake_still_fits_the_program() -> None:
    for mistake in control.MISTAKES:
        for edit in mistake.edits:
            text = (ROOT / edit.file).read_text(encoding="utf-8")
            assert text.count(edit.was) == 1, edit.was
