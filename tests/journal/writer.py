"""A process that works on a journal until it is killed. Prints what is durable, when it is.

python -m tests.journal.writer DIRECTORY SEED
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from controller.clock import LoopClock
from controller.dispensing.interfaces import Rejection
from controller.journal.journal import open_journal

from .conftest import (
    BOOT,
    DELIVERED,
    JAMMED,
    PLAN,
    SILENT,
    PlainAnnouncer,
    cabinet,
    ending,
    intent,
    make_order,
)


async def main(folder: Path, seed: int) -> None:
    clock = LoopClock()
    dice = random.Random(seed)
    journal, opening = open_journal(
        folder, clock=clock, announcer=PlainAnnouncer(), boot=BOOT, skew_s=30,
        retention_days=400, reserve_bytes=65_536,
    )  # fmt: skip
    assert not opening.lost
    await journal.sync_lanes([cabinet(stock=20)])
    for cycle in await journal.open_cycles():
        await journal.close_cycle(cycle.cycle_id, ending(SILENT))
    await journal.fill(None, "writer")
    print("ready", flush=True)
    number = (await journal.totals())["accepted"] + 1
    while True:
        order = make_order(number, 2, issued_at=clock.wall() + 1)
        jobs = await journal.accept(order, PLAN)
        assert not isinstance(jobs, Rejection), jobs
        print("accepted", number, flush=True)
        for job in jobs:
            opened = await journal.open_cycle(intent(job.ref))
            print("opened", opened.cycle_id, flush=True)
            await journal.close_cycle(
                opened.cycle_id, ending(dice.choice([DELIVERED, JAMMED, SILENT]))
            )
            print("closed", opened.cycle_id, flush=True)
        rows = await journal.oldest("result", 2)
        await journal.sent(rows)
        await journal.enable_lane("A1", "again", "writer")
        await journal.fill(None, "writer")
        number += 1


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
