"""`firmware-sim --replay CAPTURE --port PORT`: a capture's board at the daemon's port.

Ends when everything that matters was said, or by Ctrl-C or SIGTERM, and tells
whether the host said what the capture says. Exit codes: 0 it did, 1 it did not or the
port cannot be provided, 2 the capture has mistakes.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from controller import capture
from controller.capture import CaptureError
from firmware_sim.ports import PortError, make_cable_port
from firmware_sim.replay import Replay

DIFFERENT = 1
MISTAKES = 2

LAST_WORD_S = 1.0
"""After the last frame that matters: a host's word too many would come now."""


def run(path: Path, port: str) -> int:
    try:
        recorded = capture.read(_text_of(path))
        return asyncio.run(_play(recorded, port))
    except CaptureError as error:
        sys.stderr.write(f"{path}: {error}\n")
        return MISTAKES
    except (PortError, OSError) as error:
        sys.stderr.write(f"firmware-sim: {error}\n")
        return DIFFERENT


def _text_of(path: Path) -> str:
    with path.open(encoding="ascii", errors="replace") as file:
        return file.read(capture.LONGEST_CAPTURE + 1)


async def _play(recorded: capture.Capture, named: str) -> int:
    replay = Replay(recorded)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    port = make_cable_port(named, replay)
    await port.open()
    _say(f"a board of {recorded.header.get('program', 'a capture')} at {named}")
    try:
        waits = [asyncio.ensure_future(event.wait()) for event in (replay.over, stopped)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                await stopped.wait()
        for wait in waits:
            wait.cancel()
    finally:
        replay.close()
        port.close()
    found = replay.findings()
    for line in found:
        _say(line)
    played = replay.over.is_set()
    _say(
        "the host said what the capture says"
        if played and not found
        else "the host did not say what the capture says"
    )
    return 0 if played and not found else DIFFERENT


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
