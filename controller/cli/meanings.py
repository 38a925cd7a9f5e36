"""What a code means, in the language of this run. The code itself is the same in each.

Codes of orders and reasons of results have their words in `controller.codes`. The codes
with which the local service refuses are worded here for who does not read the daemon's
English: the meaning first, then the daemon's own words, which name the place.
"""

from __future__ import annotations

from collections.abc import Mapping

from controller.cli.words import LANGUAGE, later, say
from controller.codes import CODES, REASONS
from controller.model import Code, Reason

REFUSALS: Mapping[str, str] = {
    "bad_field": later("Something that was given does not fit"),
    "bad_json": later("The daemon did not understand the request"),
    "bad_request": later("The daemon did not understand the request"),
    "board_busy": later("The board is in the middle of a cycle"),
    "busy": later("Busy now: wait, then try again"),
    "cycle_closed": later("That cycle has its outcome already"),
    "cycle_open": later("A cycle runs there: wait for its end"),
    "forbidden": later("Your groups do not allow that"),
    "internal": later("A mistake in the daemon; its log has it"),
    "journal_unwritable": later("The journal cannot be written; no motor moves until it can"),
    "method_not_allowed": later("Daemon and vendctl are of different versions"),
    "no_such_path": later("Daemon and vendctl are of different versions"),
    "nothing_to_accept": later("There is nothing to accept"),
    "out_of_service": later("Out of service"),
    "over_capacity": later("More than the lane can hold"),
    "shutting_down": later("The daemon is stopping"),
    "stock_unconfirmed": later("Stock must be counted first: 'stock set' or 'stock fill'"),
    "quarantined": later("The board owes word on an earlier cycle; a motor may still turn"),
    "timeout": later("The daemon did not get done in time"),
    "too_large": later("The request is too large"),
    "unknown_board": later("There is no such board"),
    "unknown_cabinet": later("There is no such cabinet"),
    "unknown_channel": later("There is no such lane"),
    "unknown_cycle": later("There is no such cycle"),
    "unknown_order": later("There is no such order"),
    "unknown_test": later("That test is over"),
    "unresolved": later("The lane has an unresolved cycle"),
}
"""Code of the service -> what it means at the machine."""


def meaning_of_code(code: object) -> str:
    """The sentence of a code of an order or a response; empty for any other."""
    found = CODES.get(Code(str(code))) if code in set(CODES) else None
    if found is None:
        return ""
    return found.zh if LANGUAGE.get() == "zh" else found.en


def meaning_of_reason(reason: object) -> str:
    """The sentence of a result's reason; empty for none."""
    if reason not in set(REASONS):
        return ""
    english, chinese = REASONS[Reason(str(reason))]
    return chinese if LANGUAGE.get() == "zh" else english


def refusal(code: str, message: str) -> str:
    """The daemon's message; in another language than its own, after the code's meaning."""
    if LANGUAGE.get() == "en":
        return message
    meaning = say(REFUSALS[code]) if code in REFUSALS else meaning_of_code(code)
    return (
        say("{meaning} (the daemon: {message})", meaning=meaning, message=message)
        if meaning
        else message
    )
