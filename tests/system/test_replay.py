"""`firmware-sim --replay` as a person starts it, before the real daemon."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.conftest import SiteMaker
from tests.system.process import PROGRAMS, Process
from tests.system.site import TRACK_ON_VBP
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system

CAPTURES = Path(__file__).parents[1] / "boards" / "captures"
SAME = "the host said what the capture says"


def sim(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in (PROGRAMS / "firmware-sim", *words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_a_capture_is_played_to_the_daemon_saved_from_it_and_played_again(
    make_site: SiteMaker, tmp_path: Path
) -> None:
    """Round trip over real ptys: the fault of the street, met again by two more daemons."""
    capture = CAPTURES / "jam-vbp.capture"
    for number in range(2):
        site = make_site((TRACK_ON_VBP,))
        boards = site.emulator
        port = boards.port("main")
        boards.directory.mkdir(exist_ok=True)
        peer = Process(
            [PROGRAMS / "firmware-sim", "--replay", capture, "--port", f"pty:{port}"],
            boards.directory / "replay.log",
        )
        try:
            peer.start()
            wait_for(port.is_symlink, "the replayed board is there")
            site.broker.up()
            site.daemon.up()
            done = site.daemon.run_ctl("test", "A1", "--yes")
            assert done.returncode == 1
            assert "jammed" in done.stdout
            assert peer.wait(15) == 0, peer.output()
            assert peer.output().splitlines()[-1] == SAME
        finally:
            peer.end()
        saved = tmp_path / f"{number}.capture"
        assert site.daemon.run_ctl("trace", "main", "--save", str(saved)).returncode == 0
        capture = saved
        site.close()


def test_what_was_never_said_is_told_at_the_end(tmp_path: Path) -> None:
    link = tmp_path / "board.tty"
    words = ("--replay", CAPTURES / "no-ack-xy.capture", "--port", f"pty:{link}")
    peer = Process([PROGRAMS / "firmware-sim", *words], tmp_path / "replay.log")
    peer.start()
    wait_for(link.is_symlink, "the replayed board is there")
    assert peer.terminate() == 1
    assert "never said: DRIVE PackNO 2, lane 1" in peer.output()
    assert f"not say {SAME[14:]}" in peer.output()
    assert not link.is_symlink()


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--replay", "{x}", "--port", "pty:{dir}/p"), 2, "line 1: a capture begins with"),
        (("--replay", "{jam}", "--port", "com1"), 1, "neither pty:"),
        (("--replay", "{jam}", "--port", "tcp:127.0.0.1:99999"), 1, "neither pty:"),
        (("--replay", "{dir}/none", "--port", "pty:{dir}/p"), 1, "No such file"),
        (("--replay", "{jam}"), 2, "name a scenario, or --replay"),
        ((), 2, "name a scenario, or --replay"),
    ],
)
def test_a_mistake_is_told(words: tuple[str, ...], code: int, why: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(256)))
    shutil.copy(CAPTURES / "jam-vbp.capture", tmp_path / "jam")
    names = {"dir": str(tmp_path), "x": str(tmp_path / "x"), "jam": str(tmp_path / "jam")}
    done = sim(*(word.format(**names) for word in words))
    assert done.returncode == code
    assert why in done.stderr
    assert "Traceback" not in done.stderr
