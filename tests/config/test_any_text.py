"""P14 for the settings: no text, no bytes and no mutation raises anything but ConfigError."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import config
from controller.errors import ConfigError
from tests.config.conftest import GOOD

LINES = GOOD.split("\n")
SCALARS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.text(max_size=8),
    st.sampled_from(["A1", "A01", "B1", "main", "vbp", "xy", "track", "tcp://[", "/dev/x", "\0"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["name", "lane", "tls", "x"]), inner, max_size=3),
    ),
    max_leaves=6,
)


def holds(path: Path) -> None:
    """Either settings, or a ConfigError whose every line carries the file's name."""
    errors, _ = config.check_text(path)
    if not errors:
        loaded, _ = config.load(path)
        assert config.cabinets(loaded)
        return
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    lines = str(caught.value).split("\n")
    assert lines == errors
    assert all(line.startswith(str(path)) for line in lines)
    assert all(line.isprintable() for line in lines)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    holds(file)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200))
def test_any_text(file: Path, content: str) -> None:
    file.write_bytes(content.encode("utf-8", "surrogatepass"))
    holds(file)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_good_file_with_lines_lost_doubled_and_moved(file: Path, data: st.DataObject) -> None:
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at, to = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        match data.draw(st.sampled_from(["drop", "double", "swap", "cut", "join"])):
            case "drop":
                del lines[at]
            case "double":
                lines.insert(to, lines[at])
            case "swap":
                lines[at], lines[to] = lines[to], lines[at]
            case "cut":
                lines[at] = lines[at][: data.draw(st.integers(0, 20))]
            case _:
                lines[at] += data.draw(st.text(max_size=4))
    file.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    holds(file)


@settings(max_examples=150)
@given(st.data())
def test_a_good_file_with_other_values(data: st.DataObject) -> None:
    """Any value at any place of the parsed file: judged, never a crash."""
    raw: Any = tomllib.loads(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        here = raw
        while True:
            steps = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not steps:
                break
            step = data.draw(st.sampled_from(steps))
            if isinstance(here[step], dict | list) and data.draw(st.integers(0, 4)):
                here = here[step]
                continue
            if data.draw(st.integers(0, 3)):
                here[step] = data.draw(ANYTHING)
            else:
                del here[step]
            break
    errors = config.judge_parsed(raw, "", "f").errors
    assert all(line.startswith("f:") and line.isprintable() for line in errors)
