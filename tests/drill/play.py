"""`make drill`: a running machine with one fault, drawn at random and not told.

Find it with vendctl alone, in another terminal; then give your answer here. Exit code 0 when it
is right. `--seed N` draws the same again; `--fault NAME` sets a certain one.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.drill.faults import FAULTS, Fault
from tests.system.process import PROGRAMS
from tests.system.site import Site


def main(arguments: Sequence[str] | None = None) -> int:
    given = _arguments().parse_args(arguments)
    chance = Random(secrets.randbits(32) if given.seed is None else given.seed)
    fault = FAULTS[given.fault or chance.choice(list(FAULTS))]
    with tempfile.TemporaryDirectory(prefix="vc-drill-") as directory:
        site = Site(Path(directory))
        try:
            print("A machine starts, sells, and then something goes wrong …", flush=True)
            site.up()
            site.platform.dispense(1, [{"product_id": 121, "quantity": 2}])
            site.platform.wait_order(1, "finished")
            fault.come_about(site)
            return _asked(site, fault, chance)
        finally:
            site.close()


def _asked(site: Site, fault: Fault, chance: Random) -> int:
    print(
        "\nFind it with vendctl alone, in another terminal:\n"
        f"  export VENDCTL_SOCKET={site.daemon.control}\n"
        f"  {PROGRAMS / 'vendctl'} status\n\n"
        "What is it?"
    )
    answers = list(FAULTS.values())
    chance.shuffle(answers)
    for number, answer in enumerate(answers, start=1):
        print(f"  {number}  {answer.words}")
    while True:
        print("Your answer (a number; q to give up): ", end="", flush=True)
        said = sys.stdin.readline().strip()
        if said in {"q", ""}:
            print(f"It was: {fault.words}. `vendctl doctor` calls it {fault.code}.")
            return 1
        if said.isdigit() and 0 < int(said) <= len(answers):
            if answers[int(said) - 1] is fault:
                print("Right. Everything is ended.")
                return 0
            print("No: look again.")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.drill.play", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--fault", choices=FAULTS, help="no drawing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
