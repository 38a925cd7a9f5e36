"""The books over the socket: what is asked strictly, and streams that a peer may leave."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from controller.service import shapes
from controller.service.server import Service
from tests.service.memory_machine import MemoryMachine
from tests.service.raw_http import exchange, post, request

ME = getpass.getuser()

STREAMS = [
    ("/v1/journal/check", shapes.CheckStep, ["checked", "checked", "finished"]),
    ("/v1/journal/backup", shapes.BackupStep, ["chunk", "chunk", "finished"]),
    ("/v1/journal/prune", shapes.PruneStep, ["pruned", "pruned", "finished"]),
]


@pytest.mark.parametrize(("target", "shape", "events"), STREAMS)
async def test_the_journals_upkeep_comes_step_by_step(
    service: Service, socket_path: Path, target: str, shape: type, events: list[str]
) -> None:
    status, body = await exchange(socket_path, request("POST", target))
    assert status == 200
    steps = [json.loads(line) for line in body.splitlines() if line.strip() and line[:1] == b"{"]
    assert [step["event"] for step in steps] == events
    for step in steps:
        assert TypeAdapter(shape).validate_python(step, strict=True) == step


async def test_a_verdict_reaches_the_machine_with_the_revision_that_was_seen(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    body = {"outcome": "not_delivered", "revision": 2, "delivery_id": "17", "reason": "hangs"}
    assert (await post(socket_path, "/v1/orders/1111111/units/3/resolve", body))[0] == 200
    assert machine.acts == [("resolve", 1111111, "17", 3, "not_delivered", 2, "hangs", ME)]


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/v1/orders/1111111/units/1/resolve", {"outcome": "delivered"}),
        ("/v1/orders/1111111/units/1/resolve", {"outcome": "unknown", "revision": 1}),
        ("/v1/orders/1111111/units/1/resolve", {"outcome": "delivered", "revision": "1"}),
        ("/v1/orders/1111111/units/0/resolve", {"outcome": "delivered", "revision": 1}),
        ("/v1/orders/0/cancel", {}),
        ("/v1/orders/1/cancel", {"order_id": 2}),
        ("/v1/stock/undo-test", {"channel": "20"}),
        ("/v1/journal/prune", {"days": 3}),
    ],
)
async def test_p14_what_is_not_well_asked_is_not_done(
    service: Service, machine: MemoryMachine, socket_path: Path, target: str, body: object
) -> None:
    status, answer = await post(socket_path, target, body)
    assert (status, answer["error"]) == (400, "bad_field")
    assert machine.acts == []
