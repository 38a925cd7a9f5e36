"""Facts -> findings: broker, certificates, and what waits to leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controller.cli import screen
from controller.cli.checks_facts import Facts
from controller.cli.checks_words import ANY_BROKER_HINT, BROKER_HINTS, Finding
from controller.cli.words import say

NO_SUBSCRIBERS = 0x10
"""MQTT 5, PUBACK: accepted, and nobody subscribes; not taken for delivered (P9)."""

DAY_S = 86_400.0
ENDS_SOON_DAYS = 30
"""An authority and a customer's department need weeks."""

OUTBOX_OLD_S = 60.0
"""A refused row is tried again after 60 s at the latest (uplink.session); a sound one leaves
within a second."""

TLS_WORDS = ("certificate", "ssl", "tls")
REFUSED = "the broker refused"
NO_CONNECTION = "no connection to"


def broker(facts: Facts) -> Iterator[Finding]:
    if not facts.reached:
        return
    told: Mapping[str, Any] = facts.status.get("broker") or {}
    where = f"{told.get('host', '?')}:{told.get('port', '?')}"
    connected = told.get("connected")
    if told.get("offline"):
        yield Finding("offline_fine", where)
        return
    if not connected:
        yield _away(where, str(told.get("problem", "")))
    own: Mapping[str, Any] = facts.checkup.get("broker") or {}
    # Told while it is away, too: some brokers cut the line of who publishes what he may not.
    refused = own.get("refused_topics") or {}
    for topic in own.get("refused_subscriptions") or ():
        yield Finding("subscription_refused", topic)
    for topic, reason in refused.items():
        code = "topic_unheard" if reason == NO_SUBSCRIBERS else "topic_refused"
        yield Finding(code, topic, {"reason": reason})
    if connected and not refused and not own.get("refused_subscriptions"):
        yield Finding("broker_fine", where, {"since": screen.at(told.get("since"))})


def _away(where: str, why: str) -> Finding:
    small = why.lower()
    if any(word in small for word in TLS_WORDS):
        return Finding("broker_tls", where, {"why": why})
    if small.startswith(REFUSED):
        return Finding("broker_refuses", where, {"why": _after(why)})
    if why and not small.startswith(NO_CONNECTION):
        return Finding("broker_lost", where, {"why": why})
    hint = next((hint for word, hint in BROKER_HINTS if word in small), ANY_BROKER_HINT)
    return Finding("broker_unreachable", where, {"why": _after(why), "hint": say(hint)})


def _after(why: str) -> str:
    """What the daemon says behind the words that the finding has itself."""
    _, _, rest = why.partition(": ")
    return rest or why or say("no reason known")


def certificates(facts: Facts) -> Iterator[Finding]:
    for each in facts.certificates:
        name = f"{each['role']} {each['file']}"
        first, last = each["not_before"], each["not_after"]
        if first is None or last is None:
            yield Finding("certificate_unread", name, {"why": each["problem"]})
            continue
        days = int((last - facts.now) // DAY_S)
        told = {
            "not_before": screen.at(first),
            "not_after": screen.at(last),
            "now": screen.at(facts.now),
            "days": days,
        }
        if facts.now > last:
            yield Finding("certificate_expired", name, told)
        elif facts.now < first:
            yield Finding("certificate_early", name, told)
        elif days < ENDS_SOON_DAYS:
            yield Finding("certificate_ends", name, told)
        else:
            yield Finding("certificate_fine", name, told)


def outbox(facts: Facts) -> Iterator[Finding]:
    """What the broker refuses is a finding of its own; here is what waits without a word."""
    if not facts.reached:
        return
    waiting: Mapping[str, int] = facts.status.get("outbox") or {}
    oldest: Mapping[str, float] = facts.checkup.get("oldest_unsent") or {}
    unknown = say("an unknown time")
    connected = (facts.status.get("broker") or {}).get("connected")
    refused = ((facts.checkup.get("broker") or {}).get("refused_topics")) or {}
    found = False
    for topic, count in waiting.items():
        since = oldest.get(topic)
        old = since is not None and facts.now - since > OUTBOX_OLD_S
        if not count or (connected and (topic in refused or not old)):
            continue
        found = True
        told = {"count": count, "since": unknown if since is None else screen.at(since)}
        yield Finding("outbox_stuck" if connected else "outbox_waits", topic, told)
    if not found and not any(waiting.values()):
        yield Finding("outbox_fine")


CHECKS = (broker, certificates, outbox)
