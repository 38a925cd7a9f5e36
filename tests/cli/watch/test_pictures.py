"""The pictures in the documents show what the program shows now."""

from __future__ import annotations

import html
import re

import pytest

from tests.cli.watch.pictures import OF, PICTURES
from tests.cli.watch.snapshots import lines_of, text_of


@pytest.mark.parametrize("moment", OF)
def test_the_picture_is_of_the_screen_as_it_is_now(moment: str) -> None:
    svg = (PICTURES / OF[moment]).read_text(encoding="utf-8")
    assert svg.replace("http://www.w3.org/2000/svg", "").count("http") == 0, "it loads nothing"
    drawn = "".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))
    words = re.sub(r"\s", "", html.unescape(drawn))
    for line in text_of(lines_of(moment, "80x24")).splitlines():
        assert re.sub(r"\s", "", line) in words
