"""A scenario's mistakes are told with file, line, key and remedy, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.boards.vbp.frames import Capability
from firmware_sim.scenario import ScenarioError, load, parse
from tests.emulator.hosts import LANE, scenario_text

GOOD = """
[[board]]
protocol = "xy"
port = "pty:/tmp/board0"
seed = 1
ledger = "/tmp/board0.jsonl"
control = "/tmp/board0.sock"
memory = "/tmp/board0.mem"

  [[board.lane]]
  number = 1
  kind = "track"
  goods = 8
  run_ms = 2500
  fall_ms = 350
  jitter = 0.1

  [[board.fault]]
  kind = "jam"
  lane = 1
  cycle = 3
"""


def test_the_documented_scenario_is_understood() -> None:
    (board,) = parse(GOOD).boards
    assert (board.protocol, board.port, board.seed) == ("xy", "pty:/tmp/board0", 1)
    assert board.ledger == Path("/tmp/board0.jsonl")
    assert (board.lanes[0].run_ms, board.lanes[0].jitter) == (2500, 0.1)
    assert (board.faults[0].kind, board.faults[0].cycle) == ("jam", 3)
    assert board.poll_ms == 200


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('protocol = "xy"', 'protocol = "xz"', "s.toml:3: board.[1].protocol"),
        ("goods = 8", "goods = -1", "s.toml:13: board.[1].lane.[1].goods"),
        ("goods = 8", 'goods = "8"', "s.toml:13: board.[1].lane.[1].goods"),
        ("goods = 8", "goodz = 8", "s.toml:13: board.[1].lane.[1].goodz"),
        ('kind = "jam"', 'kind = "jammed"', "s.toml:19: board.[1].fault.[1].kind"),
        ("cycle = 3", "cycle = 0", "s.toml:21: board.[1].fault.[1].cycle"),
        ("  lane = 1", "  lane = 9", "s.toml:20: board.[1].fault.[1].lane: there is no lane 9"),
        ("cycle = 3", "cycle = 3\n  after_ms = 5", "s.toml:18: board.[1].fault.[1]: jam takes no"),
        ('"jam"', '"status"', "s.toml:18: board.[1].fault.[1]: status needs code"),
        ("pty:/tmp/board0", "tcp:127.0.0.1:70000", "s.toml:4: board.[1].port: write"),
        ('port = "pty:/tmp/board0"', "", 's.toml:2: board.[1].port: none is given; write port = "'),
        (
            "board0.mem",
            "board0.sock",
            "s.toml:8: board.[1].memory: /tmp/board0.sock is the control",
        ),
        (
            "[[board]]",
            "[board]",
            "board: Input should be a valid tuple; write a table as [[board]]",
        ),
        (
            "[[board]]",
            "[[boards]]",
            "s.toml:1: boards: Extra inputs are not permitted; no such key",
        ),
        ('port = "pty:/tmp/board0"', 'port = "/tmp/board0"', "s.toml:4: board.[1].port"),
        ("  number = 1\n", "", "s.toml:10: board.[1].lane.[1].number: Field required; add it"),
        ("[[board]]", "[[board", "s.toml: not TOML"),
        ("seed = 1", f"seed = {'1' * 5000}", "s.toml: not TOML: Exceeds the limit"),
        ("seed = 1", f"seed = {'[' * 3000}", "s.toml: nested too deeply"),
        ("seed = 1", 'seed = 1\ncapabilities = ["fly"]', "'fly' is no capability"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "s.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ScenarioError) as error:
        load(path)
    assert said in str(error.value)


def test_every_mistake_is_told_at_once() -> None:
    text = GOOD.replace("goods = 8", "goods = -1").replace("cycle = 3", "cycle = 0")
    with pytest.raises(ScenarioError) as error:
        parse(text)
    assert len(str(error.value).splitlines()) == 2


def test_two_lanes_with_one_number_and_two_boards_on_one_port_are_mistakes() -> None:
    with pytest.raises(ScenarioError, match="two lanes have the number 10"):
        parse(scenario_text("vbp", lanes=LANE + LANE))
    with pytest.raises(
        ScenarioError, match=r"s:25: board.\[2\].port: /tmp/board0 is the port of a board"
    ):
        parse(GOOD + GOOD, "s")


def test_a_fault_of_another_protocol_is_a_mistake() -> None:
    with pytest.raises(ScenarioError, match="a vbp board has no fault 'no_ack'"):
        parse(scenario_text("vbp", faults='[[board.fault]]\nkind = "no_ack"'))


def test_a_missing_or_unreadable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path / "binary.toml")


def test_capabilities_follow_the_parts_that_are_fitted() -> None:
    def bits(head: str) -> Capability:
        return parse(scenario_text("vbp", head)).boards[0].capability_bits()

    assert bits("") == 0xFF
    assert bits("eye = false\ndoor = false") == 0xFF & ~0b10011
    assert bits('capabilities = ["remembers_cycles"]') == Capability.REMEMBERS_CYCLES


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=300))
def test_any_text_is_a_scenario_or_a_scenario_error(text: str) -> None:
    """P14: no text crashes it."""
    try:
        parse(text)
    except ScenarioError as error:
        assert str(error)  # noqa: PT017  some text is a scenario
