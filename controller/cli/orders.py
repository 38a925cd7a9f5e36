"""`vendctl orders`, `order ID[/DELIVERY]` and `events`: what happened."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from controller.cli import screen
from controller.cli.client import path
from controller.cli.exits import Exit
from controller.cli.meanings import glossed, meaning_of_code, meaning_of_reason, meant
from controller.cli.orders_acted import run_cancel
from controller.cli.verbs import Line, Session, Verb, whole
from controller.cli.words import joined, say

OUTCOMES = ("delivered", "not_delivered", "unknown")


def run_orders(session: Session, args: argparse.Namespace) -> Exit:
    found = session.daemon.read("/v1/orders", limit=args.limit, before=args.before)
    if session.json:
        screen.as_json(found)
        return Exit.FINE
    orders = found.get("orders", [])
    if not orders:
        screen.words(say("No orders."))
        return Exit.FINE
    heads = ("ORDER", "STATUS", "GOT/NOT/?", "OF", "AT")
    for line in screen.table(heads, [_row(order) for order in orders], first=20):
        screen.data(line)
    if found.get("next_before") is not None:
        screen.words(say("Older ones: vendctl orders --before {row}", row=found["next_before"]))
    return Exit.FINE


def run_order(session: Session, args: argparse.Namespace) -> Exit:
    """`order 1111111` reads, `order cancel 1111111` acts: one word decides."""
    *acts, name = args.words
    if acts not in ([], ["cancel"]):
        args.parser.error(say("order takes one ID[/DELIVERY], or cancel before it"))
    if not acts and args.reason is not None:
        args.parser.error(say("--reason belongs to order cancel"))
    try:
        order_id, delivery_id = order_name(name)
    except argparse.ArgumentTypeError as error:
        args.parser.error(str(error))
        raise  # error() does not come back
    if acts:
        return run_cancel(session, order_id, delivery_id, args.reason)
    found = session.daemon.read(path("orders", str(order_id)), delivery_id=delivery_id)
    orders = found.get("orders", [])
    if session.json:
        screen.as_json(found)
    else:
        for order in orders:
            for line in page(order):
                screen.data(line)
    return Exit.BAD_NEWS if any(is_bad(order) for order in orders) else Exit.FINE


def run_events(session: Session, args: argparse.Namespace) -> Exit:
    found = session.daemon.read("/v1/events", limit=args.limit)
    if session.json:
        screen.as_json(found)
        return Exit.FINE
    events = found.get("events", [])
    if not events:
        screen.words(say("No events."))
    for event in events:
        mark = "" if event.get("sent") else say(" (not sent yet)")
        head = f"{screen.at(event.get('at'))}  {screen.clean(event.get('kind'))}{mark}"
        screen.data(head)
        for line in screen.wrapped(_detail(event.get("detail")), "    ", "    "):
            screen.data(line)
    return Exit.FINE


def is_bad(order: Mapping[str, Any]) -> bool:
    """Somebody who paid did not get everything, or nobody knows."""
    return (
        order.get("status") in {"rejected", "cancelled"}
        or bool(order.get("not_delivered"))
        or bool(order.get("unknown"))
    )


def page(order: Mapping[str, Any]) -> list[str]:
    code = f" ({order['code']})" if order.get("code") else ""
    counts = joined(
        [
            *(f"{order.get(name, '?')} {name}" for name in OUTCOMES),
            say("{count} waiting", count=order.get("waiting", "?")),
            say("{count} running", count=order.get("running", "?")),
        ]
    )
    lines = [
        screen.paint(say("order {key}", key=screen.order_key(order)), "loud"),
        *screen.pairs(
            [
                ("status", f"{glossed(order.get('status', '-'))}{code}"),
                ("trade", order.get("trade_id")),
                ("units", f"{order.get('units', '?')}: {counts}"),
                ("issued", screen.at(order.get("issued_at"))),
                ("expires", screen.at(order.get("expires_at"))),
                ("taken at", screen.at(order.get("at"))),
            ]
        ),
    ]
    if meaning := meaning_of_code(order.get("code")):
        lines += screen.wrapped(meaning, "  ")
    if order.get("pruned"):
        lines += screen.wrapped(say("Its details are past the retention; the counts remain."))
    for unit in order.get("unit_list") or ():
        lines += ["", *unit_lines(unit)]
    messages = order.get("messages") or ()
    if messages:
        lines += ["", *screen.table(("MESSAGE", "SEQ", "SENT"), [_message(m) for m in messages])]
    return [*lines, ""]


def unit_lines(unit: Mapping[str, Any]) -> list[str]:
    became = unit.get("outcome") or unit.get("state")
    why = [
        say("reason {code}", code=unit["reason"]) if unit.get("reason") else "",
        say("evidence {code}", code=glossed(unit["evidence"])) if unit.get("evidence") else "",
    ]
    head = say(
        "unit {unit}  lane {lane}  product {product}",
        unit=unit.get("unit", "?"),
        lane=unit.get("channel", "-"),
        product=unit.get("product_id", "-"),
    )
    lines = screen.wrapped(head, "", "  ")
    lines += screen.wrapped("  ".join([glossed(became), *filter(None, why)]), "  ", "    ")
    if unit.get("evidence") == "technician":
        when = screen.at(unit.get("resolved_at"))
        lines += screen.wrapped(
            say("A technician looked, and said so at {when}.", when=when), "    "
        )
    elif meaning := meaning_of_reason(unit.get("reason")):
        lines += screen.wrapped(meaning, "    ")
    for cycle in unit.get("cycles") or ():
        lines += cycle_lines(cycle)
    return lines


def cycle_lines(cycle: Mapping[str, Any]) -> list[str]:
    """A cycle with its steps and their frames."""
    head = say(
        "cycle {cycle}  board {board} lane {lane}  {when}",
        cycle=cycle.get("cycle_id", "?"),
        board=cycle.get("board", "-"),
        lane=cycle.get("lane", "-"),
        when=screen.at(cycle.get("opened_at")),
    )
    became = " ".join(
        glossed(cycle[name]) for name in ("outcome", "reason", "evidence") if cycle.get(name)
    )
    lines = screen.wrapped(head, "  ", "    ")
    lines += screen.wrapped(became or say("still open"), "    ", "    ")
    for step in cycle.get("trace") or ():
        moment = screen.at_ms(step.get("at"))
        text = f"{moment}  {meant(step.get('event', '-'))}"
        lines += screen.wrapped(text, "    ", "      ")
        if step.get("frame"):
            lines += screen.wrapped(screen.spaced(str(step["frame"])), "      ", "      ")
    return lines


def _row(order: Mapping[str, Any]) -> tuple[object, ...]:
    counts = "/".join(str(order.get(name, "?")) for name in OUTCOMES)
    moment = screen.at(order.get("at"))[5:16]
    return screen.order_key(order), order.get("status"), counts, order.get("units"), moment


def _message(message: Mapping[str, Any]) -> tuple[object, ...]:
    sent = message.get("sent_at")
    shown = say("waits for the broker") if sent is None else screen.at(sent)
    return message.get("topic"), message.get("seq"), shown


def _detail(detail: object) -> str:
    if not isinstance(detail, Mapping):
        return screen.clean(detail)
    return ", ".join(f"{name}: {value}" for name, value in _plain(detail))


VBP_CODES: Mapping[str, Mapping[object, str]] = {
    "motor": {
        0: "home",
        1: "ran_too_long",
        2: "open_circuit",
        3: "overcurrent",
        4: "did_not_leave_home",
        5: "stopped_by_request",
        255: "not_known",
    },
    "drop": {0: "not_watched", 1: "seen", 2: "not_seen", 3: "eye_failed", 255: "not_known"},
    "state": {0: "unknown_id", 1: "accepted", 2: "running", 3: "done", 4: "interrupted"},
}
"""Numbers of a VBP record that stand for a word, as `trace` tells them (boards.vbp.frames, which
vendctl does not load for this; a test holds both together)."""


def _plain(detail: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """Names and values as JSON has them; what is in a table of it by `table.name`."""
    codes = VBP_CODES if detail.get("protocol") == "vbp" else {}
    for name, value in detail.items():
        if isinstance(value, int) and (word := codes.get(name, {}).get(value)):
            yield f"{within}{name}", f"{value} ({word})"
            continue
        if isinstance(value, Mapping) and value:
            yield from _plain(value, f"{within}{name}.")
        elif value is None or isinstance(value, str):
            yield f"{within}{name}", screen.clean(value)
        else:
            yield f"{within}{name}", json.dumps(value, ensure_ascii=False)


def order_name(text: str) -> tuple[int, str | None]:
    """An argument's type: `1111111` (every delivery), or `1111111/1733` (that one)."""
    number, slash, delivery = text.partition("/")
    if not number.isascii() or not number.isdigit() or not 0 < int(number[:20]) < 2**63:
        raise argparse.ArgumentTypeError(
            say("{text!r} is no order: ID or ID/DELIVERY, like 1111111", text=text[:40])
        )
    return int(number), (delivery if slash else None)


def _orders_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=whole(1, 500), default=20, help=say("how many (20)"))
    parser.add_argument("--before", type=whole(0, 2**63 - 1), metavar="ROW", help=say("older ones"))


def _order_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="+", metavar="[cancel] ID[/DELIVERY]")
    parser.add_argument("--reason", help=say("why, kept with the cancel"))


def _events_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=whole(1, 500), default=50, help=say("how many (50)"))


VERBS = (
    Verb(
        "orders",
        (Line("orders", "the newest orders", "vendctl orders --limit 50"),),
        run_orders,
        _orders_arguments,
    ),
    Verb(
        "order",
        (
            Line(
                "order ID[/DELIVERY]",
                "every unit, cycle and frame of an order",
                "vendctl order 1111111",
            ),
            Line(
                "order cancel ID[/DELIVERY]",
                "end what has not started",
                "vendctl order cancel 1111111 --reason 'door stays open'",
            ),
        ),
        run_order,
        _order_arguments,
        note="Exit code 1 when a unit of it is not_delivered (cancelled, too) or unknown,\n"
        "or no such order was accepted; of cancel: when every unit had begun.",
    ),
    Verb(
        "events",
        (Line("events", "what happened, newest last", "vendctl events --limit 100"),),
        run_events,
        _events_arguments,
    ),
)
