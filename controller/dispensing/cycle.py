"""The life of one cycle: its states, its transitions, and what each event means.

Everything that affects the life of a cycle is in this file, and nothing here
does I/O: the cabinet's worker feeds it what the board says and the silence of
its own timer, and reads off what to do.

A cycle is journalled in `opened` before a byte of its drive frame exists. The
worker tells of the write (`written`); from there on only three things end it:
the board's own last word, a reported restart, or time. Which of the three
outcomes silence means is decided by the state in which it fell silent:

    opened     the guard of an unsent frame ran out: nobody can prove that no byte
               left, so even this is `unknown`; a driver that *knows* says NotWritten
    written    no answer to the drive frame                     unknown, no_answer
    accepted   the board had the command, and no more was heard unknown, no_answer
    moving     the motor turned, and no end was heard           unknown, cycle_timeout

and where a status came in between that could not be this cycle's, silence is
`unknown`, conflicting_evidence (P5). `withdrawn` and `refused` are no outcomes:
nothing moved, and the unit is as it was.

A cycle that is found open after a crash begins in `written`: that the frame
left can't be excluded.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import Enum, StrEnum
from typing import Any

from transitions import Machine, State
from transitions.experimental.utils import add_transitions, transition, with_model_definitions

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
from controller.model import Finding, Outcome, Reason

# The library warns, per cycle, of each convenience (`may_write`, `is_opened`, …) that it
# does not put on a model with typed triggers: by design here.
logging.getLogger("transitions.core").setLevel(logging.ERROR)


class CycleState(StrEnum):
    OPENED = "opened"
    WRITTEN = "written"
    ACCEPTED = "accepted"
    MOVING = "moving"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"
    COLLIDED = "collided"


OVER = frozenset({CycleState.ENDED, CycleState.WITHDRAWN, CycleState.REFUSED, CycleState.COLLIDED})
Sources = list[str | Enum | State]
ON_THE_WIRE: Sources = [CycleState.WRITTEN, CycleState.ACCEPTED, CycleState.MOVING]
OPEN: Sources = [CycleState.OPENED, *ON_THE_WIRE]

SILENCE = {
    CycleState.OPENED: Reason.NO_ANSWER,
    CycleState.WRITTEN: Reason.NO_ANSWER,
    CycleState.ACCEPTED: Reason.NO_ANSWER,
    CycleState.MOVING: Reason.CYCLE_TIMEOUT,
}

TRIGGERS: dict[type[CycleEvent], str] = {
    FrameWritten: "write",
    Acknowledged: "acknowledge",
    Moving: "move",
    LineLost: "lose_line",
    LineBack: "regain_line",
    Conflicting: "contradict",
    NotWritten: "withdraw",
    RefusedBeforeMotion: "refuse",
    Collision: "collide",
    Restarted: "restart",
    Ended: "end",
}


@with_model_definitions
class CycleMachine(Machine):
    """`transitions`, with typed triggers taken from the model class below."""


class CycleLife:
    """One cycle. `state` says where it is; `finding` is there once it is `ended`."""

    state: CycleState

    def __init__(self, initial: CycleState = CycleState.OPENED) -> None:
        self.finding: Finding | None = None
        self.withdrawal: Reason | None = None
        self.refusal: RefusedBeforeMotion | None = None
        self.contradicted = False
        self.line_up = True
        CycleMachine(
            model=self,
            states=CycleState,
            initial=initial,
            auto_transitions=False,
            queued=True,
            ignore_invalid_triggers=True,
        )

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def frame_left(self) -> bool:
        """Whether silence must be read as `unknown` (P5)."""
        return self.state in ON_THE_WIRE

    def apply(self, event: CycleEvent) -> None:
        """Take in what the board said; what means nothing in this state changes nothing."""
        getattr(self, TRIGGERS[type(event)])(event)

    @add_transitions(transition(CycleState.OPENED, CycleState.WRITTEN))
    def write(self, event: FrameWritten) -> bool:
        """The drive frame left."""
        raise NotImplementedError

    @add_transitions(
        transition(CycleState.WRITTEN, CycleState.ACCEPTED),
        transition([CycleState.ACCEPTED, CycleState.MOVING], None),
    )
    def acknowledge(self, event: Acknowledged) -> bool:
        """The board has the command."""
        raise NotImplementedError

    @add_transitions(
        transition([CycleState.WRITTEN, CycleState.ACCEPTED], CycleState.MOVING),
        transition(CycleState.MOVING, None),
    )
    def move(self, event: Moving) -> bool:
        """The motor turns."""
        raise NotImplementedError

    @add_transitions(transition(ON_THE_WIRE, None, before="_note_contradiction"))
    def contradict(self, event: Conflicting) -> bool:
        """A status that cannot be this cycle's."""
        raise NotImplementedError

    @add_transitions(transition(OPEN, None, before="_note_line_lost"))
    def lose_line(self, event: LineLost) -> bool:
        raise NotImplementedError

    @add_transitions(transition(OPEN, None, before="_note_line_back"))
    def regain_line(self, event: LineBack) -> bool:
        raise NotImplementedError

    @add_transitions(transition(CycleState.OPENED, CycleState.WITHDRAWN, before="_note_withdrawal"))
    def withdraw(self, event: NotWritten) -> bool:
        """No byte left and none will: as if never opened."""
        raise NotImplementedError

    @add_transitions(
        transition(
            [CycleState.WRITTEN, CycleState.ACCEPTED], CycleState.REFUSED, before="_note_refusal"
        )
    )
    def refuse(self, event: RefusedBeforeMotion) -> bool:
        """The board said no and did not move: not a cycle (P2)."""
        raise NotImplementedError

    @add_transitions(transition([CycleState.WRITTEN], CycleState.COLLIDED))
    def collide(self, event: Collision) -> bool:
        """The board knows this id from another cycle; nothing moved."""
        raise NotImplementedError

    @add_transitions(
        transition(CycleState.OPENED, CycleState.WITHDRAWN, before="_note_withdrawal"),
        transition(ON_THE_WIRE, CycleState.ENDED, before="_find_restart"),
    )
    def restart(self, event: Restarted) -> bool:
        """A board that forgets restarted."""
        raise NotImplementedError

    @add_transitions(transition(ON_THE_WIRE, CycleState.ENDED, before="_find"))
    def end(self, event: Ended) -> bool:
        """The board's last word."""
        raise NotImplementedError

    @add_transitions(transition(OPEN, CycleState.ENDED, before="_find_silence"))
    def run_out(self) -> bool:
        """The time that this cycle may take is over."""
        raise NotImplementedError

    def _note_contradiction(self, _event: Any) -> None:
        self.contradicted = True

    def _note_line_lost(self, _event: Any) -> None:
        self.line_up = False

    def _note_line_back(self, _event: Any) -> None:
        self.line_up = True

    def _note_withdrawal(self, event: CycleEvent) -> None:
        self.withdrawal = event.reason if isinstance(event, NotWritten) else Reason.BOARD_OFFLINE

    def _note_refusal(self, event: RefusedBeforeMotion) -> None:
        self.refusal = event

    def _find(self, event: Ended) -> None:
        self.finding = event.finding

    def _find_restart(self, _event: Restarted) -> None:
        self.finding = Finding(Outcome.UNKNOWN, Reason.BOARD_RESTARTED)

    def _find_silence(self) -> None:
        reason = Reason.CONFLICTING_EVIDENCE if self.contradicted else SILENCE[self.state]
        self.finding = Finding(Outcome.UNKNOWN, reason, settled=False)


def after_a_crash(finding: Finding, *, rebooted: bool) -> Finding:
    """Silence about a cycle that was found open: a power cut has its own name."""
    if finding.reason in (Reason.NO_ANSWER, Reason.CYCLE_TIMEOUT) and rebooted:
        return replace(finding, reason=Reason.POWER_LOST)
    return finding


def diagram() -> str:
    """The machine as Mermaid text, for docs/cycle.md; drawn from the tables above."""
    from transitions.extensions import GraphMachine  # only the docs need it

    life = CycleLife.__new__(CycleLife)
    drawn = with_model_definitions(type("DrawnMachine", (GraphMachine,), {}))
    machine = drawn(
        model=life,
        states=CycleState,
        initial=CycleState.OPENED,
        auto_transitions=False,
        graph_engine="mermaid",
    )
    return str(machine.get_combined_graph().source)
