"""The table *What a record means*, row by row (P1's outcome, P2's refusals)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.boards.vbp.frames import ResultAnswer
from controller.boards.vbp.outcomes import OTHER_REFUSAL, REFUSALS, finding_of

ROWS = """
state motor drop | with: outcome reason evidence | without | flags
3 0   1 | delivered - drop_sensor | delivered - drop_sensor |
3 1   1 | delivered - drop_sensor | delivered - drop_sensor | suspend
3 3   1 | delivered - drop_sensor | delivered - drop_sensor | suspend
3 5   1 | delivered - drop_sensor | delivered - drop_sensor | suspend
3 2   1 | unknown conflicting_evidence none | unknown conflicting_evidence none | home failure
3 4   1 | unknown conflicting_evidence none | unknown conflicting_evidence none | home failure
3 0   2 | not_delivered no_drop drop_sensor | not_delivered no_drop drop_sensor | failure
3 1   2 | not_delivered jammed drop_sensor | not_delivered jammed drop_sensor | failure
3 3   2 | not_delivered jammed drop_sensor | not_delivered jammed drop_sensor | failure
3 5   0 | unknown stopped none | unknown stopped none |
3 5   2 | unknown stopped none | unknown stopped none |
3 2   0 | not_delivered motor_missing motor | not_delivered motor_missing motor | home failure
3 2   2 | not_delivered motor_missing motor | not_delivered motor_missing motor | home failure
3 4   0 | not_delivered motor_fault motor | not_delivered motor_fault motor | home failure
3 4   2 | not_delivered motor_fault motor | not_delivered motor_fault motor | home failure
3 0   0 | unknown eye_failed none | delivered - motor |
3 1   0 | unknown motor_did_not_stop none | unknown motor_did_not_stop none | failure
3 3   0 | unknown motor_did_not_stop none | unknown motor_did_not_stop none | failure
3 0   3 | unknown eye_failed none | delivered - motor |
3 0   255 | unknown eye_failed none | delivered - motor |
3 1   3 | unknown eye_failed none | unknown eye_failed none |
3 4   255 | unknown eye_failed none | unknown eye_failed none | home
4 255 1 | delivered - board_record | delivered - board_record |
4 255 0 | unknown power_lost none | unknown power_lost none |
4 255 2 | unknown power_lost none | unknown power_lost none |
4 255 255 | unknown power_lost none | unknown power_lost none |
3 255 1 | unknown conflicting_evidence none | unknown conflicting_evidence none |
3 9   2 | unknown conflicting_evidence none | unknown conflicting_evidence none |
"""


@pytest.mark.parametrize("row", ROWS.strip().splitlines()[1:])
def test_each_row_of_the_table(row: str) -> None:
    given_, *columns, flags = (part.strip() for part in row.split("|"))
    state, motor, drop = map(int, given_.split())
    record = ResultAnswer(1, state, motor, drop, 1 if drop == 1 else 0)
    for watch_eye, expected in zip((True, False), columns, strict=True):
        finding = finding_of(record, watch_eye=watch_eye)
        reason = "-" if finding.reason is None else finding.reason
        assert f"{finding.outcome} {reason} {finding.evidence}" == expected
        assert finding.settled, "a record is the board's own last word"
        assert finding.suspend_lane == ("suspend" in flags)
        assert finding.left_home == ("home" not in flags)
        assert finding.counts_as_failure == ("failure" in flags)
        assert finding.raw["motor"] == motor
        assert finding.raw["state"] == state


def test_two_drops_are_kept_and_suspend_the_lane() -> None:
    finding = finding_of(ResultAnswer(1, 3, 0, 1, 2), watch_eye=True)
    assert (finding.outcome, finding.drops, finding.suspend_lane) == ("delivered", 2, True)
    assert finding_of(ResultAnswer(1, 3, 0, 1, 1), watch_eye=True).suspend_lane is False


@given(st.integers(3, 4), st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_any_record_has_a_finding_and_delivered_needs_evidence(
    state: int, motor: int, drop: int, drops: int
) -> None:
    record = ResultAnswer(1, state, motor, drop, drops)
    watched = finding_of(record, watch_eye=True)
    assert (watched.outcome == "delivered") <= (drop == 1), "only a seen drop on an eye cabinet"
    bare = finding_of(record, watch_eye=False)
    assert (bare.outcome == "delivered") <= (drop == 1 or (motor == 0 and state == 3))


@pytest.mark.parametrize(
    ("verdict", "reason", "retry"),
    [
        (2, "board_refused", True),
        (3, "expired", True),
        (4, "lane_disabled", False),
        (5, "eye_blocked", True),
        (6, "eye_faulty", False),
        (7, "door_open", False),
        (8, "board_refused", True),
        (9, "board_refused", False),
    ],
)
def test_each_refusal(verdict: int, reason: str, retry: object) -> None:
    refusal = REFUSALS[verdict]
    assert (refusal.reason, refusal.retry) == (reason, retry)


def test_a_verdict_of_a_newer_firmware_is_a_refusal() -> None:
    assert REFUSALS.get(77, OTHER_REFUSAL).retry is False
    assert 0 not in REFUSALS
    assert 1 not in REFUSALS, "known is a collision, not a refusal"
