"""A VBP board between its HELLO and the loss of its link: who it is and what it last said."""

from __future__ import annotations

from dataclasses import dataclass

from controller import prose
from controller.boards.vbp.frames import (
    Capability,
    Door,
    ErrorCode,
    Eye,
    GetResult,
    Hello,
    HelloAnswer,
    ListOpen,
    ListOpenAnswer,
    ResetCause,
    ResultAnswer,
    Status,
    StatusAnswer,
)
from controller.boards.vbp.link import NotServed, VbpLink
from controller.dispensing.interfaces import Capabilities, Clock, Identity
from controller.errors import BoardRefused

UPTIME_MODULO = 1 << 32
UPTIME_HALF = 1 << 31

FRAME_LIFE_S = 3.0
"""Rule 3: a drive frame found later than this in some buffer is refused by the board."""


def is_past(uptime_ms: int, mark_ms: int) -> bool:
    """Rule 3: whether a mark on the board's clock is over, across its wrap after 49 days."""
    return (uptime_ms - mark_ms) % UPTIME_MODULO < UPTIME_HALF


def eye_level(eye: int) -> str:
    """clear, blocked, faulty or absent; what cannot be trusted outranks what it says."""
    if eye & Eye.ABSENT:
        return "absent"
    if eye & Eye.FAULTY:
        return "faulty"
    return "blocked" if eye & Eye.BLOCKED else "clear"


def door_level(door: int) -> str:
    return {Door.CLOSED: "closed", Door.OPEN: "open"}.get(Door(door), "unknown")


def capabilities_of(bits: int) -> Capabilities:
    return Capabilities(
        watches_eye=bool(bits & Capability.WATCHES_EYE),
        reads_eye=bool(bits & Capability.READS_EYE),
        remembers_cycles=bool(bits & Capability.REMEMBERS_CYCLES),
        drops_duplicates=True,
        reports_door=bool(bits & Capability.DOOR_SWITCH),
        can_stop=bool(bits & Capability.CAN_STOP),
    )


def identity_of(hello: HelloAnswer) -> Identity:
    cause = hello.reset_cause
    name = ResetCause(cause).name.lower() if cause in set(ResetCause) else str(cause)
    return Identity(hello.text, hello.boot_id, hello.memory_id, name)


@dataclass(slots=True)
class Session:
    """Raises of the methods: BoardOffline when the link is or goes down, NotServed on E0."""

    link: VbpLink
    clock: Clock
    hello: HelloAnswer
    uptime_ms: int
    uptime_at: float
    """Monotonic; when `uptime_ms` was told."""
    eye: str = "unverified"
    door: str = "unknown"
    records_pending: bool = True
    """LIST_OPEN is due: a record may wait that no stream asks for."""

    @property
    def live(self) -> bool:
        return not self.link.down_because

    def age(self) -> float:
        """Seconds since the board last told its uptime."""
        return self.clock.monotonic() - self.uptime_at

    async def refresh(self) -> int:
        """STATUS; the uptime in ms. An uptime that went back is a restart: the link ends."""
        answer = await self._ask_status()
        if not is_past(answer.uptime_ms, self.uptime_ms):
            self.link.end(prose.UPTIME_WENT_BACK)
            raise BoardRefused(self.link.down_because)
        self.uptime_ms = answer.uptime_ms
        self.uptime_at = self.clock.monotonic()
        self.eye = eye_level(answer.eye)
        self.door = door_level(answer.door) if answer.door in set(Door) else "unknown"
        return answer.uptime_ms

    async def _ask_status(self) -> StatusAnswer:
        try:
            return await self.link.ask(Status(), StatusAnswer)
        except NotServed as refused:
            self.judge(refused)
            raise

    async def result(self, cycle_id: int) -> ResultAnswer:
        """Raises BoardRefused also for the record of another id: it is not read as this one's."""
        try:
            record = await self.link.ask(GetResult(cycle_id), ResultAnswer)
        except NotServed as refused:
            self.judge(refused)
            raise
        if record.cycle_id != cycle_id:
            raise BoardRefused(f"asked for record {cycle_id}, told record {record.cycle_id}")
        return record

    async def open_ids(self) -> tuple[int, ...]:
        try:
            return (await self.link.ask(ListOpen(), ListOpenAnswer)).cycle_ids
        except NotServed as refused:
            self.judge(refused)
            raise

    def judge(self, refused: NotServed) -> None:
        """*Not now* to a question that is always served: the board waits for a HELLO."""
        if refused.code == ErrorCode.NOT_NOW:
            self.link.end(prose.WAITS_FOR_HELLO)


async def say_hello(link: VbpLink, clock: Clock) -> Session:
    """Raises BoardOffline when nobody answers, NotServed when it is no VBP board of ours."""
    hello = await link.ask(Hello(), HelloAnswer)
    return Session(link, clock, hello, hello.uptime_ms, clock.monotonic())
