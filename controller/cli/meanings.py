"""What a code means, in the language of this run. The code itself is the same in each.

Codes of orders and reasons of results have their words in `controller.codes`. The daemon's
refusals come with their template and its fields, and are said by the catalogue like vendctl's
own sentences. For one that this catalogue lacks, the meaning of its code is said first, then
the daemon's own English, which names the place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from string import Formatter

from controller import config_prose
from controller.cli.words import LANGUAGE, known, later, say
from controller.codes import CODES, REASONS
from controller.model import Code, Reason
from controller.prose import PROSE

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


WORDS = frozenset(
    {
        # the machine's mode, a cabinet's state
        *(later("ready"), later("dispensing"), later("degraded"), later("service")),
        *(later("running"), later("stopped"), later("out_of_service")),
        # a lane's health, and why it was suspended
        *(later("ok"), later("suspended"), later("disabled"), later("unresolved")),
        *(later("failures"), later("double_drop"), later("board")),
        # why a cabinet stands, or a board
        *(later("motor_may_turn"), later("board_swapped"), later("stock_unconfirmed")),
        # light eye and door
        *(later("clear"), later("blocked"), later("faulty"), later("absent")),
        *(later("unverified"), later("watched"), later("open"), later("closed")),
        later("unknown"),
        # a cabinet's kind
        *(later("track"), later("spiral"), later("locker")),
        # how the daemon stopped
        *(later("clean"), later("crash"), later("power"), later("watchdog")),
        # the steps of a cycle
        *(later("opened"), later("written")),
        *(later("frame_written"), later("acknowledged"), later("moving"), later("ended")),
        *(later("not_written"), later("refused_before_motion"), later("collision")),
        *(later("line_lost"), later("line_back"), later("conflicting"), later("restarted")),
    }
)
"""What the daemon says of states in one word of its own."""

GLOSSED = frozenset(
    {
        *(later("delivered"), later("not_delivered"), later("unknown")),
        *(later("drop_sensor"), later("motor"), later("board_record"), later("technician")),
        *(later("accepted"), later("rejected"), later("finished"), later("cancelled")),
    }
)
"""Codes of the contract with the platform that are shown alone: they stand in each language, and
what they mean beside them. (A reason and an order's code have a sentence of their own below.)"""


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


def refusal(code: str, told: Mapping[str, object]) -> str:
    """The daemon's sentence, said in this language by its template; one that is not known here
    (of a newer daemon) as it stands, after the code's meaning."""
    message = str(told.get("message"))
    if LANGUAGE.get() == "en":
        return message
    if said := _said(told.get("template"), told.get("fields")):
        return said
    meaning = say(REFUSALS[code]) if code in REFUSALS else meaning_of_code(code)
    return (
        say("{meaning} (the daemon: {message})", meaning=meaning, message=message)
        if meaning
        else message
    )


def _said(template: object, fields: object) -> str:
    """Empty where the catalogue lacks the template, or the fields are not those of it."""
    if not isinstance(template, str) or not isinstance(fields, Mapping) or not known(template):
        return ""
    if not all(isinstance(value, str | int | float) for value in fields.values()):
        return ""
    try:
        said = {name: _field(name, part) for name, part in fields.items()}
        return say(template).format(**said)
    except (LookupError, ValueError, TypeError, AttributeError):
        return ""


STATES_IN = frozenset({"why", "trouble", "health", "state", "eye"})
"""Fields of refusals that may hold a state's word."""


def _field(name: str, part: object) -> object:
    """A sentence inside a sentence, and the word of a state where a state is meant; a code or a
    name stays what it is."""
    if isinstance(part, str) and (" " in part or name in STATES_IN):
        return meant(part)
    return part


def glossed(code: object) -> str:
    """A code as it stands, and in another language than its own with its meaning."""
    text = str(code)
    if LANGUAGE.get() == "en" or text not in GLOSSED:
        return text
    return say("{code} ({meaning})", code=text, meaning=say(text))


def meant(value: object) -> str:
    """A state's word, a reason or a sentence inside one of the daemon's answers, in this
    language; anything else (a person's words, a board's text) as it stands."""
    text = str(value)
    if LANGUAGE.get() == "en":
        return text
    if text in WORDS:
        return say(text)
    if meaning := meaning_of_reason(text):
        return meaning.rstrip("。")
    return _by_template(text, PROSE) or text


def meant_finding(text: str) -> str:
    """A line about a settings file: its place as it stands, then what is wrong and the remedy
    in this language, as far as they are known."""
    if LANGUAGE.get() == "en":
        return text
    whole = _WHOLE_FILE.fullmatch(text)
    if whole and (said := _by_template(whole["what"], config_prose.OF_THE_FILE)):
        return whole["place"] + said
    found = _FINDING.fullmatch(text)
    if found is None:
        return text
    what, remedy = (_half(found[name]) for name in ("what", "remedy"))
    fields = {"place": found["place"], "value": found["value"] or ""}
    return say("{place}{what}{value}; {remedy}", **fields, what=what, remedy=remedy)


_WHOLE_FILE = re.compile(r"(?P<place>.+?(?::\d+)?: )(?P<what>.+)")
_FINDING = re.compile(r"(?P<place>.+?:\d+: .+?: )(?P<what>.+?)(?P<value> \(.*\))?; (?P<remedy>.+)")
"""As `config_words.texts` and `config_rules.Finding.text` put them together."""


def _half(text: str) -> str:
    return say(text) if known(text) else _by_template(text, config_prose.FINDINGS) or text


def _by_template(text: str, templates: tuple[str, ...]) -> str:
    """What fits none of the templates is not said: empty."""
    for template, pattern in _patterns(templates):
        if found := pattern.fullmatch(text):
            parts = found.groupdict()
            fields = {name: meant(part) for name, part in parts.items()}
            return say(template).format(**fields) if parts else say(template)
    return ""


def _pattern(template: str) -> re.Pattern[str]:
    """What a template becomes, whatever its fields are."""
    return re.compile(
        "".join(
            re.escape(words) + (f"(?P<{name}>.+)" if name else "")
            for words, name, _form, _conversion in Formatter().parse(template)
        )
    )


@cache
def _patterns(templates: tuple[str, ...]) -> list[tuple[str, re.Pattern[str]]]:
    """Made when the first sentence asks: English needs none of them."""
    return [(template, _pattern(template)) for template in templates]
