"""The example of a fleet's broker in config/mosquitto: it starts, keeps all apart, and a daemon
works under it. Certificates of an authority of our own, a real mosquitto."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.certificates import Authority
from tests.system.broker import ROOT, Broker
from tests.system.conftest import SiteMaker
from tests.system.platform_client import Platform
from tests.system.site import MACHINE_NO, TRACK_ON_VBP

pytestmark = pytest.mark.system

EXAMPLES = ROOT / "config" / "mosquitto"
OTHER_NO = "16327130"
NOT_AUTHORISED = 0x87
LONGEST_WAIT_S = 10.0


class FleetBroker(Broker):
    """The examples as they are, with files and a port of this test."""

    def __init__(self, directory: Path, authority: Authority, port: int | None = None) -> None:
        self._authority = authority
        super().__init__(directory, port=port)

    def config(self) -> str:
        directory = self._config.parent
        acl = directory / "vending.acl"
        acl.write_text((EXAMPLES / "acl.example").read_text())
        text = (EXAMPLES / "mosquitto.conf.example").read_text()
        for theirs, ours in (
            ("/etc/mosquitto/certs/machines-ca.pem", str(self._authority.certificate)),
            ("/etc/mosquitto/certs/", f"{self._authority.directory}/"),
            ("/etc/mosquitto/vending.acl", str(acl)),
            ("/var/lib/mosquitto/", f"{directory}/"),
            ("listener 8883", f"listener {self.port} 127.0.0.1"),
        ):
            assert theirs in text
            text = text.replace(theirs, ours)
        return "user root\n" + text


class Party:
    """Somebody with a certificate: subscribes to all that it wishes, keeps what comes."""

    def __init__(
        self, broker: Broker, authority: Authority, name: str, client_id: str = "", will: str = ""
    ) -> None:
        self.heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.ended = threading.Event()
        self._ready = threading.Event()
        self._said: queue.Queue[int] = queue.Queue()
        self.client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id or name,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
        )
        if will:
            client.will_set(f"vending/v1/{will}", b"{}", qos=1, retain=True)
        client.tls_set(
            str(authority.certificate),
            str(authority.directory / f"{name}.pem"),
            str(authority.directory / f"{name}.key"),
        )

        def on_connect(*_: Any) -> None:
            client.subscribe("#", qos=1)

        client.on_connect = on_connect
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_disconnect = lambda *_: self.ended.set()
        client.on_message = lambda _c, _u, message: self.heard.put(
            (message.topic, bytes(message.payload))
        )
        client.on_publish = lambda _c, _u, _mid, reason, _p: self._said.put(reason.value)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        assert self._ready.wait(LONGEST_WAIT_S), f"{name} was not let in"

    def says(self, topic: str) -> int:
        """The broker's word on a publish."""
        self.client.publish(f"vending/v1/{topic}", b"x", qos=1)
        return self._said.get(timeout=LONGEST_WAIT_S)

    def hears(self) -> str:
        return self.heard.get(timeout=LONGEST_WAIT_S)[0].removeprefix("vending/v1/")

    def cut(self) -> None:
        """The line ends without a word, and the broker speaks its will."""
        line = self.client.socket()
        assert line is not None
        line.shutdown(socket.SHUT_RDWR)
        assert self.ended.wait(LONGEST_WAIT_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.sign("server", server=True)
    for name in (MACHINE_NO, OTHER_NO, "backend"):
        made.sign(name)
    return made


@pytest.fixture
def broker(short_dir: Path, authority: Authority) -> Iterator[Broker]:
    made = FleetBroker(short_dir, authority)
    made.up()
    yield made
    made.end()


@pytest.fixture
def party(broker: Broker, authority: Authority) -> Iterator[Callable[..., Party]]:
    made: list[Party] = []

    def join(name: str, **more: str) -> Party:
        made.append(Party(broker, authority, name, **more))
        return made[-1]

    yield join
    for each in made:
        each.close()


COMMANDS = ("dispense", "cancel", "request/status")
WORDS = ("result", "order", "event", "state", "inventory", "telemetry", "response/status")


def test_a_machine_says_and_reads_its_own_and_nothing_else(party: Callable[..., Party]) -> None:
    """P14. All subscribe to `#`. What must not come would come before what comes last."""
    machine, other, backend = party(MACHINE_NO), party(OTHER_NO), party("backend")
    for leaf in COMMANDS:
        assert backend.says(f"{MACHINE_NO}/{leaf}") == 0
        assert machine.hears() == f"{MACHINE_NO}/{leaf}"
        assert machine.says(f"{OTHER_NO}/{leaf}") == NOT_AUTHORISED
        assert machine.says(f"{MACHINE_NO}/{leaf}") == NOT_AUTHORISED, "it commands itself"
    for leaf in WORDS:
        assert machine.says(f"{MACHINE_NO}/{leaf}") == 0
        assert backend.hears() == f"{MACHINE_NO}/{leaf}"
        assert machine.says(f"{OTHER_NO}/{leaf}") == NOT_AUTHORISED
        assert backend.says(f"{MACHINE_NO}/{leaf}") == NOT_AUTHORISED
    assert machine.hears() == f"{MACHINE_NO}/state", "its own last word, and no other of its words"
    assert machine.heard.empty()
    assert backend.says(f"{OTHER_NO}/cancel") == 0
    assert other.hears() == f"{OTHER_NO}/cancel", "the first and only thing that it heard"
    assert backend.heard.empty(), "nothing in another machine's name"


def test_nobody_takes_over_a_session_by_its_name(party: Callable[..., Party]) -> None:
    machine, backend = party(MACHINE_NO), party("backend")
    thief = party(OTHER_NO, client_id=MACHINE_NO)
    assert backend.says(f"{MACHINE_NO}/dispense") == 0
    assert machine.hears() == f"{MACHINE_NO}/dispense"
    assert backend.says(f"{OTHER_NO}/dispense") == 0
    assert thief.hears() == f"{OTHER_NO}/dispense"
    assert not machine.ended.is_set()


def test_without_a_certificate_nobody_comes_in(broker: Broker, authority: Authority) -> None:
    ended: queue.Queue[Any] = queue.Queue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, MACHINE_NO, protocol=mqtt.MQTTv5)
    client.tls_set(str(authority.certificate))
    client.on_connect = lambda *_: ended.put("let in")
    client.on_disconnect = lambda *_: ended.put("refused")
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        assert ended.get(timeout=LONGEST_WAIT_S) == "refused"
    finally:
        client.loop_stop()


def test_a_last_will_in_another_name_is_not_spoken(party: Callable[..., Party]) -> None:
    """It would take the place of what the other one reads at its start."""
    machine, backend = party(MACHINE_NO), party("backend")
    for about in (MACHINE_NO, OTHER_NO):
        party(OTHER_NO, will=f"{about}/state").cut()
    assert backend.hears() == f"{OTHER_NO}/state", "the second will, about itself"
    assert backend.heard.empty()
    assert machine.heard.empty()


class Backend(Platform):
    """The platform of the tests, with a certificate."""

    def __init__(self, port: int, authority: Authority) -> None:
        super().__init__(port, MACHINE_NO)
        own = authority.directory / "backend"
        self._client.tls_set(str(authority.certificate), f"{own}.pem", f"{own}.key")


def test_a_daemon_works_under_it(make_site: SiteMaker, authority: Authority) -> None:
    """A sale, a request, an event, a restart that reads its own state: nothing is refused."""
    own = authority.directory / MACHINE_NO
    tls = {
        "tls.ca_file": str(authority.certificate),
        "tls.cert_file": f"{own}.pem",
        "tls.key_file": f"{own}.key",
    }
    site = make_site((TRACK_ON_VBP,), mqtt=tls)
    site.broker = FleetBroker(site.directory / "fleet-broker", authority, site.broker.port)
    site.platform = Backend(site.broker.port, authority)
    site.up()
    platform = site.platform
    platform.dispense(1, [{"product_id": 121, "quantity": 1}])
    assert platform.wait_results(1, 1)[1]["outcome"] == "delivered"
    platform.wait_order(1, "finished")
    platform.send("request/status", {"request_id": "r"})
    platform.wait_for(lambda: platform.of("response/status"), "an answer")
    site.wait_rest()
    site.daemon.terminate()
    site.daemon.up()
    platform.wait_for(lambda: platform.of("event"), "the restart is told")
    site.wait_rest()
    site.judge()
    for topic in ("inventory", "telemetry", "state"):
        assert platform.of(topic), topic
    said = site.daemon.output()
    for refusal in ("refused", "own_state_unreadable", "retained_state_not_adopted"):
        assert refusal not in said
