"""Test vends between their beginning and their outcome (P6): each ends in a `test_vend` event.

One that waits is durable before whoever asked for it hears that it was accepted: a daemon that
stops or dies meanwhile tells its outcome at the next start. A cycle of it that was found open
is settled as any other, and tells it then.
"""

from __future__ import annotations

from controller.journal.events import raise_event
from controller.journal.transaction import Transaction, storable
from controller.model import Evidence, Finding, Outcome, Reason

TESTED = "lane_test"
"""The action of a test vend's audit row: it says whose test it was."""

DAEMON_ENDED = Finding(
    Outcome.NOT_DELIVERED,
    Reason.NOT_STARTED,
    Evidence.NONE,
    left_home=False,
    raw={"why": "daemon_ended"},
)
"""The daemon stopped or died before a cycle of it was opened."""


def begin(tx: Transaction, test_id: str, channel: str) -> None:
    tx.run(
        "INSERT OR IGNORE INTO begun_tests (test_id, channel, at) VALUES (?,?,?)",
        storable(test_id), storable(channel), tx.at,
    )  # fmt: skip


def tell(
    tx: Transaction, test_id: str, channel: str, finding: Finding, cycle_id: int | None
) -> None:
    """The outcome of a test vend is an event, never a result. No `cycle_id`: nothing moved."""
    detail = {
        "test_id": test_id,
        "channel": channel,
        "cycle_id": cycle_id,
        "outcome": finding.outcome.value,
        "reason": finding.reason,
        "evidence": finding.evidence.value,
        "drops": finding.drops,
        "raw": dict(finding.raw),
    }
    raise_event(tx, "test_vend", detail)
    tx.run("DELETE FROM begun_tests WHERE test_id = ?", storable(test_id))
    tx.acted = True


def settle(tx: Transaction) -> None:
    """At the start, before anything begins."""
    for row in tx.all(
        "SELECT test_id, channel FROM begun_tests WHERE test_id NOT IN"
        " (SELECT test_id FROM cycles INDEXED BY cycles_open"
        "  WHERE closed_at IS NULL AND test_id IS NOT NULL) ORDER BY at"
    ):
        tell(tx, row["test_id"], row["channel"], DAEMON_ENDED, None)
