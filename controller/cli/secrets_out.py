"""What leaves the machine holds no secret: the last sieve before an archive is written.

The first one is that settings are told by a list of harmless keys
(`controller.config_shown`). This one is for all other text: log lines, error messages,
names that a person chose. It removes every value that the settings file holds under a
key which is not on that list, the words of the secret files that this user may read,
private keys, logins in URLs, and whatever follows a key that is named like a secret.

People get names like `user-1`, the same one everywhere in an archive, so that what one of
them did can still be followed.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
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


NAMED_BY = frozenset({"who", "user"})
"""Keys of people in what the daemon tells."""
_WHO = re.compile(r"""\\?"(?:who|user)\\?": *\\?"([^"\\]+)|\bwho=(?:"([^"\\]+)"|([^\s"=]+))""")
"""The same in the journal's JSON texts, whose quotes may be escaped, and in a line of the log."""
NOBODY = frozenset({"", "?", "root", "daemon", "platform", "mqtt", "vending-controller"})
"""Words that stand there for no person."""
PEOPLES_UIDS = range(1000, 65_000)
"""Of accounts that a person logs in with: Debian's policy, 9.2.2."""
SHORTEST_NAME = 2
"""Characters. A name of one letter is hidden where it is told as a name, and nowhere else."""


class Sieve:
    """Callable on text and on anything that JSON can hold."""

    def __init__(self, words: set[str], people: Iterable[str] = ()) -> None:
        self._people = {name: f"user-{number}" for number, name in enumerate(people, 1)}
        names = sorted(
            (name for name in self._people if len(name) >= SHORTEST_NAME), key=len, reverse=True
        )
        alternatives = "|".join(map(re.escape, names))
        self._names = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)") if names else None
        every = {form for word in words for form in (word, json.dumps(word)[1:-1])}
        alternatives = "|".join(map(re.escape, sorted(every, key=len, reverse=True)))
        self._words = re.compile(alternatives) if alternatives else None

    def text(self, text: str) -> str:
        clean = _PRIVATE_KEY.sub(HIDDEN, without_login(text))
        clean = _ASSIGNED.sub(rf"\1{HIDDEN}", clean)
        clean = self._words.sub(HIDDEN, clean) if self._words is not None else clean
        return self._names.sub(self._renamed, clean) if self._names is not None else clean

    def _renamed(self, found: re.Match[str]) -> str:
        return self._people[found[0]]

    def content(self, content: Any) -> Any:
        if isinstance(content, str):
            return self.text(content)
        if isinstance(content, Mapping):
            return {
                self.text(str(key)): HIDDEN
                if _KEY.fullmatch(str(key)) and value not in SAFE_WORDS
                else self._people[value]
                if key in NAMED_BY and value in self._people
                else self.content(value)
                for key, value in content.items()
            }
        if isinstance(content, list | tuple):
            return [self.content(each) for each in content]
        return content


def sieve_for(config_file: str, contents: Iterable[Any] = ()) -> Sieve:
    """Knows the secrets of this file and of those that it names, as far as this user may read;
    and the people of this system and of `contents`."""
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
    people = dict.fromkeys([*(name for each in contents for name in _people(each)), *_accounts()])
    return Sieve(
        {word for word in hidden - harmless if len(word) >= SHORTEST},
        (name for name in people if name not in NOBODY),
    )


def _people(content: Any) -> Iterator[str]:
    """Whom a part names, in the order in which it does."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key in NAMED_BY and isinstance(value, str):
                yield value
            else:
                yield from _people(value)
    elif isinstance(content, list | tuple):
        for each in content:
            yield from _people(each)
    elif isinstance(content, str):
        yield from (name for groups in _WHO.findall(content) for name in groups if name)


def _accounts() -> Iterator[str]:
    """Who may log in here, and who runs vendctl: their names are in paths and messages."""
    yield os.environ.get("SUDO_USER", "")
    with contextlib.suppress(KeyError):
        yield pwd.getpwuid(os.getuid()).pw_name
    yield from (each.pw_name for each in pwd.getpwall() if each.pw_uid in PEOPLES_UIDS)


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
        if not path.is_file():  # a pipe would keep us waiting
            return ""
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8-sig", "replace")
    except (OSError, ValueError):
        return ""
