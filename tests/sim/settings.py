"""The machines that the simulation runs: which boards, cabinets and lanes each layout has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.sim.scenario import Scenario
from tests.system.emulator import toml_table


@dataclass(frozen=True)
class Plan:
    cabinet: str
    kind: str
    protocol: str
    drop_sensor: bool
    lanes: Mapping[str, int]
    """Channel -> the board's own number."""
    products: Mapping[str, int]
    cycle_timeout_s: float


TRACK_ON_VBP = Plan(
    cabinet="A",
    kind="track",
    protocol="vbp",
    drop_sensor=True,
    lanes={"A1": 1, "A2": 2, "A3": 3},
    products={"A1": 121, "A2": 122, "A3": 121},
    cycle_timeout_s=20.0,
)
SPIRAL_ON_XY = Plan(
    cabinet="B",
    kind="spiral",
    protocol="xy",
    drop_sensor=False,
    lanes={"B1": 1, "B2": 2, "B3": 3},
    products={"B1": 221, "B2": 222, "B3": 221},
    cycle_timeout_s=20.0,
)
PLANS: Mapping[str, Mapping[str, Plan]] = {
    "vbp": {"main": TRACK_ON_VBP},
    "xy": {"side": SPIRAL_ON_XY},
    "both": {"main": TRACK_ON_VBP, "side": SPIRAL_ON_XY},
}
BAUDRATES = {"vbp": 115_200, "xy": 57_600}
CAPACITY = 8


def settings_text(scenario: Scenario, state_dir: Path) -> str:
    """The daemon's file, as an operator would write it."""
    tables = [
        toml_table("[machine]", {"machine_no": "16327129", "state_dir": str(state_dir)}),
        toml_table("[clock]", {"require_sync": scenario.require_sync}),
        toml_table("[mqtt]", {"host": "127.0.0.1", "port": 1883}),
        toml_table("[service]", {"socket": str(state_dir / "none.sock")}),
    ]
    for board, plan in PLANS[scenario.layout].items():
        tables.append(
            toml_table(
                "[[board]]", {"name": board, "protocol": plan.protocol, "port": f"/dev/{board}"}
            )
        )
    for board, plan in PLANS[scenario.layout].items():
        cabinet = {
            "name": plan.cabinet,
            "kind": plan.kind,
            "board": board,
            "drop_sensor": plan.drop_sensor,
            "cycle_timeout_s": plan.cycle_timeout_s,
            "second_cycles": scenario.second_cycles,
        }
        if plan.protocol == "vbp":
            cabinet |= {"max_run_ms": 3000, "drop_wait_ms": 2000}
        tables.append(toml_table("[[cabinet]]", cabinet))
        tables += [
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
        ]
    return "\n".join(tables)
