"""Records what the daemon tells a watcher: `python -m tests.cli.watch.record`.

A real daemon sells from emulated boards: a cabinet of two shelves counted through, one of
tens. An order of three items, a jam, a cycle that is never answered, a stopped cabinet. The
recording is committed; the snapshot tests and the picture of the README are made from it.
Frames are not recorded here: `frames.jsonl` is written by hand in the shape of `/v1/trace`.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.cli.client import Daemon
from tests.system.site import CabinetPlan, Lane, Site
from tests.system.waiting import wait_for

RECORDING = Path(__file__).parent / "recordings" / "machine.jsonl"

TRACK = CabinetPlan(
    name="A",
    kind="track",
    board="main",
    protocol="vbp",
    drop_sensor=True,
    lanes=tuple(Lane(f"A{n}", n, 100 + n, goods=1 + n % 8) for n in range(1, 21)),
    settings={"cycle_timeout_s": 5, "max_run_ms": 1000, "drop_wait_ms": 500},
    run_ms=700,
    fall_ms=250,
)
SPIRAL = CabinetPlan(
    name="B",
    kind="spiral",
    board="side",
    protocol="xy",
    drop_sensor=False,
    lanes=tuple(Lane(f"B{n}", n, 200 + n) for n in (10, 11, 12, 20, 21, 22)),
    settings={"cycle_timeout_s": 4, "settle_ms": 50},
    scenario={"eye": False},
    run_ms=500,
)


def record() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="vc-") as directory:
        site = Site(Path(directory) / "site", (TRACK, SPIRAL)).up()
        try:
            _read(site.daemon.control, lines.append)
            wait_for(lambda: lines, "the snapshot")
            _visit(site, lines)
            wait_for(lambda: '"stopped"' in json.dumps(lines[-5:]), "the last act is told")
            return lines[:]
        finally:
            site.close()


def _visit(site: Site, lines: list[dict[str, Any]]) -> None:
    for lane, count in (("A2", 1), ("A5", 2), ("A9", 0), ("A14", 4), ("B10", 3), ("B22", 5)):
        site.daemon.run_ctl("stock", "set", lane, str(count), "--yes")
    for on in (True, False, True, False):
        before = len(lines)
        site.emulator.tell("main", do="block_eye", on=on)
        wait_for(lambda: "eye_changes" in json.dumps(lines[before:]), "the eye is told")  # noqa: B023
    site.platform.dispense(1, [{"product_id": 103, "quantity": 3}])
    site.platform.wait_order(1, "finished")
    site.fault("A12", "jam")
    site.platform.dispense(2, [{"product_id": 112, "quantity": 1}])
    site.platform.wait_order(2, "finished")
    site.fault("B21", "no_ack")
    site.fault("B21", "ack_no_status")
    site.platform.dispense(3, [{"product_id": 221, "quantity": 1}])
    site.platform.wait_order(3, "finished")
    site.daemon.run_ctl("lane", "disable", "A7", "--yes", "--reason", "bent spiral")
    site.daemon.run_ctl("cabinet", "stop", "A", "--yes", "--reason", "refill")


def _read(control: Path, take: Callable[[dict[str, Any]], None]) -> None:
    def read() -> None:
        for line in Daemon(str(control)).lines("/v1/watch"):
            take(line)

    threading.Thread(target=read, daemon=True).start()


if __name__ == "__main__":
    RECORDING.write_text(
        "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in record()),
        encoding="utf-8",
    )
