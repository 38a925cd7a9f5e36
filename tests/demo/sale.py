"""A merchant's backend for the play: the order API by curl, as one would type it."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.demo.stay import ROOT, shortened
from tests.platform.merchant import APPID, KEY, SECRET
from tests.platform.merchant import ROOT as API
from tests.system.process import PROGRAMS
from tests.system.site import MACHINE_NO

ANSWER_S = 20
"""Bound of one call; it takes 10 ms, and the signing program half a second."""

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One request; `plain` is its body, or `fields` what is signed in it."""

    method: str
    path: str
    plain: Json | None = None
    fields: Mapping[str, str] | None = None

    def signing(self) -> list[str]:
        words = [f"{name}={value}" for name, value in (self.fields or {}).items()]
        program = shortened(PROGRAMS / "platform-sim")
        return [program, "sign", "--key", KEY, f"machine_no={MACHINE_NO}", *words]

    def typed(self, url: str) -> list[str]:
        """The lines of a command for any shell, in this directory."""
        if self.plain is None:
            body = f'"$({" ".join(self.signing())})"'
        else:
            body = f"'{json.dumps(self.plain)}'"
        return [
            f"curl -sS -X {self.method} {url}{API}{self.path} \\",
            f"  -H 'Appid: {APPID}' -H 'AppSecret: {SECRET}' \\",
            f"  -d {body}",
        ]

    def answer(self, url: str) -> str:
        """What comes back, as text. AssertionError where nothing does."""
        if shutil.which("curl"):
            return _output(["sh", "-c", "\n".join(self.typed(url))])
        return self._without_curl(url)

    def _without_curl(self, url: str) -> str:
        body = _output(self.signing()) if self.plain is None else json.dumps(self.plain)
        line = http.client.HTTPConnection(url.removeprefix("http://"), timeout=ANSWER_S)
        with contextlib.closing(line):
            headers = {"Appid": APPID, "AppSecret": SECRET}
            line.request(self.method, f"{API}{self.path}", body, headers)
            return line.getresponse().read().decode()


def order(trade_id: str, notify_url: str, product: int, quantity: int) -> Call:
    body = {
        "machine_no": MACHINE_NO,
        "trade_id": trade_id,
        "notify_url": notify_url,
        "products": [{"product_id": product, "quantity": quantity}],
    }
    return Call("POST", "/orders", plain=body)


def paid(order_id: int) -> Call:
    return Call("PUT", f"/orders/{order_id}", fields={"status": "1"})


def query(order_id: int) -> Call:
    return Call("POST", f"/orders/{order_id}", fields={})


def deliver(order_id: int, record_id: int) -> Call:
    fields = {
        "method": "device.delivery.put",
        "order_id": str(order_id),
        "record_id": str(record_id),
    }
    return Call("POST", "/deliveries", fields=fields)


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=ANSWER_S, check=False
    )
    assert done.returncode == 0, f"{command[0]}: {done.stderr.strip()}"
    return done.stdout.strip()
