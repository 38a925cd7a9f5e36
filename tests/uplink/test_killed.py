"""P7: a process killed before it acknowledged has lost nothing; the broker brings it again."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.uplink.conftest import Broker, Build, Platform, command, until


@pytest.mark.system
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_killed_before_the_acknowledgement(
    build: Build, broker: Broker, platform: Platform, protocol: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.uplink.killed_machine",
        str(broker.port),
        protocol,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(10):
        assert await process.stdout.readline() == b"ready\n"
        for number in (1, 2, 3):
            platform.send("dispense", command(number))
        while await process.stdout.readline() != b"seen 3\n":
            pass
        process.kill()
        await process.wait()
    machine = build(protocol=protocol)
    await until(lambda: len(machine.desk.submitted) == 3)
    assert [order.key.order_id for order in machine.desk.submitted] == [1, 2, 3]
    await until(lambda: len(machine.journal.sent_rows) == 3)


@pytest.mark.system
async def test_commands_survive_a_broker_with_persistence_killed_together_with_us(
    broker: Broker, build: Build
) -> None:
    """With `autosave_on_changes` the broker kept what it acknowledged to the platform."""
    broker.stop()
    broker.persistence = True
    broker.start()
    platform = Platform(broker.port)
    await until(lambda: platform.subscribed)
    machine = build()
    await machine.uplink.session.ready()
    await machine.stop()
    platform.send("dispense", command(1))
    saved = broker.directory / "mosquitto.db"
    await until(lambda: saved.exists() and b"trade-1" in saved.read_bytes())
    broker.stop()
    platform.close()
    broker.start()
    again = build(journal=machine.journal)
    await until(lambda: again.desk.submitted)
