"""`vendctl order cancel ID[/DELIVERY]`, and which order an acting verb means."""

from __future__ import annotations

from typing import Any

from controller.cli import screen
from controller.cli.client import path
from controller.cli.exits import Exit, Trouble
from controller.cli.verbs import Session, confirm
from controller.cli.words import say


def one_delivery(session: Session, order_id: int, delivery_id: str | None) -> dict[str, Any]:
    """The order that is meant, in detail. Raises Trouble where several have this number."""
    try:
        found = session.daemon.read(path("orders", str(order_id)), delivery_id=delivery_id)
    except Trouble as trouble:
        if trouble.exit_code is Exit.BAD_NEWS:  # bad news to read, a refusal to act on
            raise Trouble(Exit.REFUSED, trouble.code, str(trouble)) from trouble
        raise
    orders: list[dict[str, Any]] = found.get("orders") or []
    if len(orders) == 1:
        return orders[0]
    names = ", ".join(screen.order_key(order) for order in orders)
    raise Trouble(
        Exit.USAGE,
        "which_delivery",
        say(
            "Order {number} has several deliveries; name one: {names}", number=order_id, names=names
        ),
    )


def run_cancel(
    session: Session, order_id: int, delivery_id: str | None, reason: str | None
) -> Exit:
    order = one_delivery(session, order_id, delivery_id)
    confirm(
        session,
        say(
            "This cancels what of order {key} has not started: {waiting} of {units} unit(s). "
            "The platform hears of it. A unit that runs goes on.",
            key=screen.order_key(order),
            waiting=order.get("waiting", "?"),
            units=order.get("units", "?"),
        ),
    )
    done = session.daemon.act(
        path("orders", str(order_id), "cancel"),
        delivery_id=order.get("delivery_id", ""),
        reason=reason or "",
    )
    too_late = done.get("code") != "ok"
    if session.json:
        screen.as_json(done)
    else:
        now = done.get("order", {})
        counts = ", ".join(
            f"{name} {now.get(name, '?')}"
            for name in ("delivered", "not_delivered", "unknown", "waiting", "running")
        )
        screen.data(
            say(
                "order {order}: {code}",
                order=screen.order_key(now),
                code=screen.clean(done.get("code")),
            )
        )
        for line in screen.wrapped(counts, "  ", "  "):
            screen.data(line)
        if too_late:
            screen.words(say("Too late: every unit had begun or ended already."))
    return Exit.BAD_NEWS if too_late else Exit.FINE
