"""`make demo STAY=1`: the machine goes on, and these are things to try with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
import threading
from pathlib import Path

from tests.platform.merchant import APPID, KEY, SECRET
from tests.platform.merchant import ROOT as API
from tests.system.process import PROGRAMS
from tests.system.site import MACHINE_NO, Site

ROOT = Path(__file__).resolve().parents[2]


def program(name: str) -> str:
    """A program of mosquitto's clients: as a bare word when it is in everybody's PATH."""
    if shutil.which(name, path="/usr/local/bin:/usr/bin:/bin"):
        return name
    script = ROOT / "tests/tooling/broker.sh"
    found = subprocess.run([script, name], stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout.strip() or name


def shortened(path: Path) -> str:
    """Relative to the project where it lies in it: the commands are typed there."""
    return os.path.relpath(path, ROOT) if path.is_relative_to(ROOT) else str(path)


def things_to_try(site: Site, api: str, notify_url: str) -> str:
    port, root = site.broker.port, f"vending/v1/{MACHINE_NO}"
    vendctl = f"{shortened(PROGRAMS / 'vendctl')} --socket {site.daemon.control}"
    boards = site.emulator.directory
    tell = f"{shortened(PROGRAMS / 'python')} -m tests.demo.tell {boards}"
    order = (
        '{"order_id": \'$RANDOM\', "trade_id": "try-\'$RANDOM$RANDOM\'", '
        '"issued_at": \'$(date +%s)\', "products": [{"product_id": 121, "quantity": 2}]}'
    )
    wanted = (
        f'{{"machine_no": "{MACHINE_NO}", "trade_id": "try-\'$RANDOM$RANDOM\'", '
        f'"notify_url": "{notify_url}", "products": [{{"product_id": 221, "quantity": 1}}]}}'
    )
    who = f"-H 'Appid: {APPID}' -H 'AppSecret: {SECRET}'"
    delivery = "method=device.delivery.put order_id=$ORDER record_id=$RECORD"
    platform_sim = shortened(PROGRAMS / "platform-sim")
    return textwrap.dedent(
        f"""
        It goes on. In another terminal, in this directory:

        everything that the machine says
          {program("mosquitto_sub")} -p {port} -v -t '{root}/#'

        an order of two items (121, 122 are in cabinet A; 221, 222 in cabinet B)
          {program("mosquitto_pub")} -p {port} -q 1 -t {root}/dispense -m '{order}'

        a merchant's sale over platform-sim; its callback is told here. docs/platform.md has it all
          api() {{ curl -sS -X $1 {api}{API}$2 {who} -d "$3"; echo; }}
          sign() {{ {platform_sim} sign --key {KEY} machine_no={MACHINE_NO} "$@"; }}
          number() {{ grep -o "\\"$1\\":[0-9]*" | cut -d : -f 2; }}
          ORDER=$(api POST /orders '{wanted}' | number order_id)
          api PUT /orders/$ORDER "$(sign status=1)"
          RECORD=$(api POST /orders/$ORDER "$(sign)" | number id)
          api POST /deliveries "$(sign {delivery})"
          api POST /orders/$ORDER "$(sign)"

        what a technician sees, and does
          {vendctl} status
          {vendctl} lanes
          {vendctl} orders
          {vendctl} order 1006
          {vendctl} test A2 --yes

        refill lane A1: the goods, then the count of them
          {tell}/main.sock '{{"do": "refill", "lane": 1, "goods": 8}}'
          {vendctl} stock set A1 8 --yes

        a fault, now; docs/faults.md has them all
          {tell}/main.sock '{{"do": "fault", "kind": "jam", "lane": 1}}'
          {tell}/main.sock '{{"do": "unplug"}}'
          {tell}/main.sock '{{"do": "plug"}}'
          {tell}/side.sock '{{"ask": "state"}}'

        the daemon's settings, its log, and the ledger of what cabinet A's board really did
          {site.directory}/vendingd.toml
          {site.directory}/vendingd.log
          {boards}/main.jsonl
        and platform-sim's
          {site.directory}/platform/platform-sim.toml
          {site.directory}/platform/platform.log

        Ctrl-C here ends all of it.
        """
    )


def stay(site: Site, api: str, notify_url: str) -> None:
    """Until a Ctrl-C; the narrator goes on telling."""
    print(things_to_try(site, api, notify_url), flush=True)
    threading.Event().wait()
