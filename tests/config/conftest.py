"""A whole settings file for tests, and a way to break it in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

GOOD = """\
[machine]
machine_no = "16327129"
state_dir = "/var/lib/vending-controller"

[clock]
skew_s = 30

[mqtt]
host = "localhost"

[service]
idle_minutes = 10

[[board]]
name = "main"
protocol = "vbp"
port = "/dev/serial/by-path/one"

[[board]]
name = "side"
protocol = "xy"
port = "tcp://127.0.0.1:4001"

[[cabinet]]
name = "A"
kind = "track"
board = "main"
drop_sensor = true

  [[cabinet.lane]]
  channel = "A1"
  number = 1
  product_id = 121
  capacity = 8
  initial_stock = 8

  [[cabinet.lane]]
  channel = "A02"
  number = 2
  product_id = 122
  capacity = 6

[[cabinet]]
name = "B"
kind = "spiral"
board = "side"

  [[cabinet.lane]]
  channel = "B1"
  number = 1
  product_id = 221
  capacity = 10
"""


def changed(old: str, new: str) -> str:
    """GOOD with one piece replaced, which must be there exactly once."""
    assert GOOD.count(old) == 1, f"{old!r} stands {GOOD.count(old)} times in the good file"
    return GOOD.replace(old, new)


def line_with(text: str, words: str) -> int:
    """The number of the only line that holds these words."""
    (number,) = (n for n, line in enumerate(text.split("\n"), 1) if words in line)
    return number


@pytest.fixture
def good_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"
