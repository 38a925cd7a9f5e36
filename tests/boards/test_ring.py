"""The trace ring: bounded, there after a kill, and in nobody's way (P12)."""

from __future__ import annotations

import errno
import logging
import os
import resource
import time
from pathlib import Path

import pytest

from controller import capture
from controller.boards.ring import RETRY_S, Ring, lines_of
from controller.capture import Piece

HEAD = capture.head(board="main", protocol="xy")


def ring_in(folder: Path, size: int = 4096) -> Ring:
    return Ring(folder / "trace", "main", lambda: HEAD, size)


def kept(ring: Ring) -> list[Piece]:
    return list(capture.pieces_of(lines_of(ring.files())))


def piece(number: int, data: bytes = b"\xfa\xfb\x41\x00\x40") -> Piece:
    return Piece(1000.0 + number, float(number), "in", data)


def test_the_newest_is_kept_and_the_size_is_bounded(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    pieces = [piece(number) for number in range(2000)]
    for each in pieces:
        ring.write(each)
    found = kept(ring)
    assert found == pieces[-len(found) :], "the newest, in order, without a gap"
    sizes = [path.stat().st_size for path in (tmp_path / "trace").iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 4096 + 100
    assert len(found) * 45 > 4096, "never less than one file's worth"


def test_each_file_is_a_capture_by_itself(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    for number in range(200):
        ring.write(piece(number))
    for path in (tmp_path / "trace").iterdir():
        assert capture.read(path.read_text()).header == {"board": "main", "protocol": "xy"}


def test_a_life_after_a_kill_goes_on_behind_half_a_line(tmp_path: Path) -> None:
    first = ring_in(tmp_path)
    for number in range(10):
        first.write(piece(number))
    with first.newer.open("ab") as file:
        file.write(b"1010.000000 10.000000 in FA F")
    second = ring_in(tmp_path)
    second.write(piece(11))
    assert [each.mono for each in kept(second)] == [*range(10), 11]


def test_what_is_read_stays_readable_over_a_rotation(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    for number in range(50):
        ring.write(piece(number))
    files = ring.files()
    for number in range(50, 1000):
        ring.write(piece(number))
    assert [each.mono for each in capture.pieces_of(lines_of(files))] == list(range(50))


def test_p12_a_full_disk_stops_the_trace_only_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit of the file's size is a real ENOSPC's sibling: EFBIG in the middle of a line."""
    caplog.set_level(logging.INFO)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ring = ring_in(tmp_path, size=1_000_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for number in range(50):
            ring.write(piece(number))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "main.capture" in ring.problem
    assert [record.message for record in caplog.records] == ["trace_stopped"], "once"
    ring.write(piece(50))
    assert ring.problem, "it is not tried at each frame"
    ring.write(piece(50 + int(RETRY_S)))
    assert ring.problem == ""
    assert caplog.records[-1].message == "trace_goes_on"
    assert kept(ring)[-1] == piece(80)


def _a_file(place: Path) -> None:
    place.write_text("")


def _a_pipe(place: Path) -> None:
    place.mkdir()
    os.mkfifo(place / "main.capture")


def _a_link(place: Path) -> None:
    place.mkdir()
    (place / "main.capture").symlink_to(place.parent / "elsewhere")


def _a_folder(place: Path) -> None:
    (place / "main.capture").mkdir(parents=True)


@pytest.mark.parametrize("obstacle", [_a_file, _a_pipe, _a_link, _a_folder])
def test_what_lies_in_its_place_holds_nobody(tmp_path: Path, obstacle: object) -> None:
    assert callable(obstacle)
    obstacle(tmp_path / "trace")
    ring = ring_in(tmp_path)
    begun = time.monotonic()
    ring.write(piece(1))
    assert time.monotonic() - begun < 1
    assert ring.problem
    assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_that_is_read_is_no_ring_either(tmp_path: Path) -> None:
    """Its reader may stop: a write then fails at once (EAGAIN), and the trace stops."""
    _a_pipe(tmp_path / "trace")
    reader = os.open(tmp_path / "trace" / "main.capture", os.O_RDONLY | os.O_NONBLOCK)
    ring = ring_in(tmp_path, size=10**9)
    for number in range(3000):
        ring.write(piece(number, bytes(200)))
    os.close(reader)
    assert os.strerror(errno.EAGAIN) in ring.problem


def test_a_frame_costs_little_beside_a_millisecond(tmp_path: Path) -> None:
    ring = ring_in(tmp_path, size=1024 * 1024)
    took = []
    for number in range(5000):
        begun = time.perf_counter()
        ring.write(piece(number, bytes(40)))
        took.append(time.perf_counter() - begun)
    assert sorted(took)[len(took) // 2] < 0.000_2
