"""platform-sim as a process, in front of a site; and a merchant's server that is told."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.platform.merchant import APPID, KEY, SECRET
from tests.system.emulator import toml_table
from tests.system.process import PROGRAMS, Process
from tests.system.site import MACHINE_NO, Site
from tests.system.waiting import wait_for

READY = re.compile(r"ready: (http://[0-9.]+:[0-9]+)/")


def platform_settings(site: Site, database: Path, rules: Mapping[str, Any]) -> str:
    """The platform's side of the site's cabinets: each lane's first product, as in the field."""
    tables = [
        f'database = "{database}"',
        toml_table("[http]", {"port": 0}),
        toml_table("[mqtt]", {"port": site.broker.port}),
        toml_table("[callbacks]", {"allowed_hosts": ["127.0.0.1"]}),
        toml_table("[rules]", dict(rules)),
        toml_table("[[merchants]]", {"appid": APPID, "secret": SECRET, "sign_key": KEY}),
        toml_table("[[machines]]", {"machine_no": MACHINE_NO, "appid": APPID, "name": "the site"}),
    ]
    sold: set[int] = set()
    for plan in site.cabinets:
        kind = "belt" if plan.kind == "track" else "motor"
        cabinet = {"name": plan.name, "kind": kind, "light_eye": plan.drop_sensor}
        tables.append(toml_table("[[machines.cabinets]]", cabinet))
        for lane in plan.lanes:
            if lane.product_id in sold:
                continue
            sold.add(lane.product_id)
            product = {"product_id": lane.product_id, "channel": lane.channel, "stock": lane.goods}
            tables.append(toml_table("[[machines.products]]", product))
    return "\n".join(tables)


class PlatformProcess(Process):
    """`up` returns when it listens; `url` is where, anew in each life."""

    def __init__(self, directory: Path, settings: str) -> None:
        """`settings`: TOML with the database `platform.db`."""
        directory.mkdir(parents=True, exist_ok=True)
        self.database = directory / "platform.db"
        self.settings = directory / "platform-sim.toml"
        self.settings.write_text(settings, encoding="utf-8")
        self.url = ""
        command = [PROGRAMS / "platform-sim", "--config", self.settings]
        super().__init__(command, directory / "platform.log")

    def up(self) -> str:
        lives = len(READY.findall(self.output(1 << 20)))
        self.start()

        def ready() -> Sequence[str]:
            assert self.alive, f"platform-sim ended with {self.exit_code}:\n{self.output()}"
            found = READY.findall(self.output(1 << 20))
            return found[lives:]

        self.url = wait_for(ready, "platform-sim is ready", 20)[0]
        return self.url


class PlatformSim(PlatformProcess):
    """In front of a site."""

    def __init__(self, site: Site, directory: Path, rules: Mapping[str, Any] | None = None) -> None:
        super().__init__(directory, platform_settings(site, directory / "platform.db", rules or {}))


class MerchantServer:
    """Where callbacks arrive; `status` is what it answers."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.at: list[float] = []
        self.status = 200
        told, at, server = self.told, self.at, self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                told.append(json.loads(body))
                at.append(time.time())
                self.send_response(server.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Not on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/told"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def of(self, order_id: int) -> list[dict[str, Any]]:
        return [body for body in self.told if body.get("order_id") == order_id]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
