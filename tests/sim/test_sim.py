"""A bounded share of the simulation, and that its parts are what they claim.

More: `make sim ARGS="--first 1000 --count 5000"`; the power of it: `python -m tests.sim.mistakes`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.__main__ import environment, play
from tests.sim.loops import Timeline
from tests.sim.mistakes import MISTAKES, Mistake, caught_after, planted
from tests.sim.scenario import Happening, Scenario, generate

ROOT = Path(__file__).parents[2]


def sim(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.sim", *words],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "count"), [("vbp", 30), ("xy", 15), ("both", 15), ("two", 20)])
def test_no_promise_is_broken(layout: str, count: int) -> None:
    done = sim("--first", "5000", "--count", str(count), "--layout", layout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    print(done.stdout)


@pytest.mark.slow
def test_no_promise_is_broken_where_starts_are_cut_short() -> None:
    done = sim("--bounce", "--first", "5000", "--count", "6")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    crashes = int(done.stdout.split(" crashes")[0].split()[-1])
    assert crashes > 600, done.stdout


def test_a_seed_replays_its_run_exactly() -> None:
    first, second = (play(generate(174)) for _ in range(2))
    assert first.story == second.story
    assert len(first.story) > 20


def test_a_scenario_is_its_seed_alone() -> None:
    assert generate(7) == generate(7)
    assert generate(7) != generate(8)
    assert len(generate(7).without([0]).happenings) == len(generate(7).happenings) - 1


def test_a_breach_is_told_with_its_story_and_the_command_that_repeats_it(tmp_path: Path) -> None:
    mistake = next(m for m in MISTAKES if m.name == "two items counted as one")
    planted(mistake, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", "--first", "49", "--layout", mistake.layout],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Breach: P10:" in done.stdout
    assert re.search(r"It takes [1-6] of its \d+ happenings", done.stdout)
    assert re.search(r"Again: python -m tests\.sim --seed \d+ --layout vbp", done.stdout)
    assert "double_drop" in done.stdout


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_each_planted_mistake_still_fits_the_program(mistake: Mistake) -> None:
    for edit in mistake.edits:
        text = (ROOT / edit.file).read_text(encoding="utf-8")
        assert text.count(edit.was) == 1, edit.was


@pytest.mark.slow
@pytest.mark.parametrize("name", ["silence is a failure", "recovery skips young rows"])
def test_a_planted_mistake_is_caught(name: str) -> None:
    mistake = next(m for m in MISTAKES if m.name == name)
    seeds, breach = caught_after(mistake, 40)
    assert seeds, "not within 40 seeds"
    print(seeds, breach)


def test_the_power_goes_between_the_last_word_of_a_unit_and_the_drive_of_the_next() -> None:
    """P2: an XY board repeats the 02 that nobody acknowledged, to a daemon that finds the next
    cycle of the same lane open and never driven."""
    cycles = set()
    for steps in range(24):  # callbacks behind the commit that closed the first cycle
        power = ("power", {"away_s": 0.1, "on": "now", "steps": 0})
        order = {"lines": [{"product_id": 222, "quantity": 2}], "ttl": 90, "age": 0}
        happenings = (
            Happening(0.0, "ambush", {"boundary": "close_cycle", "steps": steps, "made": power}),
            Happening(3.0, "order", order),
            Happening(40.0, "nonsense", {"which": 0.1}),
        )
        world = play(
            Scenario(
                seed=1,
                layout="xy",
                second_cycles=0,
                require_sync=False,
                max_parallel=1,
                happenings=happenings,
            )
        )
        assert world.broken == "", f"{steps} callbacks behind"
        assert world.judge.counts["drive_frame"] == 1
        cycles.add(world.judge.counts["cycles"])
    assert cycles == {1, 2}, "the power went before and behind the commit that opened the next"


def test_an_item_that_falls_behind_the_next_cycle_of_its_lane_is_its_own_cycles() -> None:
    """The first item hangs at the edge for a minute; meanwhile the lane is driven again, and jams.
    Nobody can know by then whose item falls: counted as fallen too late, of the first cycle."""
    order = {"lines": [{"product_id": 122, "quantity": 1}], "ttl": 90, "age": 0}
    hangs = {"board": "main", "name": "late_drop", "delay_ms": 60_000}
    jams = {"board": "main", "name": "motor_overcurrent"}
    happenings = (
        Happening(3.0, "fault", hangs),
        Happening(3.0, "order", order),
        Happening(10.0, "fault", jams),
        Happening(10.0, "order", order),
        Happening(100.0, "nonsense", {"which": 0.1}),
    )
    world = play(
        Scenario(
            seed=1,
            layout="vbp",
            second_cycles=0,
            require_sync=False,
            max_parallel=1,
            happenings=happenings,
        )
    )
    assert world.broken == ""
    first, second = world.judge.cycles.values()
    assert (first.lane, first.drives, first.fell) == (second.lane, 1, 1)
    assert (second.drives, second.fell, second.fooled) == (1, 0, True)
    assert world.judge.counts["fell_too_late"] == 1


def test_a_dropped_process_runs_nothing_any_more() -> None:
    timeline = Timeline(1)
    loop, other = timeline.loop("dies"), timeline.loop("lives")
    ran: list[str] = []
    loop.call_soon(ran.append, "before")
    loop.call_later(5, ran.append, "after")
    other.call_later(10, ran.append, "other")
    timeline.step()
    timeline.end(loop)
    timeline.step()
    assert ran == ["before", "other"]
