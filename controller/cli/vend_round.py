"""`vendctl test all`: each lane once, in the order of the settings, and a verdict for each.

Every lane is a test vend of its own, by the rules of every vend: one that ends `unknown`
ends for that lane alone, unless the daemon then refuses its board or its cabinet.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from controller.cli import screen
from controller.cli.exits import Exit, Trouble
from controller.cli.stopping import Stop, stoppable
from controller.cli.verbs import Session, confirm
from controller.cli.verdict_words import GOOD, verdict_words
from controller.cli.words import joined, say, say_count

if TYPE_CHECKING:
    from controller.cli.vend_test import Followed

BUSY_PAUSE_S = 2.0
"""Between two tries at a cabinet that serves a customer: about one vend."""

BUSY_TRIES = 45
"""90 s, the longest cycle by default: then the lane is left out, and said so."""

Follow = Callable[[Session, str, int, Stop], "Followed"]
Row = tuple[str, str, str]
"""Lane, code, sentence."""


def run(session: Session, args: argparse.Namespace, follow: Follow) -> Exit:
    lanes = [
        lane
        for lane in session.daemon.read("/v1/lanes")["lanes"]
        if args.cabinet is None or str(lane["cabinet"]).lower() == args.cabinet.lower()
    ]
    if not lanes:
        raise Trouble(
            Exit.REFUSED,
            "unknown_cabinet",
            say("There is no cabinet {name}: see 'vendctl status'", name=args.cabinet),
        )
    rows = [(lane["channel"], *_left_out(lane, empty=args.empty)) for lane in lanes]
    count = sum(not code for _, code, _ in rows)
    confirm(session, _intent(session, lanes, count))
    with stoppable(session.daemon) as stop:
        try:
            done = [_one(session, row, args.cycles, stop, follow) for row in rows]
        except (KeyboardInterrupt, BrokenPipeError):
            screen.words(
                say(
                    "\nNo further lane is tested. A motor that turns now is stopped where its "
                    "board can: see 'vendctl status'."
                )
            )
            return Exit.INTERRUPTED
    _show(session, done)
    if stop.wanted:
        return Exit.INTERRUPTED
    fine = all(code in GOOD or code == "left_out" for _, code, _ in done)
    return Exit.FINE if fine else Exit.BAD_NEWS


def _left_out(lane: Mapping[str, Any], *, empty: bool) -> tuple[str, str]:
    """Why a lane's motor is not to turn in this round; nothing for one that is tested."""
    if lane["health"] == "disabled":
        return "left_out", say("left out: disabled ({reason})", reason=lane["health_reason"])
    if not lane["stock"] and not empty:
        return "left_out", say("left out: no stock (--empty turns it all the same)")
    return "", ""


def _intent(session: Session, lanes: Sequence[Mapping[str, Any]], count: int) -> str:
    boards = session.daemon.read("/v1/status")["boards"]
    names = {str(lane["board"]) for lane in lanes}
    if any(boards.get(name, {}).get("door") == "open" for name in names):
        screen.words(say("The door is open: a test turns the motor all the same."))
    deaf = sorted(name for name in names if not boards.get(name, {}).get("can_stop"))
    if deaf:
        return say_count(
            "This turns the motor of {count} lane, a product may fall each time and leave its "
            "stock. Hands out. THESE BOARDS CANNOT STOP A MOTOR: {boards}; a turn that began "
            "there ends by itself, Ctrl-C or not.",
            "This turns the motors of {count} lanes, a product may fall each time and leave its "
            "stock. Hands out. THESE BOARDS CANNOT STOP A MOTOR: {boards}; a turn that began "
            "there ends by itself, Ctrl-C or not.",
            count,
            boards=joined(deaf),
        )
    return say_count(
        "This turns the motor of {count} lane, a product may fall each time and leave its "
        "stock. Hands out. Ctrl-C stops the motor.",
        "This turns the motors of {count} lanes, a product may fall each time and leave its "
        "stock. Hands out. Ctrl-C stops the motor.",
        count,
    )


def _one(session: Session, row: Row, cycles: int, stop: Stop, follow: Follow) -> Row:
    lane, code, _ = row
    if code:
        return row
    if not session.json:
        screen.words(say("lane {lane}", lane=lane))
    for _ in range(BUSY_TRIES):
        if stop.wanted:
            return lane, "not_tested", say("not tested: it was stopped")
        try:
            followed = follow(session, lane, cycles, stop)
        except Trouble as trouble:
            if trouble.exit_code is not Exit.REFUSED:
                raise
            followed_code, why = trouble.code, str(trouble)
        else:
            if followed.outcomes:
                worst = next(
                    (each for each in followed.outcomes if each.get("verdict") not in GOOD),
                    followed.outcomes[-1],
                )
                return lane, str(worst.get("verdict")), verdict_words(worst)
            followed_code, why = followed.refused or ("connection_lost", say("the daemon went"))
        if followed_code != "busy":
            break
        screen.words(say("lane {lane} waits: {why}", lane=lane, why=screen.clean(why)))
        time.sleep(BUSY_PAUSE_S)
    return lane, followed_code, say("not tested: {why}", why=screen.clean(why))


def _show(session: Session, done: Sequence[Row]) -> None:
    if session.json:
        verdicts = [{"channel": lane, "verdict": code} for lane, code, _ in done]
        screen.as_json_line({"event": "verdicts", "lanes": verdicts})
        return
    for line in screen.pairs([(lane, words) for lane, _, words in done]):
        screen.data(line)
