"""The vocabulary of the machine: orders, units, lanes, cabinets, outcomes.

Everybody may import this module; it imports nothing of ours and does no I/O.
The words are those of the field: an *order* is what the platform commands, a
*unit* is one physical product of it, a *lane* holds products in a row, a
*cabinet* groups lanes behind one drop sensor, a *board* turns their motors, and
a *cycle* is one run of one lane's motor.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What became of one unit. `UNKNOWN` is a result like the others."""

    DELIVERED = "delivered"
    NOT_DELIVERED = "not_delivered"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a unit was not delivered, or why nobody can say."""

    JAMMED = "jammed"
    NO_DROP = "no_drop"
    NOT_STARTED = "not_started"
    EYE_BLOCKED = "eye_blocked"
    EYE_FAULTY = "eye_faulty"
    MOTOR_MISSING = "motor_missing"
    MOTOR_FAULT = "motor_fault"
    LANE_EMPTY = "lane_empty"
    LANE_DISABLED = "lane_disabled"
    DOOR_OPEN = "door_open"
    BOARD_OFFLINE = "board_offline"
    BOARD_REFUSED = "board_refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SERVICE_MODE = "service_mode"
    POWER_LOST = "power_lost"
    NO_ANSWER = "no_answer"
    CYCLE_TIMEOUT = "cycle_timeout"
    BOARD_RESTARTED = "board_restarted"
    BOARD_FORGOT = "board_forgot"
    MOTOR_DID_NOT_STOP = "motor_did_not_stop"
    STOPPED = "stopped"
    TERMINATED = "terminated"
    EYE_FAILED = "eye_failed"
    CONFLICTING_EVIDENCE = "conflicting_evidence"


class Evidence(StrEnum):
    """What an outcome rests on."""

    DROP_SENSOR = "drop_sensor"
    MOTOR = "motor"
    BOARD_RECORD = "board_record"
    TECHNICIAN = "technician"
    NONE = "none"


class Code(StrEnum):
    """The codes of `order` messages: rejections, and answers to a cancel."""

    BAD_JSON = "bad_json"
    BAD_FIELD = "bad_field"
    TOO_LARGE = "too_large"
    TOO_MANY_UNITS = "too_many_units"
    WRONG_MACHINE = "wrong_machine"
    RETAINED = "retained"
    BAD_SIGNATURE = "bad_signature"
    REPLAYED = "replayed"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    CONFLICT = "conflict"
    CANCELLED = "cancelled"
    UNKNOWN_PRODUCT = "unknown_product"
    UNKNOWN_CHANNEL = "unknown_channel"
    OUT_OF_STOCK = "out_of_stock"
    OUT_OF_SERVICE = "out_of_service"
    SERVICE_MODE = "service_mode"
    JOURNAL_UNWRITABLE = "journal_unwritable"
    JOURNAL_RESET = "journal_reset"
    BUSY = "busy"
    CLOCK_UNSET = "clock_unset"
    SHUTTING_DOWN = "shutting_down"
    OK = "ok"
    UNKNOWN_ORDER = "unknown_order"
    TOO_LATE = "too_late"
    RESULTS_PRUNED = "results_pruned"


class OrderStatus(StrEnum):
    """What an `order` message says about a command."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class Executed(StrEnum):
    """`command_executed`: whether a drive frame of the command was written."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


class CabinetKind(StrEnum):
    TRACK = "track"
    SPIRAL = "spiral"
    LOCKER = "locker"


class LaneHealth(StrEnum):
    """Whether a lane may be driven for a customer.

    `UNRESOLVED` is derived: a unit of the lane is uncertain, and something may
    hang in it until a revision or a count settles it (P10).
    """

    OK = "ok"
    SUSPENDED = "suspended"
    DISABLED = "disabled"
    UNRESOLVED = "unresolved"


CHANNEL = re.compile(r"([A-Z])0*([1-9][0-9]{0,3})")


def canonical_channel(text: str) -> str:
    """`A01` and `A1` name one lane; the canonical form has no zeros.

    Raises ValueError when the text is not a cabinet letter and a number.
    """
    found = CHANNEL.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:20]!r} is not a channel: a capital letter and a number, like A1")
    return found[1] + found[2]


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of products that one motor moves. `number` is the board's own for it."""

    channel: str
    number: int
    product_id: int
    capacity: int
    cabinet: str
    initial_stock: int = 0


@dataclass(frozen=True, slots=True)
class Cabinet:
    """Lanes behind one drop sensor, on one board. Durations in seconds unless named."""

    name: str
    kind: CabinetKind
    board: str
    drop_sensor: bool
    lanes: tuple[Lane, ...]
    eye_clear_timeout_s: float = 10.0
    settle_s: float = 0.0
    cycle_timeout_s: float = 90.0
    max_run_ms: int = 15_000
    drop_wait_ms: int = 3_000
    second_cycles: int = 0

    @property
    def one_item_per_eye(self) -> bool:
        """P3 holds here: an item in the light eye would hide the next one."""
        return self.kind is CabinetKind.TRACK and self.drop_sensor


@dataclass(frozen=True, slots=True, order=True)
class OrderKey:
    """The identity of a command (P8)."""

    order_id: int
    delivery_id: str = ""

    def __str__(self) -> str:
        return f"{self.order_id}/{self.delivery_id}" if self.delivery_id else str(self.order_id)


@dataclass(frozen=True, slots=True)
class OrderLine:
    product_id: int
    quantity: int
    channel: str | None = None
    record_id: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A well-formed dispense command. Times are Unix seconds."""

    key: OrderKey
    trade_id: str
    issued_at: int
    expires_at: int
    lines: tuple[OrderLine, ...]

    @property
    def units(self) -> int:
        return sum(line.quantity for line in self.lines)

    def content(self) -> str:
        """The canonical content that P8 compares: everything but the times."""
        products = [[ln.product_id, ln.quantity, ln.channel, ln.record_id] for ln in self.lines]
        return json.dumps([self.trade_id, products], separators=(",", ":"), ensure_ascii=True)

    def content_hash(self) -> bytes:
        """16 bytes that stand for the content for ever, when the details are pruned."""
        return hashlib.blake2b(self.content().encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True, order=True)
class UnitRef:
    """One unit of one order; `number` counts from 1."""

    key: OrderKey
    number: int

    def __str__(self) -> str:
        return f"{self.key}#{self.number}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict about one cycle, with the four facts kept apart.

    The driver of a board makes one from the board's terminal word by the table
    of its protocol; the cycle's machine makes one when the board says nothing.
    """

    outcome: Outcome
    reason: Reason | None = None
    evidence: Evidence = Evidence.NONE
    drops: int = 0
    """Items that the eye counted; 2 or more is a `double_drop`."""
    left_home: bool = True
    """False only when the motor certainly never moved: no late drop can follow."""
    counts_as_failure: bool = False
    """Counts towards `lane_failure_limit`."""
    suspend_lane: bool = False
    """The board's table says *lane suspended*: at once, whatever the count."""
    cabinet_fault: bool = False
    """The motor may still turn: the cabinet is out of service until a technician came."""
    may_repeat: bool = True
    """False: the board's word for it is too weak for a second cycle, whatever is configured."""
    settled: bool = True
    """The board itself ended the cycle. False leaves the board quarantined (P5)."""
    raw: Mapping[str, Any] = field(default_factory=dict)


def evidence_rank(outcome: Outcome, evidence: Evidence) -> int:
    """How much an outcome weighs against a later one (promises, *Revisions*)."""
    if evidence is Evidence.TECHNICIAN:
        return 2
    if outcome is Outcome.DELIVERED and evidence is not Evidence.MOTOR:
        return 3
    if evidence is not Evidence.NONE:
        return 1
    return 0


def may_replace(old: tuple[Outcome, Evidence], new: tuple[Outcome, Evidence]) -> bool:
    """Whether a later fact makes a new revision of a result, or is only an event."""
    if old[0] is Outcome.DELIVERED or new[0] is Outcome.UNKNOWN or old[0] is new[0]:
        return False
    return evidence_rank(*new) > evidence_rank(*old) or old[0] is Outcome.UNKNOWN


def lanes_by_channel(cabinets: Sequence[Cabinet]) -> dict[str, Lane]:
    return {lane.channel: lane for cabinet in cabinets for lane in cabinet.lanes}
