"""The text of captures: written, read again, and what a person may have done to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import capture
from controller.capture import CaptureError, Piece

PIECES = st.builds(
    Piece,
    st.integers(0, 2**52).map(lambda us: us / 1e6),
    st.just(7.25),
    st.sampled_from(capture.DIRECTIONS),
    st.binary(min_size=1, max_size=300),
)


@given(st.lists(PIECES), st.text())
def test_what_was_written_is_read_again(pieces: list[Piece], words: str) -> None:
    text = capture.head(board="main", protocol="xy", note=words)
    text += "".join(capture.line_of(piece, words) for piece in pieces)
    found = capture.read(text)
    assert [(p.direction, p.data, p.mono) for p in found.pieces] == [
        (p.direction, p.data, p.mono) for p in pieces
    ]
    assert all(abs(a.wall - b.wall) < 2e-6 for a, b in zip(found.pieces, pieces, strict=True))
    assert found.header["protocol"] == "xy"


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_read_or_refused_with_a_line(text: str) -> None:
    for whole in (text, f"{capture.VERSION_LINE}\n{text}"):
        try:
            capture.read(whole)
        except CaptureError as error:
            assert str(error).startswith(("line ", "a capture"))  # noqa: PT017
    assert list(capture.pieces_of(text.splitlines())) is not None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "line 1"),
        ("vending-capture 2\n", "line 1"),
        ("vending-capture 1\n\n1.0 1.0 in FA F\n", "line 3"),
        ("vending-capture 1\n1.0 1.0 up FA\n", "line 2"),
        ("vending-capture 1\n1.0 1.0 in FA\nboard: main\n", "line 3"),
        ("vending-capture 1\n1.0 2.0 in FA\n1.0 1.0 in FB\n", "line 3"),
        ("vending-capture 1\n" + "a: b\n" * 50, "line "),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: str) -> None:
    if text.count("a: b"):
        text = text.replace("a: b", "{}: b").format(
            *(chr(97 + n % 26) * (n + 1) for n in range(50))
        )
    with pytest.raises(CaptureError, match=line):
        capture.read(text)


def test_a_capture_is_bounded() -> None:
    with pytest.raises(CaptureError, match="at most"):
        capture.read("vending-capture 1\n" + "#" * capture.LONGEST_CAPTURE)
