"""`vendctl status`: the machine on one screen, and what is wrong with it; `clock accept`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from controller.cli import screen, service_mode
from controller.cli.exits import Exit
from controller.cli.meanings import meant
from controller.cli.verbs import Line, Session, Verb, confirm
from controller.cli.words import joined, later, say, say_count

GOOD_MODES = ("ready", "dispensing")
SELLING = ("ready", "running")
BOARD_HEADS = ("BOARD", "PROTOCOL", "LINK", "EYE", "DOOR", "NOTE")
STOPPED: Mapping[str, str] = {
    "motor_may_turn": later(
        "cabinet {name}: stopped ({why}); do not reach in, take its power, look at the motor, "
        "then: vendctl cabinet start {name}"
    ),
    "stock_unconfirmed": later(
        "cabinet {name}: stopped ({why}); count it: vendctl stock fill {name} or stock set for "
        "each lane, then: vendctl cabinet start {name}"
    ),
}
"""Why the daemon itself stopped a cabinet -> what ends it. Else a person did."""

STOPPED_BY_A_PERSON = later(
    "cabinet {name}: stopped ({why}); to sell: vendctl cabinet start {name}"
)

LANE_REMEDIES: Mapping[str, str] = {
    "disabled": later("lane {channel}: disabled ({why}); to sell: vendctl lane enable {channel}"),
    "suspended": later(
        "lane {channel}: suspended ({why}); see vendctl doctor, mend it, then: vendctl lane "
        "enable {channel}"
    ),
    "unresolved": later(
        "lane {channel}: an item may have dropped ({why}); count what is there: vendctl stock "
        "set {channel} N"
    ),
}

MAY_START = later("A motor may start any moment: order {order} waits in cabinet {cabinet} ({why}).")
MAY_START_A_TEST = later(
    "A motor may start any moment: a test vend of lane {channel} waits in cabinet {cabinet} "
    "({why})."
)

LANES_TOLD = 6
"""Lines. With no more a page still fits a screen; `lanes` and `doctor` have the rest."""

CABINET_HEADS = ("CABINET", "STATE", "EYE", "LANES OK", "REASON")


def run(session: Session, _args: argparse.Namespace) -> Exit:
    status = session.daemon.read("/v1/status")
    troubles = troubles_of(status)
    if session.json:
        screen.as_json(status)
    else:
        for line in page(status, troubles):
            screen.data(line)
    return Exit.BAD_NEWS if troubles else Exit.FINE


def troubles_of(status: Mapping[str, Any]) -> list[str]:
    """Everything in a status that somebody should look at; empty: all is well."""
    broker, clock, journal = (_part(status, name) for name in ("broker", "clock", "journal"))
    mode_on = _part(status, "service_mode")
    found = [service_mode.sentence(mode_on)] if mode_on else []
    found += _troubles_of_broker(broker)
    if not clock.get("believed"):
        found.append(say("clock: not believed, no new order is taken; look at timedatectl"))
        wall, newest = clock.get("wall"), clock.get("newest")
        if isinstance(wall, int | float) and isinstance(newest, int | float) and wall < newest:
            found.append(
                say(
                    "clock: it says {wall}, and the journal knows {newest}; when it is right now: "
                    "vendctl clock accept",
                    wall=screen.at(wall),
                    newest=screen.at(newest),
                )
            )
    if not journal.get("writable"):
        why = journal.get("problem") or say("no reason known")
        found.append(
            say("journal: not writable ({why}); no motor moves; see vendctl doctor", why=why)
        )
    for name, board in _part(status, "boards").items():
        found += _troubles_of_board(name, board, _with_an_eye(status, name))
    for name, cabinet in _part(status, "cabinets").items():
        if cabinet.get("state") not in SELLING:
            found.append(_trouble_of_cabinet(name, cabinet, status))
    found += _troubles_of_lanes(status)
    mode = status.get("mode")
    if mode not in GOOD_MODES and not found:
        found.append(say("mode: {mode}; see vendctl doctor", mode=meant(mode)))
    return found


def _troubles_of_broker(broker: Mapping[str, Any]) -> list[str]:
    if broker.get("offline"):
        return []  # by design: told among the facts
    if not broker.get("connected"):
        why = meant(broker.get("problem") or "") or say("no reason known")
        return [
            say("broker: not connected ({why}); results wait here; see vendctl doctor", why=why)
        ]
    if broker.get("problem"):
        return [say("broker: {why}; its messages wait here", why=_each(broker["problem"]))]
    return []


def no_reason(status: Mapping[str, Any], name: str) -> str:
    """Of a cabinet or lane that a person took out of sale without a word why."""
    who = _part(status, "stopped_by").get(name)
    return say("no reason given, by {who}", who=who) if who else say("no reason given")


def _trouble_of_cabinet(name: str, cabinet: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    why, state = str(cabinet.get("reason") or ""), str(cabinet.get("state", "?"))
    if state == "stopped":
        return say(
            STOPPED.get(why, STOPPED_BY_A_PERSON),
            name=name,
            why=meant(why) or no_reason(status, name),
        )
    # Its board does not serve it: the board's own line says what to do.
    return say(
        "cabinet {name}: {state} ({why})",
        name=name,
        state=meant(state),
        why=meant(why) or say("no reason known"),
    )


def trouble_of_lane(channel: str, health: object, reason: object, status: Mapping[str, Any]) -> str:
    """Why it does not sell, and the command that ends that."""
    why = meant(reason or "")
    if not why and health == "disabled":
        why = no_reason(status, channel)
    sentence = LANE_REMEDIES.get(str(health), LANE_REMEDIES["suspended"])
    return say(sentence, channel=channel, why=why or say("no reason known"))


def _troubles_of_lanes(status: Mapping[str, Any]) -> list[str]:
    """Each with the command that ends it; of many lanes the first few."""
    unknown = _part(status, "unknown")
    found = [_may_have_dropped(item) for item in unknown.values()]
    told = {item.get("channel") for item in unknown.values()}
    for channel, lane in _part(status, "lanes_down").items():
        if channel not in told:
            told_of = lane.get("health"), lane.get("reason")
            found.append(trouble_of_lane(channel, *told_of, status))
    if len(found) <= LANES_TOLD:
        return found
    more = say("… and {count} more: vendctl lanes", count=len(found) - LANES_TOLD)
    return [*found[:LANES_TOLD], more]


def _may_have_dropped(item: Mapping[str, Any]) -> str:
    fields = {"channel": item.get("channel", "?"), "reason": meant(item.get("reason") or "?")}
    if item.get("order_id") is None:
        return say(
            "lane {channel}: a test may have dropped an item ({reason}); count what is there: "
            "vendctl stock set {channel} N",
            **fields,
        )
    if item.get("asked"):
        return say(
            "lane {channel}: unit {unit} of order {order} is unknown ({reason}), and its board "
            "is still asked: wait, then look again",
            **fields,
            unit=item.get("unit", "?"),
            order=screen.order_key(item),
        )
    return say(
        "lane {channel}: nobody knows whether unit {unit} of order {order} fell ({reason}); "
        "look, then: vendctl resolve {order} {unit}",
        **fields,
        unit=item.get("unit", "?"),
        order=screen.order_key(item),
    )


def _each(problem: str) -> str:
    """The broker refuses several topics, each for its own reason."""
    return "; ".join(map(meant, problem.split("; ")))


def _with_an_eye(status: Mapping[str, Any], board: str) -> list[str]:
    """Cabinets that look through the light eye of this board."""
    return [
        name
        for name, cabinet in _part(status, "cabinets").items()
        if str(cabinet.get("board")) == board and cabinet.get("eye") != "absent"
    ]


def _troubles_of_board(name: str, board: Mapping[str, Any], cabinets: list[str]) -> list[str]:
    found: list[str] = []
    if not board.get("up"):
        found.append(
            say("board {name}: no link; its cabinets do not sell; see vendctl doctor", name=name)
        )
    if board.get("out_of_service"):
        found.append(
            say(
                "board {name}: {why}; when it is right: vendctl board accept {name}",
                name=name,
                why=meant(board["out_of_service"]),
            )
        )
    if board.get("door") == "open":
        found.append(
            say("board {name}: the door is open; customers get nothing, tests run", name=name)
        )
    if board.get("eye") in {"blocked", "faulty"}:
        found.append(
            say(
                "board {name}: light eye {eye}; {look} shows it; before a hand reaches in: {stop}",
                name=name,
                eye=meant(board["eye"]),
                look=joined([f"vendctl eye {each}" for each in cabinets]),
                stop=joined([f"vendctl cabinet stop {each}" for each in cabinets]),
            )
        )
    if isinstance(board.get("quarantined_until_s"), int | float):
        found.append(
            say(
                "board {name}: waits at most {seconds:.0f} s more for a cycle without an answer",
                name=name,
                seconds=board["quarantined_until_s"],
            )
        )
    return found


def page(status: Mapping[str, Any], troubles: list[str]) -> list[str]:
    lines = [*_moving(status), "", *screen.pairs(_facts(status))]
    boards = _part(status, "boards")
    if boards:
        rows = [_board(*item) for item in boards.items()]
        lines += ["", *screen.table(BOARD_HEADS, rows, first=16)]
    cabinets = _part(status, "cabinets")
    if cabinets:
        rows = [_cabinet(*item) for item in cabinets.items()]
        lines += ["", *screen.table(CABINET_HEADS, rows)]
    if troubles:
        lines += ["", screen.paint(say("Needs attention:"), "bad")]
        for trouble in troubles:
            lines += screen.wrapped(trouble, "  ! ", "    ")
    return lines


def _moving(status: Mapping[str, Any]) -> list[str]:
    """The first line: whether a hand may be hurt now, or in a moment."""
    sentences, soon = [], may_start(status)
    if status.get("moving"):
        sentences = [
            say(
                "MOVING: lane {channel} for {purpose}, since {since}",
                channel=screen.clean(lane.get("channel")),
                purpose=screen.clean(lane.get("purpose")),
                since=screen.at(lane.get("since"), day=False),
            )
            for lane in status.get("moving_lanes") or [{}]
        ]
    elif doubtful := _may_turn(status):
        names = ", ".join(map(screen.clean, doubtful))
        sentences = [say("NOT KNOWN whether a motor turns: board {names}", names=names)]
    elif soon:
        soon[0] = say("Nothing moves now. {sentence}", sentence=soon[0])
    else:
        return [screen.paint(say("Nothing moves."), "good")]
    return [
        screen.paint(line, "bad")
        for sentence in [*sentences, *soon]
        for line in screen.wrapped(screen.clean(sentence), "", "  ")
    ]


def may_start(status: Mapping[str, Any]) -> list[str]:
    """Cabinets in which something waits, and what to do before a hand reaches in."""
    found = []
    for each in status.get("may_start") or ():
        fields = {
            "cabinet": each.get("cabinet", "?"),
            "channel": each.get("channel", "?"),
            "order": str(each.get("purpose", "?")).partition("#")[0],
            "why": meant(each.get("why") or "?"),
        }
        told = MAY_START_A_TEST if fields["order"].startswith("test:") else MAY_START
        found.append(say(told, **fields))
        found.append(say("Before a hand reaches in: vendctl cabinet stop {cabinet}", **fields))
    return found


def _may_turn(status: Mapping[str, Any]) -> list[str]:
    """Boards that gave no answer to a drive, or said that a motor did not stop (P5)."""
    silent = {
        name
        for name, board in _part(status, "boards").items()
        if isinstance(board.get("quarantined_until_s"), int | float)
    }
    told = {
        str(cabinet.get("board"))
        for cabinet in _part(status, "cabinets").values()
        if cabinet.get("reason") == "motor_may_turn"
    }
    return sorted(silent | told)


def _facts(status: Mapping[str, Any]) -> list[tuple[str, object]]:
    broker, clock, journal = (_part(status, name) for name in ("broker", "clock", "journal"))
    connected = say("connected") if broker.get("connected") else say("NOT connected")
    outbox = joined([f"{topic} {count}" for topic, count in _part(status, "outbox").items()])
    return [
        (
            "machine",
            say(
                "{number}, version {version}",
                number=status.get("machine_no", "-"),
                version=status.get("version", "-"),
            ),
        ),
        (
            "mode",
            say(
                "{mode}, daemon up since {since}",
                mode=meant(status.get("mode", "-")),
                since=screen.at(status.get("since")),
            ),
        ),
        (
            "broker",
            say("not used by --offline; results wait here")
            if broker.get("offline")
            else say(
                "{state} since {since}", state=connected, since=screen.at(broker.get("since"))
            ),
        ),
        ("", f"{broker.get('host', '-')}:{broker.get('port', '-')}, MQTT {_protocol(broker)}"),
        (
            "orders",
            say(
                "{orders} open, with {units} open",
                orders=_orders(status.get("open_orders")),
                units=_units(status.get("open_units")),
            ),
        ),
        ("outbox", outbox),
        ("clock", _belief(clock)),
        ("journal", _journal(journal)),
        ("last stop", meant(status.get("last_stop"))),
    ]


def _orders(count: object) -> str:
    return say_count("{count} order", "{count} orders", count if isinstance(count, int) else 0)


def _units(count: object) -> str:
    return say_count("{count} unit", "{count} units", count if isinstance(count, int) else 0)


def _protocol(broker: Mapping[str, Any]) -> str:
    return screen.clean(broker.get("protocol"))


def _journal(journal: Mapping[str, Any]) -> str:
    told = [
        say("birth {number}", number=screen.clean(journal.get("birth"))),
        say("seq {number}", number=journal.get("last_seq", "-")),
    ]
    if journal.get("lost"):
        told.append(say("begun anew: an older one was lost"))
    if journal.get("set_aside"):
        told.append(say("the damaged one: {path}", path=journal["set_aside"]))
    return joined(told)


def _board(name: str, board: Mapping[str, Any]) -> tuple[object, ...]:
    link = say("up") if board.get("up") else say("DOWN")
    note = meant(board["out_of_service"]) if board.get("out_of_service") else board.get("text")
    eye, door = meant(board.get("eye")), meant(board.get("door"))
    return name, board.get("protocol"), link, eye, door, note


def _cabinet(name: str, cabinet: Mapping[str, Any]) -> tuple[object, ...]:
    sound = say(
        "{count} of {all}", count=cabinet.get("lanes_ok", "?"), all=cabinet.get("lanes", "?")
    )
    state, eye = meant(cabinet.get("state")), meant(cabinet.get("eye"))
    return name, state, eye, sound, meant(cabinet.get("reason") or "")


def _part(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = status.get(name)
    return part if isinstance(part, Mapping) else {}


def run_accept(session: Session, _args: argparse.Namespace) -> Exit:
    wall = _part(session.daemon.read("/v1/status"), "clock").get("wall")
    confirm(
        session,
        say(
            "The machine's clock says {wall}. This takes it for right, although the journal "
            "knows a later time. A wrong clock refuses orders.",
            wall=screen.at(wall),
        ),
    )
    done = session.daemon.act("/v1/clock/accept")
    if session.json:
        screen.as_json(done)
    else:
        screen.data(say("clock: {belief}", belief=_belief(_part(done, "clock"))))
    return Exit.FINE


def _belief(clock: Mapping[str, Any]) -> str:
    return say("believed") if clock.get("believed") else say("NOT believed")


VERBS = (
    Verb(
        "status",
        (Line("status", "the machine on one screen", "vendctl status"),),
        run,
        note="Exit code 1 when anything needs attention: a board or the broker gone, a\n"
        "cabinet that does not sell, service mode, a clock not believed, a journal not\n"
        "writable.",
    ),
)

CLOCK_VERBS = (
    Verb(
        "clock accept",
        (
            Line(
                "clock accept",
                "it ran ahead once, and is right now",
                "vendctl clock accept",
            ),
        ),
        run_accept,
        note="A clock that was never set since boot is not helped by this: see timedatectl.",
    ),
)
