"""`make fleet`: 500 machines in a few processes sell against one real broker and platform-sim.

They sell; the broker is restarted while all go on selling; the platform gets a kill -9; single ones
lose their line; some machines are stopped, some killed, and started again; then all comes to rest,
and the merchants' and the platform's books are held against the boards' ledgers. Exit code 1 when
anything was lost or doubled. Choose with ARGS: `ARGS="--machines 100 --minutes 1 --seed 3"`;
`--straight` without the platform, merchants at the broker; `--json` for figures.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.fleet import verdict
from tests.fleet.hosts import Hosts
from tests.fleet.machine import PRODUCTS
from tests.fleet.merchant import Merchant, MqttMerchant, Sale
from tests.fleet.platform import FleetPlatform
from tests.fleet.shop import Shop
from tests.system.broker import Broker
from tests.system.waiting import wait_for

SPEED = 10.0
"""Of the emulated motors: a cycle of 2.9 s takes 0.3 s, so that machines are rarely busy and the
times are the programs'."""
QUANTITIES = (1, 1, 1, 2)
CUT_PART = 0.02
"""Of the machines that lose their line at each cut, one cut a second."""
DOWN_PART = 0.04
"""Of the machines that are stopped, and as many killed."""
OUTAGE_S = 2.0
"""Without a broker, on top of its own end and start."""
BACK_WITHIN_S = 120.0
"""After the broker's return: twice the longest pause between two attempts."""
REST_WITHIN_S = 120.0
STOCK_WITHIN_S = 10.0
"""At rest: a machine tells its stock once a second at most."""
WAITING_PER_MACHINE = 2
"""Customers hold back above so many sales without an end."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Phase:
    """What happened from when to when. Monotonic seconds, and CPU seconds used meanwhile."""

    name: str
    began: float
    ended: float
    hosts_cpu_s: float
    broker_cpu_s: float
    platform_cpu_s: float

    @property
    def took_s(self) -> float:
        return self.ended - self.began


@dataclass
class Report:
    machines: int
    hosts: int
    platform: bool
    started_s: float = 0.0
    sold: int = 0
    units: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    phases: list[Phase] = field(default_factory=list)
    sold_in: dict[str, int] = field(default_factory=dict)
    """Phase -> sales that were asked for in it."""
    times: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Phase -> accepted or finished -> median, p99, longest, in milliseconds."""
    cut: int = 0
    stopped: int = 0
    killed: int = 0
    back: list[float] = field(default_factory=list)
    """Of each machine: seconds from the broker's return to its connection."""
    kib_per_machine: float = 0.0
    threads_per_machine: float = 0.0
    descriptors_per_machine: float = 0.0
    corrections: int = 0
    """Deliveries that were told as a timeout, and later what they became."""
    lost_answers: int = 0
    """Of the platform, when it was killed."""
    abandoned: int = 0
    """Orders of which the merchant never learnt that they were made."""
    log: Counter[str] = field(default_factory=Counter)
    """Warnings and errors of the daemons, by name."""
    errors: dict[str, str] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)

    def back_each_second(self) -> dict[int, int]:
        """Second after the broker's return -> machines that came back in it."""
        return dict(sorted(Counter(int(each) for each in self.back).items()))


class FleetBroker(Broker):
    """As config/mosquitto/mosquitto.conf.example has it: saved each second, and at its end. With
    `each_change` it saves after each change: with hundreds of machines that is all that it does."""

    def __init__(self, directory: Path, *, each_change: bool = False) -> None:
        self._each_change = each_change
        super().__init__(directory)

    def config(self) -> str:
        text = super().config()
        if self._each_change:
            return text
        assert "autosave_on_changes true" in text
        return text.replace("autosave_on_changes true", "autosave_on_changes false")


class Customers(threading.Thread):
    """They pay at a steady rate, at any machine, until `go_home`."""

    def __init__(self, merchant: Merchant, machines: Sequence[str], rate: float, seed: int) -> None:
        super().__init__(name="customers", daemon=True)
        self._merchant = merchant
        self._machines = machines
        self._rate = rate
        self._chance = random.Random(f"customers/{seed}")
        self._home = threading.Event()

    def run(self) -> None:
        most = WAITING_PER_MACHINE * len(self._machines)
        while not self._home.wait(self._chance.expovariate(self._rate)):
            if self._merchant.waiting() < most:
                machine = self._chance.choice(self._machines)
                product = self._chance.choice(list(PRODUCTS))
                self._merchant.sell(machine, product, self._chance.choice(QUANTITIES))

    def go_home(self) -> None:
        self._home.set()
        self.join()


class Fleet:
    """`play` plays it once; `close` ends all that it started."""

    def __init__(
        self,
        directory: Path,
        machines: int,
        seed: int,
        *,
        each_change: bool = False,
        straight: bool = False,
    ) -> None:
        """`straight`: no platform, the merchants speak MQTT."""
        directory.mkdir(parents=True, exist_ok=True)
        self.broker = FleetBroker(directory / "broker", each_change=each_change)
        self.hosts = Hosts(directory, machines, self.broker.port, seed, SPEED)
        self.platform = (
            None
            if straight
            else FleetPlatform(directory / "platform", self.hosts.numbers, self.broker.port)
        )
        self.seed = seed
        self.report = Report(machines, len(self.hosts.pids), not straight)
        self._chance = random.Random(f"fleet/{seed}")
        self._merchant: Merchant | None = None

    def play(self, seconds: float, rate: float, outage_s: float = OUTAGE_S) -> Report:
        """`seconds` of selling, half of them undisturbed. Raises AssertionError when something
        that must come does not; what was lost or doubled stands in the report."""
        self.broker.up()
        merchant = self._merchant = self._open_shop()
        self._start()
        self._phase("idle", lambda: time.sleep(seconds / 12))
        customers = Customers(merchant, self.hosts.numbers, rate, self.seed)
        customers.start()
        self._phase("selling", lambda: time.sleep(seconds / 2))
        self._phase("broker restart", lambda: self._restart_broker(outage_s))
        if self.platform is not None:
            self._phase("platform killed", lambda: self._kill_platform(outage_s))
        self._phase("cut lines", lambda: self._cut_lines(seconds / 6))
        self._phase("stopped and killed", lambda: self._lives(seconds / 6))
        customers.go_home()
        self._phase("coming to rest", lambda: wait_for(self._rests, "all rests", REST_WITHIN_S))
        self._judge(merchant)
        return self.report

    def close(self) -> None:
        self.hosts.close()
        if self._merchant is not None:
            self._merchant.close()
        if self.platform is not None:
            self.platform.end()
        self.broker.end()

    def _phase(self, name: str, play: Any) -> None:
        began, before = time.monotonic(), self._cpu()
        play()
        used = [
            later - sooner if later >= sooner else later  # another process since a restart
            for sooner, later in zip(before, self._cpu(), strict=True)
        ]
        self.report.phases.append(Phase(name, began, time.monotonic(), *used))

    # ------------------------------------------------------------------ what happens

    def _open_shop(self) -> Merchant:
        if self.platform is None:
            return MqttMerchant(self.broker.port)
        self.platform.up()
        return Shop(self.platform)

    def _start(self) -> None:
        count = self.report.machines
        before = self.hosts.tell("figures")
        began = time.monotonic()
        self.hosts.tell("start")
        self.report.started_s = time.monotonic() - began
        after = self.hosts.tell("figures")

        def each(key: str) -> float:
            return sum(b[key] - a[key] for a, b in zip(before, after, strict=True)) / count

        self.report.kib_per_machine = each("resident_kib")
        self.report.threads_per_machine = each("threads")
        self.report.descriptors_per_machine = each("descriptors")
        if (platform := self.platform) is not None:
            wait_for(lambda: platform.online() == count, "all are online", BACK_WITHIN_S)

    def _some(self, part: float) -> list[str]:
        return self._chance.sample(self.hosts.numbers, max(2, int(part * self.report.machines)))

    def _cut_lines(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            chosen = self._some(CUT_PART)
            self.hosts.tell("cut", chosen)
            self.report.cut += len(chosen)
            time.sleep(min(1.0, seconds / 2))

    def _restart_broker(self, outage_s: float) -> None:
        """In order, as an upgrade does it: what it acknowledged is on its disk."""
        gone = time.time()
        self.broker.terminate()
        time.sleep(outage_s)
        self.broker.up()
        returned = time.time()

        def all_back() -> list[float]:
            seen = self.hosts.of_each("look").values()
            times = [each["since"] for each in seen if each["connected"] and each["since"] > gone]
            time.sleep(0.2)  # looking costs the machines' processes time, too
            return times if len(times) == self.report.machines else []

        times = wait_for(all_back, "all machines are back at the broker", BACK_WITHIN_S)
        self.report.back = sorted(at - returned for at in times)

    def _kill_platform(self, outage_s: float) -> None:
        """While machines go on with what they have, and merchants ask again and again."""
        assert self.platform is not None
        self.platform.kill()
        time.sleep(outage_s)
        self.platform.up()

    def _lives(self, seconds: float) -> None:
        chosen = self._some(2 * DOWN_PART)
        half = (len(chosen) + 1) // 2
        stopped, killed = chosen[:half], chosen[half:]
        self.hosts.tell("kill", killed)
        self.hosts.tell("stop", stopped)
        time.sleep(seconds)
        self.hosts.tell("start", chosen)
        self.report.stopped, self.report.killed = len(stopped), len(killed)

    # ------------------------------------------------------------------ at the end

    def _rests(self) -> bool:
        assert self._merchant is not None
        time.sleep(0.1)
        if self._merchant.waiting() or not (self.platform is None or self.platform.rests()):
            return False
        looks = self.hosts.of_each("look")
        return all(
            each["running"]
            and not each["open"]
            and not self._merchant.missing(number, each["journal"], each["last_seq"])
            for number, each in looks.items()
        )

    def _judge(self, merchant: Merchant) -> None:
        report, sales = self.report, merchant.sales
        report.breaches = [
            *merchant.breaches(),
            *verdict.breaches(sales, self.hosts.of_each("ledgers")),
            *verdict.herd(report.back),
        ]
        if isinstance(merchant, Shop):
            report.breaches += self._platform_breaches()
            report.corrections = merchant.corrections()
            report.lost_answers, report.abandoned = merchant.lost_answers, merchant.abandoned
        report.sold, report.units = len(sales), sum(sale.quantity for sale in sales)
        report.repeats = merchant.repeats
        for sale in sales:
            report.outcomes += sale.outcomes()
            report.rejected.update([sale.code] if sale.code else [])
        for phase in report.phases:
            asked = [sale for sale in sales if phase.began <= sale.asked_at < phase.ended]
            report.sold_in[phase.name] = len(asked)
            if asked:
                report.times[phase.name] = {
                    "accepted": spread(asked, "accepted_at"),
                    "finished": spread(asked, "ended_at"),
                }
        for figures in self.hosts.tell("figures"):
            report.log.update(figures["log"])
            report.errors |= figures["errors"]

    def _platform_breaches(self) -> list[str]:
        assert self.platform is not None
        stocks, end = self.hosts.of_each("stocks"), time.monotonic() + STOCK_WITHIN_S
        while self.platform.stock_breaches(stocks) and time.monotonic() < end:
            time.sleep(0.1)
        return self.platform.breaches(stocks)

    # ------------------------------------------------------------------ CPU of others

    def _cpu(self) -> tuple[float, float, float]:
        """Of machines, broker, platform."""
        hosts = sum(cpu_s(pid) for pid in self.hosts.pids)
        platform = 0.0 if self.platform is None else cpu_s(self.platform.pid)
        return hosts, cpu_s(self.broker.pid), platform


def cpu_s(pid: int) -> float:
    """User and system seconds of a process (proc(5), fields 14 and 15)."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    words = text.rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def spread(sales: Sequence[Sale], what: str) -> dict[str, float]:
    """Milliseconds from the command to it."""
    times = sorted(
        1000 * (getattr(sale, what) - sale.asked_at) for sale in sales if getattr(sale, what)
    )
    if not times:
        return {}
    return {
        "median": median(times),
        "p99": times[min(len(times) - 1, int(len(times) * 0.99))],
        "longest": times[-1],
    }


HEAD = "phase                     s  sales/s  CPU machines  broker platform   ms to {} | to {}"
ENDS = {True: ("each delivery's id", "its last callback"), False: ("accepted", "finished")}
"""Of a sale, with a platform and straight."""


def told(report: Report) -> str:
    """For people."""
    memory = f"{report.kib_per_machine / 1024:.1f} MiB with its board"
    threads, descriptors = report.threads_per_machine, report.descriptors_per_machine
    each = f"{memory}, {threads:.1f} threads, {descriptors:.1f} descriptors"
    processes = f"{report.hosts} processes, started in {report.started_s:.0f} s"
    sold = f"{report.sold} sales of {report.units} units: {dict(report.outcomes)}"
    lines = [
        f"{report.machines} machines in {processes}; each {each}",
        f"{sold}, rejected {dict(report.rejected)}; {report.repeats} messages came again",
        "",
        f"{HEAD.format(*ENDS[report.platform])} (median, p99, longest)",
    ]
    for phase in report.phases:
        times = report.times.get(phase.name, {})
        parts = ["  ".join(f"{v:.0f}" for v in each.values()) for each in times.values()]
        lines.append(
            f"{phase.name:20} {phase.took_s:6.1f} "
            f"{report.sold_in[phase.name] / phase.took_s:8.1f} "
            f"{phase.hosts_cpu_s / phase.took_s:12.0%} {phase.broker_cpu_s / phase.took_s:7.0%} "
            f"{phase.platform_cpu_s / phase.took_s:8.0%}   " + " | ".join(parts)
        )
    back = report.back
    spread_s = f"first {back[0]:.1f} s, median {median(back):.1f} s, last {back[-1]:.1f} s"
    ends = f"{report.stopped} machines stopped and {report.killed} killed"
    platform = (
        f"the platform's kill: {report.lost_answers} answers lost, {report.abandoned} orders never"
        f" paid for it; {report.corrections} timeouts corrected later"
    )
    lines += [
        "",
        f"{report.cut} lines cut, {ends}",
        *([platform] if report.platform else []),
        f"back at the broker: {spread_s}; in each second {report.back_each_second()}",
        f"warnings and errors of the daemons: {dict(report.log)}",
        *(f"  {name}: {words[:300]}" for name, words in report.errors.items()),
        "",
        *report.breaches[:20],
        f"{len(report.breaches)} BREACHES" if report.breaches else "nothing lost, nothing doubled",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.play", description=__doc__)
    parser.add_argument("--machines", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=3, help="of selling")
    parser.add_argument("--rate", type=float, default=30, help="sales a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each-change", action="store_true", help="the broker saves after each")
    parser.add_argument("--straight", action="store_true", help="merchants speak MQTT")
    parser.add_argument("--directory", type=Path, help="for journals and broker; default: /tmp")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vc-fleet-", dir=given.directory) as directory:
        fleet = Fleet(
            Path(directory),
            given.machines,
            given.seed,
            each_change=given.each_change,
            straight=given.straight,
        )
        try:
            report = fleet.play(given.minutes * 60, given.rate)
        finally:
            fleet.close()
    print(json.dumps(asdict(report)) if given.json else told(report))
    return 1 if report.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
