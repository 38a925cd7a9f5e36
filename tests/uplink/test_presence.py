"""`state`, `inventory` and `telemetry`: the latest wins, and a burst is one message."""

from __future__ import annotations

import asyncio

from tests.uplink.conftest import Broker, Build, Platform, until


async def test_birth_state_inventory_and_heartbeat(build: Build, platform: Platform) -> None:
    build()
    await until(lambda: platform.on("telemetry"))
    state = (await until(lambda: platform.on("state")))[-1].json
    assert (state["online"], state["mode"], state["journal"]) == (True, "ready", 1000)
    assert (await until(lambda: platform.on("inventory")))[0].json["lanes"] == []
    assert platform.on("telemetry")[0].json["counters"] == {"x": 1}


async def test_state_and_inventory_are_retained_for_whoever_comes_later(
    build: Build, broker: Broker, platform: Platform
) -> None:
    build()
    await until(lambda: platform.on("inventory"))
    late = Platform(broker.port, "late")
    await until(lambda: late.on("state") and late.on("inventory"))
    assert late.on("state")[0].retained
    assert late.on("inventory")[0].retained
    assert late.on("telemetry") == []
    late.close()


async def test_a_burst_of_changes_is_one_message_and_the_last_one_wins(
    build: Build, platform: Platform
) -> None:
    machine = build()
    await until(lambda: platform.on("inventory"))
    for number in range(100):
        machine.view.mode = "dispensing" if number < 99 else "degraded"
        machine.view.changed.set()
        await asyncio.sleep(0)
    await until(lambda: platform.on("state")[-1].json["mode"] == "degraded")
    assert len(platform.on("state")) == 2
    assert len(platform.on("inventory")) == 1  # it did not change


async def test_a_new_connection_shows_the_machine_again(build: Build, platform: Platform) -> None:
    """The will of the cut connection said offline; the birth says online again."""
    machine = build()
    await until(lambda: platform.on("inventory"))
    link = machine.uplink.session._link
    assert link is not None
    link.abort()
    await until(lambda: [m.json["online"] for m in platform.on("state")] == [True, False, True])
