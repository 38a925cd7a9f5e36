"""The simulation's power: realistic mistakes, planted one at a time in a copy of the program.

    python -m tests.sim.mistakes [NAME…] [--most SEEDS]

plays seeds until the mistake breaks a promise, and prints after how many, and which one.
Exit code 1 when one was not caught. Each edit must fit its file exactly once; a test of the
suite sees to it, so that the table grows old with the program.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sim.__main__ import environment

ROOT = Path(__file__).parents[2]
MOST_SEEDS = 600
COPIED = ("controller", "firmware_sim", "tests")


@dataclass(frozen=True)
class Edit:
    file: str
    was: str
    becomes: str


@dataclass(frozen=True)
class Mistake:
    name: str
    layout: str
    edits: tuple[Edit, ...]


CABINET = "controller/dispensing/cabinet.py"
FLOOR = "controller/dispensing/floor.py"
DISPENSER = "controller/dispensing/dispenser.py"
STATION = "controller/dispensing/station.py"
CYCLE = "controller/dispensing/cycle.py"
CYCLES = "controller/journal/cycles.py"
ORDERS = "controller/journal/orders.py"
OUTBOX = "controller/journal/outbox.py"
UNITS = "controller/journal/units.py"
LANES = "controller/journal/lanes.py"
CLOCK = "controller/clock.py"
INTAKE = "controller/uplink/intake.py"
RESOLVING = "controller/journal/resolving.py"
UNDO_TESTS = "controller/journal/undo_tests.py"
STORE = "controller/journal/store.py"

MISTAKES = (
    Mistake("the drive frame again after silence", "xy", (Edit(
        CABINET,
        "            if life.state is CycleState.COLLIDED:\n                await self._tell",
        "            if life.finding is not None and not life.finding.settled:\n"
        "                life, _ = await self._live(job, order, ticket, opened, trace)\n"
        "            if life.state is CycleState.COLLIDED:\n                await self._tell",
    ),)),
    Mistake("the drive frame again for want of an ACK", "xy", (
        Edit(
            "controller/boards/xy/driver.py",
            "            resends=self._options.resend_same_packno,\n",
            "            resends=3,\n",
        ),
        Edit(
            "controller/boards/xy/driver.py",
            "                self._line.withdraw(self._drive_said)",
            "                pass",
        ),
    )),
    Mistake("acknowledged before the commit", "vbp", (Edit(
        "controller/uplink/session.py",
        "            handler = by_name[self._topics[message.topic]]\n",
        "            self._acknowledge(message)\n"
        "            handler = by_name[self._topics[message.topic]]\n",
    ),)),
    Mistake("recovery skips young rows", "vbp", (Edit(
        CYCLES,
        'INDEXED BY cycles_open {ORDER} WHERE closed_at IS NULL")',
        'INDEXED BY cycles_open {ORDER} WHERE closed_at IS NULL AND opened_at < {tx.at - 300}")',
    ),)),
    Mistake("outcome and stock in two commits", "vbp", (
        Edit(
            CYCLES,
            '    lanes.book_cycle(tx, row["channel"], finding, end.failure_limit)\n',
            "",
        ),
        Edit(
            "controller/journal/journal.py",
            "        return await self._write("
            "lambda tx: cycles.close_cycle(tx, cycle_id, end), rescued=True)\n",
            "        closed = await self._write("
            "lambda tx: cycles.close_cycle(tx, cycle_id, end), rescued=True)\n"
            "        await asyncio.sleep(0)\n"
            "        channel = closed.lane.lane.channel\n"
            "        await self._write(lambda tx: lanes.book_cycle("
            "tx, channel, end.finding, end.failure_limit))\n"
            "        return closed\n",
        ),
    )),
    Mistake("an outbox row marked before its PUBACK", "vbp", (Edit(
        "controller/uplink/outbox.py",
        '            result = await self.session.publish(f"{root}/{row.topic}", row.payload)\n',
        "            self._unmarked[row.row] = row\n"
        "            await self._mark()\n"
        '            result = await self.session.publish(f"{root}/{row.topic}", row.payload)\n',
    ),)),
    Mistake("younger rows marked with the oldest", "vbp", (Edit(
        OUTBOX,
        '"UPDATE outbox SET sent_at = ? WHERE row = ? AND topic = ?"',
        '"UPDATE outbox SET sent_at = ? WHERE row >= ? AND topic = ?"',
    ),)),
    Mistake("the eye looked at by nobody", "vbp", (
        Edit(CABINET, "watch_eye=self.cabinet.drop_sensor,", "watch_eye=False,"),
        Edit(
            CABINET,
            "        if not (self.cabinet.one_item_per_eye and board.capabilities.reads_eye):\n",
            "        if board:\n",
        ),
    )),
    Mistake("the deadline checked at intake only", "vbp", (
        Edit(FLOOR, "        if now >= job.run.deadline:\n", "        if now < 0:\n"),
        Edit(
            CABINET,
            "deadline=min(job.run.deadline, self._clock.monotonic() + PAUSE_S),",
            "deadline=self._clock.monotonic() + PAUSE_S,",
        ),
    )),
    Mistake("waiting units resumed after a reboot", "vbp", (Edit(
        "controller/dispensing/recovery.py",
        "    (Found.WAITING, True): Action.POWER_LOST,\n",
        "    (Found.WAITING, True): Action.RESUME,\n",
    ),)),
    Mistake("waiting units forgotten by a restart", "vbp", (Edit(
        UNITS,
        "    WHERE units.outcome IS NULL AND units.running = 0\n",
        "    WHERE units.outcome IS NULL AND units.running = 0 AND units.number = 0\n",
    ),)),
    Mistake("a second cycle after unknown", "vbp", (
        Edit(
            CABINET,
            "            and finding.outcome is Outcome.NOT_DELIVERED\n            and finding.may",
            "            and finding.outcome is not Outcome.DELIVERED\n            and finding.may",
        ),
        Edit(
            CYCLES,
            "    if not end.final and finding.outcome is Outcome.NOT_DELIVERED:\n",
            "    if not end.final and finding.outcome is not Outcome.DELIVERED:\n",
        ),
    )),
    Mistake("no quarantine after silence", "xy", (Edit(
        STATION,
        "        self.quarantine = Quarantine(cycle, until)\n",
        "        self.quarantine = None\n",
    ),)),
    Mistake("drives before the open cycle is settled", "vbp", (Edit(
        STATION, "        self.recovering = True\n", "        self.recovering = False\n",
    ),)),
    Mistake("silence is a failure", "xy", (Edit(
        CYCLE,
        "        self.finding = Finding(Outcome.UNKNOWN, reason, settled=False)\n",
        "        self.finding = Finding(Outcome.NOT_DELIVERED, Reason.NO_DROP)\n",
    ),)),
    Mistake("silence is delivered", "xy", (Edit(
        CYCLE,
        "        self.finding = Finding(Outcome.UNKNOWN, reason, settled=False)\n",
        "        self.finding = Finding(Outcome.DELIVERED, None, Evidence.DROP_SENSOR)\n",
    ), Edit(
        CYCLE,
        "from controller.model import Finding, Outcome, Reason\n",
        "from controller.model import Evidence, Finding, Outcome, Reason\n",
    ))),
    Mistake("a gap in seq at rejections", "vbp", (Edit(
        OUTBOX,
        "    seq = tx.counters.seq + 1\n",
        "    seq = tx.counters.seq + (2 if order_row is None else 1)\n",
    ),)),
    Mistake("a cancel ends the unit that runs", "vbp", (Edit(
        ORDERS,
        'WHERE order_row = ? AND outcome IS NULL AND running = 0",\n        order["id"],',
        'WHERE order_row = ? AND outcome IS NULL",\n        order["id"],',
    ),)),
    Mistake("two items counted as one", "vbp", (Edit(
        LANES,
        "booked(tally_of(row), finding.outcome, finding.drops)",
        "booked(tally_of(row), finding.outcome, min(1, finding.drops))",
    ),)),
    Mistake("released before the record is journalled", "vbp", (Edit(
        CABINET,
        '        """The outcome is durable before its result leaves and before the board '
        'may forget."""\n',
        "        await self._station.board.release(opened.cycle_id)\n",
    ),)),
    Mistake("an unknown id was never started", "vbp", (Edit(
        "controller/boards/vbp/cycles.py",
        "    if not _same_memory(session, ticket):\n"
        "        return _Look(_ended(record, FORGOT), elsewhere=True)\n",
        "",
    ),)),
    Mistake("a refusal although its 01 may have been lost", "xy", (Edit(
        "controller/boards/xy/outcomes.py",
        "        return self.moved or self.gap\n",
        "        return self.moved\n",
    ),)),
    Mistake("the counts of finished swapped", "vbp", (Edit(
        UNITS,
        '    Outcome.NOT_DELIVERED: "not_delivered",\n    Outcome.UNKNOWN: "unknown",\n',
        '    Outcome.NOT_DELIVERED: "unknown",\n    Outcome.UNKNOWN: "not_delivered",\n',
    ),)),
    Mistake("a stopped cabinet turns", "vbp", (Edit(
        FLOOR, "        if cabinet.name in self.stopped:\n", '        if cabinet.name == "":\n',
    ),)),
    Mistake("a lane in doubt takes further units", "vbp", (Edit(
        FLOOR,
        "        if job.unit and (lane is None or lane.health is not LaneHealth.OK):\n",
        "        if job.unit and lane is None:\n",
    ),)),
    Mistake("finished is not told again with a revision", "vbp", (Edit(
        UNITS,
        '    if order["finished_at"] is not None:\n'
        '        tell_order(tx, order["id"], OrderStatus.FINISHED)\n',
        "",
    ),)),
    Mistake("silence settles the board", "xy", (Edit(
        CYCLE,
        "        self.finding = Finding(Outcome.UNKNOWN, reason, settled=False)\n",
        "        self.finding = Finding(Outcome.UNKNOWN, reason)\n",
    ),)),
    Mistake("a unit that is cancelled still runs", "vbp", (Edit(
        CYCLES,
        '    if unit["outcome"] is not None:\n'
        '        raise UnitDecided(f"unit {intent.unit} is {unit[\'outcome\']} already")\n',
        "",
    ), Edit(
        "controller/dispensing/dispenser.py",
        "                worker.queue.remove(job)\n",
        "                pass\n",
    ))),
    Mistake("deadlines reckoned by a clock that is not believed", "vbp", (Edit(
        "controller/dispensing/job.py",
        "    if not clock.believed():\n        return OrderRun(",
        "    if wall < 0:\n        return OrderRun(",
    ),)),
    Mistake("motors turn before the clock is believed", "vbp", (Edit(
        FLOOR, "        if not self.clock.believed():\n", "        if now_is_late(self.clock):\n",
    ), Edit(
        FLOOR,
        "def not_started(reason: Reason) -> Finding:\n",
        "def now_is_late(clock: Clock) -> bool:\n    return clock.wall() < 0\n\n\n"
        "def not_started(reason: Reason) -> Finding:\n",
    ))),
    Mistake("commands judged by a clock that is not believed", "vbp", (Edit(
        INTAKE,
        "if self.journal.birth is None or not self.clock.believed():",
        "if self.journal.birth is None:",
    ),)),
    Mistake("a clock that went back is believed", "vbp", (Edit(
        CLOCK,
        "return self._synchronised and time.time() >= self.newest() - self._skew_s",
        "return self._synchronised",
    ),)),
    Mistake("a belief that outlives the boot", "vbp", (Edit(
        CLOCK,
        'self._latch.read_text(encoding="ascii").strip() == self._boot',
        'self._latch.read_text(encoding="ascii").strip() != ""',
    ),)),
    Mistake("details pruned by a clock that is not believed", "vbp", (Edit(
        "controller/journal/visits.py",
        "        if not self.believed:\n            return 0\n",
        "",
    ),)),
    Mistake("a restored journal is not noticed by the retained state", "vbp", (Edit(
        "controller/journal/core.py",
        "        return self._unnamed or journal not in self._births\n",
        "        return False\n",
    ), Edit(
        "controller/journal/core.py",
        "            return last_seq > self._found.seq or last_event_seq > self._found.event_seq\n",
        "            return False\n",
    ))),
    Mistake("a new journal takes orders older than itself", "vbp", (
        Edit(
            INTAKE,
            "        if order.issued_at < (self.journal.bound or 0):\n",
            "        if order.issued_at < 0:\n",
        ),
        Edit(ORDERS, "and order.issued_at < tx.counters.bound:", "and order.issued_at < 0:"),
    )),
    Mistake("a cabinet sells uncounted after a loss", "vbp", (Edit(
        LANES,
        '        stop_cabinet(tx, row["cabinet"], "stock_unconfirmed", "daemon")\n',
        '        row["cabinet"]\n',
    ),)),
    Mistake("a swapped board is driven unaccepted", "vbp", (Edit(
        STATION,
        "        if known in {None, identity.memory_id}:\n",
        "        if name:\n",
    ),)),
    Mistake("two cabinets of one board at once", "two", (Edit(
        CABINET, "        async with self._station.turn:\n", "        async with asyncio.Lock():\n",
    ),)),
    Mistake("commits are not synced", "vbp", (Edit(
        STORE, '"PRAGMA synchronous = FULL",', '"PRAGMA synchronous = OFF",',
    ),)),
    Mistake("synced at checkpoints only", "xy", (Edit(
        STORE, '"PRAGMA synchronous = FULL",', '"PRAGMA synchronous = NORMAL",',
    ),)),
    Mistake("a commit whose sync failed is left in the log", "vbp", (Edit(
        STORE,
        "if extended_code(error) == SQLITE_IOERR_FSYNC and not self._overwrite():\n",
        "if extended_code(error) == SQLITE_IOERR_FSYNC and not self.path:\n",
    ),)),
    Mistake("a torn end of the log is a damaged journal", "vbp", (Edit(
        "controller/journal/opening.py", "TORN_COMMITS = 1\n", "TORN_COMMITS = 0\n",
    ),)),
    Mistake("the last word of a cycle is heard again for the next", "xy", (Edit(
        "controller/boards/xy/driver.py",
        '            self._last_data = _frame_of(ticket.get("heard"))\n',
        "",
    ),)),
    Mistake("acknowledged although its rejection reached nobody", "vbp", (Edit(
        INTAKE,
        "code, order.key, facts.message, published=heard and logged)\n"
        "        return Disposition.ACKNOWLEDGE if heard else Disposition.LEAVE\n",
        "code, order.key, facts.message, published=heard and logged)\n"
        "        return Disposition.ACKNOWLEDGE\n",
    ),)),
    Mistake("customers are served in service mode", "both", (Edit(
        FLOOR,
        "if job.unit and self.service is not None:",
        "if job.test and self.service is not None:",
    ), Edit(
        CYCLES,
        "    if intent.unit is not None and service_mode.current(tx) is not None:\n"
        "        raise InServiceMode\n",
        "",
    ))),
    Mistake("orders are taken in service mode", "both", (Edit(
        DISPENSER,
        "        if self.floor.service is not None:\n"
        '            return Rejection(Code.SERVICE_MODE, "")\n',
        "",
    ), Edit(
        ORDERS,
        "    if service_mode.current(tx) is not None:\n"
        '        return Rejection(Code.SERVICE_MODE, "")\n',
        "",
    ))),
    Mistake("a verdict leaves the item uncertain", "xy", (Edit(
        CYCLES,
        "    lanes.rebook_cycle(tx, row, old, new)\n",
        '    if new.evidence.value != "technician":\n'
        "        lanes.rebook_cycle(tx, row, old, new)\n",
    ),)),
    Mistake("a verdict on a unit that is known", "xy", (Edit(
        RESOLVING,
        '    if unit["outcome"] != Outcome.UNKNOWN.value:\n',
        '    if unit["outcome"] == "":\n',
    ),)),
    Mistake("a verdict whatever revision was seen", "xy", (Edit(
        RESOLVING,
        '    if unit["revision"] != seen:\n',
        "    if seen < 0:\n",
    ),)),
    Mistake("a verdict while the board is asked", "xy", (Edit(
        RESOLVING,
        'if last is not None and (last["closed_at"] is None or last["quarantined"]):',
        'if last is not None and last["closed_at"] is None:',
    ),)),
    Mistake("a verdict and its audit row in two commits", "xy", (
        Edit(RESOLVING, '    note(tx, who, "resolve", str(ref), detail)\n', "    str(detail)\n"),
        Edit(
            "controller/journal/visits.py",
            "        return await self._write(work)\n",
            "        done = await self._write(work)\n"
            '        detail = {"outcome": outcome.value, "seen": seen, "reason": reason}\n'
            '        await self.note(who, "resolve", str(ref), detail)\n'
            "        return done\n",
        ),
    )),
    Mistake("tests are undone again and again", "vbp", (Edit(
        UNDO_TESTS, "        _mark(tx, row, who)\n", "",
    ),)),
    Mistake("tests are undone that a count has settled", "vbp", (Edit(
        UNDO_TESTS, "AND n > lanes.counted_n\n", "AND n > 0\n",
    ),)),
    Mistake("the tests of others are undone", "vbp", (Edit(
        UNDO_TESTS,
        '[row for row in found if _is_of(tx, row["channel"], row["test_id"], who)]',
        "list(found)",
    ),)),
    Mistake("an undone test counts twice", "vbp", (Edit(
        UNDO_TESTS, "        _return(tx, name, count)\n", "        _return(tx, name, 2 * count)\n",
    ),)),
    Mistake("a cancel by hand takes the unit that runs", "vbp", (Edit(
        ORDERS,
        "    code, ended, _, _ = _end_and_tell(tx, known)\n",
        '    tx.run("UPDATE units SET running = 0 WHERE order_row = ?", known["id"])\n'
        "    code, ended, _, _ = _end_and_tell(tx, known)\n",
    ),)),
    Mistake("a cancel by hand and its audit row in two commits", "vbp", (
        Edit(
            ORDERS,
            '    note(tx, asked.who, "order_cancel", str(asked.key), detail)\n',
            "    str(detail)\n",
        ),
        Edit(
            "controller/journal/journal.py",
            "        return await self._write("
            "lambda tx: orders.cancel(tx, asked, arm_again=again))\n",
            "        done = await self._write("
            "lambda tx: orders.cancel(tx, asked, arm_again=again))\n"
            "        if asked.who:\n"
            '            detail = {"code": done[0].value, "units": [u.number for u in done[1]]}\n'
            '            await self.note(asked.who, "order_cancel", str(asked.key), detail)\n'
            "        return done\n",
        ),
    )),
)  # fmt: skip


def planted(mistake: Mistake, into: Path) -> None:
    """A copy of the program with the mistake in it. AssertionError where an edit does not fit."""
    for name in COPIED:
        shutil.copytree(
            ROOT / name, into / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis")
        )
    for edit in mistake.edits:
        file = into / edit.file
        text = file.read_text(encoding="utf-8")
        fits = text.count(edit.was)
        assert fits == 1, f"{mistake.name}: fits {fits} times into {edit.file}: {edit.was!r}"
        file.write_text(text.replace(edit.was, edit.becomes), encoding="utf-8")


def caught_after(mistake: Mistake, most: int) -> tuple[int, str]:
    """Seeds played until a promise broke, and which; 0 when none did."""
    with tempfile.TemporaryDirectory(prefix="vc-mistake-") as directory:
        planted(mistake, Path(directory))
        command = [sys.executable, "-m", "tests.sim", "--quiet", "--mixed"]
        command += ["--count", str(most), "--layout", mistake.layout]
        done = subprocess.run(
            command,
            cwd=directory,
            env={**environment(), "PYTHONPATH": directory},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        return 0, ""
    lines = done.stdout.splitlines()
    assert lines, f"{mistake.name}: {done.stderr[-2000:]}"
    seed, _, breach = lines[-1].partition(" ")
    return int(seed), breach


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mistakes", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all without")
    parser.add_argument("--most", type=int, default=MOST_SEEDS, metavar="SEEDS")
    given = parser.parse_args(arguments)
    chosen = [m for m in MISTAKES if not given.names or m.name in given.names]
    missed = 0
    print(f"{'mistake':46} {'boards':6} {'seeds':>5}  promise that broke")
    for mistake in chosen:
        seeds, breach = caught_after(mistake, given.most)
        missed += not seeds
        shown = str(seeds) if seeds else f">{given.most}"
        print(f"{mistake.name:46} {mistake.layout:6} {shown:>5}  {breach[:70]}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
