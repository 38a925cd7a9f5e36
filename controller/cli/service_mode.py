"""`vendctl service on|off`: the machine out of sale while a technician works on it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from controller.cli import screen
from controller.cli.exits import Exit
from controller.cli.verbs import Line, Session, Verb, confirm
from controller.cli.words import say

A_MINUTE = 60


def run_on(session: Session, _args: argparse.Namespace) -> Exit:
    confirm(
        session,
        say(
            "This takes the machine out of sale: no order is taken, and no motor starts for a "
            "customer. Test vends work. It sells again after 'vendctl service off', or when "
            "nobody acts for a while."
        ),
    )
    return _acted(session, session.daemon.act("/v1/service/on"))


def run_off(session: Session, _args: argparse.Namespace) -> Exit:
    status = session.daemon.read("/v1/status")
    if not status.get("service_mode"):
        screen.words(say("It was off already: nothing was done."))
        facts = {name: status.get(name) for name in ("service_mode", "moving", "open_units")}
        return _acted(session, facts)
    confirm(session, say("This lets orders turn the motors again. Hands out."))
    return _acted(session, session.daemon.act("/v1/service/off"))


def sentence(mode: Mapping[str, Any] | None) -> str:
    """Service mode in words, with the time left."""
    if not mode:
        return say("service mode is off")
    left = mode.get("idle_left_s")
    seconds = left if isinstance(left, int | float) else 0
    told = {"who": mode.get("who", "?"), "since": screen.at(mode.get("since"), day=False)}
    if seconds < A_MINUTE:
        return say(
            "service mode is on ({who}, since {since}): no order is taken; it leaves by itself "
            "in {seconds:.0f} s without an act",
            **told,
            seconds=seconds,
        )
    return say(
        "service mode is on ({who}, since {since}): no order is taken; it leaves by itself in "
        "{minutes:.0f} min without an act",
        **told,
        minutes=seconds / A_MINUTE,
    )


def _acted(session: Session, done: Mapping[str, Any]) -> Exit:
    if session.json:
        screen.as_json(done)
        return Exit.FINE
    mode = done.get("service_mode")
    for line in screen.wrapped(screen.clean(sentence(mode))):
        screen.data(line)
    if not mode:
        return Exit.FINE
    warnings = []
    if done.get("open_units"):
        warnings.append(
            say(
                "{units} unit(s) of open orders are not decided yet: see 'vendctl orders'.",
                units=done["open_units"],
            )
        )
    if done.get("moving"):
        warnings.append(
            say(
                "A motor may still turn for the cycle that runs: wait until the first line of "
                "'vendctl status' says that nothing moves."
            )
        )
    for warning in warnings:
        for line in screen.wrapped(warning):
            screen.words(line)
    return Exit.FINE


VERBS = (
    Verb(
        "service on",
        (Line("service on", "no orders while you work here", "vendctl service on"),),
        run_on,
        note="A cycle that runs already goes on to its end: the answer says so. Service mode\n"
        "holds over restarts. Before a hand reaches in: 'vendctl cabinet stop', too.",
    ),
    Verb(
        "service off",
        (Line("service off", "sell again", "vendctl service off"),),
        run_off,
    ),
)
