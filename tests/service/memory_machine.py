"""A daemon at the seam: `Machine` in memory, with every field of every shape filled."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from controller.errors import Refused
from tests.service.memory_books import BOOK_ANSWERS, MemoryBooks

NOON = 1_790_000_000.5


def lane_view(channel: str, **changed: Any) -> dict[str, Any]:
    return {
        "channel": channel,
        "cabinet": channel[0],
        "board": "main",
        "number": int(channel[1:]),
        "product_id": 121,
        "capacity": 8,
        "stock": 5,
        "reserved": 1,
        "free": 4,
        "gone": 3,
        "uncertain": 0,
        "adjusted": 0,
        "loaded": 8,
        "health": "ok",
        "health_reason": "",
        "failures": 0,
        "cycles": 3,
        "last_cycle_at": NOON,
        **changed,
    }


def cycle_view(**changed: Any) -> dict[str, Any]:
    return {
        "cycle_id": 7_580_000_000_000_000_001,
        "board": "main",
        "lane": 20,
        "channel": "A20",
        "purpose": "1111111/1733200000000017#1",
        "opened_at": NOON,
        "closed_at": NOON + 3,
        "outcome": "delivered",
        "reason": None,
        "evidence": "drop_sensor",
        "quarantined": False,
        "trace": [
            {"at": NOON, "event": "frame_written", "frame": "fafb0604011e"},
            {"at": NOON + 2.25, "event": "ended", "frame": ""},
        ],
        **changed,
    }


def board_view(**changed: Any) -> dict[str, Any]:
    return {
        "protocol": "vbp",
        "up": True,
        "text": "VBP 1.2 sn 42",
        "eye": "clear",
        "door": "closed",
        "temperature_c": 4.5,
        "quarantined_until_s": None,
        "out_of_service": "",
        "can_stop": True,
        **changed,
    }


def cabinet_view(**changed: Any) -> dict[str, Any]:
    return {
        "kind": "track",
        "board": "main",
        "state": "ready",
        "reason": "",
        "eye": "clear",
        "lanes": 2,
        "lanes_ok": 2,
        **changed,
    }


def status_view(**changed: Any) -> dict[str, Any]:
    return {
        "mode": "ready",
        "machine_no": "16327129",
        "version": "1.0.0",
        "since": NOON - 100,
        "moving": False,
        "moving_lanes": [],
        "may_start": [],
        "broker": {
            "connected": True,
            "since": NOON,
            "host": "broker.example",
            "port": 8883,
            "protocol": "5",
            "problem": "",
        },
        "boards": {"main": board_view()},
        "cabinets": {"A": cabinet_view()},
        "open_orders": 0,
        "open_units": 0,
        "outbox": {"result": 0, "order": 0, "event": 0},
        "last_stop": "clean",
        "clock": {"believed": True, "wall": NOON, "newest": NOON},
        "journal": {
            "birth": 1_763_800_000,
            "last_seq": 4711,
            "writable": True,
            "problem": "",
            "lost": False,
            "set_aside": None,
        },
        "service_mode": None,
        "lanes_down": {},
        "stopped_by": {},
        "unknown": {},
        **changed,
    }


def order_summary(**changed: Any) -> dict[str, Any]:
    return {
        "row": 17,
        "order_id": 1111111,
        "delivery_id": "1733200000000017",
        "trade_id": "3f2a58ad69b74e86b8a1a3da6fd75cc1",
        "status": "finished",
        "code": "",
        "units": 1,
        "delivered": 1,
        "not_delivered": 0,
        "unknown": 0,
        "waiting": 0,
        "running": 0,
        "at": NOON,
        **changed,
    }


def order_detail(**changed: Any) -> dict[str, Any]:
    return {
        **order_summary(),
        "executed": "yes",
        "revision": 1,
        "issued_at": NOON - 1,
        "expires_at": NOON + 89,
        "pruned": False,
        "unit_list": [
            {
                "unit": 1,
                "product_id": 121,
                "channel": "A20",
                "record_id": 78,
                "state": "decided",
                "outcome": "delivered",
                "reason": None,
                "evidence": "drop_sensor",
                "revision": 1,
                "cycles": [cycle_view()],
            }
        ],
        "messages": [{"topic": "result", "journal": 1_763_800_000, "seq": 4711, "sent_at": None}],
        **changed,
    }


def trace_note(**changed: Any) -> dict[str, Any]:
    return {
        "at": NOON,
        "board": "main",
        "note": "board",
        "protocol": "xy",
        "baudrate": 57600,
        "program": "vending-controller 1.0.0",
        "problem": "",
        **changed,
    }


def trace_frame(at: float = 0, **changed: Any) -> dict[str, Any]:
    return {
        "at": NOON + at,
        "mono": 100.5 + at,
        "board": "main",
        "direction": "in",
        "frame": "FA FB 04 04 02 01 00 01 03",
        "name": "DISPENSING",
        "meaning": "PackNO 2, lane 1 started",
        "ok": True,
        "idle": False,
        **changed,
    }


def checkup(**changed: Any) -> dict[str, Any]:
    return {
        "pid": 4242,
        "versions": {"vendingd": "1.0.0", "python": "3.11.2"},
        "config": {
            "file": "/etc/vending-controller/config.toml",
            "errors": [],
            "warnings": [],
            "changed": False,
            "settings": {
                "machine": {"machine_no": "16327129", "state_dir": "/var/lib/vending-controller"},
                "mqtt": {"host": "broker.example", "port": 8883, "tls": None},
                "service": {"read_group": "vending", "act_group": "vending-tech"},
                "board": [{"name": "main", "protocol": "vbp", "port": "/dev/ttyUSB0"}],
                "cabinet": [],
            },
        },
        "disk": {
            "folder": "/var/lib/vending-controller",
            "free_bytes": 10_000_000_000,
            "total_bytes": 30_000_000_000,
            "free_files": 1_000_000,
            "total_files": 2_000_000,
            "read_only": False,
        },
        "journal_files": {"bytes": 65536, "log_bytes": 0, "damage_flag": False, "set_aside": []},
        "certificates": [],
        "clock": {"require_sync": True, "synchronised": True, "skew_s": 30.0},
        "broker": {"refused_subscriptions": [], "refused_topics": {}, "counters": {}},
        "reserve_whole": True,
        "unclean_start": False,
        "unknown_units": [],
        "stops": [],
        "newest_cycles": [],
        "oldest_unsent": {},
        "memory_lost_by": "",
        **changed,
    }


class MemoryMachine(MemoryBooks):
    """Answers from fields that a test sets; writes down every act in `acts`."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "status": status_view(),
            **copy.deepcopy(BOOK_ANSWERS),
            "orders": {"orders": [order_summary()], "next_before": 17},
            "order": {"orders": [order_detail()]},
            "link": {
                "ports": [
                    {
                        "board": "main",
                        "protocol": "vbp",
                        "port": "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0",
                        "up": True,
                        "since": NOON,
                        "counters": {"frames_in": 12, "frames_out": 13, "bad_checks": 1},
                        "round_trip_ms": {"last": 3.25, "mean": 2.5},
                        "resets": [{"at": NOON, "cause": "watchdog"}],
                        "problem": "",
                    }
                ]
            },
            "events": {
                "events": [
                    {
                        "event_seq": 3,
                        "at": NOON,
                        "kind": "double_drop",
                        "detail": {"channel": "A20", "drops": 2},
                        "sent": False,
                    }
                ]
            },
        }
        self.answers["doctor"] = checkup()
        self.answers["extract"] = {"tables": {"orders": [{"order_id": 1111111}]}}
        self.lane_views = {name: lane_view(name) for name in ("A1", "A20")}
        self.acts: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        """Raised by every method while it is set."""
        self.hold = asyncio.Event()
        """A test vend's cycle ends when it is set; it is set unless a test clears it."""
        self.hold.set()
        self.started = asyncio.Event()
        self.vends_open = 0
        self.tails_open = 0
        self.trace_lines = [trace_note(), *(trace_frame(at) for at in range(2))]
        self.passing: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        """What a followed trace tells further."""
        self.stop_asked = False
        self.motor = "stopping"
        """What `stop_test` says of it; only a motor that stops ends the cycle by that."""
        self.eye_of_cycle: dict[str, Any] | None = None
        self.eye_lines: list[dict[str, Any]] = []
        self.watch_lines: list[dict[str, Any]] = [
            {"part": "snapshot", "at": NOON, "data": {"machine": {"mode": "ready"}}},
            {"part": "machine", "at": NOON + 1, "data": {"mode": "dispensing"}},
        ]
        self.watchers = 0
        self.outcome = "delivered"

    async def _answer(self, name: str) -> Mapping[str, Any]:
        if self.failure is not None:
            raise self.failure
        answer: Mapping[str, Any] = self.answers[name]
        return answer

    def _lane(self, channel: str) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        if channel not in self.lane_views:
            raise Refused("unknown_channel", f"there is no lane {channel}: see vendctl lanes")
        return self.lane_views[channel]

    async def status(self) -> Mapping[str, Any]:
        return await self._answer("status")

    async def orders(self, limit: int, before: int | None) -> Mapping[str, Any]:
        self.acts.append(("orders", limit, before))
        return await self._answer("orders")

    async def order(self, order_id: int, delivery_id: str | None) -> Mapping[str, Any]:
        self.acts.append(("order", order_id, delivery_id))
        if order_id != 1111111:
            raise Refused("unknown_order", f"no order {order_id} was ever heard of")
        return await self._answer("order")

    async def lanes(self) -> Mapping[str, Any]:
        return {"lanes": list(self.lane_views.values())}

    async def lane(self, channel: str) -> Mapping[str, Any]:
        return {"lane": self._lane(channel), "history": [cycle_view()]}

    async def link(self) -> Mapping[str, Any]:
        return await self._answer("link")

    async def events(self, limit: int) -> Mapping[str, Any]:
        self.acts.append(("events", limit))
        return await self._answer("events")

    async def doctor(self) -> Mapping[str, Any]:
        return await self._answer("doctor")

    async def journal_extract(self, rows: int) -> Mapping[str, Any]:
        self.acts.append(("journal_extract", rows))
        return await self._answer("extract")

    async def watch(self) -> AsyncGenerator[Mapping[str, Any], None]:
        """The lines that a test put in, then quiet until `hold` is set."""
        self.watchers += 1
        try:
            for line in self.watch_lines:
                yield line
            await self.hold.wait()
        finally:
            self.watchers -= 1

    async def lane_enable(self, channel: str, reason: str, who: str) -> Mapping[str, Any]:
        self._lane(channel).update(health="ok", health_reason="")
        self.acts.append(("lane_enable", channel, reason, who))
        return {"lane": self._lane(channel)}

    async def lane_disable(self, channel: str, reason: str, who: str) -> Mapping[str, Any]:
        self._lane(channel).update(health="disabled", health_reason=reason)
        self.acts.append(("lane_disable", channel, reason, who))
        return {"lane": self._lane(channel)}

    async def stock_set(self, channel: str, stock: int, who: str) -> Mapping[str, Any]:
        if stock > self._lane(channel)["capacity"]:
            raise Refused("over_capacity", f"lane {channel} holds 8 at most")
        self._lane(channel).update(stock=stock)
        self.acts.append(("stock_set", channel, stock, who))
        return {"lane": self._lane(channel)}

    async def stock_fill(self, cabinet: str | None, who: str) -> Mapping[str, Any]:
        self.acts.append(("stock_fill", cabinet, who))
        return {"lanes": list(self.lane_views.values())}

    async def cabinet_stop(self, name: str, reason: str, who: str) -> Mapping[str, Any]:
        self.acts.append(("cabinet_stop", name, reason, who))
        cabinet = cabinet_view(state="stopped", reason=reason)
        return {"name": name, "cabinet": cabinet, "moving": True}

    async def cabinet_start(self, name: str, who: str) -> Mapping[str, Any]:
        self.acts.append(("cabinet_start", name, who))
        return {"name": name, "cabinet": cabinet_view(), "moving": False}

    async def board_accept(self, name: str, who: str) -> Mapping[str, Any]:
        self.acts.append(("board_accept", name, who))
        return {"name": name, "board": board_view()}

    async def clock_accept(self, who: str) -> Mapping[str, Any]:
        self.acts.append(("clock_accept", who))
        return {"clock": {"believed": True, "wall": 1_790_000_000.0, "newest": 1_790_000_000.0}}

    async def service_on(self, who: str) -> Mapping[str, Any]:
        self.acts.append(("service_on", who))
        mode = {"who": who, "since": NOON, "idle_left_s": 600.0}
        return {"service_mode": mode, "moving": True, "open_units": 2}

    async def service_off(self, who: str) -> Mapping[str, Any]:
        self.acts.append(("service_off", who))
        return {"service_mode": None, "moving": False, "open_units": 0}

    async def trace(
        self, seconds: int, board: str | None, *, follow: bool, quiet: bool
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        self.acts.append(("trace", seconds, board, follow, quiet))
        if board not in {None, "main"}:
            raise Refused("unknown_board", f"there is no board {board}; there is main")
        self.tails_open += 1
        try:
            for line in self.trace_lines:
                yield line
            while follow:
                yield await self.passing.get()
        finally:
            self.tails_open -= 1

    async def test_lane(
        self, channel: str, cycles: int, who: str
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        self._lane(channel)
        self.vends_open += 1
        self.stop_asked = False
        try:
            for cycle in range(1, cycles + 1):
                head = {"test_id": "t1", "cycle": cycle, "of": cycles, "channel": channel}
                self.acts.append(("cycle_started", channel, cycle, who))
                yield {**head, "event": "started", "cycle_id": 41}
                self.started.set()
                yield {**head, "event": "progress", "note": "moving", "frame": "fafb04" * 12}
                await self.hold.wait()
                yield {**head, "event": "progress", "note": "motor done", "frame": ""}
                self.acts.append(("cycle_closed", channel, cycle))
                yield {
                    **head,
                    "event": "outcome",
                    "cycle_id": 41,
                    "outcome": self.outcome,
                    "reason": None if self.outcome == "delivered" else "no_drop",
                    "evidence": "drop_sensor",
                    "drops": int(self.outcome == "delivered"),
                    "verdict": "good" if self.outcome == "delivered" else "nothing_fell",
                    "run_ms": 812,
                    "measured": "board",
                    "usual": {"median_ms": 800, "spread_ms": 20, "cycles": 12},
                    "peak_ma": 410,
                    "eye": self.eye_of_cycle,
                }
                if self.stop_asked:
                    break
            yield {"event": "finished", "test_id": "t1", "of": cycles}
        finally:
            self.vends_open -= 1

    async def stop_test(self, test_id: str, who: str) -> Mapping[str, Any]:
        if not self.vends_open:
            raise Refused("unknown_test", f"no test {test_id} runs here: it is over")
        self.acts.append(("stop_test", test_id, who))
        self.stop_asked = True
        if self.motor == "stopping":
            self.outcome = "unknown"
            self.hold.set()
        return {"test_id": test_id, "channel": "A20", "motor": self.motor}

    async def eye(self, name: str, seconds: int) -> AsyncGenerator[Mapping[str, Any], None]:
        self.acts.append(("eye", name, seconds))
        for line in self.eye_lines:
            yield line
