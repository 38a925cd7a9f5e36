"""A whole site for a test: broker, emulator, daemon and platform around one directory.

Two cabinets as in the field: A, a track cabinet with a drop sensor on a VBP board,
and B, a spiral cabinet on an XY board. Motors and falls are short, and so are the
time-outs, within the rules that the settings check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.system import judge
from tests.system.broker import Broker
from tests.system.daemon import Daemon
from tests.system.emulator import EmulatedBoard, Emulator, LaneOfGoods, toml_table
from tests.system.platform_client import Platform
from tests.system.waiting import wait_for

MACHINE_NO = "16327129"
GOODS = 8


@dataclass(frozen=True)
class Lane:
    channel: str
    number: int
    product_id: int
    goods: int = GOODS


@dataclass(frozen=True)
class CabinetPlan:
    """A cabinet with its board. `settings` and `board_settings` add to the daemon's tables,
    `scenario` to the emulator's."""

    name: str
    kind: str
    board: str
    protocol: str
    drop_sensor: bool
    lanes: Sequence[Lane]
    settings: Mapping[str, Any] = field(default_factory=dict)
    board_settings: Mapping[str, Any] = field(default_factory=dict)
    scenario: Mapping[str, Any] = field(default_factory=dict)
    run_ms: int = 300
    fall_ms: int = 100
    faults: Sequence[Mapping[str, Any]] = ()


# cycle_timeout_s must be more than max_run_ms + drop_wait_ms + 3 s.
TRACK_ON_VBP = CabinetPlan(
    name="A",
    kind="track",
    board="main",
    protocol="vbp",
    drop_sensor=True,
    lanes=(Lane("A1", 1, 121), Lane("A2", 2, 122), Lane("A3", 3, 121)),
    settings={
        "cycle_timeout_s": 5,
        "max_run_ms": 1000,
        "drop_wait_ms": 500,
        "eye_clear_timeout_s": 2,
    },
)
SPIRAL_ON_XY = CabinetPlan(
    name="B",
    kind="spiral",
    board="side",
    protocol="xy",
    drop_sensor=False,
    lanes=(Lane("B1", 1, 221), Lane("B2", 2, 222)),
    settings={"cycle_timeout_s": 5, "settle_ms": 50},
    scenario={"eye": False},
)
BOTH = (TRACK_ON_VBP, SPIRAL_ON_XY)


def daemon_settings(
    directory: Path,
    emulator: Emulator,
    broker: Broker,
    cabinets: Sequence[CabinetPlan],
    *,
    machine: Mapping[str, Any],
    mqtt: Mapping[str, Any],
    service: Mapping[str, Any] | None = None,
) -> str:
    """The daemon's file, as an operator would write it."""
    tables = [
        toml_table(
            "[machine]",
            {
                "machine_no": MACHINE_NO,
                "state_dir": str(directory / "state"),
                "late_drop_window_s": 1,
                **machine,
            },
        ),
        toml_table("[clock]", {"require_sync": False}),
        toml_table("[mqtt]", {"host": "127.0.0.1", "port": broker.port, **mqtt}),
        toml_table("[service]", {"socket": str(directory / "ctl.sock"), **(service or {})}),
    ]
    boards = {plan.board: plan for plan in cabinets}
    for name, plan in boards.items():
        board = {"name": name, "protocol": plan.protocol, "port": str(emulator.port(name))}
        tables.append(toml_table("[[board]]", {**board, **plan.board_settings}))
    for plan in cabinets:
        head = {
            "name": plan.name,
            "kind": plan.kind,
            "board": plan.board,
            "drop_sensor": plan.drop_sensor,
        }
        tables.append(toml_table("[[cabinet]]", {**head, **plan.settings}))
        tables += [
            toml_table(
                "[[cabinet.lane]]",
                {
                    "channel": lane.channel,
                    "number": lane.number,
                    "product_id": lane.product_id,
                    "capacity": max(lane.goods, 1),
                    "initial_stock": lane.goods,
                },
            )
            for lane in plan.lanes
        ]
    return "\n".join(tables)


def emulated(plan: CabinetPlan) -> EmulatedBoard:
    goods = [
        LaneOfGoods(lane.number, plan.kind, lane.goods, plan.run_ms, plan.fall_ms)
        for lane in plan.lanes
    ]
    return EmulatedBoard(plan.board, plan.protocol, goods, more=plan.scenario, faults=plan.faults)


class Site:
    """Made with everything down; `up` starts all of it. `close` ends all of it."""

    def __init__(
        self,
        directory: Path,
        cabinets: Sequence[CabinetPlan] = BOTH,
        *,
        speed: float = 1,
        persistent_broker: bool = True,
        machine: Mapping[str, Any] | None = None,
        mqtt: Mapping[str, Any] | None = None,
        service: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.cabinets = cabinets
        (directory / "state").mkdir(parents=True, exist_ok=True)
        self.broker = Broker(directory / "broker", persistent=persistent_broker)
        self.emulator = Emulator(directory / "boards", list(map(emulated, cabinets)), speed=speed)
        settings = daemon_settings(
            directory,
            self.emulator,
            self.broker,
            cabinets,
            machine=machine or {},
            mqtt=mqtt or {},
            service=service,
        )
        self.daemon = Daemon(directory, settings, directory / "ctl.sock")
        self.platform = Platform(self.broker.port, MACHINE_NO)

    def up(self, environment: Mapping[str, str] | None = None) -> Site:
        self.broker.up()
        self.emulator.up()
        self.platform.up()
        self.daemon.up(environment)
        return self

    def close(self) -> None:
        for process in (self.daemon, self.emulator):
            process.end()
        self.platform.close()
        self.broker.end()

    # ------------------------------------------------------------------ looking

    def board_of(self, channel: str) -> tuple[str, int]:
        return self.lanes()[channel]

    def lanes(self) -> dict[str, judge.Lane]:
        return {
            lane.channel: (plan.board, lane.number) for plan in self.cabinets for lane in plan.lanes
        }

    def ledger(self, channel: str, event: str) -> list[dict[str, Any]]:
        """What really happened of this kind in this lane."""
        board, number = self.board_of(channel)
        return [
            line
            for line in self.emulator.ledger(board)
            if line.get("event") == event and line.get("lane") == number
        ]

    def wait_ledger(
        self, channel: str, event: str, times: int = 1, timeout: float = 20.0
    ) -> list[dict[str, Any]]:
        """Until it happened so often in this lane."""

        def often_enough() -> list[dict[str, Any]]:
            lines = self.ledger(channel, event)
            return lines if len(lines) >= times else []

        return wait_for(often_enough, f"{times} x {event} in {channel}", timeout)

    def fault(self, channel: str, kind: str, **more: Any) -> None:
        """A fault in this lane from now on, as `fault("A1", "jam")`."""
        board, number = self.board_of(channel)
        self.emulator.fault(board, kind, lane=number, **more)

    # ------------------------------------------------------------------ judging

    def facts(self, **more: Any) -> judge.Facts:
        ledgers = {name: self.emulator.ledger(name) for name in self.emulator.boards}
        with_lanes = {"lanes": self.lanes(), "ledgers": ledgers, **more}
        return judge.Facts(messages=tuple(self.platform.messages), **with_lanes)

    def wait_rest(self, timeout: float = 30.0) -> None:
        """Until no order is open, nothing waits in the outbox, and the platform has what left:
        the broker's acknowledgement says only that it will have it."""

        def rests() -> bool:
            status = self.daemon.ctl("status")
            if status["open_orders"] or any(status["outbox"].values()):
                return False
            return self.platform.has_all(status["journal"]["last_seq"])

        wait_for(rests, "the machine rests", timeout)

    def judge(self, *, stock: bool = True, **more: Any) -> None:
        """AssertionError when a promise is broken. The machine should be at rest.

        `more` goes to judge.Facts: second_cycles, test_cycles, extra_falls.
        `stock` asks the running daemon for its count (P10).
        """
        judge.verdict(self.facts(**more))
        if stock:
            found = judge.stock_breaches(self.daemon.ctl("lanes")["lanes"])
            assert not found, "\n".join(found)
