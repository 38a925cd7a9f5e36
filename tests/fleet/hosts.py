"""The processes of the fleet, told what to do with a line each."""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.fleet.machine import machine_no
from tests.system.process import LEASH

MOST_MACHINES = 125
"""In one process: a machine holds seven descriptors, and paho's `select` takes none above 1,023."""
FEWEST_HOSTS, MOST_HOSTS = 2, 4
END_WITHIN_S = 30.0


def how_many(machines: int) -> int:
    assert machines <= MOST_MACHINES * MOST_HOSTS, f"at most {MOST_MACHINES * MOST_HOSTS} machines"
    return max(FEWEST_HOSTS, -(-machines // MOST_MACHINES))


class Hosts:
    def __init__(self, directory: Path, machines: int, port: int, seed: int, speed: float) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.numbers = [machine_no(index) for index in range(machines)]
        self._children: list[subprocess.Popen[bytes]] = []
        self._of: dict[str, int] = {}
        count = how_many(machines)
        bounds = [machines * each // count for each in range(count + 1)]
        for host, (first, end) in enumerate(itertools.pairwise(bounds)):
            self._of |= dict.fromkeys(self.numbers[first:end], host)
            command = [
                *LEASH, sys.executable, "-m", "tests.fleet.host",
                "--first", first, "--count", end - first, "--port", port,
                "--directory", directory, "--seed", seed, "--speed", speed,
            ]  # fmt: skip
            with (directory / f"host-{host}.log").open("wb") as log:
                self._children.append(
                    subprocess.Popen(
                        [str(word) for word in command],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        env={**os.environ, "PYTHONHASHSEED": "0"},
                        start_new_session=True,
                    )
                )
        self._pool = ThreadPoolExecutor(len(self._children))

    def tell(self, word: str, machines: Iterable[str] | None = None) -> list[Any]:
        """The answer of each process that holds one of them (None: all), when all have done it."""
        chosen = None if machines is None else sorted(machines)
        asked = [
            child
            for host, child in enumerate(self._children)
            if chosen is None or any(self._of[number] == host for number in chosen)
        ]
        line = json.dumps({"do": word, "machines": chosen}).encode() + b"\n"

        def tell_one(child: subprocess.Popen[bytes]) -> Any:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(line)
            child.stdin.flush()
            answer = child.stdout.readline()
            assert answer, f"a process of the fleet ended at {word!r}: see its log"
            return json.loads(answer)

        return list(self._pool.map(tell_one, asked))

    def of_each(self, word: str, machines: Iterable[str] | None = None) -> dict[str, Any]:
        """machine_no -> what is answered of it."""
        return {number: said for part in self.tell(word, machines) for number, said in part.items()}

    @property
    def pids(self) -> Sequence[int]:
        return [child.pid for child in self._children]

    def close(self) -> None:
        for child in self._children:
            assert child.stdin is not None
            child.stdin.close()
        for child in self._children:
            try:
                child.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._pool.shutdown()
