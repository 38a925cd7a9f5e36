"""The pages of `watch`, replayed from a recorded stream and compared with committed screens."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest

from controller.cli import screen
from controller.cli.watch.page import Look, first_line, order_of_lanes, page
from controller.cli.watch.seen import Seen
from controller.cli.watch.shelves import ASCII, UTF8, shelves
from controller.cli.words import LANGUAGE
from tests.cli.watch.snapshots import (
    MOMENTS,
    RECORDING,
    SCREENS,
    SIZES,
    at_first,
    lines_of,
    replayed,
    styles_of,
    text_of,
)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_screen_is_as_committed(moment: str, size: str) -> None:
    shown = text_of(lines_of(moment, size))
    assert shown == (SCREENS / f"{moment}.{size}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_colours_are_as_committed(moment: str) -> None:
    shown = styles_of(lines_of(moment, "80x24"))
    assert shown == (SCREENS / f"{moment}.styles.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("size", SIZES)
def test_every_step_of_the_recording_fits_its_screen(size: str) -> None:
    width, height, signs = SIZES[size]
    seen = Seen()
    for text in RECORDING.read_text(encoding="utf-8").splitlines():
        seen.take(json.loads(text))
        lines = page(seen, width, height, signs, Look("A12"))
        assert len(lines) == height
        assert max(screen.columns_of(text_of([line]).rstrip("\n")) for line in lines) <= width
        if signs is ASCII:
            assert text_of(lines).isascii()


def test_the_cycle_passes_through_its_states_and_the_first_line_with_it() -> None:
    seen, firsts, states = Seen(), [], []
    for text in RECORDING.read_text(encoding="utf-8").splitlines():
        seen.take(json.loads(text))
        firsts.append(first_line(seen)[0][0])
        cycle = seen.part("cycles").get("A") or {}
        if str(cycle.get("purpose", "")).startswith("2#"):
            states.append(cycle["state"])
    for expected in ("Nothing moves.", "MOVING: A3 (1#1)", "MOVING: A12 (2#1)"):
        assert expected in firsts
    steps = {(was, now) for was, now in pairwise(states) if was != now}
    assert ("moving", "ended") in steps


def test_p3_what_waits_is_told_with_the_command_before_a_hand_reaches_in() -> None:
    seen = at_first()
    waits = {"cabinet": "A", "channel": "A3", "purpose": "test:1", "why": "its turn", "jobs": 1}
    seen.take({"part": "machine", "at": 1.0, "data": {"may_start": [waits]}})
    lines = text_of(page(seen, 120, 24, UTF8, Look())).splitlines()
    assert lines[0].startswith("Nothing moves now. A motor may start any moment: a test vend of")
    assert lines[1] == "Before a hand reaches in: vendctl cabinet stop A"


def test_a_lane_is_told_as_status_tells_it() -> None:
    seen = at_first()
    lane = {**seen.part("lanes")["A3"], "health": "disabled", "health_reason": ""}
    seen.take({"part": "lanes", "at": 1.0, "data": {"A3": lane}})
    seen.take({"part": "machine", "at": 1.0, "data": {"stopped_by": {"A3": "anna"}}})
    told = text_of(page(seen, 120, 24, UTF8, Look()))
    assert "! lane A3: disabled (no reason given, by anna); to sell: vendctl lane enable A3" in told


def test_p5_a_motor_that_may_still_turn_is_not_told_as_standing() -> None:
    assert first_line(replayed())[0][0] == "NOT KNOWN whether a motor turns: board side"


def test_a_new_snapshot_replaces_everything_and_ends_the_doubt() -> None:
    seen = replayed()
    seen.lose("gone", 1.0)
    first = json.loads(RECORDING.read_text(encoding="utf-8").splitlines()[0])
    seen.take(first)
    fresh = at_first()
    assert (seen.parts, seen.lost_at, seen.why) == (fresh.parts, None, "")


def test_the_time_of_the_loss_stays_while_one_asks_again() -> None:
    seen = at_first()
    seen.lose("the daemon stopped", 100.0)
    seen.lose("nobody listens", 160.0)
    assert (seen.lost_at, seen.why) == (100.0, "nobody listens")


def lanes(*numbers: int) -> list[dict[str, str]]:
    return [{"channel": f"A{number}"} for number in numbers]


def shape(*numbers: int) -> list[str]:
    return [
        " ".join(str(lane["channel"])[1:] if lane else "." for lane in shelf)
        for shelf in shelves(lanes(*numbers))
    ]


def test_shelves_counted_by_tens_and_counted_through() -> None:
    assert shape(10, 11, 12, 20, 22) == ["10 11 12", "20 . 22"]
    assert shape(*range(1, 21)) == [
        "1 2 3 4 5 6 7 8 9 10",
        "11 12 13 14 15 16 17 18 19 20",
    ]
    assert shape(1, 2, 11, 12) == ["1 2", "11 12"]
    assert shape(8) == ["8"]
    assert shape() == []


def test_a_cabinet_of_sixty_lanes_gives_up_its_bars_and_then_scrolls_to_the_chosen() -> None:
    seen = at_first()
    some = seen.part("lanes")["A1"]
    seen.parts["lanes"] = {
        f"A{n}": {**some, "channel": f"A{n}", "stock": n % 9, "capacity": 8} for n in range(1, 61)
    }
    seen.part("cabinets").pop("B")
    text = text_of(page(seen, 60, 24, UTF8, Look("A60")))
    assert [f"A{n}" for n in range(1, 61) if f"A{n}" not in text] == []
    low = text_of(page(seen, 60, 10, UTF8, Look("A60")))
    assert ">A60" in low
    assert "A1○" not in low


def test_arrows_go_along_the_shelves() -> None:
    assert [len(row) for row in order_of_lanes(at_first())] == [10, 10, 3, 3]


def test_nothing_that_a_stream_may_hold_is_a_crash() -> None:
    seen = Seen()
    seen.take({"part": "snapshot", "at": "noon", "data": {"machine": 5, "lanes": {"A1": {}}}})
    seen.take({"part": "snapshot", "data": None})
    seen.take({"data": {"x": {}}})
    seen.take_frame({"frame": "zz", "at": None})
    assert len(page(seen, 20, 5, ASCII, Look())) == 5


ENGLISH = re.compile(
    "ready|dispensing|running|stopped|out_of_service|track|spiral|unverified|clear|blocked"
    "|disabled|suspended|opened|written|accepted|moving|ended|quarantined|, ok|its turn|test\\b"
)
"""Words of states that have their Chinese in `status`. Topics, kinds of events, reasons of a
person and names of boards are the same in each language, as are names of frames."""


@pytest.mark.parametrize("moment", ["at_rest", "moving", "in_trouble", "lost"])
def test_the_page_is_chinese_in_chinese_and_nothing_of_it_falls_off_a_phone(
    moment: str,
) -> None:
    """A wide sign takes two columns."""
    seen = MOMENTS[moment]()
    LANGUAGE.set("zh")
    try:
        lines = page(seen, 60, 24, UTF8, Look("A12"))
    finally:
        LANGUAGE.set("en")
    text = text_of(lines).splitlines()
    assert max(map(screen.columns_of, text)) <= 60
    shown = [line for line in text if not re.match(r"\d\d:\d\d:\d\d", line)]  # of frames, events
    told = {line: found for line in shown if (found := ENGLISH.findall(line))}
    assert told == {}
    summary = " ".join(text[:4])
    for sign in ("✓消息服务器", "✓main", "✓side", "✓时钟", "✓日志", "16327129"):
        assert sign in summary
    assert text[-1].startswith("t测试")
    assert text[-1].endswith("q退出")
