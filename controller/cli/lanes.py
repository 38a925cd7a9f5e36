"""`vendctl lanes`, `lane LANE`, `lane enable|disable LANE`, `stock set|fill`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from controller.cli import screen
from controller.cli.client import path
from controller.cli.exits import Exit
from controller.cli.looks import cabinet_now, lane_now
from controller.cli.meanings import meant
from controller.cli.orders import cycle_lines
from controller.cli.verbs import Line, Session, Verb, channel, confirm, whole
from controller.cli.words import joined, later, say

COUNTS = (
    later("reserved"),
    later("gone"),
    later("uncertain"),
    later("adjusted"),
    later("loaded"),
)


def run_lanes(session: Session, _args: argparse.Namespace) -> Exit:
    found = session.daemon.read("/v1/lanes")
    lanes = found.get("lanes", [])
    if session.json:
        screen.as_json(found)
    elif not lanes:
        screen.words(say("No lanes: the settings name none."))
    else:
        show_lanes(lanes)
    return Exit.FINE if all(lane.get("health") == "ok" for lane in lanes) else Exit.BAD_NEWS


def run_lane(session: Session, args: argparse.Namespace) -> Exit:
    """`lane A20` reads, `lane enable A20` acts: one word decides."""
    word, *further = args.words
    if word in {"enable", "disable"}:
        if len(further) != 1:
            args.parser.error(say("lane {word} takes one LANE, like A20", word=word))
        return _turn(session, word, _channel(args, further[0]), args.reason)
    if further:
        args.parser.error(
            say("lane takes one LANE, or enable or disable before it: vendctl lane enable A20")
        )
    if args.reason is not None:
        args.parser.error(say("--reason belongs to lane enable and lane disable"))
    return _read(session, _channel(args, word))


def _channel(args: argparse.Namespace, text: str) -> str:
    try:
        return channel(text)
    except argparse.ArgumentTypeError as error:
        args.parser.error(str(error))
        raise  # error() does not come back


def _read(session: Session, name: str) -> Exit:
    found = session.daemon.read(path("lanes", name))
    lane = found.get("lane", {})
    if session.json:
        screen.as_json(found)
    else:
        for line in page(lane, found.get("history", [])):
            screen.data(line)
    return Exit.FINE if lane.get("health") == "ok" else Exit.BAD_NEWS


def page(lane: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[str]:
    counts = joined([f"{say(name)} {lane.get(name, '?')}" for name in COUNTS])
    reason = f" ({meant(lane['health_reason'])})" if lane.get("health_reason") else ""
    lines = [
        screen.paint(say("lane {name}", name=screen.clean(lane.get("channel"))), "loud"),
        *screen.pairs(
            [
                ("product", lane.get("product_id")),
                (
                    "board",
                    say(
                        "{name}, its lane {number}",
                        name=lane.get("board", "-"),
                        number=lane.get("number", "-"),
                    ),
                ),
                (
                    "stock",
                    say(
                        "{count} of {all}",
                        count=lane.get("stock", "?"),
                        all=lane.get("capacity", "?"),
                    ),
                ),
                ("counts", counts),
                ("health", f"{meant(lane.get('health', '-'))}{reason}"),
                ("failures", say("{count} in a row", count=lane.get("failures", "?"))),
                (
                    "cycles",
                    say(
                        "{count}, last {when}",
                        count=lane.get("cycles", "?"),
                        when=screen.at(lane.get("last_cycle_at")),
                    ),
                ),
            ]
        ),
    ]
    for cycle in history:
        lines += ["", *screen.wrapped(say("for {purpose}", purpose=cycle.get("purpose", "-")))]
        lines += cycle_lines(cycle)
    return lines


def _turn(session: Session, word: str, name: str, reason: str | None) -> Exit:
    lane_now(session, name)
    intent = {
        "enable": say("This lets lane {name} sell again; its failures count from 0.", name=name),
        "disable": say("This takes lane {name} out of sale until it is enabled.", name=name),
    }[word]
    confirm(session, intent)
    done = session.daemon.act(path("lanes", name, word), reason=reason or "")
    return _acted(session, done, [done.get("lane", {})])


def run_stock_set(session: Session, args: argparse.Namespace) -> Exit:
    lane_now(session, args.lane)
    confirm(
        session,
        say(
            "This says that lane {name} holds {count} now, as counted by hand: what was unknown "
            "in it is settled by that.",
            name=args.lane,
            count=args.count,
        ),
    )
    done = session.daemon.act(path("lanes", args.lane, "stock"), stock=args.count)
    return _acted(session, done, [done.get("lane", {})])


def run_stock_fill(session: Session, args: argparse.Namespace) -> Exit:
    if args.cabinet is not None:
        cabinet_now(session.daemon.read("/v1/status"), args.cabinet)
    where = (
        say("This says that every lane of every cabinet is full now.")
        if args.cabinet is None
        else say("This says that every lane of cabinet {name} is full now.", name=args.cabinet)
    )
    confirm(session, where)
    done = session.daemon.act(path("stock", "fill"), cabinet=args.cabinet)
    return _acted(session, done, done.get("lanes", []))


def _acted(session: Session, done: Mapping[str, Any], lanes: Sequence[Mapping[str, Any]]) -> Exit:
    if session.json:
        screen.as_json(done)
    else:
        show_lanes(lanes)
        screen.words(say("Done."))
    return Exit.FINE


def show_lanes(lanes: Sequence[Mapping[str, Any]]) -> None:
    heads = ("LANE", "PRODUCT", "STOCK", "FREE", "HEALTH", "WHY")
    for line in screen.table(heads, [_row(lane) for lane in lanes]):
        screen.data(line)


def _row(lane: Mapping[str, Any]) -> tuple[object, ...]:
    stock = f"{lane.get('stock', '?')}/{lane.get('capacity', '?')}"
    return (
        lane.get("channel"),
        lane.get("product_id"),
        stock,
        lane.get("free"),
        meant(lane.get("health", "-")),
        meant(lane.get("health_reason") or ""),
    )


def _lane_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="+", metavar="[enable|disable] LANE")
    parser.add_argument("--reason", help=say("why, kept with the lane"))


def _stock_set_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lane", type=channel, metavar="LANE")
    parser.add_argument("count", type=whole(0, 10_000), metavar="N")


def _stock_fill_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cabinet", nargs="?", metavar="CABINET")


VERBS = (
    Verb(
        "lanes",
        (Line("lanes", "stock and health of every lane", "vendctl lanes"),),
        run_lanes,
        note="Exit code 1 when a lane is not healthy.",
    ),
    Verb(
        "lane",
        (
            Line("lane LANE", "a lane's counters and history", "vendctl lane A20"),
            Line("lane enable LANE", "let it sell again", "vendctl lane enable A20"),
            Line(
                "lane disable LANE",
                "take it out of sale",
                "vendctl lane disable A20 --reason 'bent spiral'",
            ),
        ),
        run_lane,
        _lane_arguments,
        note="Exit code 1 when the lane that was read is not healthy, or does not exist.",
    ),
    Verb(
        "stock set",
        (Line("stock set LANE N", "the lane holds N now", "vendctl stock set A20 7"),),
        run_stock_set,
        _stock_set_arguments,
    ),
    Verb(
        "stock fill",
        (Line("stock fill [CABINET]", "its lanes are full now", "vendctl stock fill A"),),
        run_stock_fill,
        _stock_fill_arguments,
    ),
)
