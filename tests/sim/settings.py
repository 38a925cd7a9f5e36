"""The machines that the simulation runs: which boards, cabinets and lanes each layout has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.sim.scenario import Scenario
from tests.system.emulator import toml_table


@dataclass(frozen=True)
class Plan:
    kind: str
    protocol: str
    drop_sensor: bool
    lanes: Mapping[str, int]
    """Channel -> the board's own number. Its letter is its cabinet's name."""
    products: Mapping[str, int]
    cycle_timeout_s: float

    @property
    def cabinets(self) -> tuple[str, ...]:
        return tuple(sorted({channel[0] for channel in self.lanes}))


TRACK_ON_VBP = Plan(
    kind="track",
    protocol="vbp",
    drop_sensor=True,
    lanes={"A1": 1, "A2": 2, "A3": 3},
    products={"A1": 121, "A2": 122, "A3": 121},
    cycle_timeout_s=20.0,
)
SPIRAL_ON_XY = Plan(
    kind="spiral",
    protocol="xy",
    drop_sensor=False,
    lanes={"B1": 1, "B2": 2, "B3": 3},
    products={"B1": 221, "B2": 222, "B3": 221},
    cycle_timeout_s=20.0,
)
TWO_TRACKS_ON_VBP = replace(
    TRACK_ON_VBP,
    lanes={"A1": 1, "A2": 2, "C1": 3, "C2": 4},
    products={"A1": 121, "A2": 122, "C1": 121, "C2": 122},
)
"""Two cabinets of one board, above one light eye."""
BACK_TRACK_ON_VBP = replace(TRACK_ON_VBP, lanes={"D1": 1, "D2": 2}, products={"D1": 121, "D2": 123})
PLANS: Mapping[str, Mapping[str, Plan]] = {
    "vbp": {"main": TRACK_ON_VBP},
    "xy": {"side": SPIRAL_ON_XY},
    "both": {"main": TRACK_ON_VBP, "side": SPIRAL_ON_XY},
    "two": {"main": TWO_TRACKS_ON_VBP, "back": BACK_TRACK_ON_VBP},
}
BAUDRATES = {"vbp": 115_200, "xy": 57_600}
CAPACITY = 8


def settings_text(scenario: Scenario, state_dir: Path) -> str:
    """The daemon's file, as an operator would write it."""
    tables = [
        toml_table(
            "[machine]",
            {
                "machine_no": "16327129",
                "state_dir": str(state_dir),
                "max_parallel_cycles": scenario.max_parallel,
            },
        ),
        toml_table("[clock]", {"require_sync": scenario.require_sync}),
        toml_table("[mqtt]", {"host": "127.0.0.1", "port": 1883}),
        toml_table("[service]", {"socket": str(state_dir / "none.sock"), **scenario.service}),
    ]
    for board, plan in PLANS[scenario.layout].items():
        tables.append(
            toml_table(
                "[[board]]", {"name": board, "protocol": plan.protocol, "port": f"/dev/{board}"}
            )
        )
    for board, plan in PLANS[scenario.layout].items():
        for name in plan.cabinets:
            tables += _cabinet(scenario, board, plan, name)
    return "\n".join(tables)


def _cabinet(scenario: Scenario, board: str, plan: Plan, name: str) -> list[str]:
    cabinet = {
        "name": name,
        "kind": plan.kind,
        "board": board,
        "drop_sensor": plan.drop_sensor,
        "cycle_timeout_s": plan.cycle_timeout_s,
        "second_cycles": scenario.second_cycles,
    }
    if plan.protocol == "vbp":
        cabinet |= {"max_run_ms": 3000, "drop_wait_ms": 2000}
    lanes = [
        toml_table(
            "[[cabinet.lane]]",
            {
                "channel": channel,
                "number": number,
                "product_id": plan.products[channel],
                "capacity": CAPACITY,
                "initial_stock": CAPACITY,
            },
        )
        for channel, number in plan.lanes.items()
        if channel[0] == name
    ]
    return [toml_table("[[cabinet]]", cabinet), *lanes]
