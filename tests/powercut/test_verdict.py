"""The verdict of the power cuts finds what it is there for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tests.powercut import verdict
from tests.powercut.disk import Cut
from tests.powercut.machine import PowerCut
from tests.system import judge
from tests.system.platform_client import Message

CUT = PowerCut(at=1000.0, board_too=False, ready=True, disk=Cut())


def iso(unix: float | None) -> str | None:
    return None if unix is None else datetime.fromtimestamp(unix, UTC).isoformat()


def message(topic: str, **body: Any) -> Message:
    whole = {"order_id": 1, "delivery_id": "", "journal": 5, **body}
    return Message(topic, json.dumps(whole).encode(), retained=False, at=0.0)


def told(accepted: float, started: float | None) -> judge.Facts:
    messages = (
        message("order", status="accepted", at=iso(accepted)),
        message("result", unit=1, started_at=iso(started)),
    )
    return judge.Facts(messages, ledgers={}, lanes={})


def test_p4_a_unit_that_was_resumed_after_a_cut_is_found() -> None:
    (found,) = verdict.resumed(told(999.0, 1010.0), [CUT])
    assert found.startswith("P4")


def test_p4_what_ran_before_or_was_ordered_after_or_never_ran_is_fine() -> None:
    for accepted, started in ((998.0, 999.0), (1010.0, 1011.0), (999.0, None)):
        assert not list(verdict.resumed(told(accepted, started), [CUT]))
