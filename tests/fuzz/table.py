"""Every target: its name, the function that takes an input, the files whose coverage counts.

A target takes any bytes and returns; an exception out of it is a finding. What it holds is
in its docstring. `python -m tests.fuzz` runs them under atheris, `test_corpus.py` replays
the corpus without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import decoders, files, lines, mqtt, sockets


@dataclass(frozen=True, slots=True)
class Target:
    run: Callable[[bytes], None]
    covers: tuple[str, ...]
    """Of these files lines and branches are counted."""
    longest: int = 1024
    """Bytes of an input: enough for every piece of a plan, and short enough to be mutated well."""
    share: float = 1.0
    """Of the time budget, in relation to the others."""


VBP = "controller/boards/vbp/"
XY = "controller/boards/xy/"

SHORT = 400
"""Bytes, where an input is played in virtual time: every read of it costs a pause."""

TARGETS: dict[str, Target] = {
    "vbp-frames": Target(decoders.vbp_stream, (VBP + "framing.py", VBP + "frames.py"), share=3.0),
    "xy-frames": Target(decoders.xy_stream, (XY + "framing.py", XY + "frames.py"), share=3.0),
    "vbp-driver": Target(
        lines.vbp_driver,
        tuple(
            VBP + name for name in ("link.py", "driver.py", "session.py", "notices.py", "late.py")
        ),
        longest=SHORT,
    ),
    "xy-driver": Target(
        lines.xy_driver,
        tuple(XY + name for name in ("line.py", "driver.py", "cycle.py")),
        longest=SHORT,
    ),
    "vbp-firmware": Target(lines.vbp_firmware, ("firmware_sim/firmware/vbp.py",), longest=SHORT),
    "xy-firmware": Target(
        lines.xy_firmware,
        ("firmware_sim/firmware/xy.py", "firmware_sim/firmware/xy_cycle.py"),
        longest=SHORT,
    ),
    "mqtt-commands": Target(
        mqtt.commands,
        tuple(f"controller/uplink/{name}.py" for name in ("intake", "commands", "jsontext")),
        share=2.0,
    ),
    "mqtt-requests": Target(
        mqtt.requests, ("controller/uplink/requests.py", "controller/uplink/remote.py")
    ),
    "mqtt-own-state": Target(mqtt.own_state, ("controller/uplink/jsontext.py",), share=0.3),
    "mqtt-packets": Target(mqtt.packets, ("controller/uplink/link.py",)),
    "settings": Target(
        files.settings,
        tuple(
            f"controller/config{name}.py" for name in ("", "_lines", "_rules", "_tables", "_words")
        ),
    ),
    "state-directory": Target(
        files.state_directory,
        (
            "controller/journal/files.py",
            "controller/journal/wal.py",
            "controller/last_stop.py",
        ),
    ),
    "service": Target(
        sockets.service,
        tuple(f"controller/service/{name}.py" for name in ("wire", "routes", "connection")),
    ),
    "vendctl": Target(sockets.vendctl, ("controller/cli/client.py",)),
    "emulator-scenario": Target(files.emulator_scenario, ("firmware_sim/scenario.py",)),
    "emulator-memory": Target(files.emulator_memory, ("firmware_sim/memory.py",)),
    "emulator-control": Target(
        sockets.emulator_control, ("firmware_sim/control.py", "firmware_sim/faults.py")
    ),
}
