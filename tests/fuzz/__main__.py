"""`make fuzz`: every target under atheris for its share of the time, and a table at the end.

    make fuzz                                            five minutes over all targets
    make fuzz ARGS="--seconds 60 --target vbp-frames"    one of them; repeat --target for more
    make fuzz ARGS="--keep"                              take what was found into the corpus
    make fuzz ARGS="--target settings --replay FILE"     one input, with its traceback

One core, one target after the other. Found inputs stay in .cache/fuzz for the next run;
an input that fails lies in .cache/fuzz/crashes, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.files import put_away
from tests.fuzz.table import TARGETS
from tests.fuzz.trace import ROOT, fewest

SECONDS = 300
CACHE = ROOT / ".cache/fuzz"
CRASHES = CACHE / "crashes"
LIMITS = ("-timeout=30", "-rss_limit_mb=1024", "-print_final_stats=1", "-len_control=20")
"""An input takes milliseconds: 30 s are a hang, and a gigabyte is a leak."""


@dataclass(slots=True)
class Ran:
    """What one target's run came to."""

    executions: int = 0
    per_second: int = 0
    edges: int = 0
    inputs: int = 0
    coverage: dict[str, tuple[float, list[int]]] = field(default_factory=dict)
    crashes: list[Path] = field(default_factory=list)


def main() -> int:
    args = _arguments()
    names: list[str] = args.target or list(TARGETS)
    logging.disable(logging.CRITICAL)
    if args.replay is not None:
        TARGETS[names[0]].run(args.replay.read_bytes())
        print(f"{names[0]}: {args.replay} passes")
        return 0
    CRASHES.mkdir(parents=True, exist_ok=True)
    shares = sum(TARGETS[name].share for name in names)
    results = {}
    print(ROW.format(*HEADS))
    for name in names:
        seconds = max(1, round(args.seconds * TARGETS[name].share / shares))
        results[name] = ran = _fuzz(name, seconds)
        if args.keep:
            _keep(name)
        ran.coverage = _measure(name)
        print(_row(name, ran), flush=True)
    executions = sum(ran.executions for ran in results.values())
    crashes = [crash for ran in results.values() for crash in ran.crashes]
    print(f"\n{executions:,} executions, {len(crashes)} crashes")
    if args.missing:
        for ran in results.values():
            for path, (_percent, lines) in ran.coverage.items():
                print(f"{path}: not reached: {_ranges(lines)}")
    return 1 if crashes else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=SECONDS, help="over all chosen targets")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("--keep", action="store_true", help="renew tests/fuzz/corpus")
    parser.add_argument("--missing", action="store_true", help="name the lines not reached")
    parser.add_argument("--replay", type=Path, help="run this input of the one --target")
    return parser.parse_args()


HEADS = ("target", "executions", "per s", "edges", "lines and branches", "inputs", "crashes")
ROW = "{:<18} {:>11} {:>7} {:>6}  {:>18} {:>7} {:>7}"


def _row(name: str, ran: Ran) -> str:
    percents = [percent for percent, _ in ran.coverage.values()]
    shown = " ".join(f"{percent:.0f}%" for percent in percents)
    figures = (ran.executions, ran.per_second, ran.edges, shown, ran.inputs, len(ran.crashes))
    return ROW.format(name, *figures)


def _child(name: str, *flags: str) -> str:
    """What libFuzzer said; its exit code is in that too, as an artifact or not."""
    command = [sys.executable, "-m", "tests.fuzz.child", name, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def _fuzz(name: str, seconds: int) -> Ran:
    found = CACHE / name
    _spread(name, found)
    before = set(CRASHES.iterdir())
    said = _child(
        name,
        *LIMITS,
        f"-max_total_time={seconds}",
        f"-max_len={TARGETS[name].longest}",
        f"-artifact_prefix={CRASHES}/{name}-",
        str(found),
    )
    crashes = sorted(set(CRASHES.iterdir()) - before)
    if crashes or not re.search(r"^Done \d+ runs", said, re.MULTILINE):
        log = CACHE / f"{name}.log"
        log.write_text(said, encoding="utf-8")
        print(f"{name}: {[str(crash) for crash in crashes] or 'died'}; its words: {log}")
        crashes = crashes or [log]
    return Ran(
        executions=_figure(r"stat::number_of_executed_units:\s*(\d+)", said),
        per_second=_figure(r"stat::average_exec_per_sec:\s*(\d+)", said),
        edges=_figure(r"cov: (\d+)", said),
        inputs=len(list(found.iterdir())),
        crashes=crashes,
    )


def _figure(pattern: str, said: str) -> int:
    return int((re.findall(pattern, said) or ["0"])[-1])


def _keep(name: str) -> None:
    """The corpus anew: the fewest of the found inputs that go all ways."""
    found = [file.read_bytes() for file in (CACHE / name).iterdir()]
    corpus.write(name, fewest(TARGETS[name].run, found))
    put_away()


def _spread(name: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for one in corpus.read(name):
        (folder / hashlib.sha1(one.data, usedforsecurity=False).hexdigest()).write_bytes(one.data)


def _measure(name: str) -> dict[str, tuple[float, list[int]]]:
    """Of the corpus in the repository, which is what `make test` replays."""
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        _spread(name, Path(folder))
        command = [sys.executable, "-m", "tests.fuzz.measure", name, folder]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return {}  # the corpus itself fails, which the replay tells better
    return {path: (percent, lines) for path, (percent, lines) in json.loads(done.stdout).items()}


def _ranges(lines: list[int]) -> str:
    """12-14, 20: what a person looks up."""
    shown: list[list[int]] = []
    for line in lines:
        if shown and line == shown[-1][-1] + 1:
            shown[-1].append(line)
        else:
            shown.append([line])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in shown) or "-"


if __name__ == "__main__":
    sys.exit(main())
