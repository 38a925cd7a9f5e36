"""What the heart needs from the rest: a clock, boards, a journal, an announcer.

Protocols and the frozen values that cross them; no code of ours below this
module is imported. Drivers, journal and uplink implement these without knowing
each other. All durations are seconds, and monotonic unless the name says
*wall* or *unix*.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from controller.model import (
    Code,
    Evidence,
    Executed,
    Finding,
    Lane,
    LaneHealth,
    Order,
    OrderKey,
    OrderStatus,
    Outcome,
    Reason,
    UnitRef,
)

# --------------------------------------------------------------------------- time


class Clock(Protocol):
    """Everything that waits, waits here, so that a simulation can run hours in seconds."""

    def monotonic(self) -> float: ...
    def wall(self) -> float:
        """Unix seconds. A label, and the judge of deadlines only while `believed()`."""
        ...

    def believed(self) -> bool: ...
    async def sleep(self, seconds: float) -> None: ...
    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        """Raises TimeoutError inside the block when the time is over; None waits for ever."""
        ...


# --------------------------------------------------------------------------- boards


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a board can do. Recovery and planner decide by these, never by a name."""

    watches_eye: bool = False
    """Refuses to start on a blocked eye and reports drops."""
    reads_eye: bool = False
    """The host may read the eye's level between cycles."""
    remembers_cycles: bool = False
    """Can be asked after a crash what became of a cycle."""
    drops_duplicates: bool = False
    reports_door: bool = False
    reports_temperature: bool = False
    can_stop: bool = False


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """A snapshot for people and for `state`; `counters` are the link's totals."""

    up: bool
    text: str = ""
    """Identification: firmware text, or what the board told of itself."""
    eye: str = "unverified"
    """clear, blocked, faulty, absent, or unverified where nobody can read it."""
    door: str = "unknown"
    """open, closed, or unknown."""
    temperature_c: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EyeReading:
    blocked: bool
    faulty: bool = False
    absent: bool = False
    blocked_ms: int = 0
    pulses: int = 0
    selftest: str = "not_run"
    """ok, fault, or not_run."""


Ticket = Mapping[str, Any]
"""What a driver must find again after a crash, journalled with the cycle before
the drive frame: VBP memory_id, boot_id and not_after; XY the PackNO and the newest
frame heard. JSON values."""


@dataclass(frozen=True, slots=True)
class DriveOrder:
    """*Deliver this when the line allows, before its deadline, and tell what you learn.*"""

    cycle_id: int
    lane: int
    """The board's own number."""
    watch_eye: bool
    deadline: float
    """Monotonic; a frame that would be written later is not written (P4)."""
    cycle_timeout_s: float
    max_run_ms: int
    drop_wait_ms: int
    service: bool = False
    """A technician's test: an open door is allowed."""


@dataclass(frozen=True, slots=True)
class CycleEvent:
    """One thing learned about a cycle. `frame` is its bytes on the wire, for people."""

    frame: bytes = b""


@dataclass(frozen=True, slots=True)
class FrameWritten(CycleEvent):
    """The drive frame left. From here on silence is `unknown` (P5)."""


@dataclass(frozen=True, slots=True)
class Acknowledged(CycleEvent):
    """The board has the command. Not yet proof of motion."""


@dataclass(frozen=True, slots=True)
class Moving(CycleEvent):
    """The board says that the motor turns."""


@dataclass(frozen=True, slots=True)
class LineLost(CycleEvent):
    """The link is gone; the stream goes on, and may bring `LineBack`."""


@dataclass(frozen=True, slots=True)
class LineBack(CycleEvent):
    pass


@dataclass(frozen=True, slots=True)
class Conflicting(CycleEvent):
    """A status that cannot be this cycle's. Noted; the cycle stays open for its own."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class NotWritten(CycleEvent):
    """Terminal: no byte of the drive frame left, and none will.

    `reason` is EXPIRED when the deadline passed in the queue, BOARD_OFFLINE
    when the link was down.
    """

    reason: Reason = Reason.BOARD_OFFLINE


@dataclass(frozen=True, slots=True)
class RefusedBeforeMotion(CycleEvent):
    """Terminal: the board said no and did not move. Not a cycle: it may be asked again.

    `reason` is what the unit ends with when no retry is left. `retry` False:
    asking again is useless (no such lane, collision).
    """

    reason: Reason = Reason.BOARD_REFUSED
    retry: bool = True
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Collision(CycleEvent):
    """Terminal: the board knows this cycle id already (VBP rule 1). Nothing moved."""


@dataclass(frozen=True, slots=True)
class Restarted(CycleEvent):
    """Terminal, only from boards that forget: it restarted with the cycle open."""


@dataclass(frozen=True, slots=True)
class Ended(CycleEvent):
    """Terminal: the board's last word, as its protocol's table reads it."""

    finding: Finding = field(default_factory=lambda: Finding(Outcome.UNKNOWN))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answered on the port. `memory_id` None where boards have none."""

    text: str
    boot_id: int | None = None
    memory_id: int | None = None
    reset_cause: str | None = None


@dataclass(frozen=True, slots=True)
class LateDrop:
    """The eye saw an item after the cycle's end; `after_ms` on the board's clock."""

    cycle_id: int
    after_ms: int


@dataclass(frozen=True, slots=True)
class DoorChanged:
    open: bool


@dataclass(frozen=True, slots=True)
class EyeChanged:
    level: str


@dataclass(frozen=True, slots=True)
class LaneFault:
    lane: int
    note: str


@dataclass(frozen=True, slots=True)
class BoardNote:
    """Anything else worth an event; `kind` becomes the event's kind."""

    kind: str
    detail: Mapping[str, Any] = field(default_factory=dict)


Notice = LateDrop | DoorChanged | EyeChanged | LaneFault | BoardNote


class BoardDesk(Protocol):
    """Where a driver reports what concerns no running stream.

    Each method returns when the fact is durable; only then may the driver tell
    its board to forget it (P7).
    """

    async def identified(self, identity: Identity) -> None:
        """HELLO or its like was answered, after every open and every restart."""
        ...

    async def went(self, *, up: bool, why: str) -> None:
        """The link is usable, or gone."""
        ...

    async def recorded(self, cycle_id: int, finding: Finding, raw: Mapping[str, Any]) -> bool:
        """A record that the board kept, of a cycle that no stream is open for. False: the board
        must go on keeping it, and is asked for it again."""
        ...

    async def notice(self, notice: Notice, key: str | None = None) -> None:
        """`key` names the event on its board for ever, so that a repeat is known again."""
        ...

    async def last_ticket(self) -> Ticket | None:
        """The ticket of the newest cycle journalled for this board."""
        ...


class Board(Protocol):
    """A driver, as the heart sees it. One task calls `run`; at most one `drive` is open."""

    @property
    def name(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def capabilities(self) -> Capabilities: ...
    def status(self) -> BoardStatus: ...
    async def run(self, desk: BoardDesk) -> None:
        """Own the port: open, identify, keep alive, reopen, for ever. Ends by cancellation."""
        ...

    async def prepare(self, order: DriveOrder) -> Ticket:
        """What must be durable before the frame. Raises BoardOffline.

        `order.cycle_id` is 0 here: the id is given by the transaction that follows.
        """
        ...

    def drive(self, order: DriveOrder, ticket: Ticket) -> AsyncGenerator[CycleEvent, None]:
        """Write the drive frame at most once; yield what is learned; end with a terminal event.

        The caller bounds the time and may close the stream: the cycle is then
        only `recall`ed. A board that remembers survives link losses and its own
        restarts inside the stream; its last event is `Ended`.
        """
        ...

    def recall(self, order: DriveOrder, ticket: Ticket) -> AsyncGenerator[CycleEvent, None]:
        """Never writes a drive frame. Asks (boards that remember) or listens (others)
        for what became of a cycle that is journalled; ends with Ended, Restarted,
        or not at all: the caller bounds the time."""
        ...

    async def release(self, cycle_id: int) -> None:
        """The record of this cycle is durable here: the board may forget it."""
        ...

    async def read_eye(self, *, selftest: bool = False) -> EyeReading:
        """Raises BoardError; only where `capabilities.reads_eye`. `selftest` only while nothing
        of the board moves: the eye may be dark while it tests itself."""
        ...

    async def stop(self, cycle_id: int) -> None:
        """Motor off, where `capabilities.can_stop`. Raises BoardOffline."""
        ...


# --------------------------------------------------------------------------- orders


@dataclass(frozen=True, slots=True)
class LaneState:
    """A lane as the journal counts it. P10: stock + gone + uncertain + adjusted = loaded."""

    lane: Lane
    stock: int
    reserved: int
    gone: int
    uncertain: int
    adjusted: int
    loaded: int
    health: LaneHealth
    health_reason: str
    failures: int
    """Failures in a row."""
    cycles: int
    """Runs of its motor since the journal's birth."""
    last_cycle_at: float | None
    """Wall time of its newest cycle."""

    @property
    def free(self) -> int:
        return self.stock - self.reserved


@dataclass(frozen=True, slots=True)
class Placement:
    """One unit of an order on its lane."""

    number: int
    product_id: int
    channel: str
    """The lane that will give it."""
    named: bool
    """The command named the channel: no other lane will do."""
    record_id: int | None


@dataclass(frozen=True, slots=True)
class Rejection:
    code: Code
    message: str


Plan = Callable[[Order, Sequence[LaneState]], "tuple[Placement, ...] | Rejection"]
"""The planner, called inside the accepting transaction with the lanes as they are."""


@dataclass(frozen=True, slots=True)
class UnitJob:
    """An undecided unit, as the heart queues it."""

    ref: UnitRef
    units: int
    trade_id: str
    product_id: int
    channel: str
    named: bool
    record_id: int | None
    issued_at: int
    expires_at: int
    cycles: int = 0
    """Cycles that it has had: all ended in `not_delivered`."""
    last_finding: Finding | None = None
    """How the last of those ended; what the unit ends with when no further one comes."""
    accepted_boot: str = ""
    """The machine's boot in which it was accepted (P4)."""
    order_active_at: float | None = None
    """Wall time at which the newest cycle of its order ended whose motor may have moved; None
    before the first (P4)."""


@dataclass(frozen=True, slots=True)
class OrderBook:
    """What is known of an order: its status, counts and whether details are pruned."""

    key: OrderKey
    trade_id: str
    status: OrderStatus
    code: str
    executed: Executed
    units: int
    delivered: int
    not_delivered: int
    unknown: int
    revision: int
    pruned: bool
    waiting: int
    """Units without an open cycle and without an outcome."""
    running: int


@dataclass(frozen=True, slots=True)
class Cancellation:
    key: OrderKey
    trade_id: str
    issued_at: int
    who: str = ""
    """The person at the machine who asks; empty: the platform."""
    reason: str = ""
    """Why, in that person's words."""


@dataclass(frozen=True, slots=True)
class CycleIntent:
    """What becomes durable before the drive frame (P7)."""

    unit: UnitRef | None
    test_id: str | None
    channel: str
    board: str
    lane: int
    ticket: Ticket
    cycle_timeout_s: float
    who: str = ""
    """Whose test vend it is; empty for a customer's unit."""


@dataclass(frozen=True, slots=True)
class OpenCycle:
    """A cycle without an outcome, or one whose board is still quarantined for it."""

    cycle_id: int
    unit: UnitRef | None
    test_id: str | None
    channel: str
    board: str
    lane: int
    ticket: Ticket
    cycle_timeout_s: float
    boot: str
    """The machine's boot in which it was opened."""
    closed: bool
    """True: it has its outcome (`unknown`), and only the quarantine remains."""
    opened_at: float
    """Wall time."""
    trace: Sequence[Mapping[str, Any]] = ()
    finding: Finding | None = None
    """What is known of it, once it is closed."""


@dataclass(frozen=True, slots=True)
class CycleEnd:
    """How a cycle is closed, in one transaction with unit, stock and result."""

    finding: Finding
    trace: Sequence[Mapping[str, Any]]
    """[{"at": wall seconds, "event": name, "frame": hex}, …], for people."""
    final: bool
    """False: the unit will have a further cycle (P2), so no result yet."""
    failure_limit: int
    quarantined: bool = False
    """The board stays closed for drives for this cycle (P5)."""


@dataclass(frozen=True, slots=True)
class ResultFacts:
    """All that a `result` message says, but journal and seq."""

    key: OrderKey
    trade_id: str
    record_id: int | None
    unit: int
    units: int
    revision: int
    product_id: int
    channel: str
    outcome: Outcome
    reason: Reason | None
    evidence: Evidence
    lane_health: LaneHealth
    raw: Mapping[str, Any]
    late: bool
    cycles: int
    started_at: float | None
    finished_at: float


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """All that an `order` message says, but journal and seq."""

    key: OrderKey
    trade_id: str
    status: OrderStatus
    code: str | None
    message: str
    executed: Executed
    units: int
    delivered: int
    not_delivered: int
    unknown: int
    revision: int
    at: float


class Announcer(Protocol):
    """Builds the bytes of what leaves, inside the transaction that gives it its seq."""

    def result(self, facts: ResultFacts, journal: int, seq: int) -> bytes: ...
    def order(self, facts: OrderFacts, journal: int | None, seq: int | None) -> bytes: ...
    def event(
        self, kind: str, detail: Mapping[str, Any], journal: int | None, event_seq: int, at: float
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ClosedUnit:
    """What a closing transaction decided, for the log and for the heart's next step."""

    ref: UnitRef | None
    outcome: Outcome
    order_finished: bool
    lane: LaneState


@dataclass(frozen=True, slots=True)
class ServiceMode:
    """A technician has the machine: no order is taken, no customer's cycle begins."""

    who: str
    since: float
    """Wall time."""


class HeartJournal(Protocol):
    """The journal, as the heart uses it.

    Every method is one transaction and returns when it is durable. All raise
    JournalUnwritable when it could not be (P12); nothing of it is then kept.
    """

    async def waiting_units(self) -> Sequence[UnitJob]:
        """Every unit that has neither an outcome nor an open cycle, oldest order first."""
        ...

    async def open_cycles(self) -> Sequence[OpenCycle]:
        """Cycles without outcome, and closed ones whose quarantine was not lifted."""
        ...

    async def cycle(self, cycle_id: int) -> OpenCycle | None: ...

    async def open_cycle(self, intent: CycleIntent) -> OpenCycle:
        """Raises UnitDecided when the unit got an outcome (a cancel) in the meantime,
        InServiceMode for a customer's unit while a technician has the machine."""
        ...

    async def renumber(self, cycle_id: int, board: str) -> OpenCycle:
        """VBP rule 1: the present Unix second becomes the high half of this board's ids;
        the open cycle takes a new id from it."""
        ...

    async def close_cycle(self, cycle_id: int, end: CycleEnd) -> ClosedUnit: ...

    async def withdraw_cycle(self, cycle_id: int, *, written: bool) -> None:
        """No byte of its drive frame left, or (`written`) the board refused it before
        motion: the unit waits again, as if never opened."""
        ...

    async def finish_unit(self, ref: UnitRef, finding: Finding) -> ClosedUnit:
        """An outcome without a (further) cycle: expired, board_offline, power_lost, …

        Raises UnitDecided when it has one."""
        ...

    async def revise(
        self, cycle_id: int, finding: Finding, raw: Mapping[str, Any], *, lift: bool
    ) -> bool:
        """A later fact about a closed cycle: a new revision when `may_replace` allows
        (True), else only an event. `lift` ends the cycle's quarantine as well."""
        ...

    async def lift_quarantine(self, cycle_id: int) -> None: ...
    async def reassign(self, ref: UnitRef, channel: str, *, free: bool = False) -> bool:
        """Move a waiting unit and its reservation to another lane. Raises UnitDecided.

        `free`: only onto an item that nobody reserved; False when there is none any more."""
        ...

    async def lane_states(self) -> Sequence[LaneState]: ...
    async def suspend_lane(self, channel: str, reason: str) -> None: ...
    async def stop_cabinet(self, cabinet: str, reason: str, who: str) -> None: ...
    async def stopped_cabinets(self) -> Mapping[str, str]:
        """Name -> reason of each cabinet that waits for a technician."""
        ...

    async def service_mode(self) -> ServiceMode | None: ...
    async def board_memory(self, board: str) -> Mapping[str, Any]:
        """The board's row: {"memory_id": …, "out_of_service": reason or ""}, {} when never seen."""
        ...

    async def remember_board(self, board: str, memory: Mapping[str, Any]) -> None: ...
    async def accept_board(self, board: str, who: str, memory_id: int | None) -> None:
        """A technician looked: out of service no more, this memory is the accepted one."""
        ...

    async def last_ticket(self, board: str) -> Ticket | None: ...
    async def newest_cycle(self, board: str) -> OpenCycle | None: ...
    async def finish_test(self, test_id: str, channel: str, finding: Finding) -> None:
        """The outcome of a test vend without a cycle: an event, as of one with a cycle (P6)."""
        ...

    async def event(self, kind: str, detail: Mapping[str, Any], key: str | None = None) -> None:
        """Publish as an event; the same `key` a second time changes nothing."""
        ...


# --------------------------------------------------------------------------- commands


class Standing(StrEnum):
    """What the journal knows of a command's identity (P8), before anything else is judged."""

    NEW = "new"
    SAME = "same"
    """Accepted before with the same content: its stored rows are sent again."""
    CONFLICT = "conflict"
    """Same identity, other content; or its trade_id belongs to another order_id."""
    TOMBSTONE = "tombstone"
    """Cancelled before it came."""
    REJECTED = "rejected"
    """Rejected before with this issued_at: the same rejection is sent again."""


class CommandJournal(Protocol):
    """The journal, as intake and the order desk use it. Each method is one durable transaction."""

    @property
    def birth(self) -> int | None:
        """The `journal` of every message; None until the clock is believed (P13)."""
        ...

    @property
    def bound(self) -> int | None:
        """Commands issued before this Unix second are `journal_reset`."""
        ...

    async def look_up(self, order: Order) -> Standing: ...

    async def replay(self, order: Order) -> None:
        """Arm the stored rows of a SAME or REJECTED command again; rate-limited per command.
        Once details are pruned: `finished` with `results_pruned` and the counts."""
        ...

    async def accept(self, order: Order, plan: Plan) -> tuple[UnitJob, ...] | Rejection:
        """Plan, then order, units, reservations and the outgoing `accepted`: one transaction.
        A Rejection of the planner is returned, and nothing is written."""
        ...

    async def reject(
        self,
        key: OrderKey,
        trade_id: str,
        issued_at: int,
        rejection: Rejection,
        *,
        executed: Executed,
        units: int,
    ) -> bool:
        """Store and publish a rejection; False when too many came to store another: the caller
        answers past the journal."""
        ...

    async def cancel(self, cancellation: Cancellation) -> tuple[Code, tuple[UnitRef, ...]]:
        """End the waiting units, answer on `order`; an unknown order leaves a tombstone."""
        ...

    async def event(self, kind: str, detail: Mapping[str, Any], key: str | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class RequestTold:
    """The answer to an acting request, as it is stored. `code` as on the wire."""

    code: str
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestClaimed:
    """An acting request that the journal knows."""

    same: bool
    """With the same verb and content."""
    told: RequestTold | None
    """None: it was begun, and no end of it was stored."""


class RequestJournal(Protocol):
    """Acting requests from afar, each carried out at most once. All raise JournalError."""

    @property
    def birth(self) -> int | None: ...

    async def claim_request(self, request_id: str, content: str) -> RequestClaimed | None:
        """None: it is new, and from now on known."""
        ...

    async def known_request(self, request_id: str, content: str) -> RequestClaimed | None:
        """None: it was never claimed."""
        ...

    async def settle_request(self, request_id: str, told: RequestTold) -> None: ...


class Journal(HeartJournal, CommandJournal, Protocol):
    """The journal as the whole heart needs it."""


class OrderDesk(Protocol):
    """Where intake hands in what it found well-formed. Implemented by the heart."""

    async def submit(self, order: Order) -> Rejection | None:
        """None: accepted as a whole, durable, queued. A Rejection is not yet stored."""
        ...

    async def cancel(self, cancellation: Cancellation) -> Code:
        """Durable and answered when it returns."""
        ...


@dataclass(frozen=True, slots=True)
class OutboxRow:
    row: int
    topic: str
    """The last part of the topic: result, order or event."""
    payload: bytes


class Outbox(Protocol):
    """Rows that the broker does not have yet. P9: they stay until it acknowledged them."""

    async def oldest(self, topic: str, limit: int) -> Sequence[OutboxRow]:
        """Unsent rows of the topic, oldest first."""
        ...

    async def sent(self, rows: Sequence[OutboxRow]) -> None:
        """The broker acknowledged these with success."""
        ...

    def signal(self, topic: str) -> Any:
        """An asyncio.Event that is set whenever the topic may have new unsent rows."""
        ...

    async def waiting(self) -> Mapping[str, int]:
        """Unsent rows per topic."""
        ...
