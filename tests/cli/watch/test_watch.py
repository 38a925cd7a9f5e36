"""`vendctl watch` on a real terminal, before the real daemon and its emulated boards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tests.cli.watch.terminal import vendctl
from tests.system.conftest import SiteMaker, make_site, short_dir  # noqa: F401 - fixtures
from tests.system.process import PROGRAMS
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system

QUIET_S = 5.0
"""Of an idle machine: some looks of the daemon, polls of the boards, and a heartbeat."""

CYCLE_BYTES = 4_000
"""A test vend on 80 columns with its states, stock, result and event; some 2,000 are usual."""


def test_a_test_vend_passes_through_its_states_and_a_restart_is_survived(
    make_site: SiteMaker,  # noqa: F811
) -> None:
    site = make_site().up()
    with vendctl(site.daemon.control, "watch", size=(80, 24)) as (terminal, child):
        wait_for(lambda: "Nothing moves." in terminal.text(), "the first picture")
        wait_for(lambda: "✓A1" in terminal.text(), "its lanes")
        wait_for(lambda: "MACHINE_STATUS" in terminal.text(), "an XY board's, once a minute", 20)
        # What came with the start takes as long as the computer is busy; then there is nothing.
        seen = [(time.monotonic(), len(terminal.sent))]

        def quiet() -> bool:
            if len(terminal.sent) != seen[-1][1]:
                seen.append((time.monotonic(), len(terminal.sent)))
            return time.monotonic() - seen[-1][0] >= QUIET_S

        wait_for(quiet, f"an idle machine sends nothing for {QUIET_S:g} s", 45)

        terminal.press("t")
        wait_for(lambda: "This turns the motor of lane A1" in terminal.text(), "the question")
        terminal.press("y")
        wait_for(lambda: "MOVING: A1 (test:" in terminal.text(), "the first line says it")
        wait_for(lambda: "●moving" in terminal.text(), "its states")
        wait_for(lambda: "●ended" in terminal.text(), "its end")
        wait_for(lambda: "delivered (drop_sensor)" in terminal.text(), "its outcome")
        wait_for(lambda: " 7 " in terminal.text().split("✓A1")[1], "its stock")
        wait_for(lambda: "Nothing moves." in terminal.text(), "rest")
        assert len(site.ledger("A1", "product_fell")) == 1

        before = len(terminal.sent)
        site.platform.dispense(1, [{"product_id": 221, "quantity": 1}])
        wait_for(lambda: "result 1#1 delivered B1" in terminal.text(), "the result leaves")
        wait_for(lambda: "Nothing moves." in terminal.text(), "rest")
        assert len(terminal.sent) - before < CYCLE_BYTES

        site.daemon.kill()
        wait_for(lambda: "no word since" in terminal.text(), "it says since when it is old")
        assert "Nothing moves." not in terminal.text()
        site.daemon.up()
        wait_for(lambda: "Nothing moves." in terminal.text(), "it is back by itself")
        wait_for(lambda: "restart" in terminal.text(), "what happened meanwhile")
        terminal.press("q")
        assert child.wait(10) == 0


def test_without_colour_at_60_columns_in_a_terminal_without_utf8(
    make_site: SiteMaker,  # noqa: F811
) -> None:
    site = make_site().up()
    plain = {"NO_COLOR": "1", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    watching = vendctl(site.daemon.control, "watch", size=(60, 24), environment=plain)
    with watching as (terminal, child):
        wait_for(lambda: "+A1" in terminal.text(), "lanes in ASCII")
        assert terminal.text().isascii()
        terminal.press("d")
        wait_for(lambda: "takes lane A1 out of sale" in terminal.text(), "the question")
        terminal.press("bent\r")
        wait_for(lambda: "xA1" in terminal.text(), "health by shape")
        assert "lane A1: disabled (bent)" in terminal.text()
        terminal.press("s")
        wait_for(lambda: "begins service mode" in terminal.text(), "the question")
        terminal.press("y")
        wait_for(lambda: "! service mode" in terminal.text(), "until when")
        wait_for(lambda: "to send 0" in terminal.text(), "what was done is told")
        wait_for(lambda: "MACHINE_STATUS" in terminal.text(), "an XY board's, once a minute", 20)
        time.sleep(1.5)
        before, shown = len(terminal.sent), terminal.text()
        time.sleep(3.0)
        assert terminal.text() == shown
        assert len(terminal.sent) == before, "no countdown over a slow link"
        coloured = [b"\x1b[3%d" % colour for colour in range(8)] + [b"\x1b[38", b"\x1b[48"]
        assert [code for code in coloured if code in terminal.sent] == []
        terminal.press("\x03")
        assert child.wait(10) == 130, "as every verb that Ctrl-C stops"


def test_without_a_terminal_it_names_what_to_use_instead(make_site: SiteMaker) -> None:  # noqa: F811
    done = make_site().daemon.run_ctl("watch")
    assert done.returncode == 2
    assert "vendctl status --json" in done.stderr


def test_json_prints_the_stream(make_site: SiteMaker) -> None:  # noqa: F811
    site = make_site().up()
    command = [str(PROGRAMS / "vendctl"), "--socket", str(site.daemon.control), "watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        snapshot = json.loads(child.stdout.readline())
        site.daemon.run_ctl("lane", "disable", "A1", "--yes")
        parts = [json.loads(child.stdout.readline())["part"] for _ in range(2)]
        child.terminate()
    assert (snapshot["part"], "lanes" in snapshot["data"]) == ("snapshot", True)
    assert set(parts) <= {"boards", "cabinets", "lanes", "machine", "cycles", "events"}


def test_no_other_verb_waits_for_textual() -> None:
    """Its import takes a seventh of a second, on a small board more."""
    script = "import sys, controller.cli.main; sys.exit('textual' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=False, env=dict(os.environ))
    assert done.returncode == 0
