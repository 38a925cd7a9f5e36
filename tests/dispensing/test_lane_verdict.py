"""Facts of a test vend -> one code -> one sentence: the whole table, and that none is missing."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from controller.boards.vbp import outcomes as vbp
from controller.boards.xy import outcomes as xy
from controller.cli.verdict_words import GOOD, PLAIN, verdict_words
from controller.lane_verdict import (
    ENOUGH,
    TABLE,
    Facts,
    LaneVerdict,
    Usual,
    facts_of,
    usual_of,
    verdict_of,
)
from controller.model import Evidence, Finding, Outcome, Reason

FELL, NOT, DOUBT = Outcome.DELIVERED, Outcome.NOT_DELIVERED, Outcome.UNKNOWN
USUAL = Usual(800, 20, 12)
SENSED = Evidence.DROP_SENSOR


@pytest.mark.parametrize(
    ("facts", "verdict", "words"),
    [
        (Facts(FELL, run_ms=812, usual=USUAL), "good", "good: it fell; motor 0.8 s, usually 0.8 s"),
        (Facts(FELL), "good", "good: it fell"),
        (
            Facts(FELL, run_ms=1900, usual=USUAL),
            "slow_motor",
            "it fell, but the motor turned 1.9 s, usually 0.8 s: look for a jam or a worn coupling",
        ),
        (
            Facts(FELL, run_ms=300, usual=USUAL),
            "fast_motor",
            "it fell, but the motor turned only 0.3 s, usually 0.8 s: look at the home switch",
        ),
        (Facts(FELL, drops=2, run_ms=1900, usual=USUAL), "double_drop", "2 items fell at once"),
        (Facts(FELL, full_turn=False, run_ms=15000), "fell_not_home", "it fell, but the motor ran"),
        (Facts(FELL, eye_left_blocked=True), "item_in_eye", "it fell, and the light eye is still"),
        (Facts(FELL, evidence=Evidence.MOTOR), "good_by_motor", "the motor made its turn; no eye"),
        (
            Facts(NOT, Reason.NO_DROP, run_ms=812),
            "nothing_fell",
            "turned (0.8 s), nothing fell: the lane is empty or an item hangs",
        ),
        (
            Facts(NOT, Reason.JAMMED, run_ms=1900, usual=USUAL, raw={"motor": 1}),
            "jam",
            "the motor turned 1.9 s, usually 0.8 s, and did not come home: look for a jam",
        ),
        (Facts(NOT, Reason.JAMMED, raw={"motor": 3}), "overload", "the motor draws too much"),
        (
            Facts(NOT, Reason.MOTOR_MISSING),
            "motor_open",
            "the motor is open: look at its connector",
        ),
        (Facts(NOT, Reason.MOTOR_FAULT), "motor_stuck", "the motor did not leave home"),
        (Facts(NOT, Reason.EYE_BLOCKED), "eye_blocked", "the light eye is dark before"),
        (Facts(NOT, Reason.EXPIRED), "not_begun", "the motor was not touched"),
        (Facts(NOT, Reason.CANCELLED), "not_begun", "the motor was not touched"),
        (Facts(DOUBT, Reason.STOPPED), "stopped", "stopped half-way: an item may hang"),
        (Facts(DOUBT, Reason.NO_ANSWER), "no_answer", "no word after the command"),
        (Facts(DOUBT, Reason.MOTOR_DID_NOT_STOP), "motor_runs_on", "THE MOTOR MAY STILL TURN"),
        (Facts(DOUBT, Reason.TERMINATED), "unclear", "nobody can say"),
    ],
)
def test_facts_make_a_verdict_and_a_sentence(facts: Facts, verdict: str, words: str) -> None:
    assert verdict_of(facts) == verdict
    assert said(facts).startswith(words)


def said(facts: Facts) -> str:
    usual = facts.usual
    step: dict[str, Any] = {
        "verdict": verdict_of(facts).value,
        "run_ms": facts.run_ms,
        "usual": {"median_ms": usual.median_ms} if usual else None,
        "drops": facts.drops,
        "channel": "A1",
        "reason": facts.reason,
    }
    return verdict_words(step)


def test_each_code_has_a_row_and_a_sentence_and_no_other() -> None:
    made = {verdict for *_, verdict in TABLE} | {LaneVerdict.UNCLEAR}
    assert made == set(LaneVerdict) == set(PLAIN)


def test_only_what_fell_is_good_whatever_the_facts() -> None:
    reasons = [None, *Reason]
    for outcome, reason, evidence in product(Outcome, reasons, Evidence):
        facts = Facts(outcome, reason, evidence, run_ms=812, usual=USUAL)
        assert said(facts)
        if verdict_of(facts) in GOOD:
            assert (outcome, reason) == (FELL, None)


def test_every_finding_of_a_boards_table_has_more_than_unclear() -> None:
    """Only an XY board's own *terminated* says as little."""
    known = [finding for pair in vbp.BY_MOTOR_AND_DROP.values() for finding in pair]
    for finding in [*known, *xy.BEFORE_MOTION.values()]:
        facts, _ = facts_of(finding, 1, (), eye_left_blocked=False)
        assert verdict_of(facts) is not LaneVerdict.UNCLEAR, finding


def row(run_ms: int | None, **more: Any) -> dict[str, Any]:
    return {"cycle_id": 9, "run_ms": run_ms, "measured": "board", "full_turn": True, **more}


def test_the_usual_time_is_the_median_of_full_turns_of_one_measure() -> None:
    turns = [row(ms) for ms in (780, 790, 800, 810, 820)]
    others = [row(15_000, full_turn=False), row(2_000, measured="host"), row(None)]
    assert usual_of([*turns, *others], "board") == Usual(800, 10, 5)
    assert usual_of(turns[: ENOUGH - 1], "board") is None, "one odd turn would be the rule"


def test_a_lane_that_always_varies_is_not_called_slow() -> None:
    assert verdict_of(Facts(FELL, run_ms=1300, usual=Usual(800, 150, 12))) == "good"
    assert verdict_of(Facts(FELL, run_ms=1300, usual=Usual(800, 20, 12))) == "slow_motor"


def test_a_cycle_is_not_compared_with_itself() -> None:
    earlier = [row(800, cycle_id=each) for each in range(5)]
    own = row(1900, cycle_id=7)
    fell = Finding(FELL, None, SENSED, drops=1)
    facts, measured = facts_of(fell, 7, [own, *earlier], eye_left_blocked=False)
    assert (facts.run_ms, facts.usual, measured) == (1900, Usual(800, 0, 5), "board")
