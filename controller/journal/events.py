"""Events: what people and the platform may want to know, kept up to a bound.

Kinds that the journal itself raises:

    restart             the daemon began, and why the one before it ended
    jam                 a motor turned against something
    double_drop         the eye counted more than one item in a cycle
    lane_suspended      by failures in a row, by the board's table, or by a double drop
    cabinet_stopped     a motor may still turn, or a person stopped it
    cabinet_started     a person let it sell again
    service_mode        a technician has the machine, or has it no more
    outcome_revised     a later fact replaced the outcome of a cycle
    late_evidence       a later fact that replaced nothing
    test_vend           the outcome of a test vend (P6), again with each revision
    journal_lost        this journal began because an older one was damaged or missing (P13)
    journal_restored    an older copy was found in use; it took a new birth (P13)
    lost                that many events went before they could leave

All other kinds come from the heart, the drivers and intake.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from controller.journal.transaction import Transaction, bounded_json, storable

UNSENT_EVENTS = 2_000
"""Unsent events kept: two weeks without a broker at six an hour; beyond, the oldest go."""

LOOK_EVERY = 50
"""The bound is looked at once in so many events, so that counting costs nothing."""

KIND_LIMIT = 64


def raise_event(
    tx: Transaction, kind: str, detail: Mapping[str, Any], key: str | None = None
) -> bool:
    """Store an event with its payload; False when its key is known already."""
    if key is not None:
        key = storable(key)
        if tx.one("SELECT 1 FROM events WHERE key = ?", key) is not None:
            return False
    _insert(tx, storable(kind, KIND_LIMIT), detail, key)
    if tx.counters.event_seq % LOOK_EVERY == 0:
        _keep_bound(tx)
    return True


def _insert(tx: Transaction, kind: str, detail: Mapping[str, Any], key: str | None) -> None:
    event_seq = tx.counters.event_seq + 1
    text = bounded_json(detail)
    payload = tx.announcer.event(kind, json.loads(text), tx.counters.birth, event_seq, tx.at)
    tx.run(
        "INSERT INTO events (event_seq, kind, key, at, detail, payload) VALUES (?,?,?,?,?,?)",
        event_seq, kind, key, tx.at, text, payload,
    )  # fmt: skip
    tx.set(event_seq=event_seq)
    tx.topics.add("event")


def _keep_bound(tx: Transaction) -> None:
    """Drop the oldest unsent over the bound; one `lost` event says how many they were.

    A dropped `lost` event hands its count on, so that no loss goes untold.
    """
    (unsent,) = tx.all("SELECT COUNT(*) FROM events WHERE sent_at IS NULL AND lost = 0")[0]
    over = unsent - UNSENT_EVENTS
    if over <= 0:
        return
    oldest = tx.all(
        "SELECT event_seq, kind, detail FROM events WHERE sent_at IS NULL AND lost = 0"
        " ORDER BY event_seq LIMIT ?",
        over + 1,  # one more makes room for the `lost` event itself
    )
    count, first = 0, oldest[0]["event_seq"]
    for row in oldest:
        told = json.loads(row["detail"]) if row["kind"] == "lost" else {}
        count += int(told.get("count", 1))
        first = min(first, int(told.get("first", row["event_seq"])))
    last = oldest[-1]["event_seq"]
    tx.run("UPDATE events SET lost = 1 WHERE event_seq <= ? AND sent_at IS NULL AND lost = 0", last)
    tx.set(events_lost=tx.counters.events_lost + sum(row["kind"] != "lost" for row in oldest))
    _insert(tx, "lost", {"count": count, "first": first, "last": last}, None)
