"""The keys that act: what each asks, and the request that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.cli.client import path
from controller.cli.watch.page import unknown_in_words
from controller.cli.watch.seen import Seen
from controller.cli.words import say


@dataclass(frozen=True, slots=True)
class Act:
    """What will be asked of the daemon once a person has agreed to `intent`."""

    intent: str
    where: str
    body: Mapping[str, Any] = field(default_factory=dict)
    streams: bool = False
    """Answered line by line: a test vend."""
    wants_reason: bool = False
    choices: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Key -> (words, value of `outcome`): asked instead of yes or no."""


def _service(seen: Seen, _chosen: str) -> Act | str:
    if seen.part("machine").get("mode") == "service":
        return Act(say("This ends service mode: orders are taken again."), path("service", "off"))
    return Act(say("This begins service mode: no order is taken."), path("service", "on"))


def _test(_seen: Seen, chosen: str) -> Act | str:
    intent = say(
        "This turns the motor of lane {lane} once: a product may fall and leave its stock. "
        "Hands out.",
        lane=chosen,
    )
    return Act(intent, path("lanes", chosen, "test"), {"cycles": 1}, streams=True)


def _fill(seen: Seen, chosen: str) -> Act | str:
    name = cabinet_of(seen, chosen)
    intent = say("This says that every lane of cabinet {name} is full now.", name=name)
    return Act(intent, path("stock", "fill"), {"cabinet": name})


def _enable(_seen: Seen, chosen: str) -> Act | str:
    intent = say("This lets lane {name} sell again; its failures count from 0.", name=chosen)
    return Act(intent, path("lanes", chosen, "enable"), wants_reason=True)


def _disable(_seen: Seen, chosen: str) -> Act | str:
    intent = say("This takes lane {name} out of sale until it is enabled.", name=chosen)
    return Act(intent, path("lanes", chosen, "disable"), wants_reason=True)


def _stop(seen: Seen, chosen: str) -> Act | str:
    name = cabinet_of(seen, chosen)
    intent = say("This stops cabinet {name}: no new cycle there until it is started.", name=name)
    return Act(intent, path("cabinets", name, "stop"), wants_reason=True)


def _start(seen: Seen, chosen: str) -> Act | str:
    name = cabinet_of(seen, chosen)
    intent = say("This lets the motors of cabinet {name} turn again. Hands out.", name=name)
    return Act(intent, path("cabinets", name, "start"))


def _resolve(seen: Seen, chosen: str) -> Act | str:
    """The chosen lane's unit, or the oldest of all."""
    units = [unit for unit in seen.part("unknown").values() if unit.get("order_id") is not None]
    if not units:
        return say("No unit of an order is unknown: there is nothing to resolve.")
    unit = next((each for each in units if each.get("channel") == chosen), units[0])
    told = unknown_in_words(unit)
    body = {"revision": unit.get("revision")}
    if unit.get("delivery_id"):
        body["delivery_id"] = unit["delivery_id"]
    return Act(
        say("{told}. Look into the lane and the tray: did it fall?", told=told),
        path("orders", str(unit.get("order_id")), "units", str(unit.get("unit")), "resolve"),
        body,
        wants_reason=True,
        choices={
            "y": (say("it fell: delivered"), "delivered"),
            "n": (say("it did not fall: not delivered"), "not_delivered"),
        },
    )


ACTS: Mapping[str, Callable[[Seen, str], Act | str]] = {
    "s": _service,
    "t": _test,
    "f": _fill,
    "e": _enable,
    "d": _disable,
    "x": _stop,
    "a": _start,
    "r": _resolve,
}
"""Key -> its act upon the chosen lane, or why there is none."""


def cabinet_of(seen: Seen, chosen: str) -> str:
    return str((seen.part("lanes").get(chosen) or {}).get("cabinet") or chosen[:1])
