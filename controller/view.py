"""The machine at a glance: what `state`, `inventory`, `telemetry` and `vendctl status` show.

Nothing here waits: a small task keeps what must be read from the journal at hand,
so that a last will or a heartbeat never hangs on a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from controller import __version__, prose
from controller.dispensing.bell import Bell
from controller.dispensing.dispenser import Dispenser
from controller.dispensing.interfaces import Clock, Outbox
from controller.dispensing.station import Station
from controller.errors import JournalError
from controller.journal.journal import Journal
from controller.journal.opening import Opening
from controller.model import Cabinet, LaneHealth
from controller.service import shapes
from controller.uplink.messages import iso_ms, lane_entry

LOOK_S = 5.0
"""The outbox drains without ringing our bell; `state` may be so old about it."""


class View:
    """Implements uplink.presence.MachineView."""

    def __init__(
        self,
        dispenser: Dispenser,
        journal: Journal,
        opening: Opening,
        clock: Clock,
        boot: str,
        counters: Callable[[], Mapping[str, Any]],
    ) -> None:
        """`counters` tells the uplink's totals."""
        self.changed = asyncio.Event()
        self.since = clock.wall()
        self.outbox: Mapping[str, int] = {}
        self._began = clock.monotonic()
        self._dispenser = dispenser
        self._floor = dispenser.floor
        self._journal = journal
        self._opening = opening
        self._clock = clock
        self._boot = boot
        self._counters = counters

    async def run(self, outbox: Outbox) -> None:
        """Keep the picture fresh, for ever."""
        while True:
            tick = self._dispenser.bell.tick()
            with contextlib.suppress(JournalError):  # its own trouble is shown elsewhere
                self.outbox = await outbox.waiting()
            self.changed.set()
            await Bell.wait(tick, self._clock, LOOK_S)

    # ------------------------------------------------------------------ MachineView

    def state(self) -> Mapping[str, Any]:
        return {
            "mode": self.mode(),
            "boot_id": self._boot,
            "journal": self._journal.birth,
            "last_seq": self._journal.last_seq,
            "last_event_seq": self._journal.last_event_seq,
            "since": iso_ms(self.since),
            "version": __version__,
            "boards": {
                name: self.board_state(station)
                for name, station in self._dispenser.stations.items()
            },
            "cabinets": {
                name: {"state": view["state"], "reason": view["reason"], "eye": view["eye"]}
                for name, view in self.cabinets().items()
            },
            "outbox": sum(self.outbox.values()),
            "last_stop": self._opening.last_stop,
        }

    def inventory(self) -> Mapping[str, Any]:
        lanes = [lane_entry(state) for state in self._floor.lanes.values()]
        return {"journal": self._journal.birth, "lanes": lanes}

    def telemetry(self) -> Mapping[str, Any]:
        links = {
            name: dict(station.board.status().counters)
            for name, station in self._dispenser.stations.items()
        }
        counters = {"uplink": dict(self._counters()), "boards": links}
        return {"uptime_s": int(self._clock.monotonic() - self._began), "counters": counters}

    # ------------------------------------------------------------------ parts of it

    def mode(self) -> str:
        if self._floor.service is not None:
            return "service"
        if self._dispenser.running():
            return "dispensing"
        states = {view["state"] for view in self.cabinets().values()}
        if states <= {"stopped", "out_of_service"}:
            return "out_of_service"
        healthy = all(state.health is LaneHealth.OK for state in self._floor.lanes.values())
        if states & {"stopped", "out_of_service"} or self._floor.unwritable or not healthy:
            return "degraded"
        return "ready"

    def board_state(self, station: Station) -> dict[str, Any]:
        """A board as `state` shows it."""
        status = station.board.status()
        quarantine = station.quarantine
        return {
            "protocol": station.board.protocol,
            "up": station.up,
            "text": status.text[:200],
            "eye": self._eye(station),
            "door": status.door,
            "temperature_c": status.temperature_c,
            "quarantined": quarantine is not None,
            "out_of_service": station.out_of_service,
        }

    def board(self, station: Station) -> shapes.BoardView:
        """A board as `vendctl status` shows it."""
        status = station.board.status()
        left = None
        if station.quarantine is not None:
            left = max(0.0, station.quarantine.until - self._clock.monotonic())
        return {
            "protocol": station.board.protocol,
            "up": station.up,
            "text": status.text[:200],
            "eye": self._eye(station),
            "door": status.door,
            "temperature_c": status.temperature_c,
            "quarantined_until_s": None if left is None else round(left, 1),
            "out_of_service": station.out_of_service,
            "can_stop": station.board.capabilities.can_stop,
        }

    @staticmethod
    def _eye(station: Station) -> str:
        """What the host reads; `watched` where only the board looks before it moves (P3)."""
        eye, can = station.board.status().eye, station.board.capabilities
        only_watched = can.watches_eye and not can.reads_eye
        return "watched" if eye == "unverified" and only_watched else eye

    def cabinets(self) -> dict[str, shapes.CabinetView]:
        return {name: self.cabinet(cabinet) for name, cabinet in self._floor.cabinets.items()}

    def cabinet(self, cabinet: Cabinet) -> shapes.CabinetView:
        floor = self._floor
        station = self._dispenser.stations[cabinet.board]
        lanes = [floor.lanes[ln.channel] for ln in cabinet.lanes if ln.channel in floor.lanes]
        good = [ln for ln in lanes if ln.health is LaneHealth.OK]
        stopped = floor.stopped.get(cabinet.name)
        trouble = floor.board_trouble(cabinet)
        if stopped is not None:
            state, reason = "stopped", stopped
        elif trouble:
            state, reason = "out_of_service", trouble
        elif station.quarantine is not None:
            state, reason = "out_of_service", prose.BOARD_QUARANTINED.format(board=cabinet.board)
        elif not good:
            state, reason = "out_of_service", prose.NO_GOOD_LANE
        elif self._dispenser.workers[cabinet.name].running is not None:
            state, reason = "running", ""
        else:
            state, reason = "ready", ""
        eye = self._eye(station) if cabinet.drop_sensor else "absent"
        return {
            "kind": cabinet.kind.value,
            "board": cabinet.board,
            "state": state,  # type: ignore[typeddict-item]  # mypy widens the literals above
            "reason": reason,
            "eye": eye,
            "lanes": len(cabinet.lanes),
            "lanes_ok": sum(ln.stock > 0 or not floor.rules.enforce_stock for ln in good),
        }
