"""The broker and the platform's client, as the other system tests rely on them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.broker import Broker, answers
from tests.system.platform_client import Platform
from tests.system.process import LEASH
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system


@pytest.mark.parametrize("persistent", [True, False])
def test_a_killed_broker_comes_back_on_its_port_with_what_it_was_told_to_keep(
    short_dir: Path, *, persistent: bool
) -> None:
    broker = Broker(short_dir, persistent=persistent)
    platform = Platform(broker.port, "00000001")
    try:
        broker.up()
        platform.up()
        platform.send("state", b"{}", retain=True)
        platform.wait_for(lambda: platform.of("state"), "our own message came back")
        if persistent:
            broker.save()
        broker.kill()
        broker.up()
        platform.wait_subscribed()
        platform.send("result", b'{"order_id": 1}')
        platform.wait_for(lambda: platform.of("result", 1), "the new broker hands on")
        kept = [message for message in platform.messages if message.retained]
        assert len(kept) == persistent, "retained messages come when one subscribes again"
    finally:
        platform.close()
        broker.end()
    assert not broker.alive


BORN_AND_LEFT = """
import pathlib, sys, os, signal
from tests.system.broker import Broker
broker = Broker(pathlib.Path(sys.argv[1]))
broker.up()
print(broker.port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not LEASH, reason="needs setpriv of util-linux")
def test_a_killed_test_run_leaves_nothing_running(short_dir: Path) -> None:
    command = [sys.executable, "-c", BORN_AND_LEFT, str(short_dir)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    port = int(done.stdout)
    wait_for(lambda: not answers(port), "the broker ended with the one who started it")
