"""Every sentence that vendctl says goes through `say`: the one place for a language.

The English sentence is its own key, with named fields in braces. The gettext catalogue
beside this file (`locale/`) maps it to another language's; a sentence that it lacks is
said in English. `make messages` collects the sentences and says which are missing.
Codes (outcomes, reasons, verbs) are the same in every language and never pass here.
"""

from __future__ import annotations

import gettext
import os
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path

DOMAIN = "vendctl"
LOCALES = Path(__file__).parent / "locale"

CATALOGUES: Mapping[str, str] = {"en": "", "zh": "zh_CN"}
"""Language -> its directory of `locale/`; English is in the code."""

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


def speak(language: str) -> None:
    """From now on, in this program: `say` here, and argparse, which asks gettext by itself."""
    LANGUAGE.set(language)
    os.environ["LANGUAGE"] = CATALOGUES[language] or "en"
    gettext.bindtextdomain(DOMAIN, str(LOCALES))
    gettext.textdomain(DOMAIN)


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    if not CATALOGUES[language]:
        return gettext.NullTranslations()
    return gettext.translation(DOMAIN, LOCALES, [CATALOGUES[language]], fallback=True)


def say(sentence: str, /, **fields: object) -> str:
    """The sentence in the language of this run, its fields filled in."""
    translated = _catalogue(LANGUAGE.get()).gettext(sentence) if sentence else ""
    return translated.format(**fields) if fields else translated


def say_count(one: str, many: str, count: int, /, **fields: object) -> str:
    """`one` or `many`, by the language's own rule for `count`; both hold the field {count}."""
    translated = _catalogue(LANGUAGE.get()).ngettext(one, many, count)
    return translated.format(count=count, **fields)


def known(sentence: str) -> bool:
    """Whether this language has words of its own for it."""
    return bool(sentence) and _catalogue(LANGUAGE.get()).gettext(sentence) != sentence


def later(sentence: str, /) -> str:
    """Marks a constant for the catalogue: it is said where it is shown."""
    return sentence


def joined(parts: list[str]) -> str:
    """A list of things inside a sentence."""
    return say(", ").join(parts)
