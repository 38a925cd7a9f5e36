"""The trace of a real daemon on real ptys: there after a kill -9, and gone wrong alone (P12)."""

from __future__ import annotations

import pytest

from controller import capture
from tests.system.conftest import SiteMaker

pytestmark = pytest.mark.system


def test_the_last_minutes_of_the_lines_survive_a_kill_of_the_daemon(make_site: SiteMaker) -> None:
    site = make_site().up()
    site.fault("A1", "jam")
    assert site.daemon.run_ctl("test", "A1", "--yes").returncode == 1
    site.daemon.kill()
    site.daemon.up()
    shown = site.daemon.run_ctl("trace", "main").stdout
    assert shown.count("> DISPENSE\n") == 1
    assert "motor ran_too_long, drop not_seen" in " ".join(shown.split())
    assert shown.count("> HELLO\n") == 2, "of both lives, in one story"
    file = site.directory / "jam.capture"
    assert site.daemon.run_ctl("trace", "main", "--save", str(file)).returncode == 0
    pieces = capture.read(file.read_text()).pieces
    assert [piece.mono for piece in pieces] == sorted(piece.mono for piece in pieces)
    assert all(0 <= piece.wall - pieces[0].wall < 60 for piece in pieces)


def test_p12_without_a_place_for_its_trace_the_machine_sells(make_site: SiteMaker) -> None:
    site = make_site()
    (site.directory / "trace").write_text("in its way")
    site.up()
    assert site.daemon.run_ctl("test", "A1", "--yes").returncode == 0
    traced = site.daemon.run_ctl("trace")
    assert (traced.returncode, traced.stdout) == (0, "")
    assert "nothing is kept of its line now" in " ".join(traced.stderr.split())
    assert site.daemon.output().count("trace_stopped") == 2, "one for each board"
    site.judge(test_cycles={"A1": 1})
