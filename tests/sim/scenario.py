"""What happens to a machine: a list of happenings out of one seed, plain data to be cut short.

A scenario is the whole of a run's chance: `generate(seed)` makes it, the world plays
it, and leaving happenings out makes a smaller one that may still fail.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.sim import pairs
from tests.sim.visits import visits

LAYOUTS = ("vbp", "xy", "both", "two")
PRODUCTS = {
    "vbp": (121, 122),
    "xy": (221, 222),
    "both": (121, 122, 221, 222),
    "two": (121, 122, 123),
}
BOARDS = {"vbp": ("main",), "xy": ("side",), "both": ("main", "side"), "two": ("main", "back")}
PRODUCTS_OF = {"main": (121, 122), "side": (221, 222), "back": (123,)}
"""Board -> what only its lanes, or mostly, hold."""

CYCLE_FAULTS = (
    "jam", "no_drop", "late_drop", "double_drop", "item_on_eye", "motor_open", "motor_stuck",
    "motor_overcurrent", "motor_runs_on", "lose_command",
)  # fmt: skip
ANSWER_FAULTS = (
    "dont_answer", "answer_late", "corrupt", "truncate", "duplicate", "noise", "split_writes",
    "merge_frames",
)  # fmt: skip
STATE_FAULTS = ("eye_stuck_blocked", "eye_faulty", "door_open", "go_silent", "unplug", "power_cut")
ACT_FAULTS = ("reset_mid_cycle", "forget_memory")
FAULTS = CYCLE_FAULTS + ANSWER_FAULTS + STATE_FAULTS + ACT_FAULTS
XY_FAULTS = (
    "no_ack", "ack_no_status", "repeat_status", "wrong_lane", "sel_zero", "error_then_ff",
    "success_without_start", "data_before_ack", "status_storm", "poll_gap", "ack_length_one",
)  # fmt: skip


BUILD_DATE = 1_700_000_000.0
"""What systemd sets a clock to that stands before it: the day the image was built."""
FAR_DATE = 4_000_000_000.0
"""Year 2096: what a clock chip shows whose battery is dead."""

VISITED = 0.35
"""Share of scenarios in which a technician turns service mode on."""
FORGOTTEN_S = 10_000.0
"""Nobody turns it off: it must leave by itself."""

BOUNDARIES = ("now", "arrival", "commit", "drive", "answer", "publish", "ack")
"""From what on a crash counts the daemon's callbacks."""
IN_WRITES = ("before_write", "half_write", "after_write")
"""Or it comes within a change of the disk, so many further on."""


@dataclass(frozen=True)
class Happening:
    """At `at` seconds of the run. `kind` names a method of `World`, `more` its arguments."""

    at: float
    kind: str
    more: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = " ".join(f"{name}={value}" for name, value in self.more.items())
        return f"{self.at:8.3f} s  {self.kind} {words}".rstrip()


@dataclass(frozen=True)
class Scenario:
    seed: int
    layout: str
    second_cycles: int
    require_sync: bool
    """`[clock] require_sync`: after a boot nothing moves before the network's time came."""
    max_parallel: int
    """`max_parallel_cycles`: boards that may move at once."""
    happenings: tuple[Happening, ...]
    service: Mapping[str, Any] = field(default_factory=dict)
    """Of `[service]`, where a technician turns service mode on."""

    def without(self, gone: Sequence[int]) -> Scenario:
        """The same with fewer happenings, by index."""
        left = tuple(h for index, h in enumerate(self.happenings) if index not in set(gone))
        return replace(self, happenings=left)


def generate(seed: int, layout: str | None = None) -> Scenario:
    """Some minutes of a busy and unlucky machine."""
    chance = random.Random(f"scenario/{seed}")
    where = layout or chance.choice(LAYOUTS)
    length = chance.uniform(60, 400)
    happenings = [
        Happening(round(at, 3), kind, more)
        for _ in range(chance.randint(0, 5))
        for at in [chance.uniform(0, length - 50)]
        for kind, more in _in_one_cycle(chance, where)
    ] + [
        Happening(round(chance.uniform(0, length), 3), kind, more)
        for make, most in (
            (_orders, 12),
            (_repeats, 5),
            (_crashes, 6),
            (_faults, 8),
            (_broker, 5),
            (_hands, 4),
            (disk, 3),
            (_nonsense, 3),
        )
        for _ in range(chance.randint(0, most))
        for kind, more in [make(chance, where)]
    ]
    if not any(happening.kind == "order" for happening in happenings):
        happenings.append(Happening(1.0, *_orders(chance, where)))
    second_cycles = chance.choice((0, 0, 0, 1))
    # A stream of its own: what the world learnt later leaves the older part of a seed alone.
    later = random.Random(f"scenario/{seed}/later")
    happenings += [
        Happening(round(at + place * gap, 3), kind, more)
        for make, share in ((_clocks, 0.35), (_memories, 0.3), (_boards, 0.3))
        if later.random() < share
        for _ in range(later.randint(1, 3))
        for at in [later.uniform(0, length)]
        for gap in [later.choice((0.0, 0.5, 5.0))]
        for place, (kind, more) in enumerate(make(later, where))
    ]
    modes, service = service_modes(random.Random(f"scenario/{seed}/service"), length)
    happenings += modes
    happenings += at_the_books(random.Random(f"scenario/{seed}/books"), where, length)
    happenings.sort(key=lambda happening: happening.at)
    return Scenario(
        seed, where, second_cycles, later.random() < 0.5, later.choice((1, 2)), tuple(happenings),
        service,
    )  # fmt: skip


def service_modes(
    chance: random.Random, length: float
) -> tuple[list[Happening], Mapping[str, Any]]:
    """Visits of a technician who takes the machine, by a stream of their own; and the settings."""
    if chance.random() > VISITED:
        return [], {}
    visits = [
        Happening(
            round(chance.uniform(0, length), 3),
            "service_mode",
            {"lasts_s": chance.choice((0.3, 2.0, 15.0, 60.0, FORGOTTEN_S))},
        )
        for _ in range(chance.randint(1, 3))
    ]
    settings = {
        "idle_minutes": chance.choice((0.05, 0.5, 10.0)),
        "open_orders": chance.choice(("wait", "end")),
        "tests_need_service_mode": chance.random() < 0.1,
    }
    return visits, settings


def at_the_books(
    chance: random.Random, layout: str, length: float, most: int = 4
) -> list[Happening]:
    boards = {board: "xy" if board == "side" else "vbp" for board in BOARDS[layout]}
    return [
        Happening(round(at, 3), kind, more)
        for at, (kind, more) in visits(chance, boards, PRODUCTS_OF, length, most)
    ]


Made = tuple[str, dict[str, Any]]


def _orders(chance: random.Random, layout: str) -> Made:
    lines = [
        {"product_id": chance.choice(PRODUCTS[layout]), "quantity": chance.choice((1, 1, 1, 2, 3))}
        for _ in range(chance.choice((1, 1, 1, 2)))
    ]
    ttl = chance.choice((90, 90, 90, 30, 5, 1))
    return "order", {"lines": lines, "ttl": ttl, "age": chance.choice((0, 0, 0, 0, 4, 80))}


def _repeats(chance: random.Random, _layout: str) -> Made:
    kind = chance.choice(("again", "again", "anew", "conflict", "cancel", "cancel", "retained"))
    return kind, {"which": chance.random()}


def _crashes(chance: random.Random, _layout: str) -> Made:
    """`on` and `steps`: that many callbacks of the daemon after the next thing of that kind."""
    kind = chance.choice(("kill", "kill", "kill", "kill", "power", "power_all", "stop"))
    more: dict[str, Any] = {"away_s": round(chance.choice((0.1, 1.0, 3.0, 40.0)), 1)}
    if kind != "stop":
        more["on"] = chance.choice(BOUNDARIES + IN_WRITES)
        more["steps"] = chance.choice((0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 21, 30, 50))
    return kind, more


def _faults(chance: random.Random, layout: str) -> Made:
    board = chance.choice(BOARDS[layout])
    return one_fault(chance, board, FAULTS + XY_FAULTS + XY_FAULTS)


def one_fault(chance: random.Random, board: str, names: Sequence[str]) -> Made:
    """One of these of which the board is capable, with what it takes."""
    # A status that its own repeat overtakes exists on no serial line: an XY board repeats
    # a frame only while it waits for our ACK.
    others = ("answer_late",) if board == "side" else XY_FAULTS
    name = chance.choice([name for name in names if name not in others])
    more: dict[str, Any] = {"board": board, "name": name}
    if name in ANSWER_FAULTS:
        more["probability"] = chance.choice((0.05, 0.3, 1.0))
        more["lasts_s"] = chance.choice((2.0, 10.0, 40.0))
    elif name in STATE_FAULTS:
        more["lasts_s"] = chance.choice((0.3, 2.0, 10.0, 60.0))
    elif name == "late_drop":
        more["delay_ms"] = chance.choice((100, 1500, 8000, 40000))
    elif name == "item_on_eye":
        more["lasts_s"] = chance.choice((1.0, 5.0, 30.0))
    elif name == "error_then_ff":
        more["started"] = chance.choice((True, False))
    return "fault", more


def _in_one_cycle(chance: random.Random, layout: str) -> list[Made]:
    """Two rare things and an order for them: what chance alone brings together too seldom."""
    board = chance.choice(BOARDS[layout])
    product = chance.choice(PRODUCTS_OF[board])
    order = {"lines": [{"product_id": product, "quantity": chance.choice((2, 3))}], "ttl": 90}
    steps = chance.randint(0, 40)
    pair = chance.choice(pairs.EVERYWHERE + (pairs.XY if board == "side" else pairs.VBP))
    return [*(_fitted(made, board, steps) for made in pair), ("order", {**order, "age": 0})]


def _fitted(made: Made, board: str, steps: int) -> Made:
    kind, more = made
    fitted = dict(more)
    if kind in pairs.OF_A_BOARD:
        fitted["board"] = board
    elif kind in pairs.IN_STEPS:
        fitted["steps"] = fitted.get("steps", steps)
    if "made" in fitted:
        fitted["made"] = _fitted(fitted["made"], board, steps)
    return kind, fitted


def _broker(chance: random.Random, _layout: str) -> Made:
    kind = chance.choice(("broker_cut", "broker_away", "broker_weather", "broker_repeats"))
    more: dict[str, Any] = {}
    if kind == "broker_away":
        more = {"away_s": chance.choice((0.5, 5.0, 40.0)), "forget": chance.random() < 0.3}
    elif kind == "broker_weather":
        name = chance.choice(("slow", "lose_puback", "lose_publish", "refuse", "nobody"))
        more = {"name": name, "probability": chance.choice((0.1, 0.5)), "lasts_s": 20.0}
    return kind, more


def disk(chance: random.Random, _layout: str) -> Made:
    kind = chance.choice(("disk_fails", "disk_fails", "disk_full", "disk_read_only"))
    lasts_s = chance.choice((0.5, 5.0, 40.0))
    if kind == "disk_full":
        return kind, {"room": chance.choice((0, 4096, 65_536, 400_000)), "lasts_s": lasts_s}
    if kind == "disk_read_only":
        return kind, {"lasts_s": lasts_s}
    op = chance.choice(("WRITE", "WRITE", "SYNC", "SYNC", "TRUNCATE", "RENAME", "SYNC_FOLDER"))
    error = chance.choice((errno.EIO, errno.ENOSPC)) if op == "WRITE" else errno.EIO
    return kind, {"op": op, "n": chance.choice((1, 2, 3, 5, 8, 13, 30)), "error": error}


def _hands(chance: random.Random, layout: str) -> Made:
    kind = chance.choice(("test", "fill", "enable", "disable", "stop_cabinet", "accept_board"))
    return kind, {
        "which": chance.random(),
        "board": chance.choice(BOARDS[layout]),
        "lasts_s": chance.choice((1.0, 15.0)),
    }


def _clocks(chance: random.Random, layout: str) -> list[Made]:
    """The clock goes wrong, and something that reads it comes along."""
    hour, year = 3_600.0, 31_536_000.0
    lasts_s = chance.choice((1.0, 20.0, 100.0, 1_000.0))
    kind = chance.choice(("clock_step", "clock_step", "clock_drift", "no_battery"))
    more: dict[str, Any] = {"lasts_s": lasts_s}
    if kind == "clock_step":
        by_s = chance.choice((2.0, 20.0, 45.0, hour, year, 2 * year))
        more["by_s"] = by_s * chance.choice((1, -1))
    elif kind == "clock_drift":
        more["ppm"] = chance.choice((100.0, 5_000.0, 50_000.0)) * chance.choice((1, -1))
    else:
        more = {
            "shows": chance.choice((0.0, BUILD_DATE, FAR_DATE)),
            "ntp_after_s": chance.choice((0.2, 8.0, 60.0, 1_000.0)),
        }
    end = "power" if kind == "no_battery" else chance.choice(("kill", "power", ""))
    along = [("order", _orders(chance, layout)[1])]
    if end:
        along.append((end, {"away_s": chance.choice((0.1, 3.0)), "on": "commit", "steps": 5}))
    return [(kind, more), *along]


def _memories(chance: random.Random, layout: str) -> list[Made]:
    """The journal is lost or goes back, between orders; then a technician counts."""
    order = ("order", _orders(chance, layout)[1])
    how = chance.choice(("directory", "database", "corrupt", "older", "older", "older_directory"))
    lose = {"how": how, "which": chance.random(), "away_s": chance.choice((0.1, 3.0, 40.0))}
    made: list[Made] = [order, ("copy_journal", {})] if chance.random() < 0.5 else []
    again = ("again", {"which": chance.choice((0.999, chance.random()))})
    made += [("lose_journal", lose)]
    if chance.random() < 0.8:
        made += [("recount", {**_hand(chance, layout), "board": b}) for b in BOARDS[layout]]
    return [*made, again, order]


def _boards(chance: random.Random, layout: str) -> list[Made]:
    """A board of the VBP is another one; an order before and behind."""
    order = ("order", _orders(chance, layout)[1])
    boards = [board for board in BOARDS[layout] if board != "side"]
    if not boards:
        return [order]
    board = chance.choice(boards)
    other: Made = ("swap_board", {"board": board})
    if layout == "two" and chance.random() < 0.5:
        other = ("cross_cables", {"lasts_s": chance.choice((2.0, 20.0, 60.0))})
    made = [order, other, order]
    if chance.random() < 0.7:
        made += [("accept_board", {**_hand(chance, layout), "board": b}) for b in boards]
    return [*made, order]


def _hand(chance: random.Random, layout: str) -> dict[str, Any]:
    return {"which": chance.random(), "board": BOARDS[layout][0], "lasts_s": 1.0}


def _nonsense(chance: random.Random, _layout: str) -> Made:
    return "nonsense", {"which": chance.random()}
