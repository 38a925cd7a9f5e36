"""`vendctl resolve ORDER[/DELIVERY] UNIT`: a person's verdict on an unknown unit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from controller.cli import screen
from controller.cli.client import path
from controller.cli.exits import Exit, Trouble
from controller.cli.meanings import glossed, meant
from controller.cli.orders import order_name, unit_lines
from controller.cli.orders_acted import one_delivery
from controller.cli.verbs import Line, Session, Verb, confirm, whole
from controller.cli.words import say

ANSWERS = {"d": "delivered", "y": "delivered", "n": "not_delivered"}
"""First letter -> verdict; y and n are the keys of `watch` for the same question."""

LONGEST_REASON = 200
"""The service's own bound."""


def run(session: Session, args: argparse.Namespace) -> Exit:
    order = one_delivery(session, *args.order)
    unit = _unit_of(order, args.unit)
    screen.words(say("order {key}, as it is now:", key=screen.order_key(order)))
    for line in unit_lines(unit):
        screen.words(line)
    _refuse_unless_unknown(unit)
    outcome = args.outcome or _asked(session)
    reason = args.reason or ""
    if args.outcome:
        confirm(session, _intent(outcome))
    if args.reason is None and not session.yes:
        reason = _why()
    done = session.daemon.act(
        path("orders", str(order["order_id"]), "units", str(args.unit), "resolve"),
        delivery_id=order.get("delivery_id", ""),
        outcome=outcome,
        revision=unit.get("revision"),
        reason=reason,
    )
    if session.json:
        screen.as_json(done)
        return Exit.FINE
    now = _unit_of(done.get("order", {}), args.unit)
    screen.data(
        say(
            "unit {unit}: {outcome}, revision {revision}",
            unit=args.unit,
            outcome=glossed(screen.clean(now.get("outcome"))),
            revision=screen.clean(now.get("revision")),
        )
    )
    lane = done.get("lane", {})
    screen.data(
        say(
            "lane {lane}: stock {stock}, uncertain {uncertain}, {health}",
            lane=screen.clean(lane.get("channel")),
            stock=lane.get("stock", "?"),
            uncertain=lane.get("uncertain", "?"),
            health=screen.clean(meant(lane.get("health"))),
        )
    )
    screen.words(say("Done. The platform gets the new result."))
    return Exit.FINE


def _unit_of(order: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    for unit in order.get("unit_list") or ():
        if unit.get("unit") == number:
            found: Mapping[str, Any] = unit
            return found
    if order.get("pruned"):
        message = say("Its details are past the retention: nothing can be resolved any more")
        raise Trouble(Exit.REFUSED, "results_pruned", message)
    message = say("The order has units 1 to {units}", units=order.get("units", "?"))
    raise Trouble(Exit.REFUSED, "unknown_unit", message)


def _refuse_unless_unknown(unit: Mapping[str, Any]) -> None:
    """Before a person is asked; the daemon judges again, by what it knows then."""
    if unit.get("outcome") != "unknown":
        became = unit.get("outcome") or unit.get("state")
        message = say("Only an unknown unit is resolved; this one is {became}", became=became)
        raise Trouble(Exit.REFUSED, "not_unknown", message)


def _asked(session: Session) -> str:
    """The one question, in plain words. Raises Trouble where nobody can be asked."""
    if session.yes or not sys.stdin.isatty():
        raise Trouble(
            Exit.USAGE,
            "no_verdict",
            say("Say what became of it: --delivered or --not-delivered. Nothing was done"),
        )
    screen.words(
        say("The platform gets your answer as the unit's result; it is kept with your name.")
    )
    question = say("Did the customer's item come out? y: [d]elivered / [n]ot delivered: ")
    answer = ANSWERS.get(screen.ask(question)[:1])
    if answer is None:
        raise Trouble(Exit.REFUSED, "not_confirmed", say("Nothing was done"))
    return answer


def _why() -> str:
    """How they know: after the verdict, as in `watch`. Enter alone: no reason is kept."""
    print(say("How do you know? (kept with your name) "), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()[:LONGEST_REASON]


def _intent(outcome: str) -> str:
    if outcome == "delivered":
        return say(
            "This tells the platform that the customer's item came out. That is final, and "
            "kept with your name."
        )
    return say(
        "This tells the platform that the customer's item did not come out, and that it is "
        "in the lane. It is kept with your name."
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("order", type=order_name, metavar="ORDER[/DELIVERY]")
    parser.add_argument("unit", type=whole(1, 2**31 - 1), metavar="UNIT")
    verdict = parser.add_mutually_exclusive_group()
    verdict.add_argument(
        "--delivered",
        dest="outcome",
        action="store_const",
        const="delivered",
        help=say("the customer's item came out"),
    )
    verdict.add_argument(
        "--not-delivered",
        dest="outcome",
        action="store_const",
        const="not_delivered",
        help=say("it did not"),
    )
    parser.add_argument("--reason", help=say("how you know, kept with the verdict"))


VERBS = (
    Verb(
        "resolve",
        (
            Line(
                "resolve ORDER[/DELIVERY] UNIT",
                "verdict on an unknown unit",
                "vendctl resolve 1111111 2 --delivered",
            ),
        ),
        run,
        _arguments,
        note="Shows what is known, then asks. Refused while the board is still asked about it,\n"
        "and when the unit changed since it was shown.",
    ),
)
