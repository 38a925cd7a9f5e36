"""Keys of `watch`: each says what it will do, asks, and acts through the real service."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from controller.cli.client import Daemon
from controller.cli.watch.app import WatchApp
from controller.cli.watch.shelves import UTF8
from controller.errors import Refused
from controller.service.server import Service
from tests.cli.watch.snapshots import RECORDING
from tests.service.memory_machine import MemoryMachine, lane_view, status_view

ME = getpass.getuser()


@pytest.fixture
def told(machine: MemoryMachine) -> MemoryMachine:
    status = status_view()
    machine.watch_lines = [
        {
            "part": "snapshot",
            "at": 1.0,
            "data": {
                "machine": {**status, "mode": "ready"},
                "boards": status["boards"],
                "cabinets": status["cabinets"],
                "lanes": {name: lane_view(name) for name in ("A1", "A20")},
                "cycles": {"A": None},
                "unknown": {
                    "7": {
                        "channel": "A20",
                        "order_id": 11,
                        "delivery_id": "",
                        "unit": 2,
                        "revision": 1,
                        "reason": "no_answer",
                        "at": 1.0,
                    }
                },
                "messages": {},
                "events": {},
            },
        }
    ]
    machine.hold.clear()
    return machine


@asynccontextmanager
async def watching(socket: Path) -> AsyncIterator[tuple[Pilot[None], WatchApp]]:
    app = WatchApp(Daemon(str(socket)), UTF8)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "A20" in text(app))
        yield pilot, app


def text(app: WatchApp) -> str:
    """Everything on the screen, dialogs too."""
    return "\n".join(
        "".join(segment.text for segment in strip)
        for strip in app.screen._compositor.render_strips()
    )


def acts(machine: MemoryMachine) -> list[tuple[Any, ...]]:
    return [act for act in machine.acts if act[0] != "trace"]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


async def test_an_act_is_said_and_done_only_after_a_yes(
    service: Service, told: MemoryMachine, socket_dir: Path
) -> None:
    async with watching(socket_dir / "control.sock") as (pilot, app):
        await pilot.press("f")
        await until(lambda: "every lane of cabinet A is full now" in text(app))
        assert "Nothing moves." in text(app), "the first line is seen behind the question"
        await pilot.press("n")
        await until(lambda: "Nothing was done." in text(app))
        assert acts(told) == []
        await pilot.press("f", "y")
        await until(lambda: acts(told) == [("stock_fill", "A", ME)])
        await until(lambda: "Done." in text(app))


async def test_a_lane_is_chosen_with_the_arrows_and_disabled_with_a_reason(
    service: Service, told: MemoryMachine, socket_dir: Path
) -> None:
    async with watching(socket_dir / "control.sock") as (pilot, app):
        await pilot.press("down", "d", *"bent", "enter")
        await until(lambda: acts(told) == [("lane_disable", "A20", "bent", ME)])
        await until(lambda: "Done." in text(app))
        await pilot.press("x", "y", "escape")  # a reason is no yes
        await until(lambda: "Nothing was done." in text(app))
        assert len(acts(told)) == 1


async def test_a_test_vend_tells_its_steps(
    service: Service, told: MemoryMachine, socket_dir: Path
) -> None:
    async with watching(socket_dir / "control.sock") as (pilot, app):
        await pilot.press("t", "y")
        await until(lambda: "1/1 moving" in text(app))
        told.hold.set()
        await until(lambda: ("cycle_closed", "A1", 1) in told.acts)


async def test_a_refusal_is_shown_with_its_reason_until_a_key(
    service: Service, told: MemoryMachine, socket_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object, **_more: object) -> Any:
        raise Refused("being_settled", "board main is still asked")

    monkeypatch.setattr(told, "resolve", refuse)
    async with watching(socket_dir / "control.sock") as (pilot, app):
        await pilot.press("r")
        await until(lambda: "unit 2 of 11 may have dropped" in text(app))
        await pilot.press("y", *"seen", "enter")
        await until(lambda: "any key: go on" in text(app))
        assert "board main is still asked" in text(app)
        await pilot.press("space")
        await until(lambda: "any key: go on" not in text(app))


async def test_an_unknown_unit_is_resolved(
    service: Service, told: MemoryMachine, socket_dir: Path
) -> None:
    async with watching(socket_dir / "control.sock") as (pilot, app):
        await pilot.press("r")
        await until(lambda: "unit 2 of 11 may have dropped" in text(app))
        await pilot.press("y", *"seen", "enter")
        verdict = ("resolve", 11, "", 2, "delivered", 1, "seen", ME)
        await until(lambda: verdict in told.acts)


async def test_frames_scroll_and_where_none_can_be_had_the_rest_is_shown(
    service: Service, told: MemoryMachine, socket_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = next(line for line in told.trace_lines if line.get("frame"))
    async with watching(socket_dir / "control.sock") as (_pilot, app):
        await until(lambda: f"{frame['board']} " in text(app).split("eye main")[1])
        assert str(frame["name"]) in text(app)

    def refuse(*_given: object, **_more: object) -> Any:
        raise Refused("busy", "too many read")

    monkeypatch.setattr(told, "trace", refuse)
    async with watching(socket_dir / "control.sock") as (_pilot, app):
        await until(lambda: "frames: too many read" in text(app))


def test_the_recording_is_of_this_stream() -> None:
    assert RECORDING.read_text(encoding="utf-8").startswith('{"part":"snapshot"')
