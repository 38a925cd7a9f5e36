"""A technician at the machine: what vendctl does to a real daemon and its motors (P6)."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from tests.system.conftest import SiteMaker
from tests.system.process import PROGRAMS
from tests.system.site import SPIRAL_ON_XY, TRACK_ON_VBP, Site
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system

LONG_LOOK = replace(TRACK_ON_VBP, settings={**TRACK_ON_VBP.settings, "eye_clear_timeout_s": 60})
"""A blocked eye is waited for longer than any test takes."""


def begin_test_vend(site: Site, channel: str) -> subprocess.Popen[str]:
    command = [PROGRAMS / "vendctl", "--socket", site.daemon.control, "test", channel, "--yes"]
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_words(site: Site) -> str:
    """What `status` says before its first empty line: whether a hand may be hurt."""
    return " ".join(site.daemon.run_ctl("status").stdout.partition("\n\n")[0].split())


def no_english(site: Site, *lines: str) -> None:
    """Chinese pages hold names, codes, paths and commands, and no two English words in a row."""
    for line in lines:
        done = site.daemon.run_ctl("--lang", "zh", *line.split())
        shown = re.sub(r"`[^`]*`|sudo .*|vendctl .*", "", done.stdout + done.stderr)
        assert re.search("[\u4e00-\u9fff]", shown), line
        assert re.findall(r"[a-z]{2,} [a-z]{2,}.*", shown) == [], line
        assert re.findall(r"\b(?:ready|blocked|clean|ok|out_of_service)\b", shown) == [], line


def test_p6_a_test_vend_that_was_interrupted_while_it_waited_never_moves_the_motor(
    make_site: SiteMaker,
) -> None:
    """They press Ctrl-C and reach in for the item in the eye: that must not start the motor."""
    site = make_site((LONG_LOOK, SPIRAL_ON_XY)).up()
    site.emulator.fault("main", "eye_stuck_blocked")
    vend = begin_test_vend(site, "A2")
    wait_for(lambda: "eye_blocked" in site.daemon.output(), "the test vend waits for the eye")
    no_english(site, "status", "lanes", "doctor", "test A1 --yes", "stock set A1 99 --yes")
    assert "a test vend of lane A2 waits in cabinet A" in first_words(site)
    vend.send_signal(signal.SIGINT)
    _out, err = vend.communicate(timeout=10)
    assert vend.returncode == 130
    assert "No further cycle begins" in err
    site.platform.dispense(7003, [{"product_id": 122, "quantity": 1}])
    site.platform.wait_order(7003, "accepted")
    told = first_words(site)
    assert told.startswith("Nothing moves now. A motor may start any moment: order 7003"), told
    assert "waits in cabinet A (the light eye is blocked)" in told
    assert "Before a hand reaches in: vendctl cabinet stop A" in told
    site.daemon.ctl("cabinet", "stop", "A", "--yes")
    site.platform.wait_order(7003, "finished")
    assert first_words(site) == "Nothing moves."
    site.daemon.ctl("cabinet", "start", "A", "--yes")
    site.emulator.lift("main", "eye_stuck_blocked")
    done = site.daemon.run_ctl("test", "A1", "--yes")
    assert done.returncode == 0, "the cabinet is free for the next one"
    assert site.ledger("A2", "drive_frame") == []
    site.judge(test_cycles={"A1": 1})


def test_p6_a_test_vend_that_waits_says_so_and_is_not_given_up_by_vendctl(
    make_site: SiteMaker,
) -> None:
    site = make_site((LONG_LOOK, SPIRAL_ON_XY)).up()
    site.emulator.fault("main", "eye_stuck_blocked")
    begun = time.monotonic()
    done = site.daemon.run_ctl("test", "A2", "--yes", "--timeout", "3", timeout=60)
    assert done.returncode == 1, "it did not deliver"
    assert time.monotonic() - begun > 3, "its own bound, not vendctl's patience"
    assert done.stderr.count("waits: the light eye is blocked") == 1, "each reason once"
    assert "expired" in done.stdout
    assert site.ledger("A2", "drive_frame") == []


def test_a_stop_in_mid_cycle_asks_systemd_for_as_long_as_the_settings_let_it_last(
    make_site: SiteMaker,
) -> None:
    """TimeoutStopSec of the unit is made for 90 s; a larger cycle_timeout_s needs no drop-in."""
    slow = replace(TRACK_ON_VBP, settings={**TRACK_ON_VBP.settings, "cycle_timeout_s": 200})
    site = make_site((slow, SPIRAL_ON_XY)).up()
    vend = begin_test_vend(site, "A2")
    site.wait_ledger("A2", "motor_started")
    site.daemon.signal(signal.SIGTERM)
    site.daemon.wait_notified("EXTEND_TIMEOUT_USEC=260000000")
    assert site.daemon.wait() == 0
    vend.communicate(timeout=10)
    assert len(site.ledger("A2", "product_fell")) == 1


def test_an_order_is_shown_with_its_frames_as_the_protocols_page_prints_them(
    make_site: SiteMaker,
) -> None:
    site = make_site().up()
    site.platform.dispense(1, [{"product_id": 221, "quantity": 1}])
    site.platform.wait_order(1, "finished")
    shown = site.daemon.run_ctl("order", "1").stdout
    assert "FA FB 06 05 " in shown, "the drive frame"
    assert "FA FB 42 00 43" in shown, "its acknowledgement"
