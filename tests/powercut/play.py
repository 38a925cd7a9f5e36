"""`make powercut`: power cuts of a whole machine under load, and the verdict.

First a run whose disk keeps its word: no promise may break. Then a short one whose disk
lies about flushes, to show that the cuts bite: it must lose what it had committed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.powercut import image, verdict
from tests.powercut.figures import Run, one_cut, table
from tests.powercut.guest import fetch_qemu, kvm_works
from tests.powercut.machine import BOARD, PRODUCTS, Machine
from tests.system import judge
from tests.system.customers import Customers, Habits

LOAD_S = 6.0
"""A machine that is up sells for at most so long until the next cut."""
IN_BOOT = 0.15
"""Share of the cuts that strike a boot, at any moment of it."""
BOARD_TOO = 0.4
"""Share of the cuts in which the board loses its power as well."""
AIMED = 0.5
"""Share of the cuts that wait for a moment at which the disk has something to lose."""
REST_BOUND_S = 120.0
"""A cycle that was open may be waited for, then the queue of the last seconds is served."""
LIAR_REST_S = 15.0
"""For the control: an order that its journal forgot never ends."""
CONTROL_CUTS = 4


def play(machine: Machine, customers: Customers, run: Run, *, cuts: int, seed: int) -> None:
    """All the cuts, and a rest after the last. AssertionError where the machine stays down."""
    chance = random.Random(f"{seed} cuts")
    machine.power_on(first=True)
    boot(machine, run)
    customers.start()
    for number in range(1, cuts + 1):
        if number > 1 and chance.random() < IN_BOOT:
            time.sleep(chance.uniform(0.0, median(run.boot_s)))
        else:
            if number > 1:
                boot(machine, run)
            time.sleep(chance.uniform(0.0, LOAD_S))
        cut = machine.power_off(
            chance, board_too=chance.random() < BOARD_TOO, aimed=chance.random() < AIMED
        )
        run.cuts.append(cut)
        print(one_cut(number, cut), flush=True)
        machine.power_on()
    boot(machine, run)
    customers.stop()
    rest(machine, customers, run)


def boot(machine: Machine, run: Run) -> None:
    begun = time.monotonic()
    state = machine.wait_ready()
    run.boot_s.append(time.monotonic() - begun)
    run.last_stops[state["last_stop"]] += 1
    lost = judge.forgotten(machine.came_before_boot(), state) - run.forgotten
    if lost:
        run.forgotten |= lost
        run.broken.append(f"P7: the journal forgot {len(lost)} messages that the platform has")
    if machine.disk.lies:
        machine.disk.settle()  # the system files survive: only what is newer is at stake


def rest(machine: Machine, customers: Customers, run: Run) -> None:
    """Wait until nothing is open, then judge."""
    bound = LIAR_REST_S if machine.disk.lies else REST_BOUND_S
    end = time.monotonic() + bound
    while time.monotonic() < end:
        status = machine.ask("status")
        all_came = machine.platform.has_all(status["last_seq"])
        if not customers.unanswered() and not status["outbox"] and all_came:
            break
        time.sleep(0.5)
    else:
        run.broken.append(f"P11: no rest within {bound:g} s: {machine.ask('status')}")
    lanes = machine.ask("inventory")["lanes"]
    unanswered = customers.unanswered()
    run.broken += verdict.breaches(machine.facts(), run.cuts, unanswered, lanes)


def keep(directory: Path, machine: Machine) -> Path:
    """What one needs to find out why, from the last run of all."""
    place = image.CACHE / "last"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for path in ("console.log", "qemu.log", f"boards/{BOARD}.jsonl"):
        if (directory / path).exists():
            shutil.copy(directory / path, place)
    machine.platform.write_down(place / "messages.jsonl")
    (place / "disk.img").write_bytes(machine.disk.read(0, machine.disk.size))
    return place


def one_run(qemu: str, accelerator: str, *, cuts: int, seed: int, lies: bool) -> Run:
    print(f"\n{cuts} cuts, seed {seed}, {accelerator}, the disk {'LIES' if lies else 'is honest'}")
    directory = Path(tempfile.mkdtemp(prefix="vc-"))  # short: a Unix socket lies in it
    machine = Machine(directory, qemu, accelerator, lies=lies)
    customers = Customers(machine.platform, Habits(PRODUCTS), seed)
    run = Run()
    begun = time.monotonic()
    try:
        machine.up()
        try:
            play(machine, customers, run, cuts=cuts, seed=seed)
        except AssertionError as error:  # something that had to come did not
            run.broken.append(f"P11: {str(error)[:300]}")
        customers.stop()
        run.seconds = time.monotonic() - begun
        figures = table(
            run,
            machine.facts(),
            commands=len(customers.commands),
            repeats=customers.counts.repeats,
            disk=machine.disk.counts,
            console=machine.guest.said(),
        )
        print(figures)
        print("\n".join(run.broken[:20]))
        if run.broken and not lies:
            print(f"console, ledger, messages and disk: {keep(directory, machine)}")
    finally:
        machine.close()
        shutil.rmtree(directory, ignore_errors=True)
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--control", type=int, default=CONTROL_CUTS, help="cuts of the lying disk")
    parser.add_argument("--tcg", action="store_true", help="software emulation, also with KVM")
    given = parser.parse_args()
    qemu = fetch_qemu()
    accelerator = "kvm" if not given.tcg and kvm_works(qemu) else "tcg"
    honest = one_run(qemu, accelerator, cuts=given.cuts, seed=given.seed, lies=False)
    ok = not honest.broken
    if given.control:
        liar = one_run(qemu, accelerator, cuts=given.control, seed=given.seed, lies=True)
        print(f"control: a lying disk {'shows' if liar.broken else 'DOES NOT SHOW'}")
        ok = ok and bool(liar.broken)
    print("powercut: all promises kept" if ok else "powercut: FAILED", f"(seed {given.seed})")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
