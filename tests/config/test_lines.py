"""The scan for line numbers."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller.config_lines import line_of, places

TEXT = '''\
title = "one [[not.a.table]]" # [neither]

[mqtt]
host = "x"
tls.ca_file = "y"
"quoted key" = 1
text = """
[[board]]
name = "inside a string"
"""
list = [
  1, # ]
  "]", 2,
]
grid = [
  [1],
  [ 2 ]
]
after = 1

[[board]]
name = "a"
[[board]]
name = "b"
[[cabinet]]
name = "A"
  [[cabinet.lane]]
  number = 1
  [[cabinet.lane]]
  number = 2
    [cabinet.lane.more]
    deep = 1
[[cabinet]]
  [[cabinet.lane]]
  number = 3
'''


def test_tables_keys_and_nested_arrays() -> None:
    tomllib.loads(TEXT)
    lines = places(TEXT)
    assert lines["title",] == 1
    assert lines["mqtt", "host"] == 4
    assert lines["mqtt", "tls", "ca_file"] == 5
    assert lines["mqtt", "quoted key"] == 6
    assert lines["mqtt", "after"] == 19
    assert lines["board", 0, "name"] == 22
    assert lines["board", 1, "name"] == 24
    assert lines["cabinet", 0, "lane", 0, "number"] == 28
    assert lines["cabinet", 0, "lane", 1, "number"] == 30
    assert lines["cabinet", 0, "lane", 1, "more", "deep"] == 32
    assert lines["cabinet", 1, "lane", 0, "number"] == 35
    assert ("mqtt", "name") not in lines


def test_what_has_no_line_has_that_of_its_table() -> None:
    lines = places(TEXT)
    assert line_of(("board", 1, "protocol"), lines) == 23
    assert line_of(("mqtt", "list", 1), lines) == 11
    assert line_of(("machine",), lines) == 1
    assert line_of((), lines) == 1


KEYS = st.from_regex(r"[a-z][a-z0-9_-]{0,5}", fullmatch=True)
VALUES = st.one_of(
    st.integers(-9, 9).map(str),
    st.sampled_from(['"[x]"', "'''\n[y]\nk = 1\n'''", "[\n1,\n2\n]", '"a # b"', '"""q"""']),
)
TABLES = st.lists(
    st.tuples(KEYS, st.booleans(), st.dictionaries(KEYS, VALUES, max_size=4)),
    max_size=6,
    unique_by=lambda table: table[0],
)


@given(TABLES, st.integers(1, 3))
def test_every_key_of_a_file_is_found_on_its_line(
    tables: list[tuple[str, bool, dict[str, str]]], repeats: int
) -> None:
    text, expected = "", {}
    for name, array, content in tables:
        for index in range(repeats if array else 1):
            text += f"[[{name}]] # [[\n" if array else f"[ {name} ]\n"
            for key, value in content.items():
                path = (name, index, key) if array else (name, key)
                expected[path] = text.count("\n") + 1
                text += f"  {key} = {value}\n"
    parsed: Any = tomllib.loads(text)
    lines = places(text)
    for path, line in expected.items():
        assert lines[path] == line
        here = parsed
        for step in path:
            here = here[step]


@given(st.text())
def test_no_text_breaks_the_scan(text: str) -> None:
    last = text.count("\n") + 1
    assert all(1 <= line <= last for line in places(text).values())
