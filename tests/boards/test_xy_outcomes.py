"""The tables of XY, row by row, and the rules of whose status it is (P5)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.boards.xy.frames import DispensingStatus
from controller.boards.xy.outcomes import Heard, Reading, finding_of, hear
from controller.dispensing.interfaces import Conflicting, CycleEvent, Ended, Moving

EYE = Reading(drop_sensor=True, jam_is_unknown=False)
BARE = Reading(drop_sensor=False, jam_is_unknown=False)
DOUBTED = Reading(drop_sensor=True, jam_is_unknown=True)

ROWS = """
code before-01? | with | without | flags
02 -   | delivered - drop_sensor                  | delivered - motor        |
24 -   | delivered - drop_sensor                  | delivered - motor        |
03 -   | not_delivered jammed board_record        | unknown jammed none      | failure once
04 -   | unknown motor_did_not_stop none          | same                     | failure cabinet
05 no  | not_delivered lane_disabled board_record | same                     | home
06 no  | not_delivered motor_missing board_record | same                     | home failure
FC no  | not_delivered lane_empty board_record    | same                     | home failure
FD no  | not_delivered lane_disabled board_record | same                     | home
FE no  | not_delivered board_refused board_record | same                     | home
FF no  | not_delivered board_refused board_record | same                     | home
07 no  | not_delivered board_refused board_record | same                     | home
12 no  | not_delivered board_refused board_record | same                     | home
13 no  | not_delivered board_refused board_record | same                     | home
05 yes | unknown terminated none                  | same                     |
06 yes | unknown terminated none                  | same                     |
07 yes | unknown terminated none                  | same                     |
FC yes | unknown terminated none                  | same                     |
FD yes | unknown terminated none                  | same                     |
FE yes | unknown terminated none                  | same                     |
FF yes | unknown terminated none                  | same                     |
0A no  | unknown terminated none                  | same                     |
0A yes | unknown terminated none                  | same                     |
21 no  | unknown terminated none                  | same                     |
28 yes | unknown terminated none                  | same                     |
77 no  | unknown terminated none                  | same                     |
77 yes | unknown terminated none                  | same                     |
"""


@pytest.mark.parametrize("row", ROWS.strip().splitlines()[1:])
def test_each_row_of_the_mapping(row: str) -> None:
    given_, with_eye, without, flags = (part.strip() for part in row.split("|"))
    code, moved = given_.split()
    expected = (with_eye, with_eye if without == "same" else without)
    for reading, wanted in zip((EYE, BARE), expected, strict=True):
        finding = finding_of(int(code, 16), reading, moved=moved == "yes", ended_by=None)
        reason = "-" if finding.reason is None else finding.reason
        assert f"{finding.outcome} {reason} {finding.evidence}" == wanted
        assert finding.settled
        assert finding.left_home == ("home" not in flags)
        assert finding.cabinet_fault == ("cabinet" in flags)
        assert finding.counts_as_failure == ("failure" in flags)
        assert finding.raw["status"] == code
        assert finding.raw["protocol"] == "xy"
    assert finding_of(int(code, 16), EYE, moved=True, ended_by=None).may_repeat == (code != "03")


def test_jam_means_unknown_when_so_set() -> None:
    finding = finding_of(3, DOUBTED, moved=True, ended_by=None)
    assert (finding.outcome, finding.reason) == ("unknown", "jammed")


def told(
    statuses: list[tuple[int, int]], reading: Reading = EYE, *, acked: bool = True
) -> tuple[Heard, list[CycleEvent]]:
    heard = Heard(lane=10, acked=acked)
    events = []
    for code, lane in statuses:
        if heard.over:
            break
        heard, event = hear(heard, DispensingStatus(code, lane), reading, b"")
        if event is not None:
            events.append(event)
    return heard, events


def summary(events: list[CycleEvent]) -> str:
    words = []
    for event in events:
        if isinstance(event, Ended):
            words.append(f"{event.finding.outcome}/{event.finding.reason}")
        else:
            words.append({Moving: "moving", Conflicting: "conflict"}[type(event)])
    return " ".join(words)


@pytest.mark.parametrize(
    ("statuses", "acked", "expected"),
    [
        ([(1, 10), (2, 10)], True, "moving delivered/None"),
        ([(2, 10)], True, "delivered/None"),
        ([(2, 10)], False, "conflict"),
        ([(1, 10), (2, 10)], False, "moving delivered/None"),
        ([(0x24, 10)], True, "conflict"),
        ([(1, 10), (0x24, 10)], True, "moving delivered/None"),
        ([(1, 10), (2, 11), (2, 10)], True, "moving conflict delivered/None"),
        ([(1, 10), (2, 0)], True, "moving delivered/None"),
        ([(1, 11), (3, 11)], True, "conflict conflict"),
        ([(7, 10), (0xFF, 10)], True, "not_delivered/board_refused"),
        ([(1, 10), (7, 10), (0xFF, 10)], True, "moving unknown/terminated"),
        ([(6, 10), (0xFF, 0)], True, "not_delivered/motor_missing"),
        ([(1, 10), (0x10, 10), (0x11, 10), (2, 10)], True, "moving delivered/None"),
        ([(0x10, 10), (0xFF, 10)], True, "moving unknown/terminated"),
        (
            [(1, 10), (0x22, 10), (2, 10), (0x23, 55), (0x24, 10)],
            True,
            "moving delivered/None",
        ),
        ([(1, 10), (3, 10)], True, "moving not_delivered/jammed"),
        ([(1, 10), (0x99, 10)], True, "moving unknown/terminated"),
    ],
)
def test_stories(statuses: list[tuple[int, int]], acked: Any, expected: str) -> None:
    assert summary(told(statuses, acked=acked)[1]) == expected


def test_an_error_before_ff_keeps_both_codes() -> None:
    _, events = told([(7, 10), (0xFF, 10)])
    last = events[-1]
    assert isinstance(last, Ended)
    assert (last.finding.raw["status"], last.finding.raw["then"]) == ("07", "FF")


@given(st.lists(st.tuples(st.integers(0, 255), st.sampled_from([0, 10, 11])), max_size=12))
def test_delivered_is_never_said_without_a_success_that_can_be_ours(
    statuses: list[tuple[int, int]],
) -> None:
    heard, events = told(statuses, acked=False)
    for event in events:
        if isinstance(event, Ended) and event.finding.outcome == "delivered":
            assert heard.started
            assert event.finding.raw["status"] in ("02", "24")
        if isinstance(event, Ended) and event.finding.left_home is False:
            assert not heard.moved
