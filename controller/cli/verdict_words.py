"""Verdicts of test vends in a technician's words: what was seen, and where to look.

A code has up to three sentences: where the motor's time and the lane's usual time are
known, where only the time is, and where neither is. The most that is known is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.cli.words import later, say
from controller.lane_verdict import LaneVerdict

GOOD = frozenset({LaneVerdict.GOOD, LaneVerdict.GOOD_BY_MOTOR})
"""Verdicts with nothing to do."""

COMPARED: Mapping[str, str] = {
    LaneVerdict.GOOD: later("good: it fell; motor {run}, usually {usual}"),
    LaneVerdict.SLOW_MOTOR: later(
        "it fell, but the motor turned {run}, usually {usual}: look for a jam or a worn coupling"
    ),
    LaneVerdict.FAST_MOTOR: later(
        "it fell, but the motor turned only {run}, usually {usual}: look at the home switch"
    ),
    LaneVerdict.JAM: later(
        "the motor turned {run}, usually {usual}, and did not come home: look for a "
        "jam or a worn coupling"
    ),
    LaneVerdict.OVERLOAD: later(
        "the board cut the motor off after {run} (usually {usual}): it draws too "
        "much; look for a jam"
    ),
    LaneVerdict.NOTHING_FELL: later(
        "turned ({run}, usually {usual}), nothing fell: the lane is empty or an item hangs"
    ),
}

TIMED: Mapping[str, str] = {
    LaneVerdict.GOOD: later("good: it fell; motor {run}"),
    LaneVerdict.GOOD_BY_MOTOR: later(
        "the motor made its turn ({run}); no eye saw whether it fell: look into the tray"
    ),
    LaneVerdict.JAM: later(
        "the motor turned {run} and did not come home: look for a jam or a worn coupling"
    ),
    LaneVerdict.OVERLOAD: later(
        "the board cut the motor off after {run}: it draws too much; look for a jam"
    ),
    LaneVerdict.NOTHING_FELL: later(
        "turned ({run}), nothing fell: the lane is empty or an item hangs"
    ),
    LaneVerdict.FELL_NOT_HOME: later(
        "it fell, but the motor ran {run} and did not come home: look at "
        "the home switch and for a jam"
    ),
}

PLAIN: Mapping[str, str] = {
    LaneVerdict.GOOD: later("good: it fell"),
    LaneVerdict.GOOD_BY_MOTOR: later(
        "the motor made its turn; no eye saw whether it fell: look into the tray"
    ),
    LaneVerdict.ITEM_IN_EYE: later(
        "it fell, and the light eye is still dark: take out what lies in it"
    ),
    LaneVerdict.DOUBLE_DROP: later(
        "{drops} items fell at once: the lane is suspended; see how its goods "
        "lie, count, then 'vendctl lane enable {lane}'"
    ),
    LaneVerdict.FELL_NOT_HOME: later(
        "it fell, but the motor did not come home: look at the home switch and for a jam"
    ),
    LaneVerdict.SLOW_MOTOR: later("it fell, but slowly: look for a jam or a worn coupling"),
    LaneVerdict.FAST_MOTOR: later("it fell, but too soon: look at the home switch"),
    LaneVerdict.NOTHING_FELL: later("turned, nothing fell: the lane is empty or an item hangs"),
    LaneVerdict.JAM: later("the motor did not come home: look for a jam or a worn coupling"),
    LaneVerdict.OVERLOAD: later("the motor draws too much: look for a jam"),
    LaneVerdict.MOTOR_OPEN: later("the motor is open: look at its connector"),
    LaneVerdict.MOTOR_STUCK: later(
        "the motor did not leave home: it is stuck, or its home switch is"
    ),
    LaneVerdict.BOARD_SAYS_EMPTY: later(
        "the board takes the lane for empty: fill it, and tell the board"
    ),
    LaneVerdict.BOARD_LANE_OFF: later(
        "the board has no such lane, or it is paused there: look at the board's own settings"
    ),
    LaneVerdict.EYE_BLOCKED: later(
        "the light eye is dark before the motor turns: take out what lies in it, wipe it"
    ),
    LaneVerdict.EYE_FAULTY: later("the light eye is faulty or absent: look at its connector"),
    LaneVerdict.DOOR_OPEN: later("the board does not turn with the door open"),
    LaneVerdict.BOARD_REFUSED: later("the board refused and did not say why: see 'vendctl events'"),
    LaneVerdict.BOARD_OFFLINE: later("the board does not answer: see 'vendctl link'"),
    LaneVerdict.NOT_BEGUN: later("the motor was not touched: the test did not begin ({reason})"),
    LaneVerdict.STOPPED: later(
        "stopped half-way: an item may hang; look, count, then 'vendctl stock set {lane} N'"
    ),
    LaneVerdict.MOTOR_RUNS_ON: later(
        "THE MOTOR MAY STILL TURN: hands out, cut its power; the cabinet is stopped"
    ),
    LaneVerdict.NO_ANSWER: later(
        "no word after the command, the motor may still turn: see 'vendctl "
        "link'; look, count, then 'vendctl stock set {lane} N'"
    ),
    LaneVerdict.RESTARTED: later(
        "the board restarted meanwhile: look at its power; look, count, then "
        "'vendctl stock set {lane} N'"
    ),
    LaneVerdict.EYE_FAILED: later(
        "the light eye failed meanwhile: wipe it, see 'vendctl eye'; look, "
        "count, then 'vendctl stock set {lane} N'"
    ),
    LaneVerdict.CONTRADICTION: later(
        "the board contradicts itself: look, count, then 'vendctl stock set "
        "{lane} N', and send the frames ('vendctl lane {lane}')"
    ),
    LaneVerdict.UNCLEAR: later("nobody can say: look, count, then 'vendctl stock set {lane} N'"),
}


def seconds(milliseconds: object) -> str:
    """A motor's time, as people say it."""
    return f"{milliseconds / 1000:.1f} s" if isinstance(milliseconds, int | float) else "-"


def verdict_words(step: Mapping[str, Any]) -> str:
    """The sentence of an `outcome` step; a code that a newer daemon made is said as it is."""
    code = str(step.get("verdict") or step.get("outcome"))
    run, usual = step.get("run_ms"), step.get("usual")
    sentence = PLAIN.get(code)
    if run is not None:
        sentence = TIMED.get(code, sentence)
    if run is not None and usual:
        sentence = COMPARED.get(code, sentence)
    if sentence is None:
        return code
    return say(
        sentence,
        run=seconds(run),
        usual=seconds(usual["median_ms"]) if usual else "-",
        drops=step.get("drops"),
        lane=step.get("channel"),
        reason=step.get("reason"),
    )
