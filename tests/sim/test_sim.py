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
from tests.sim.scenario import generate

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
