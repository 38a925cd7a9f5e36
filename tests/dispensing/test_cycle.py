"""The life of one cycle: what silence, refusal and restart mean in each state (P1, P2, P5)."""

from pathlib import Path

import pytest

from controller.dispensing.cycle import (
    ON_THE_WIRE,
    OPEN,
    SILENCE,
    TRIGGERS,
    CycleLife,
    CycleState,
    after_a_crash,
    diagram,
)
from controller.dispensing.interfaces import (
    Acknowledged,
    Collision,
    Conflicting,
    CycleEvent,
    Ended,
    FrameWritten,
    LineBack,
    LineLost,
    Moving,
    NotWritten,
    RefusedBeforeMotion,
    Restarted,
)
from controller.model import Evidence, Finding, Outcome, Reason

DELIVERED = Ended(finding=Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR, drops=1))
PATH_TO = {
    CycleState.OPENED: [],
    CycleState.WRITTEN: [FrameWritten()],
    CycleState.ACCEPTED: [FrameWritten(), Acknowledged()],
    CycleState.MOVING: [FrameWritten(), Acknowledged(), Moving()],
}


def life_in(state: CycleState) -> CycleLife:
    life = CycleLife()
    for event in PATH_TO[state]:
        life.apply(event)
    assert life.state is state
    return life


def test_every_event_has_a_trigger() -> None:
    defined = {kind.__name__ for kind in CycleEvent.__subclasses__()}
    assert {kind.__name__ for kind in TRIGGERS} == defined


@pytest.mark.parametrize("state", OPEN)
def test_p5_silence_is_never_a_failure(state: CycleState) -> None:
    life = life_in(state)
    life.run_out()
    assert life.state is CycleState.ENDED
    assert life.finding is not None
    assert life.finding.outcome is Outcome.UNKNOWN
    assert life.finding.reason is SILENCE[state]
    assert not life.finding.settled, "P5: silence quarantines the board"


@pytest.mark.parametrize("state", ON_THE_WIRE)
def test_p5_a_status_that_cannot_be_its_own_is_conflicting_evidence(state: CycleState) -> None:
    life = life_in(state)
    life.apply(Conflicting(note="lane 7"))
    assert life.state is state, "the cycle stays open for its own"
    life.run_out()
    assert life.finding is not None
    assert life.finding.reason is Reason.CONFLICTING_EVIDENCE


@pytest.mark.parametrize("state", ON_THE_WIRE)
def test_the_boards_last_word_ends_it_whatever_came_before(state: CycleState) -> None:
    life = life_in(state)
    for event in (Conflicting(), LineLost(), LineBack(), DELIVERED):
        life.apply(event)
    assert life.state is CycleState.ENDED
    assert life.finding is DELIVERED.finding


def test_an_end_without_a_written_frame_is_not_believed() -> None:
    life = life_in(CycleState.OPENED)
    life.apply(DELIVERED)
    assert life.state is CycleState.OPENED


@pytest.mark.parametrize("state", ON_THE_WIRE)
def test_a_restart_after_the_frame_is_unknown(state: CycleState) -> None:
    life = life_in(state)
    life.apply(Restarted())
    assert life.finding is not None
    assert (life.finding.outcome, life.finding.reason) == (
        Outcome.UNKNOWN,
        Reason.BOARD_RESTARTED,
    )


@pytest.mark.parametrize("event", [Restarted(), NotWritten(reason=Reason.EXPIRED)])
def test_nothing_happened_before_the_frame_left(event: CycleEvent) -> None:
    life = life_in(CycleState.OPENED)
    life.apply(event)
    assert life.state is CycleState.WITHDRAWN
    assert life.finding is None


@pytest.mark.parametrize("state", ON_THE_WIRE)
def test_p1_not_written_is_not_believed_once_it_was_written(state: CycleState) -> None:
    life = life_in(state)
    life.apply(NotWritten())
    assert life.state is state


def test_p2_a_refusal_before_motion_is_no_cycle() -> None:
    life = life_in(CycleState.WRITTEN)
    life.apply(RefusedBeforeMotion(reason=Reason.EYE_BLOCKED))
    assert life.state is CycleState.REFUSED
    assert life.finding is None
    assert life.over


def test_a_refusal_after_motion_is_not_believed() -> None:
    life = life_in(CycleState.MOVING)
    life.apply(RefusedBeforeMotion())
    assert life.state is CycleState.MOVING


def test_a_collision_counts_only_on_the_first_answer() -> None:
    life = life_in(CycleState.MOVING)
    life.apply(Collision())
    assert life.state is CycleState.MOVING
    life = life_in(CycleState.WRITTEN)
    life.apply(Collision())
    assert life.state is CycleState.COLLIDED


def test_nothing_changes_after_the_end() -> None:
    life = life_in(CycleState.MOVING)
    life.apply(DELIVERED)
    for event in (Restarted(), Ended(), Moving(), LineLost()):
        life.apply(event)
    life.run_out()
    assert life.finding is DELIVERED.finding


def test_after_a_crash_a_power_cut_has_its_own_name() -> None:
    silence = Finding(Outcome.UNKNOWN, Reason.NO_ANSWER, settled=False)
    assert after_a_crash(silence, rebooted=True).reason is Reason.POWER_LOST
    assert after_a_crash(silence, rebooted=False) is silence
    assert after_a_crash(DELIVERED.finding, rebooted=True) is DELIVERED.finding


def test_the_diagram_in_the_docs_is_drawn_from_the_tables() -> None:
    page = Path(__file__).parents[2] / "docs" / "cycle.md"
    assert diagram().strip() in page.read_text(encoding="utf-8"), (
        "run: python -m controller.dispensing.draw > docs/cycle.md"
    )
