"""Every sentence that vendctl says goes through `say`: the one place for a language.

The English sentence is its own key, with named fields in braces. A catalogue maps
it to another language's; a sentence that a catalogue lacks is said in English.
Codes (outcomes, reasons, verbs) are the same in every language and never pass here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

CATALOGUES: Mapping[str, Mapping[str, str]] = {"en": {}}
"""Language -> English sentence -> its sentence."""

LANGUAGE: ContextVar[str] = ContextVar("LANGUAGE", default="en")


def language_of(argv: list[str], environ: Mapping[str, str]) -> str:
    """`--lang` before everything; else the locale's, where we have a catalogue for it."""
    for place, word in enumerate(argv):
        if word.startswith("--lang="):
            return _known(word.removeprefix("--lang="))
        if word == "--lang" and place + 1 < len(argv):
            return _known(argv[place + 1])
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    return _known(locale[:2].lower())


def _known(language: str) -> str:
    return language if language in CATALOGUES else "en"


def say(sentence: str, /, **fields: object) -> str:
    """The sentence in the language of this run, its fields filled in."""
    translated = CATALOGUES[LANGUAGE.get()].get(sentence, sentence)
    return translated.format(**fields) if fields else translated
