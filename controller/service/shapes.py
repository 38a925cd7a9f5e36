"""The shape of every answer of the local service. Public: `vendctl --json` prints these.

Fields may be added; none is renamed or removed. Times named `…_at`, `since` and
`wall` are Unix seconds (floats allowed), durations end in `_s` or `_ms`. `None`
means not known or not so. Text that came from a board or a person may hold
anything printable. TypedDicts, so that an implementation may be checked by mypy
or, at test time, by `pydantic.TypeAdapter(Status).validate_python(answer)`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

# --------------------------------------------------------------------------- status


class MovingLane(TypedDict):
    """A cycle that is open now: its motor may turn."""

    channel: str
    cabinet: str
    board: str
    cycle_id: int
    """0 while it is not known yet."""
    purpose: str
    """`1111111/17332#2` (order/delivery#unit), or `test:<test_id>`."""
    since: float


class MayStart(TypedDict):
    """A cabinet, not stopped, whose motor may turn before anybody says so: something waits."""

    cabinet: str
    channel: str
    purpose: str
    """As of MovingLane: what comes first."""
    why: str
    """What it waits for."""
    jobs: int
    """Units and test vends that wait there."""


class BrokerStatus(TypedDict):
    connected: bool
    since: float | None
    """Since when it is connected, or gone; None: never was."""
    host: str
    port: int
    protocol: str
    """5 or 3.1.1."""
    problem: str
    """Why the last connection ended or failed, or which topics are refused; else empty."""
    offline: NotRequired[bool]
    """True: a run of `vendctl --offline`, which has no broker by design."""


class BoardView(TypedDict):
    protocol: str
    up: bool
    text: str
    """What the board tells of itself, cut to 200 characters."""
    eye: str
    """clear, blocked, faulty, absent; watched: only the board itself looks; unverified: nobody."""
    door: str
    """open, closed, unknown."""
    temperature_c: float | None
    quarantined_until_s: float | None
    """Seconds until P5's quarantine ends at the latest; None: not quarantined."""
    out_of_service: str
    """Why it waits for a technician (`board_swapped`, …); empty: it does not."""
    can_stop: bool
    """A motor that turns can be stopped from here."""


class CabinetView(TypedDict):
    kind: str
    """track, spiral, locker."""
    board: str
    state: Literal["ready", "running", "stopped", "out_of_service"]
    """stopped: by a technician or waiting for one. out_of_service: its board is."""
    reason: str
    """Why it does not sell; empty when it does."""
    eye: str
    lanes: int
    lanes_ok: int
    """Lanes whose health is ok and whose stock is not 0."""


class ClockView(TypedDict):
    believed: bool
    wall: float
    newest: float | None
    """The newest time that was written under a believed clock."""


class JournalView(TypedDict):
    birth: int | None
    """The `journal` of every message; None until the clock is believed (P13)."""
    last_seq: int
    writable: bool
    problem: str
    """Why it is not writable; empty when it is."""
    lost: bool
    """It was begun anew because an older one was lost, damaged or restored."""
    set_aside: str | None
    """Where the damaged one lies."""


class ServiceModeView(TypedDict):
    """A technician has the machine: no order is taken, no customer's cycle begins."""

    who: str
    """Who asked for it last."""
    since: float
    idle_left_s: float
    """It leaves by itself so soon, unless somebody acts or tests."""


class LaneDown(TypedDict):
    """A lane that does not sell, and why."""

    health: str
    """suspended, disabled, unresolved."""
    reason: str


class Status(TypedDict):
    mode: Literal["ready", "dispensing", "degraded", "service", "out_of_service"]
    machine_no: str
    version: str
    since: float
    """Start of the daemon."""
    moving: bool
    moving_lanes: list[MovingLane]
    may_start: list[MayStart]
    """While it is not empty, a hand reaches in only after `cabinet stop`."""
    broker: BrokerStatus
    boards: dict[str, BoardView]
    cabinets: dict[str, CabinetView]
    open_orders: int
    open_units: int
    outbox: dict[str, int]
    """Messages that the broker does not have yet: `result`, `order`, `event`."""
    last_stop: str
    """clean, crash, power, watchdog."""
    clock: ClockView
    journal: JournalView
    service_mode: ServiceModeView | None
    """None: it is off."""
    lanes_down: dict[str, LaneDown]
    """By channel."""
    stopped_by: dict[str, str]
    """Cabinet or disabled lane -> who took it out of sale."""
    unknown: dict[str, WatchedUnknown]
    """By cycle: items that nobody knows of whether they fell; the oldest 50."""


# --------------------------------------------------------------------------- orders


class OrderSummary(TypedDict):
    row: int
    """A cursor for `before`."""
    order_id: int
    delivery_id: str
    trade_id: str
    status: str
    """accepted, rejected, cancelled, finished."""
    code: str
    """Empty, or the code of its rejection or cancel."""
    units: int
    delivered: int
    not_delivered: int
    unknown: int
    waiting: int
    running: int
    at: float
    """When it was accepted or rejected."""


class Orders(TypedDict):
    orders: list[OrderSummary]
    """Newest first."""
    next_before: int | None
    """`before` for the next page; None: there is none."""


class TraceStep(TypedDict):
    at: float
    event: str
    frame: str
    """Its bytes as hex, in pairs or not; empty for an event without a frame."""


class CycleView(TypedDict):
    cycle_id: int
    board: str
    lane: int
    """The board's own number."""
    channel: str
    purpose: str
    opened_at: float
    closed_at: float | None
    outcome: str | None
    reason: str | None
    evidence: str | None
    quarantined: bool
    drops: NotRequired[int]
    """Falls that the light eye saw."""
    raw: NotRequired[dict[str, Any]]
    """What the board said of its end, by the names of its protocol."""
    ticket: NotRequired[dict[str, Any] | None]
    """By what the board can be asked for the cycle again; None: it cannot."""
    trace: list[TraceStep]


class UnitView(TypedDict):
    unit: int
    product_id: int
    channel: str
    record_id: int | None
    state: Literal["waiting", "running", "decided"]
    outcome: str | None
    reason: str | None
    evidence: str | None
    revision: int
    resolved_at: NotRequired[float | None]
    """When a technician said what became of it; None: something else tells."""
    started_at: NotRequired[float | None]
    """When its first cycle opened; None: none did."""
    finished_at: NotRequired[float | None]
    cycles: list[CycleView]


class MessageView(TypedDict):
    """A row of the outbox that belongs to the order."""

    topic: str
    journal: int | None
    seq: int | None
    sent_at: float | None
    """None: the broker does not have it yet."""


class OrderDetail(OrderSummary):
    executed: str
    """no, yes, unknown."""
    revision: int
    issued_at: float
    expires_at: float
    pruned: bool
    """Its details are past the retention: `unit_list` and `messages` are empty."""
    unit_list: list[UnitView]
    messages: list[MessageView]


class OrderDetails(TypedDict):
    orders: list[OrderDetail]
    """One per delivery; never empty."""


# --------------------------------------------------------------------------- lanes


class LaneView(TypedDict):
    channel: str
    cabinet: str
    board: str
    number: int
    product_id: int
    capacity: int
    stock: int
    reserved: int
    free: int
    gone: int
    uncertain: int
    adjusted: int
    loaded: int
    """P10: stock + gone + uncertain + adjusted = loaded."""
    health: str
    """ok, suspended, disabled, unresolved."""
    health_reason: str
    failures: int
    """Failures in a row."""
    cycles: int
    last_cycle_at: float | None


class Lanes(TypedDict):
    lanes: list[LaneView]


class AuditView(TypedDict):
    """What a person did."""

    at: float
    who: str
    """The user's name."""
    action: str
    detail: dict[str, Any]


class LaneDetails(TypedDict):
    lane: LaneView
    history: list[CycleView]
    """Its newest cycles (20 at most), newest first; `trace` may be empty here."""
    audit: NotRequired[list[AuditView]]
    """The newest acts on it (20 at most), newest first."""


# --------------------------------------------------------------------------- link, events


class RoundTrip(TypedDict):
    last: float
    mean: float
    max: NotRequired[float]


class Reset(TypedDict):
    at: float
    cause: str


class PortView(TypedDict):
    board: str
    protocol: str
    port: str
    up: bool
    since: float | None
    """Since when it is up, or down; None: it never was up."""
    counters: dict[str, int]
    """frames_in, frames_out, bad_checks, resends, opens, losses, … as the driver counts."""
    round_trip_ms: RoundTrip | None
    resets: list[Reset]
    """Restarts of the board that were noticed, newest last (20 at most)."""
    problem: str


class Link(TypedDict):
    ports: list[PortView]


class EventView(TypedDict):
    event_seq: int
    at: float
    kind: str
    detail: dict[str, Any]
    sent: bool


class Events(TypedDict):
    events: list[EventView]


class TraceLine(TypedDict):
    """One line of `/v1/trace`: a frame of a line, or a note. The first lines are a note
    `board` for each board; a last note `too_slow`: this reader was left."""

    at: float
    """When its last byte passed."""
    board: str
    mono: NotRequired[float]
    """The same on the monotonic clock: for distances."""
    direction: NotRequired[Literal["in", "out"]]
    """in: from the board."""
    frame: NotRequired[str]
    name: NotRequired[str]
    meaning: NotRequired[str]
    ok: NotRequired[bool]
    """False: bytes that are no frame, or a frame that contradicts itself."""
    idle: NotRequired[bool]
    """It only keeps the line alive."""
    note: NotRequired[Literal["board", "too_slow"]]
    protocol: NotRequired[str]
    baudrate: NotRequired[int]
    program: NotRequired[str]
    problem: NotRequired[str]
    """Why nothing is kept of this board's line now; empty while it is."""


# --------------------------------------------------------------------------- doctor


class ConfigFacts(TypedDict):
    file: str
    errors: list[str]
    """What `--check` says of the file as it is now; 20 at most, as with the warnings."""
    warnings: list[str]
    changed: bool
    """Since the daemon read it."""
    settings: dict[str, Any]
    """Those that the daemon runs with, by the list of `controller.config_shown`: no secrets."""


class DiskFacts(TypedDict):
    """The file system that the state directory is on."""

    folder: str
    free_bytes: int
    """For the daemon's user; as with the files."""
    total_bytes: int
    free_files: int
    total_files: int
    """0 where the file system does not count them."""
    read_only: bool


class JournalFiles(TypedDict):
    bytes: int
    log_bytes: int
    damage_flag: bool
    """Damage was found: the next start sets the journal aside."""
    set_aside: list[str]


class CertificateFacts(TypedDict):
    role: str
    """cert_file, ca_file; vendctl adds server."""
    file: str
    not_before: float | None
    not_after: float | None
    problem: str
    """Why its dates are not known; else empty."""


class ClockFacts(TypedDict):
    require_sync: bool
    synchronised: bool
    """By the kernel or systemd-timesyncd, now."""
    skew_s: float


class BrokerFacts(TypedDict):
    refused_subscriptions: list[str]
    refused_topics: dict[str, int]
    """Topic -> the reason code (MQTT 5) that its oldest message meets with."""
    counters: dict[str, Any]


class UnknownUnit(TypedDict):
    order_id: int
    delivery_id: str
    unit: int
    channel: str
    reason: str | None
    revision: int
    finished_at: float | None
    asked: bool
    """Its board may still be heard about it."""


class StopFacts(TypedDict):
    at: float
    """When the daemon began again."""
    last_stop: str


class NewestCycle(TypedDict):
    channel: str
    board: str
    outcome: str
    reason: str | None
    closed_at: float


class Checkup(TypedDict):
    """What the daemon alone knows for `vendctl doctor`."""

    pid: int
    versions: dict[str, str]
    config: ConfigFacts
    disk: DiskFacts | None
    journal_files: JournalFiles
    certificates: list[CertificateFacts]
    clock: ClockFacts
    broker: BrokerFacts
    reserve_whole: bool
    unclean_start: bool
    unknown_units: list[UnknownUnit]
    """Newest order first, 50 at most."""
    stops: list[StopFacts]
    """Newest first, 50 at most."""
    newest_cycles: list[NewestCycle]
    """The last closed cycle of each lane."""
    oldest_unsent: dict[str, float]
    memory_lost_by: Literal["", "journal_lost", "journal_restored"]
    """Why the journal does not know all of this machine's past, by its newest such event."""


class JournalExtract(TypedDict):
    """The newest rows of each table, newest first, for support; no payloads of messages."""

    tables: dict[str, list[dict[str, Any]]]


class Check(TypedDict):
    """One finding of `vendctl doctor`. `code` is stable, `cause` and `remedy` are words."""

    code: str
    state: Literal["fine", "look", "bad"]
    subject: str
    cause: str
    remedy: str
    facts: dict[str, Any]


class Checks(TypedDict):
    """`vendctl doctor --json`: what matters most comes first."""

    checks: list[Check]


class BundleMember(TypedDict):
    name: str
    bytes: int
    what: str


class BundleGap(TypedDict):
    name: str
    why: str


class Bundle(TypedDict):
    """`vendctl doctor --bundle FILE --json`: what is in the archive, and what could not be."""

    file: str
    bytes: int
    members: list[BundleMember]
    missing: list[BundleGap]


# --------------------------------------------------------------------------- watch


class WatchedBoard(TypedDict):
    """A `BoardView` with the end of its quarantine as a moment, and the newest edges of its eye."""

    protocol: str
    up: bool
    text: str
    eye: str
    door: str
    temperature_c: float | None
    quarantined_until: float | None
    out_of_service: str
    eye_changes: list[tuple[float, str]]
    """When the daemon heard of it, and the new level; newest last."""


class WatchedCycle(TypedDict):
    """A cabinet's cycle: the one that waits to begin, or runs, or ran last."""

    channel: str
    purpose: str
    state: str
    """waiting; opened, written, accepted, moving, ended; withdrawn, refused, collided."""
    why: NotRequired[str]
    """waiting: for what. It has none of the following."""
    cycle_id: NotRequired[int]
    times: NotRequired[dict[str, float]]
    """State -> when it was reached; states that the board never told of are missing."""
    line_up: NotRequired[bool]
    outcome: NotRequired[str | None]
    reason: NotRequired[str | None]
    evidence: NotRequired[str | None]
    drops: NotRequired[int]


class WatchedMessage(TypedDict):
    """A result or order message, on its way to the platform."""

    topic: str
    seq: int
    at: float
    sent_at: float | None
    order: str
    unit: int | None
    what: str
    """Its outcome or status."""
    why: str | None
    """Its reason or code."""
    channel: str | None


class WatchedUnknown(TypedDict):
    """An item of which nobody can say whether it fell, until it is resolved or counted."""

    channel: str
    order_id: int | None
    """None: a test vend, `test_id`."""
    delivery_id: str | None
    unit: int | None
    revision: int | None
    test_id: str | None
    reason: str | None
    at: float
    asked: bool
    """Its board may still be heard about it: `resolve` waits for that."""


class WatchPicture(TypedDict):
    """Parts of the machine, each a table of its own. In a line of changes only the rows that
    are new or other, None for a row that is gone."""

    machine: dict[str, Any]
    """`Status` without boards, cabinets and moving lanes, and `stopping`. `service_mode` has
    `until`, the moment at which it leaves by itself, instead of `idle_left_s`."""
    boards: dict[str, WatchedBoard]
    cabinets: dict[str, CabinetView]
    lanes: dict[str, LaneView]
    cycles: dict[str, WatchedCycle | None]
    """By cabinet."""
    unknown: dict[str, WatchedUnknown]
    messages: dict[str, WatchedMessage]
    """The newest; by a key that grows."""
    events: dict[str, dict[str, Any]]
    """The newest, by event_seq: `at`, `kind`, `detail`."""


class WatchLine(TypedDict):
    """One line of `GET /v1/watch`."""

    part: str
    """snapshot: `data` is a WatchPicture. Else a part's name: `data` has its changed rows."""
    at: float
    data: dict[str, Any]


# --------------------------------------------------------------------------- acting


class LaneActed(TypedDict):
    lane: LaneView
    """As it is now."""


class LanesActed(TypedDict):
    lanes: list[LaneView]
    """Those that were filled."""


class CabinetActed(TypedDict):
    name: str
    cabinet: CabinetView
    moving: bool
    """One of its motors may still turn."""


class BoardActed(TypedDict):
    name: str
    board: BoardView


class ClockActed(TypedDict):
    clock: ClockView


class ServiceActed(TypedDict):
    service_mode: ServiceModeView | None
    """None: it is off now."""
    moving: bool
    """A cycle runs: its motor may still turn."""
    open_units: int
    """Units of orders that have no outcome yet."""


class UsualTime(TypedDict):
    """The lane's own earlier full turns."""

    median_ms: int
    spread_ms: int
    """Median of the deviations."""
    cycles: int


class EyePulse(TypedDict):
    at_ms: int
    """Since the cycle's drive began."""
    width_ms: int | None
    """None: shorter than the time between two looks."""


class EyeOfCycle(TypedDict):
    level: str
    """At the end of the cycle."""
    over_ms: int
    changes: list[tuple[int, bool]]
    """[ms since the drive began, dark?] at each change of level."""
    pulses: list[EyePulse]


class EyeLine(TypedDict):
    """One line of the stream `GET /v1/cabinets/{name}/eye`."""

    event: Literal["eye", "level", "pulse", "finished"]
    at: float
    cabinet: NotRequired[str]
    board: NotRequired[str]
    sight: NotRequired[str]
    """eye: read (the host looks), told (the board tells changes), watched (only the board looks
    before it moves), none (nobody can say)."""
    selftest: NotRequired[str]
    """eye: ok, fault, not_run (a cycle ran), none (the board has no such test)."""
    level: NotRequired[str]
    """clear, blocked, faulty; absent (there is none), unverified (not known now). The same words
    in `eye`, `level` and `finished`, which has the last that was told."""
    blocked_ms: NotRequired[int]
    cycle_runs: NotRequired[bool]
    """The eye is not asked while a cycle runs: the level is what the board told by itself."""
    width_ms: NotRequired[int | None]
    pulses: NotRequired[int]
    """Counted since the stream began."""
    changes: NotRequired[list[tuple[int, bool]]]
    """finished: [ms since the stream began, dark?] at each change of level."""
    over_ms: NotRequired[int]


class TestStopped(TypedDict):
    test_id: str
    channel: str
    motor: str
    """untouched (no cycle of it is open, none will be), stopping, runs_on (the board knows no
    stop: the turn ends by itself)."""


class VendStep(TypedDict):
    """One line of a test vend's stream."""

    event: Literal["waiting", "started", "progress", "outcome", "finished", "refused"]
    test_id: NotRequired[str]
    cycle: NotRequired[int]
    """1..of."""
    of: NotRequired[int]
    channel: NotRequired[str]
    cycle_id: NotRequired[int]
    note: NotRequired[str]
    """waiting: for what. progress: what was learned (acknowledged, moving, …)."""
    frame: NotRequired[str]
    outcome: NotRequired[str | None]
    reason: NotRequired[str | None]
    evidence: NotRequired[str]
    drops: NotRequired[int]
    verdict: NotRequired[str]
    """outcome: what a technician should look at, a code of `controller.lane_verdict`."""
    run_ms: NotRequired[int | None]
    """outcome: how long the motor ran."""
    measured: NotRequired[str]
    """Who measured it: `board`, or `host` (between the board's words, by our clock)."""
    usual: NotRequired[UsualTime | None]
    peak_ma: NotRequired[int | None]
    eye: NotRequired[EyeOfCycle | None]
    """outcome: what the eye did in the cycle; None where the host cannot read it."""
    delivered: NotRequired[int]
    """finished: how many cycles ended so."""
    not_delivered: NotRequired[int]
    unknown: NotRequired[int]
    error: NotRequired[str]
    """refused: the code; written by the service, never by the machine."""
    message: NotRequired[str]
    template: NotRequired[str]
    fields: NotRequired[dict[str, str | int | float]]


# --------------------------------------------------------------------------- vendctl's own


class ConfigChecked(TypedDict):
    """Of `config check`, which asks no daemon."""

    file: str
    errors: list[str]
    """Each with line, key and remedy; empty: the daemon can run with the file."""
    warnings: list[str]


class ConfigSetting(TypedDict):
    setting: str
    """As `config check` names it: `mqtt.host`, `cabinet[A].lane[A1].capacity`."""
    value: Any
    """`(set)` or `(not set)` in place of what must not leave the machine."""
    source: Literal["file", "default", "unknown"]
    """unknown: the file that it was read from cannot be read, or is another one by now."""
    line: int | None
    """In the file, from 1; None: it does not stand there."""


class ConfigShown(TypedDict):
    """Of `config show`."""

    file: str
    running: bool
    """The daemon told what it runs with; else they are the file's, and no daemon was asked."""
    changed: bool
    """The file is not the one any more that the daemon read at its start."""
    errors: list[str]
    """Of the file. With any, and no daemon, there are no settings."""
    settings: list[ConfigSetting]


ConfigSchema = TypedDict(
    "ConfigSchema",
    {
        "$schema": str,
        "title": str,
        "description": str,
        "type": str,
        "properties": dict[str, Any],
        "required": list[str],
        "additionalProperties": bool,
        "$defs": dict[str, Any],
    },
)
"""Of `config schema`: a JSON Schema of the settings file."""


class BackedUp(TypedDict):
    """Of `journal backup`: the copy that vendctl wrote."""

    file: str
    bytes: int
    sha256: str
    birth: int | None


class Restored(TypedDict):
    """Of `journal restore`, which asks no daemon."""

    journal: str
    set_aside: str | None
    """Where the journal that was there lies now; None: there was none."""
    birth: int | None
    """Of the copy; the next start takes a new one."""
    orders: int
    bytes: int


class CompletionScript(TypedDict):
    shell: str
    script: str


class Failure(TypedDict):
    """In place of an answer, with `--json`: nothing was found, reached, allowed or in time."""

    error: str
    """The code: the service's, or `unreachable`, `connection_lost`, `not_our_daemon`,
    `timeout`, `not_confirmed`."""
    message: str
    """For people, in the language of the run."""


# --------------------------------------------------------------------------- the books


class Resolved(TypedDict):
    order: OrderDetail
    """As it is now."""
    unit: int
    """The one that was resolved."""
    lane: LaneView


class OrderCancelled(TypedDict):
    code: Literal["ok", "too_late"]
    """too_late: every unit had begun or was decided."""
    order: OrderDetail


class TestsUndone(TypedDict):
    put_back: dict[str, int]
    """Lane -> items that are in it again."""
    lanes: list[LaneView]


class TopicView(TypedDict):
    topic: str
    """result, order, event."""
    count: int
    oldest_seq: int | None
    """`seq` of its oldest message (`event_seq` for an event); None: nothing waits."""
    oldest_at: float | None
    why: Literal["", "not_connected", "refused", "sending"]
    """Why it is not with the broker; empty: nothing waits."""
    detail: str
    """not_connected: why the last connection failed. refused: what the broker said."""
    next_try_s: float | None
    """Seconds; None: now, or with the next connection."""


class OutboxView(TypedDict):
    connected: bool
    topics: list[TopicView]


class CheckStep(TypedDict):
    """One line of the stream of `journal check`."""

    event: Literal["checked", "damaged", "finished", "refused"]
    table: NotRequired[str]
    table_no: NotRequired[int]
    """1..tables."""
    tables: NotRequired[int]
    rows: NotRequired[int]
    """Rows of the table that were read; 0 for a small table, which is read at once."""
    message: NotRequired[str]
    template: NotRequired[str]
    fields: NotRequired[dict[str, str | int | float]]
    error: NotRequired[str]


class BackupStep(TypedDict):
    """One line of the stream of `journal backup`."""

    event: Literal["chunk", "finished", "refused"]
    data: NotRequired[str]
    """The next bytes of the copy, as base64."""
    sent: NotRequired[int]
    of: NotRequired[int]
    """Bytes."""
    bytes: NotRequired[int]
    sha256: NotRequired[str]
    birth: NotRequired[int | None]
    message: NotRequired[str]
    template: NotRequired[str]
    fields: NotRequired[dict[str, str | int | float]]
    error: NotRequired[str]


class WouldPrune(TypedDict):
    retention_days: float
    rows: dict[str, int]
    """Kind -> how many retention would remove now, at most. orders: their details; the identity
    of an order stays for ever. leavings: sent messages of orders whose details went before."""


class PruneStep(TypedDict):
    """One line of the stream of `journal prune`."""

    event: Literal["pruned", "finished", "refused"]
    kind: NotRequired[str]
    rows: NotRequired[int]
    """Of this kind, so far."""
    gone: NotRequired[dict[str, int]]
    message: NotRequired[str]
    template: NotRequired[str]
    fields: NotRequired[dict[str, str | int | float]]
    error: NotRequired[str]
