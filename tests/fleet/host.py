"""A process with some machines of the fleet, which does what it is told on its stdin.

A line is a JSON object `{"do": word, "machines": [numbers] or null}`; each is answered with one
line, when it is done. The words are the methods of `Host`. The end of stdin is the end of it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tests.fleet.machine import Machine, machine_no, seams

STARTS_AT_ONCE = 32
"""Each start makes a journal and blocks the loop of all others for it."""
LONGEST_LINE = 1024 * 1024


class Tally(logging.Handler):
    """How often each event of the log came, from warnings on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.counts: Counter[str] = Counter()
        self.worst: dict[str, str] = {}
        """Of errors: the last words of each."""

    def emit(self, record: logging.LogRecord) -> None:
        self.counts[record.msg] += 1
        if record.levelno >= logging.ERROR:
            self.worst[record.msg] = f"{getattr(record, 'fields', '')} {record.exc_info or ''}"


class Host:
    def __init__(self, machines: Sequence[Machine], tally: Tally) -> None:
        self.machines = {machine.number: machine for machine in machines}
        self.tally = tally

    async def start(self, machines: Sequence[Machine]) -> Any:
        room = asyncio.Semaphore(STARTS_AT_ONCE)

        async def one(machine: Machine) -> None:
            async with room:
                await machine.start()

        await asyncio.gather(*map(one, machines))

    async def stop(self, machines: Sequence[Machine]) -> Any:
        await asyncio.gather(*(machine.stop() for machine in machines))

    async def kill(self, machines: Sequence[Machine]) -> Any:
        await asyncio.gather(*(machine.kill() for machine in machines))

    async def cut(self, machines: Sequence[Machine]) -> Any:
        for machine in machines:
            machine.cut()

    async def look(self, machines: Sequence[Machine]) -> Any:
        return {machine.number: await machine.look() for machine in machines}

    async def stocks(self, machines: Sequence[Machine]) -> Any:
        return {machine.number: await machine.stocks() for machine in machines}

    async def ledgers(self, machines: Sequence[Machine]) -> Any:
        return {machine.number: machine.ledger() for machine in machines}

    async def figures(self, _machines: Sequence[Machine]) -> Any:
        gc.collect()
        return {**own_figures(), "log": dict(self.tally.counts), "errors": self.tally.worst}

    async def answer(self, line: bytes) -> bytes:
        asked = json.loads(line)
        words: dict[str, Callable[[Sequence[Machine]], Awaitable[Any]]] = {
            "start": self.start,
            "stop": self.stop,
            "kill": self.kill,
            "cut": self.cut,
            "look": self.look,
            "stocks": self.stocks,
            "ledgers": self.ledgers,
            "figures": self.figures,
        }
        chosen = asked["machines"]
        machines = [
            machine
            for number, machine in self.machines.items()
            if chosen is None or number in chosen
        ]
        return json.dumps(await words[asked["do"]](machines)).encode() + b"\n"


def own_figures() -> dict[str, int]:
    """Of this process; memory in KiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    words = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "resident_kib": int(words["VmRSS"].split()[0]),
        "threads": int(words["Threads"]),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
    }


async def serve(given: argparse.Namespace, tally: Tally) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    machines = []
    for index in range(given.first, given.first + given.count):
        number = machine_no(index)
        machines.append(
            Machine(number, given.directory / number, given.port, given.seed, given.speed)
        )
    host = Host(machines, tally)
    with seams():
        while line := await reader.readline():
            answer = await host.answer(line)
            await loop.run_in_executor(None, os.write, sys.stdout.fileno(), answer)
        await host.kill([machine for machine in machines if machine.daemon is not None])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.host", description=__doc__)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--port", type=int, required=True, help="the broker's")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--speed", type=float, required=True)
    tally = Tally()
    logging.getLogger("vending").addHandler(tally)
    asyncio.run(serve(parser.parse_args(), tally))


if __name__ == "__main__":
    main()
