"""`firmware-sim SCENARIO.toml`: emulated boards in one process, until SIGTERM or Ctrl-C.
`firmware-sim --replay CAPTURE --port PORT`: the board of a capture (see replay_main).

Each physical event is one readable line on stdout. Exit codes: 0 ended as asked,
1 a port, socket or file cannot be provided, 2 the scenario has mistakes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from firmware_sim import replay_main
from firmware_sim.board import EmulatedBoard, build_board
from firmware_sim.control import ControlSocket, clear_place
from firmware_sim.ports import Cable, PortError
from firmware_sim.scenario import BoardSettings, Scenario, ScenarioError, load

FAILED = 1
MISTAKES = 2

SAID: dict[str, str] = {
    "drive_frame": "drive command taken up (cycle {cycle})",
    "motor_started": "motor starts",
    "motor_stopped": "motor stops after {run_ms} ms: {why}",
    "product_left": "product over the edge, {goods} left",
    "product_fell": "PRODUCT FELL",
    "eye_blocked": "light eye dark: {cause}",
    "eye_clear": "light eye clear",
    "door_open": "door open",
    "door_closed": "door closed",
    "power_on": "power on",
    "power_off": "POWER OFF",
    "board_reset": "BOARD RESET: {cause}",
    "unplugged": "CABLE OUT",
    "plugged": "cable in",
    "fault": "fault: {kind}",
    "lifted": "fault lifted: {kind}",
    "refilled": "refilled to {goods}",
    "memory_damaged": "the memory file held no memory: begins with an empty one",
    "plug_failed": "the cable stays out: {why}",
}


def sentence(name: str, line: dict[str, Any]) -> str:
    """One ledger line for a person."""
    said = SAID.get(line["event"], line["event"]).format_map(line)
    if line["event"] == "product_fell" and not line["seen"]:
        said += " (unseen by the eye)"
    lane = "" if line["lane"] is None else f"lane {line['lane']:<4}"
    return f"{line['machine_ms'] / 1000:9.2f} s  {name:<8} {lane:<9} {said}"


def label(settings: BoardSettings, index: int) -> str:
    return settings.name or f"{settings.protocol}{index}"


def _printer(name: str) -> Callable[[dict[str, Any]], None]:
    def show(line: dict[str, Any]) -> None:
        try:
            sys.stdout.write(sentence(name, line) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:  # whoever followed it went away
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return show


def _number_above_0(text: str) -> float:
    value = float(text)
    if not 0 < value <= 10_000:  # noqa: PLR2004  beyond it, timers are shorter than the loop's
        raise argparse.ArgumentTypeError("a speed is above 0 and at most 10000")
    return value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="firmware-sim", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("scenario", nargs="?", type=Path, help="TOML file: boards, lanes, faults")
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="CAPTURE",
        help="instead of a scenario: the board's side of a capture, until it is over",
    )
    parser.add_argument(
        "--port",
        metavar="PORT",
        help="of --replay: pty:/path/of/link or tcp:HOST:NUMBER",
    )
    parser.add_argument(
        "--speed",
        type=_number_above_0,
        default=1.0,
        help="motors and falls so many times faster; links stay as they are (default 1)",
    )
    parser.add_argument("--seed", type=int, help="fix the randomness of every board")
    parser.add_argument("--quiet", action="store_true", help="no line for each physical event")
    args = parser.parse_args(argv)
    if (args.scenario is None) == (args.replay is None) or bool(args.port) != bool(args.replay):
        parser.error("name a scenario, or --replay CAPTURE --port PORT")
    return args


def _build(scenario: Scenario, args: argparse.Namespace) -> list[EmulatedBoard]:
    for settings in scenario.boards:  # before a living emulator's memory is touched
        if settings.control is not None:
            clear_place(settings.control)
    boards = []
    for index, settings in enumerate(scenario.boards):
        entropy = int.from_bytes(os.urandom(8), "big")
        free = settings.seed is None and args.seed is None
        board = build_board(
            settings,
            speed=args.speed,
            seed=entropy if free else args.seed or 0,
            entropy=entropy,
            wall=time.time,
        )
        if not args.quiet:
            show = _printer(label(settings, index))
            for line in board.ledger.lines:
                show(line)
            board.ledger.watchers.append(show)
        boards.append(board)
    return boards


async def play(scenario: Scenario, args: argparse.Namespace) -> None:
    """Run until a signal asks to end. Raises PortError or OSError when it cannot begin."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    with contextlib.ExitStack() as stack:
        for board in _build(scenario, args):
            stack.callback(board.close)
            cable = Cable(board)
            stack.callback(cable.close)
            await cable.open()
            if board.settings.control is not None:
                control = ControlSocket(board.settings.control, board)
                stack.callback(control.close)
                await control.open()
        await ended.wait()


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    if args.replay is not None:
        return replay_main.run(args.replay, args.port)
    try:
        scenario = load(args.scenario)
    except ScenarioError as error:
        sys.stderr.write(f"{error}\n")
        return MISTAKES
    try:
        asyncio.run(play(scenario, args))
    except (PortError, OSError) as error:
        sys.stderr.write(f"firmware-sim: {error}\n")
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
