"""The promises, held against the world at every step and once more at the end.

The judge knows what no daemon knows: what was sent, what the boards' ledgers say, what
each daemon wrote into its journal before it moved. It never asks the daemon's opinion.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.sim.books import Books
from tests.sim.broker import Stored
from tests.sim.clocks import Knowledge
from tests.sim.matrix import Matrix
from tests.sim.memories import Copy, Losses
from tests.system.platform_client import Message

if TYPE_CHECKING:
    from tests.sim.world import World


OPEN_CYCLES = (
    "SELECT cycles.*, orders.order_id, orders.delivery_id,"
    " orders.boot AS accepted_boot, lanes.health, lanes.uncertain"
    " FROM cycles JOIN lanes USING (channel)"
    " LEFT JOIN orders ON orders.id = cycles.order_row WHERE closed_at IS NULL"
)


class Breach(AssertionError):
    """A promise was broken; the message begins with its number."""


Key = tuple[int, str]
SILENCES = frozenset({"no_answer", "cycle_timeout"})
"""Reasons of a cycle in which its board fell silent."""


@dataclass
class Cycle:
    """A cycle that a journal holds, as the judge saw it being opened."""

    cycle_id: int
    order: Key | None
    unit: int | None
    board: str
    lane: int
    opened_at: float
    """True Unix seconds."""
    life: int
    row_opened_at: float
    """As the journal has it, by the computer's clock."""
    commit: int
    """Commits that had passed when it was opened."""
    error: float
    """Seconds that the computer's clock was ahead then."""
    test_id: str = ""
    """Of a test vend."""
    unfit: str = ""
    """Why it was not to begin when it was opened: such a cycle must be withdrawn unmoved."""
    drives: int = 0
    fell: int = 0
    fooled: bool = False
    """Something else than goods darkened its eye while it ran: the board takes it for an item."""
    doubtful: bool = False
    """Its frame was lost on the wire, or its daemon died with it open: who knows if it moved."""
    faults: set[str] = field(default_factory=set)
    closed: bool = False
    """Seen closed in a journal."""
    board_cut: bool = False
    """Its board was reset or lost its power while it ran: what fell last may be in no record."""
    board_busy: bool = False
    """Its board turned an earlier cycle's motor when it was opened, and had said nothing of it for
    a quarantine: an XY board lets the command wait, and nobody can ask for it back."""

    @property
    def excuse(self) -> str:
        """Why nobody could know that its item fell, "" where somebody could."""
        if "late_drop" in self.faults:
            return "fell_too_late"  # it hung at the edge until no board looked any more
        if {"success_without_start", "error_then_ff"} <= self.faults:
            return "board_denied"  # it turned without a 01 and told an error: a refusal by its page
        return ""


def object_of(payload: bytes) -> dict[str, Any] | None:
    """A well-formed command of this world; None for nonsense."""
    try:
        value = json.loads(payload)
    except ValueError:
        return None
    return value if isinstance(value, dict) and value.get("order_id") is not True else None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Judge:
    def __init__(self, world: World) -> None:
        self.world = world
        self.messages: list[Message] = []
        self.commands: dict[Key, list[Mapping[str, Any]]] = defaultdict(list)
        self.acked: list[Stored] = []
        self.arrivals: Counter[Key] = Counter()
        """Order -> how often a command of it reached a daemon that lived."""
        self.refused: dict[Key, set[tuple[Any, ...]]] = defaultdict(set)
        """Order -> its rejections with `command_executed: no`, heard by the platform."""
        self.cycles: dict[tuple[int, float], Cycle] = {}
        """By identifier and beginning: a journal that went back uses identifiers again."""
        self.losses = Losses()
        self.newest: dict[str, Cycle] = {}
        """Board -> the cycle that was opened for it last."""
        self.driven: dict[tuple[str, int], Cycle] = {}
        """(board, lane) -> the cycle whose drive frame the board took up last."""
        self.left: dict[tuple[str, int], Cycle] = {}
        """(board, item) -> the cycle that carried it over the edge: what falls late may fall when
        its lane was driven again."""
        self.counts: Counter[str] = Counter()
        self.time = Knowledge(
            world.clock, world.scenario.require_sync, world.machine.settings.clock.skew_s
        )
        self._orders_seen = 0
        """The newest row of `orders` that was looked at."""
        self._stops: dict[str, int] = {}
        """Cabinet that is stopped -> commits that had passed when it was."""
        self._service = False
        """Whether a technician had the machine after the newest commit."""
        self.hands: list[Any] = []
        self.broken: Breach | None = None
        """What was found in a commit of a technician, whom nobody would hear."""
        self.unanswered = 0
        """Acts of a technician who asks until there is an answer."""
        self.books = Books(self)
        self.fills: Counter[str] = Counter()
        """Board -> fillings that a crash or a refusal cut short: what lies there nobody counted."""
        self.fooled = 0
        """Units told as delivered because something else darkened the eye."""
        self.outcomes: dict[tuple[Key, int], str] = {}
        self.seen_seq: dict[int, int] = {}
        """Journal -> the seq up to which an earlier last word had everything."""
        self.kept_since = 0.0
        """Unix seconds: orders that ended before may have lost their details to the retention."""
        protocols = {board.settings.protocol for board in world.boards.values()}
        self.matrix = Matrix(protocols.pop() if len(protocols) == 1 else "", world.ambushes.passed)
        self._watched: Any = None
        self._written = 0

    def must(self, holds: object, promise: str, what: str) -> None:
        if not holds:
            raise Breach(f"{promise}: {what}, at {self.world.now:.3f} s")

    # ------------------------------------------------------------------ what is seen

    def sent(self, command: Mapping[str, Any]) -> None:
        self.commands[command["order_id"], command.get("delivery_id", "")].append(command)
        self.counts["commands"] += 1

    def acknowledged(self, stored: Stored) -> None:
        self.acked.append(stored)

    def crashed(self) -> None:
        self.counts["crashes"] += 1
        for cycle in self.newest.values():
            cycle.doubtful = True
        self._watched = None

    def arrived(self, stored: Stored) -> None:
        if stored.topic.endswith("/dispense") and (body := object_of(stored.payload)):
            self.arrivals[body["order_id"], body.get("delivery_id", "")] += 1

    def heard(self, message: Message) -> None:
        self.messages.append(message)
        if message.topic == "result":
            self._judge_result(message.json)
        elif message.topic == "order":
            self._note_refusal(message.json)

    def _note_refusal(self, body: Mapping[str, Any]) -> None:
        """One each time that a command comes: repeats of a message have its `seq` or its time."""
        refused = body["status"] == "rejected" and body["command_executed"] == "no"
        if refused and body["code"] != "unknown_order":  # that is the answer to a cancel
            key = (body["order_id"], body["delivery_id"])
            self.refused[key].add((body["journal"], body["seq"], body["at"]))

    def physical(self, board: str, line: Mapping[str, Any]) -> None:
        event, lane = line["event"], line.get("lane")
        self.counts[event] += 1
        if event == "drive_frame":
            self._judge_drive(board, int(lane or 0), line)
        elif event == "motor_started":
            self._judge_motion(board, int(lane or 0))
        elif event == "product_left":
            cycle = self.driven.get((board, int(lane or 0)))
            if cycle is not None:
                self.left[board, line["item"]] = cycle
        elif event == "product_fell":
            cycle = self.left.pop((board, line["item"]), None)
            if cycle is not None:
                cycle.fell += 1
            if self.newest.get(board) is not cycle:
                self._fool(board)  # an item of an earlier cycle, in this one's eye
        elif event in {"power_off", "board_reset"}:
            newest = self.newest.get(board)
            if newest is not None and not newest.closed:
                newest.board_cut = True
        elif event == "fault" and line["kind"] == "lose_command":
            newest = self.newest.get(board)
            if newest is not None:
                newest.doubtful = True
        elif event == "fault" and lane is not None:
            cycle = self.driven.get((board, int(lane)))
            if cycle is not None:
                cycle.faults.add(line["kind"])
        elif event == "eye_blocked" and not line["cause"].startswith("product"):
            self._fool(board)
        if event in {"drive_frame", "motor_started", "motor_stopped", "product_fell"}:
            self.world.boundary("answer")

    def _fool(self, board: str) -> None:
        """The newest cycle's eye is darkened by something else than its goods; where that one never
        moved, the board takes it for a late fall of the last that did."""
        moved = [c for c in self.cycles.values() if c.board == board and c.drives]
        for cycle in (self.newest.get(board), moved[-1] if moved else None):
            if cycle is not None:
                cycle.fooled = True

    def step(self) -> None:
        if self.broken is not None:
            raise self.broken
        machine = self.world.machine
        journal = machine.journal
        if journal is not self._watched:
            self._watched = journal
            self._written = 0
            if journal is not None:
                self.time.boot()
                self._watch(journal)
        if machine.ended is not None:
            # What the judge raised inside a commit ends the daemon: its own words are the verdict.
            first = _first(machine.ended)
            if isinstance(first, Breach):
                raise first
            raise Breach(f"P11: a daemon ended by itself: {first!r}, at {self.world.now:.3f} s")

    def _watch(self, journal: Any) -> None:
        """See each cycle as it is committed, and each commit pass."""
        self.matrix.watch(journal)
        store = journal._store
        commit = store._commit
        ask = store._connection.cursor().execute
        newest = "SELECT COALESCE(MAX(id), 0) FROM orders"
        (self._orders_seen,) = store._connection.execute(newest).fetchone()
        self._service = False
        self._note_service(ask)
        self.books.look(ask, ask(OPEN_CYCLES).fetchall())
        world = self.world

        def seen() -> None:
            commit()
            found = ask(OPEN_CYCLES).fetchall()
            boards = {row["board"] for row in found}
            for row in found:
                self._open(row, ask)
            self.must(len(boards) == len(found), "one cycle a board", "a board has two open")
            self._judge_closed(store._connection)
            self._note(ask)
            self.books.look(ask, found)
            self.counts["commits"] += 1
            world.boundary("commit")

        store._commit = seen

    def _open(self, row: sqlite3.Row, ask: Callable[..., sqlite3.Cursor]) -> None:
        cycle_id = row["high"] * (1 << 32) + row["n"]
        name = (cycle_id, row["opened_at"])
        if name in self.cycles:
            return
        key = None if row["order_id"] is None else (row["order_id"], row["delivery_id"])
        world = self.world
        cycle = Cycle(
            cycle_id, key, row["unit"], row["board"], row["lane"],
            opened_at=world.wall(), row_opened_at=row["opened_at"], life=world.machine.lives,
            commit=self.counts["commits"],
            error=world.clock.error,
            test_id=row["test_id"] or "",
        )  # fmt: skip
        cycle.board_busy = world.boards[row["board"]].machine.running is not None
        self.cycles[name] = self.newest[row["board"]] = cycle
        self.counts["cycles"] += 1
        knew = self.time.believable or not self.time.certain
        if not knew:
            cycle.unfit = f"P13: cycle {cycle_id} begins, and the clock cannot be believed"
        if key is None:
            return
        unit = f"unit {key}#{row['unit']}"
        self.must(not self._service, "service", f"{unit} begins in service mode")
        told = self.outcomes.get((key, row["unit"]))
        known = not self._nobody_knew(key)
        self.must(not known or told != "unknown", "P2", f"{unit} goes again after unknown")
        self.must(not known or told != "delivered", "P2", f"{unit} goes again after delivered")
        stored = self.books.outcome_stored(ask, key, row["unit"])
        self.must(stored is None, "P2", f"{unit} begins, its journal holds {stored}")
        self.must(row["accepted_boot"] == row["boot"], "P4", f"{unit} is resumed after a reboot")
        fit = row["health"] == "ok" and not row["uncertain"]
        if not fit:
            cycle.unfit = f"{unit} goes on lane {row['channel']}, {row['health']}"

    def _judge_closed(self, connection: sqlite3.Connection) -> None:
        """P5: the commit that says *nobody answered* holds the quarantine of its board too."""
        for cycle in self.newest.values():
            if cycle.closed:
                continue
            row = connection.execute(
                "SELECT quarantined, json_extract(finding, '$.reason') AS reason FROM cycles"
                " WHERE n = ? AND opened_at = ? AND closed_at IS NOT NULL",
                (cycle.cycle_id % (1 << 32), cycle.row_opened_at),
            ).fetchone()
            if row is None:
                continue
            cycle.closed = True
            silent = row["reason"] in SILENCES
            what = f"cycle {cycle.cycle_id} ends in silence, and {cycle.board} is free again"
            self.must(row["quarantined"] or not silent, "P5", what)

    def lost(self, how: str, copy: Copy | None) -> None:
        """The journal is another one at the next start."""
        kept = dict(copy.accepted) if copy is not None else {}
        aged = self.losses.aged | (set(self.commands) if copy is not None else set())
        self.losses = Losses(
            generation=self.losses.generation + 1, how=how, at=self.world.wall(), copy=copy,
            forgotten=set(self.commands), accepted=kept, aged=aged,
        )  # fmt: skip
        self.time.newest = 0.0
        self.books.another_journal()
        self.counts[f"journal_{how}"] += 1

    def _nobody_knew(self, key: Key) -> bool:
        """An older copy is in use, whose daemon nothing told so: it goes on where it stood."""
        unaware = key in self.losses.forgotten and self.losses.unaware(self.world.now)
        self.counts["went_on_from_an_old_copy"] += unaware
        return unaware

    def _note(self, ask: Callable[..., sqlite3.Cursor]) -> None:
        """What a commit tells of orders, of stops and of the time."""
        for row in ask(
            "SELECT id, order_id, delivery_id, issued_at FROM orders WHERE id > ?",
            (self._orders_seen,),
        ).fetchall():
            self._orders_seen = row["id"]
            key = (row["order_id"], row["delivery_id"])
            self.must(not self._service, "service", f"order {key} is accepted in service mode")
            self.time.accepted[key] = self.world.clock.error
            knew = self.time.believable or not self.time.certain
            self.must(knew, "P13", f"order {key} is accepted, and the clock cannot be believed")
            if key in self.losses.forgotten and row["issued_at"] < int(self.losses.at):
                excused = self.losses.unaware(self.world.now) or self.world.clock.error < 0
                self.counts["taken_again_unknowing"] += excused
                self.must(excused, "P13", f"order {key} is accepted, issued before the loss")
        stopped = {name for (name,) in ask("SELECT name FROM cabinets")}
        self._stops = {name: self._stops.get(name, self.counts["commits"]) for name in stopped}
        self._note_service(ask)
        self.time.committed()

    def _note_service(self, ask: Callable[..., sqlite3.Cursor]) -> None:
        """Orders and cycles of this very commit were judged by what held before it."""
        on = ask("SELECT 1 FROM service_mode").fetchone() is not None
        self.counts["service_modes"] += on and not self._service
        self._service = on

    # ------------------------------------------------------------------ motors

    def _judge_drive(self, board: str, lane: int, line: Mapping[str, Any]) -> None:
        self._judge_identity(board)
        cycle = self.newest.get(board)
        self.must(
            cycle is not None and cycle.lane == lane,
            "P7",
            f"{board} was told to drive lane {lane}, and the journal's newest cycle is {cycle}",
        )
        assert cycle is not None
        if line.get("cycle_id") is not None:
            self.must(
                line["cycle_id"] == cycle.cycle_id,
                "P1",
                f"{board} drives cycle {line['cycle_id']}, the newest is {cycle.cycle_id}",
            )
        self.must(not cycle.unfit, "health", cycle.unfit)
        running = self.world.boards[board].machine.running
        self.must(running is None, "P5", f"{board} is driven while lane {running} turns")
        cycle.drives += 1
        self.driven[board, lane] = cycle
        self.must(
            cycle.drives == 1, "P1", f"cycle {cycle.cycle_id} was driven {cycle.drives} times"
        )
        self._judge_unit(cycle)
        self._judge_board(board, cycle)

    def _judge_identity(self, board: str) -> None:
        """Nothing moves on a board that took another's place before a person accepted it."""
        world = self.world
        own = world.cables[board].board is world.boards[board]
        self.must(own, "swapped", f"{board} is driven at the other board's cable")
        memory_id = world.boards[board].memory.memory_id
        if world.plan[board].protocol == "vbp":
            known = self.losses.accepted.setdefault(board, memory_id)
            self.must(known == memory_id, "swapped", f"{board} is another one, nobody accepted it")

    def _judge_board(self, board: str, cycle: Cycle) -> None:
        """What the journal itself says of the board and its cabinet, at the drive frame."""
        journal = self.world.machine.journal
        if journal is None:
            return  # the frame was on the wire when its daemon died
        one = journal._store._connection.execute
        # An XY board lets a command wait while a motor turns: its own cycle may be silent by then.
        closed = one(
            "SELECT 1 FROM cycles WHERE board = ? AND quarantined = 1 AND n <> ?",
            (board, cycle.cycle_id % (1 << 32)),
        ).fetchone()
        self.must(not closed, "P5", f"{board} is driven in its quarantine")
        plan = self.world.plan[board]
        channel = next(c for c, number in plan.lanes.items() if number == cycle.lane)
        cabinet = channel[0]
        in_time = self._stops.get(cabinet, cycle.commit) >= cycle.commit
        self.must(in_time, "stop", f"cabinet {cabinet} turns a motor after it was stopped")
        losses = self.losses
        waited = cycle.board_busy and cycle.opened_at < losses.at
        self.counts["waited_over_a_loss"] += waited  # the board took it up behind the loss
        if cycle.order is not None and losses.noticed(self.world.now) and not waited:
            counted = channel in losses.counted
            self.must(counted, "P13", f"lane {channel} sells, and nobody counted it since the loss")

    def _judge_unit(self, cycle: Cycle) -> None:
        if cycle.order is None:
            return
        of_unit = [
            known
            for known in self.cycles.values()
            if (known.order, known.unit) == (cycle.order, cycle.unit) and known.drives
        ]
        bound = 1 + self.world.scenario.second_cycles
        if len(of_unit) > bound and self._nobody_knew(cycle.order):
            return
        self.must(
            len(of_unit) <= bound,
            "P2",
            f"unit {cycle.order}#{cycle.unit} has {len(of_unit)} cycles",
        )
        times = len(self.refused[cycle.order])
        self.must(
            times < self.arrivals[cycle.order] or self._nobody_knew(cycle.order),
            "P8",
            f"order {cycle.order} was refused as not executed each of {times} times, and is driven",
        )
        expires = max(command["expires_at"] for command in self.commands[cycle.order])
        error = self.time.error_of(cycle.order)
        skew = self.time.skew_s
        active = [
            # A cycle's end is reckoned by the clock after a restart: set back meanwhile by less
            # than the skew, it lies later than it was.
            known.opened_at
            + (known.life != cycle.life) * min(skew, max(0.0, known.error - error))
            for known in self.cycles.values()
            if known.order == cycle.order and known is not cycle and self._may_have_moved(known)
        ]  # fmt: skip
        window = self.world.machine.settings.machine.late_drop_window_s
        longest = max(plan.cycle_timeout_s for plan in self.world.plan.values())
        latest = max([expires - error, *(at + longest + 30 + window for at in active)])
        began = cycle.opened_at if cycle.board_busy else self.world.wall()
        self.counts["waited_in_the_board"] += cycle.board_busy
        self.must(
            began <= latest + 1.0,
            "P4",
            f"order {cycle.order} drives {began - expires:.1f} s after its deadline",
        )

    def _may_have_moved(self, cycle: Cycle) -> bool:
        judged = (cycle.order, cycle.unit) in self.books.verdicts  # it was unknown before
        return cycle.doubtful or bool(cycle.drives) or judged or self.outcome(cycle) == "unknown"

    def _judge_motion(self, board: str, lane: int) -> None:
        plan = self.world.plan[board]
        machine = self.world.boards[board].machine
        if plan.kind == "track" and plan.drop_sensor:
            self.must(not machine.eye_blocked, "P3", f"lane {lane} turns with a blocked eye")
        others = [
            name for name, other in self.world.boards.items()
            if name != board and other.machine.running is not None
        ]  # fmt: skip
        if self.world.machine.alive and others:
            self.counts["two_boards_at_once"] += 1

    # ------------------------------------------------------------------ results

    def _judge_result(self, body: Mapping[str, Any]) -> None:
        key = (body["order_id"], body["delivery_id"])
        self.outcomes[key, body["unit"]] = body["outcome"]
        mine = [
            cycle for cycle in self.cycles.values()
            if cycle.order == key and cycle.unit == body["unit"]
        ]  # fmt: skip
        fell = sum(cycle.fell for cycle in mine)
        if body["outcome"] == "delivered" and body["evidence"] != "technician":
            driven = any(cycle.drives for cycle in mine)
            self.must(driven, "delivered", f"{key}#{body['unit']} was never driven")
        if body["outcome"] == "delivered" and body["evidence"] in {"drop_sensor", "board_record"}:
            fooled = any(cycle.fooled for cycle in mine)
            self.fooled += fooled and not fell
            self.must(
                fell or fooled, "delivered", f"{key}#{body['unit']} is told delivered, nothing fell"
            )

    def put_back(self, channel: str, tests: Sequence[str]) -> None:
        """The hand that undid these tests has laid into the lane what they had dropped."""
        fell = sum(cycle.fell for cycle in self.cycles.values() if cycle.test_id in tests)
        board = next(name for name, plan in self.world.plan.items() if channel in plan.lanes)
        number = self.world.plan[board].lanes[channel]
        machine = self.world.boards[board].machine
        machine.refill(number, machine.lanes[number].goods + fell)

    def counted_without(self, cycle: Cycle) -> bool:
        """Whether the unit's outcome does not hold this cycle's item: it is told as not there, or
        the item of a later cycle is what was told."""
        later = any(
            known.cycle_id > cycle.cycle_id and known.fell
            for known in self.cycles.values()
            if cycle.order and (known.order, known.unit) == (cycle.order, cycle.unit)
        )
        return later or self.outcome(cycle) == "not_delivered"

    def outcome(self, cycle: Cycle) -> str:
        """As last told; "" for a test vend and for what was not told."""
        if cycle.order is None:
            return ""
        return self.outcomes.get((cycle.order, cycle.unit or 0), "")
