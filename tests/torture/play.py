"""`make torture`: SIGKILL of the real daemon at random instants under load, and the verdict.

    python -m tests.torture.play [--kills 500] [--seed N] [--json]

Every few kills the customers pause, all must come to rest within a bound, and results,
ledger, stock and goods are held against each other. Exit code 1 on a breach: then settings,
journal, ledgers, logs and messages are kept. The seed fixes what is drawn, not the timing.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system import judge
from tests.system.customers import Command, Customers, Habits
from tests.system.figures import as_table
from tests.system.platform_client import Message
from tests.system.site import Site
from tests.torture import control, verdict
from tests.torture.figures import Kill, Run, figures, for_people
from tests.torture.machine import (
    PRODUCTS,
    ask_for,
    came,
    changed,
    goods,
    missing,
    refill,
    tortured_site,
    wal,
)

KEPT = Path(__file__).resolve().parents[2] / ".cache" / "torture"

HABITS = Habits(
    PRODUCTS,
    pause_s=0.06,
    waiting=12,
    repeated=0.12,
    cancelled=0.06,
    conflicting=0.05,
    hasty=0.1,
)
LIFE_S = 0.5
"""A daemon that is ready lives at most so long before its killer begins to aim."""
AIM_S = 1.0
"""What is aimed at comes within this, or the kill strikes all the same."""
AWAY_S = 1.0
"""Half of the daemons come back at once, the others after at most so long: longer than a motor
runs and an item falls, and about as long as an XY board repeats a status."""
START_S = 0.7
"""A start takes some 0.5 s until ready, and the recovery goes on behind it."""
BROKER_KILLED = 0.1
"""Share of the kills before which the broker is killed too."""
BROKER_FORGETS = 0.4
"""Share of those after which it comes back without its memory."""
BROKER_AWAY_S = 1.0
"""At most; in half of the cases it is back before the daemon is killed."""
BOARD_RESET = 0.08
"""Share of the kills with which a board is reset: half before it, half while no daemon is."""
QUIET_S = 4.0
"""What a broker still has comes sooner: the machine holds commands for 2 s after it connected
where no retained state tells it that its memory is whole. Of a platform, minutes; here, short."""
REPLAYED = 2
"""Finished commands that are repeated at each rest."""

INSTANTS = {
    # what is aimed at: (weight, longest wait behind it in seconds)
    "in start-up": (3, START_S),
    "any time": (3, LIFE_S),
    "drive frame": (3, 0.02),
    "motor stopped": (1, 0.02),
    "item fell": (2, 0.02),
    "commit": (2, 0.01),
    "message came": (2, 0.01),
    "command sent": (2, 0.03),
}


@dataclass(frozen=True)
class Pace:
    kills_a_rest: int = 15
    rest_bound_s: float = 90.0
    """A silent XY cycle is listened to for 3.5 s and quarantines its board for as long again; a
    message that found no subscriber is tried again after up to 60 s; then the queue is served."""


class Stage:
    """A site, its customers and what is noted, from the first kill to the last rest."""

    def __init__(self, site: Site, seed: int, pace: Pace) -> None:
        self.site = site
        self.pace = pace
        self.run = Run(seed)
        self.customers = Customers(site.platform, HABITS, seed)
        self.chance = random.Random(f"{seed} kills")
        self.asked: list[Message] = []
        """What a broker lost, as the journal gave it."""
        self._lossless = True
        """No broker was killed since the last rest: nothing may be missing then."""
        self._started_at: float | None = None
        """Monotonic, until the daemon was seen ready."""

    # ------------------------------------------------------------------ killing

    def play(self, kills: int, say: Callable[[str], None]) -> None:
        """All kills, until the first rest that shows a breach."""
        self.start_daemon()
        # Commands are held until the broker has told the machine's state of before, or 2 s.
        self.site.platform.wait_for(lambda: self.site.platform.of("state"), "the first state")
        self.customers.start()
        for number in range(1, kills + 1):
            self.kill()
            self.start_daemon()
            if number % self.pace.kills_a_rest == 0 or number == kills:
                self.customers.stop()
                self.rest()
                say(self.line(number))
                if self.run.broken:
                    return
                self.customers.start()
        self.customers.stop()

    def start_daemon(self) -> None:
        self._started_at = time.monotonic()
        self.site.daemon.start()

    def wait_ready(self) -> None:
        self.site.daemon.wait_ready()
        if self._started_at is not None:
            self.run.ready_s.append(time.monotonic() - self._started_at)
            self._started_at = None

    def kill(self) -> None:
        chance, daemon = self.chance, self.site.daemon
        weights = [weight for weight, _ in INSTANTS.values()]
        (instant,) = chance.choices(list(INSTANTS), weights)
        reset = chance.choice(["before", "after"]) if chance.random() < BOARD_RESET else ""
        if instant != "in start-up":
            self.wait_ready()
            time.sleep(chance.uniform(0.0, LIFE_S))
        broker_back = self.kill_broker() if chance.random() < BROKER_KILLED else True
        if reset == "before":
            self.reset_board()
        hit = self.aim(instant)
        assert daemon.alive, f"P11: the daemon ended by itself with {daemon.exit_code}"
        daemon.kill()
        self.run.kills.append(Kill(time.time(), instant, hit))
        if reset == "after":
            self.reset_board()
        if not broker_back:
            self.site.broker.up()
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0.0, AWAY_S))

    def aim(self, instant: str) -> bool:
        """Wait for the instant and a little by chance; whether it came."""
        site = self.site
        ledgers = [site.emulator.directory / f"{name}.jsonl" for name in site.emulator.boards]
        watches: dict[str, Callable[[], Callable[[], bool]]] = {
            "drive frame": lambda: came(ledgers, b'"drive_frame"'),
            "motor stopped": lambda: came(ledgers, b'"motor_stopped"'),
            "item fell": lambda: came(ledgers, b'"product_fell"'),
            "commit": lambda: changed(lambda: wal(site)),
            "message came": lambda: changed(lambda: len(site.platform.messages)),
            "command sent": lambda: changed(lambda: self.customers.counts.sent),
        }
        hit = True
        if instant in watches:
            seen, end = watches[instant](), time.monotonic() + AIM_S
            while not (hit := seen()) and time.monotonic() < end:
                time.sleep(0.001)
        time.sleep(self.chance.uniform(0.0, INSTANTS[instant][1]))
        return hit

    def kill_broker(self) -> bool:
        """Whether it is back already; else it stays away until the daemon is killed."""
        chance, broker = self.chance, self.site.broker
        broker.kill()
        self.run.broker_kills.append(time.time())
        self._lossless = False
        if chance.random() < BROKER_FORGETS:
            broker.forget()
            self.run.broker_forgot += 1
        time.sleep(chance.uniform(0.0, BROKER_AWAY_S))
        back = chance.random() < 0.5
        if back:
            broker.up()
        return back

    def reset_board(self) -> None:
        board = self.chance.choice(list(self.site.emulator.boards))
        answer = self.site.emulator.tell(board, do="reset")
        assert answer["ok"], answer
        self.run.resets[board] += 1

    # ------------------------------------------------------------------ resting

    def rest(self) -> None:
        """Until nothing is open anywhere, then the verdict, a replay, and full lanes."""
        begun = time.monotonic()
        self.wait_ready()
        while not self.rests():
            if time.monotonic() > begun + self.pace.rest_bound_s:
                status = self.site.daemon.ctl("status")
                self.run.broken.append(
                    f"P9: no rest within {self.pace.rest_bound_s:g} s; without an end:"
                    f" {self.unheard()}, missing: {self.missing(status)}; {status}"
                )
                break
            time.sleep(0.1)
        self.run.rest_s.append(time.monotonic() - begun)
        lanes = self.site.daemon.ctl("lanes")["lanes"]
        facts, commands = self.facts(), self.customers.commands
        self.run.broken += verdict.breaches(facts, lanes, goods(self.site), commands)
        if not self.run.broken:
            self.replay()
            self.run.tests.update(refill(self.site, lanes))
        self._lossless = True

    def rests(self) -> bool:
        came = list(self.site.platform.messages)  # before the journal is asked what it knows
        status = self.site.daemon.ctl("status")
        boards = status["boards"].values()
        known = {"journal": status["journal"]["birth"], "last_seq": status["journal"]["last_seq"]}
        if lost := judge.forgotten(came, known):
            self.run.broken.append(f"P7: the journal forgot {sorted(lost)}")
            return True
        if (
            status["open_orders"]
            or any(status["outbox"].values())
            or not all(board["up"] for board in boards)
            or any(board["quarantined_until_s"] is not None for board in boards)
        ):
            return False
        complete = not self.missing(status) and not any(self.unheard().values())
        if complete or self._lossless:
            return complete
        if time.time() - max(message.at for message in came) > QUIET_S:
            self.make_good(status)
        return False

    def make_good(self, status: judge.Body) -> None:
        """A broker lost what it had acknowledged: the platform asks for messages that are
        missing, and sends again what has no answer."""
        lost = self.missing(status)
        self.asked += ask_for(self.site, lost, status["journal"]["birth"])
        self.run.asked_for += len(lost)
        for topic, commands in self.unheard().items():
            for command in commands:
                self.site.platform.send(topic, command)
                self.run.sent_again += 1
        self._lossless = True  # from here on everything must come by itself

    def unheard(self) -> dict[str, list[Command]]:
        """Topic -> the commands on it that have no end or no answer."""
        customers = self.customers
        return {"dispense": customers.unanswered(), "cancel": customers.unanswered_cancels()}

    def missing(self, status: judge.Body) -> list[int]:
        messages = [*self.site.platform.messages, *self.asked]
        return missing(messages, status["journal"]["last_seq"])

    def replay(self) -> None:
        """P8: a finished command again gets its stored messages again; the judge compares the
        bytes and counts the drives at the next rest."""
        platform = self.site.platform
        finished = {body["order_id"] for body in platform.of("order") if body["units"]} & {
            body["order_id"] for body in platform.of("order") if body["status"] == "finished"
        }
        commands = [c for c in self.customers.commands if c["order_id"] in finished]
        for command in self.chance.sample(commands, min(REPLAYED, len(commands))):
            order_id = command["order_id"]
            told = [b for b in platform.of("order", order_id) if b["status"] == "finished"]
            platform.send("dispense", command)
            platform.wait_order(order_id, "finished", times=len(told) + 1)
            self.run.replayed += 1

    def facts(self) -> judge.Facts:
        return judge.Facts(
            messages=(*self.site.platform.messages, *self.asked),
            ledgers={name: self.site.emulator.ledger(name) for name in self.site.emulator.boards},
            lanes=self.site.lanes(),
            broker_losses=tuple(self.run.broker_kills),
            test_cycles=self.run.tests,
        )

    def line(self, number: int) -> str:
        facts = self.facts()
        fell = sum(facts.count(channel, judge.FELL) for channel in facts.lanes)
        return (
            f"kill {number:4}  orders {len(self.customers.commands):5}"
            f"  results {len(facts.bodies('result')):5}  fell {fell:5}"
            f"  rest {self.run.rest_s[-1]:4.1f} s  breaches {len(self.run.broken)}"
        )


def keep(site: Site, run: Run) -> Path:
    """What one needs to find out why: all files of the site, and what the platform got."""
    place = KEPT / str(run.seed)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(site.directory, place, ignore=shutil.ignore_patterns("*.sock", "*.tty"))
    site.platform.write_down(place / "messages.jsonl")
    (place / "run.json").write_text(json.dumps(vars(run), default=vars, indent=1), encoding="utf-8")
    return place


def torture(
    kills: int, seed: int, say: Callable[[str], None], pace: Pace
) -> tuple[dict[str, Any], judge.Facts, Run]:
    """One run: figures, facts and what was noted. All that it started has ended then."""
    directory = Path(tempfile.mkdtemp(prefix="vc-"))  # short: a Unix socket lies in it
    site = tortured_site(directory)
    stage = Stage(site, seed, pace)
    begun = time.monotonic()
    try:
        site.broker.up()
        site.emulator.up()
        site.platform.up()
        try:
            stage.play(kills, say)
        except (AssertionError, subprocess.TimeoutExpired) as error:  # what had to come did not
            stage.run.broken.append(f"P11: {str(error)[:2000]}")
        stage.run.seconds = time.monotonic() - begun
        if stage.run.broken:
            for sentence in stage.run.broken[:20]:
                say(sentence)
            say(judge.side_by_side(stage.facts()))
            site.daemon.kill()
            place = keep(site, stage.run)
            say(f"seed {seed}: ledgers, messages, kills, journal and logs are in {place}")
        facts = stage.facts()
        return figures(stage.run, facts, stage.customers), facts, stage.run
    finally:
        site.broker.end()  # whoever waits for it among the customers is told no by this
        stage.customers.dismiss()
        site.close()
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.play", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--each", type=int, default=Pace.kills_a_rest, help="kills a rest")
    parser.add_argument("--rest", type=float, default=Pace.rest_bound_s, help="bound, seconds")
    parser.add_argument("--control", type=int, default=control.KILLS, metavar="KILLS")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    given = parser.parse_args()

    def say(words: str) -> None:
        print(words, file=sys.stderr if given.json else sys.stdout, flush=True)

    say(f"{given.kills} kills, seed {given.seed}")
    numbers, _, run = torture(given.kills, given.seed, say, Pace(given.each, given.rest))
    caught = True
    if given.control:
        caught = control.all_caught(given.control, given.seed, say)
        numbers["control"] = "caught" if caught else "NOT CAUGHT"
    print(json.dumps(numbers) if given.json else as_table(for_people(numbers)))
    ok = caught and not run.broken
    say(("torture: all promises kept" if ok else "torture: FAILED") + f" (seed {given.seed})")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
