"""`make demo`: orders arrive over MQTT, motors turn, products fall, results go back.

Everything is real but the hardware: a mosquitto, the daemon, and the emulator on
two ptys, and platform-sim before them, all in a temporary directory. Exit code 0 when at the
end the emulator's ledger, the results and the callbacks agree, 1 when not. `--stay` leaves it
running to play with.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.demo import sale
from tests.demo.comparison import comparison
from tests.demo.narrator import BOLD, GREEN, RED, Narrator
from tests.demo.stay import stay
from tests.platform.process import MerchantServer, PlatformSim
from tests.system import judge
from tests.system.site import CabinetPlan, Lane, Site

ACT_BOUND_S = 40.0
"""No act takes more than 10 s; an act that hangs ends the play with what came so far."""

READ_S = 2.5
"""A pause before each act: for reading what it is about."""

# Motors as slow as in the field, so that one sees them; a jammed one gives up after 5 s.
TRACK = CabinetPlan(
    name="A",
    kind="track",
    board="main",
    protocol="vbp",
    drop_sensor=True,
    lanes=(Lane("A1", 1, 121), Lane("A2", 2, 122)),
    settings={"cycle_timeout_s": 12, "max_run_ms": 5000, "drop_wait_ms": 1500},
    run_ms=2200,
    fall_ms=350,
)
SPIRAL = CabinetPlan(
    name="B",
    kind="spiral",
    board="side",
    protocol="xy",
    drop_sensor=False,
    lanes=(Lane("B1", 1, 221), Lane("B2", 2, 222)),
    settings={"cycle_timeout_s": 10},
    scenario={"eye": False},
    run_ms=2000,
    fall_ms=300,
)


class Play:
    """The stage: a running site, a platform and a merchant before it, their narrator, and the
    first order for its repetition."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.sim = PlatformSim(site, site.directory / "platform")
        self.merchant = MerchantServer()
        self.narrator = Narrator(site, self.merchant.told)
        self.first: dict[str, Any] = {}

    def order(self, order_id: int, quantity: int, product: int, **fields: Any) -> dict[str, Any]:
        text = f"order {order_id}: {quantity} x product {product}"
        self.narrator.say("-> MQTT", f"dispense {text}", BOLD)
        products = [{"product_id": product, "quantity": quantity}]
        return self.site.platform.dispense(order_id, products, **fields)

    def finished(self, order_id: int, *, times: int = 1) -> None:
        """Until the order is told as finished, and each of its units too, so many times."""
        platform = self.site.platform
        units = platform.wait_order(order_id, "finished", ACT_BOUND_S, times=times)["units"]
        platform.wait_for(
            lambda: len(platform.of("result", order_id)) >= units * times,
            f"the results of order {order_id}",
            ACT_BOUND_S,
        )

    def call(self, call: sale.Call) -> dict[str, Any]:
        """A merchant's request, as one would type it, and the `data` of its answer."""
        self.narrator.plain("\n".join(f"         {line}" for line in call.typed(self.sim.url)))
        answer = call.answer(self.sim.url)
        self.narrator.say("<- HTTP", answer)
        told = json.loads(answer)
        assert told["code"] == 0, f"{call.method} {call.path} was refused: {answer}"
        return dict(told["data"])

    def drives(self) -> int:
        """How often any motor was told to turn, by the emulator's own ledger."""
        return sum(len(self.site.ledger(channel, judge.DRIVE)) for channel in self.site.lanes())


def three_items(play: Play) -> None:
    """Three items of one product, on the track cabinet: three cycles, one item in each,
    and no motor turns before the light eye is clear again."""
    play.first = play.order(1001, 3, 121)
    play.finished(1001)


def spiral(play: Play) -> None:
    """A spiral lane on an XY board, which polls, and hears us only just after a poll."""
    play.order(1002, 1, 221)
    play.finished(1002)


def jam(play: Play) -> None:
    """A jam, put into lane A2 now, over the emulator's control socket."""
    play.site.fault("A2", "jam")
    play.order(1003, 1, 122)
    play.finished(1003)
    play.narrator.remark("The motor gave up, nothing fell, and the platform may refund at once.")


def duplicate(play: Play) -> None:
    """Order 1001 once more, as a broker or a platform may well send it."""
    drives, results = play.drives(), len(play.site.platform.of("result", 1001))
    play.narrator.say("-> MQTT", "dispense order 1001 again: the same command", BOLD)
    play.site.platform.send("dispense", play.first)
    play.finished(1001, times=2)
    again = len(play.site.platform.of("result", 1001)) - results
    differs = any(judge.repeats(play.site.facts()))
    alike = "with DIFFERENT bytes" if differs else "byte for byte"
    play.narrator.remark(
        f"{again} stored results came again, {alike}. Motors that turned: {play.drives() - drives}."
    )


def expired(play: Play) -> None:
    """An order that comes ten seconds after its customer gave up: late is never."""
    drives, now = play.drives(), int(time.time())
    play.order(1005, 1, 121, issued_at=now - 20, expires_at=now - 10)
    play.site.platform.wait_order(1005, "rejected", ACT_BOUND_S)
    play.narrator.remark(f"Motors that turned: {play.drives() - drives}.")


def killed(play: Play) -> None:
    """kill -9 of the daemon, while the motor turns for the first of two items."""
    site = play.site
    before, driven = len(site.ledger("A1", "motor_started")), len(site.ledger("A1", judge.DRIVE))
    play.order(1006, 2, 121)
    site.platform.wait_order(1006, "accepted", ACT_BOUND_S)
    site.wait_ledger("A1", "motor_started", before + 1)
    play.narrator.say("vendingd", f"kill -9 of process {site.daemon.pid}", RED)
    site.daemon.kill()
    site.wait_ledger("A1", judge.FELL, before + 1)
    play.narrator.remark(
        "It fell, the board saw it, and no daemon was there to be told. The daemon comes back:"
    )
    seconds = site.daemon.up()
    play.narrator.say("vendingd", f"process {site.daemon.pid}, ready after {seconds:.1f} s", GREEN)
    play.finished(1006)
    play.narrator.remark(
        "It asked the board what became of that cycle. Drives of both items, before and after:"
        f" {len(site.ledger('A1', judge.DRIVE)) - driven}."
    )


def merchants_sale(play: Play) -> None:
    """The whole way: a merchant's backend orders, pays and asks for delivery over the order API of
    platform-sim, which commands the machine and tells the merchant what fell."""
    fell = len(play.site.ledger("A1", judge.FELL))
    order = sale.order(uuid.uuid4().hex, play.merchant.url, 121, 1)
    order_id = play.call(order)["order_id"]
    play.call(sale.paid(order_id))
    record_id = play.call(sale.query(order_id))["records"][0]["id"]
    play.call(sale.deliver(order_id, record_id))
    play.finished(order_id)
    play.site.platform.wait_for(
        lambda: play.merchant.of(order_id), "the merchant's callback", ACT_BOUND_S
    )
    fell = len(play.site.ledger("A1", judge.FELL)) - fell
    play.narrator.remark(f"Products that fell: {fell}.")


ACTS: tuple[tuple[str, Callable[[Play], None]], ...] = (
    ("Three items", three_items),
    ("A spiral lane", spiral),
    ("A jam", jam),
    ("The same order again", duplicate),
    ("An order that comes too late", expired),
    ("The daemon is killed in mid-cycle", killed),
    ("A merchant's sale", merchants_sale),
)


def perform(play: Play) -> bool:
    """All acts, and the reckoning. Whether results and ledger agree."""
    play.narrator.title("The stage")
    play.narrator.remark(
        "A broker, an emulator with two boards on ptys, the daemon; we are the platform, until\n"
        "the last act, where platform-sim is.\n"
        "Cabinet A: track with light eye, VBP board, lanes A1 (product 121) and A2 (122).\n"
        "Cabinet B: spiral without eye, XY board, lanes B1 (221) and B2 (222)."
    )
    play.site.up()
    play.sim.up()
    play.narrator.begin()
    play.site.platform.wait_for(
        lambda: any(state["mode"] == "ready" for state in play.site.platform.of("state")),
        "the machine is ready to sell",
        ACT_BOUND_S,
    )
    for number, (title, act) in enumerate(ACTS, start=1):
        play.narrator.title(f"{number}. {title}")
        play.narrator.remark(act.__doc__ or "")
        time.sleep(READ_S)
        act(play)
    play.site.wait_rest(ACT_BOUND_S)
    play.narrator.title("What the technician sees: vendctl status")
    play.narrator.plain(play.site.daemon.run_ctl("status").stdout.rstrip())
    play.narrator.title("What the platform was told, beside what really happened")
    facts = play.site.facts()
    table, agree = comparison(facts, play.merchant.told)
    breaches = judge.breaches(facts)
    play.narrator.plain("\n".join([*table, "", *breaches]))
    good = agree and not breaches
    if good:
        play.narrator.plain("Ledger, results and callback agree.", GREEN)
    else:
        play.narrator.plain("Ledger, results and callback do NOT agree.", RED)
    return good


def say_why_it_failed(play: Play) -> None:
    for program in (play.sim, play.site.daemon, play.site.emulator, play.site.broker):
        print(f"\n--- the end of {program.log.name} ---\n{program.output()}", file=sys.stderr)


def main(words: list[str]) -> int:
    options = argparse.ArgumentParser(prog="make demo", description=__doc__)
    options.add_argument("--stay", action="store_true", help="leave it running to play with")
    wanted = options.parse_args(words)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # ends as by Ctrl-C, all in order
    directory = Path(tempfile.mkdtemp(prefix="vending-demo-"))
    play = Play(Site(directory, (TRACK, SPIRAL)))
    try:
        good = perform(play)
        if wanted.stay:
            stay(play.site, play.sim.url, play.merchant.url)
    except KeyboardInterrupt:
        print("\nEnding.")
        return 0 if wanted.stay else 130
    except AssertionError as error:
        print(f"\nThe play stopped: {error}", file=sys.stderr)
        say_why_it_failed(play)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C leaves nothing
        play.narrator.close()
        play.sim.end()
        play.site.close()
        play.merchant.close()
        shutil.rmtree(directory, ignore_errors=True)
    print("Nothing is left running.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
