"""Plain text of 60 columns, whatever it is given (P14 on the way out)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.cli import screen
from controller.cli.words import LANGUAGE, language_of, say

CELLS = st.one_of(st.none(), st.integers(), st.text(max_size=80))


@given(rows=st.lists(st.tuples(CELLS, st.text(max_size=9), CELLS), max_size=5))
def test_a_table_is_printable_and_narrow(rows: list[tuple[object, str, object]]) -> None:
    lines = screen.table(("ONE", "TWO", "THREE"), rows)
    for line in lines:
        assert line.isprintable()
    shown = {screen.clean(row[0]) for row in rows}
    for line in lines:
        assert screen.columns_of(line) <= screen.WIDTH or line in shown


def test_a_long_order_key_is_never_cut() -> None:
    key = "9223372036854775807/" + "1" * 32
    lines = screen.table(("ORDER", "STATUS"), [(key, "finished"), ("1", "accepted")])
    assert lines == [
        "ORDER  STATUS",
        key,
        "       finished",
        "1      accepted",
    ]


def test_wide_signs_take_two_columns() -> None:
    assert screen.table(("A", "B"), [("售货机", "x"), ("ab", "y")]) == [
        "A       B",
        "售货机  x",
        "ab      y",
    ]


@given(
    text=st.text(max_size=300) | st.text("货道卡 a(b)，。（", max_size=300),  # noqa: RUF001
    indent=st.integers(0, 12),
)
def test_wrapped_text_is_narrow_and_whole(text: str, indent: int) -> None:
    lines = screen.wrapped(text, " " * indent, " " * 4)
    for line in lines:
        assert screen.columns_of(line) <= screen.WIDTH
    assert "".join("".join(lines).split()) == "".join(screen.clean(text).split())


def test_chinese_is_broken_between_signs_and_never_before_a_full_stop() -> None:
    lines = screen.wrapped("货道" * 29 + "卡货。" + "vendctl lane A20 结束")
    assert [screen.columns_of(line) for line in lines] == [60, 58, 25]
    assert lines[2] == "货。vendctl lane A20 结束"
    assert screen.wrapped("货" * 30 + "。") == ["货" * 29, "货。"]


@given(st.text(max_size=200))
def test_cleaned_text_cannot_move_a_cursor(text: str) -> None:
    assert screen.clean(text).isprintable()


@given(st.one_of(st.none(), st.text(), st.floats(), st.integers()))
def test_any_time_is_a_text(moment: object) -> None:
    assert isinstance(screen.at(moment), str)
    assert isinstance(screen.at_ms(moment), str)


def test_the_language_is_the_options_then_the_locales_then_english() -> None:
    assert language_of(["--lang", "en"], {"LANG": "zh_CN.UTF-8"}) == "en"
    assert language_of([], {"LANG": "zh_CN.UTF-8"}) == "zh"
    assert language_of([], {"LANG": "en_GB.UTF-8", "LC_MESSAGES": "zh_TW"}) == "zh"
    assert language_of([], {"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}) == "en"
    assert language_of([], {"LANG": "de_DE.UTF-8"}) == "en", "there is no such catalogue"
    assert language_of(["--lang=zh"], {}) == "zh"
    assert language_of(["--lang"], {}) == "en"


def test_a_sentence_without_a_translation_is_said_in_english() -> None:
    LANGUAGE.set("en")
    assert say("lane {name}", name="A{1}") == "lane A{1}"
    assert say("{as it stands}") == "{as it stands}"


@given(st.binary(max_size=40))
def test_a_frame_is_shown_in_pairs_however_it_was_stored(frame: bytes) -> None:
    """Drivers write them with spaces, other tools without."""
    pairs = frame.hex(" ")
    assert screen.spaced(pairs) == screen.spaced(frame.hex()) == pairs
