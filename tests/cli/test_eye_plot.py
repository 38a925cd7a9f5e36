"""An eye's level, drawn: narrow, and every pulse is seen however short."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.cli import eye_plot, screen

MOMENTS = st.lists(st.integers(0, 100_000), max_size=30, unique=True).map(sorted)


def test_a_pulse_is_drawn_where_it_was() -> None:
    dark, clear, scale = eye_plot.plot([[0, False], [500, True], [545, False]], 0, 1000)
    columns = screen.WIDTH - len("clear ")
    at = dark.index("#") - len("clear ")
    assert abs(at - columns / 2) <= 1
    assert clear.startswith("clear ____")
    assert scale.split() == ["0.0", "s", "1.0", "s"]


def test_what_nobody_saw_is_blank() -> None:
    _, clear, _ = eye_plot.plot([[500, False]], 0, 1000)
    assert clear.index("_") - len("clear ") >= (screen.WIDTH - len("clear ")) // 2 - 1


def test_the_window_lies_around_everything_dark() -> None:
    assert eye_plot.window([[0, False], [2000, True], [2045, False]], 5000) == (1500, 2545)
    assert eye_plot.window([[0, False], [4900, True]], 5000) == (4400, 5000)
    assert eye_plot.window([[0, False]], 5000) == (0, 5000)
    assert eye_plot.window([], 0) == (0, 1)


@given(moments=MOMENTS, over=st.integers(0, 100_000))
def test_any_trace_is_three_narrow_lines_and_shows_each_dark_stretch(
    moments: list[int], over: int
) -> None:
    changes = [[at, bool(index % 2)] for index, at in enumerate(moments)]
    lines = eye_plot.plot(changes, *eye_plot.window(changes, over))
    assert len(lines) == 3
    assert max(map(len, lines)) <= screen.WIDTH
    whole = eye_plot.plot(changes, 0, 100_001)
    assert ("#" in whole[0]) == any(dark for _, dark in changes)


@given(st.lists(st.one_of(st.none(), st.integers(0, 9999)), max_size=20))
def test_pulses_are_told_one_by_one_up_to_a_bound(widths: list[int | None]) -> None:
    pulses = [{"at_ms": 10, "width_ms": width} for width in widths]
    lines = eye_plot.pulse_lines(pulses)
    assert len(lines) <= eye_plot.SHOWN + 1
    assert all(len(line) <= screen.WIDTH for line in lines)
