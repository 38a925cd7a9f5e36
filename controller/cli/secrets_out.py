"""What leaves the machine holds no secret: the last sieve before an archive is written.

The first one is that settings are told by a list of harmless keys
(`controller.config_shown`). This one is for all other text: log lines, error messages,
names that a person chose. It removes every value that the settings file holds under a
key which is not on that list, the words of the secret files that this user may read,
private keys, logins in URLs, and whatever follows a key that is named like a secret.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from controller.config_shown import SHOWN, without_login

HIDDEN = "(hidden)"
SAFE_WORDS = ("(set)", "(not set)")

SHORTEST = 4
"""Characters. Shorter words are found in everything, and protect nothing."""

MAX_BYTES = 1 << 20

SECRET_FILES = ("password_file", "key_file")

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_NAMED = r"[\w.-]*(?:password|passwd|secret|token|api_?key|private_?key|credential)[\w.-]*"
_KEY = re.compile(_NAMED, re.IGNORECASE)
_ASSIGNED = re.compile(
    rf"(\b{_NAMED}['\"]?\s*[=:]\s*)(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,;&]+)", re.IGNORECASE
)


class Sieve:
    """Callable on text and on anything that JSON can hold."""

    def __init__(self, words: set[str]) -> None:
        every = {form for word in words for form in (word, json.dumps(word)[1:-1])}
        alternatives = "|".join(map(re.escape, sorted(every, key=len, reverse=True)))
        self._words = re.compile(alternatives) if alternatives else None

    def text(self, text: str) -> str:
        clean = _PRIVATE_KEY.sub(HIDDEN, without_login(text))
        clean = _ASSIGNED.sub(rf"\1{HIDDEN}", clean)
        return self._words.sub(HIDDEN, clean) if self._words is not None else clean

    def content(self, content: Any) -> Any:
        if isinstance(content, str):
            return self.text(content)
        if isinstance(content, Mapping):
            return {
                self.text(str(key)): HIDDEN
                if _KEY.fullmatch(str(key)) and value not in SAFE_WORDS
                else self.content(value)
                for key, value in content.items()
            }
        if isinstance(content, list | tuple):
            return [self.content(each) for each in content]
        return content


def sieve_for(config_file: str) -> Sieve:
    """Knows the secrets of this file and of those that it names, as far as this user may read."""
    raw: Mapping[str, Any] = {}
    try:
        raw = tomllib.loads(_read(Path(config_file)))
    except (ValueError, RecursionError):
        raw = {}
    hidden: set[str] = set()
    harmless: set[str] = set()
    for table, key, value in _values(raw):
        (harmless if key in SHOWN.get(table, ()) else hidden).add(value)
        if key in SECRET_FILES:
            hidden |= set(_read(Path(value)).split())
    return Sieve({word for word in hidden - harmless if len(word) >= SHORTEST})


def _values(content: Any, table: str = "", key: str = "") -> Iterator[tuple[str, str, str]]:
    """Table, key and text of every text in it; a list's elements are its key's."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _values(value, key, str(name))
    elif isinstance(content, list):
        for each in content:
            yield from _values(each, table, key)
    elif isinstance(content, str):
        yield table, key, content


def _read(path: Path) -> str:
    """Empty when this user may not."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8-sig", "replace")
    except (OSError, ValueError):
        return ""
