"""The faults of the drill: how each comes about, and the walk that finds it.

The walks stand in docs/operating.md for technicians; tests/drill/test_walks.py walks each. None
takes more than three steps, and `doctor` is the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.system.site import Site


@dataclass(frozen=True, slots=True)
class Fault:
    """`words` are the answer that a technician gives; `code` is doctor's for it."""

    words: str
    code: str
    come_about: Callable[[Site], None]
    look_closer: tuple[str, ...]
    """The second step: a verb of vendctl that shows the cause itself."""
    shows: str
    """What its page says then."""


def _dirty_eye(site: Site) -> None:
    site.emulator.fault("main", "eye_stuck_blocked")


def _open_harness(site: Site) -> None:
    """Each lane is tried once by a customer, and says that no motor is connected."""
    for lane in (1, 2, 3):
        site.emulator.fault("main", "motor_open", lane=lane)
    for number, channel in enumerate(("A1", "A2", "A3"), start=9001):
        product = {"A1": 121, "A2": 122, "A3": 121}[channel]
        site.platform.dispense(number, [{"product_id": product, "quantity": 1, "channel": channel}])
        site.platform.wait_order(number, "finished")


def _swapped_board(site: Site) -> None:
    site.emulator.fault("main", "swap")


def _broker_gone(site: Site) -> None:
    site.broker.kill()


def _unknown_unit(site: Site) -> None:
    """The board's power fails while a customer's motor turns; an XY board forgets."""
    site.emulator.fault("side", "reset_mid_cycle")
    site.platform.dispense(9001, [{"product_id": 222, "quantity": 1}])
    site.platform.wait_order(9001, "finished")


FAULTS: Mapping[str, Fault] = {
    "eye": Fault(
        "something lies before the light eye of cabinet A, or it is dirty",
        "eye_blocked",
        _dirty_eye,
        ("eye", "A", "--seconds", "2"),
        "DARK",
    ),
    "harness": Fault(
        "the harness of cabinet A is off: no motor of board main is connected",
        "harness_open",
        _open_harness,
        ("lane", "A1"),
        "motor_missing",
    ),
    "swap": Fault(
        "board main is another one than before, and nobody accepted it",
        "board_swapped",
        _swapped_board,
        ("status",),
        "board_swapped",
    ),
    "broker": Fault(
        "the broker cannot be reached: results wait in the machine",
        "broker_unreachable",
        _broker_gone,
        ("status",),
        "NOT connected",
    ),
    "unknown": Fault(
        "nobody knows whether an item of lane B2 fell: order 9001 waits for a verdict",
        "unit_unknown",
        _unknown_unit,
        ("order", "9001"),
        "unknown",
    ),
}
