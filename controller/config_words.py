"""What is wrong in the daemon's file, in words for people.

One line a finding, `file:line: key: what is wrong (value); remedy`. Values are
cut; secrets, and values of keys that we do not know, are never shown.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from controller import config_prose
from controller.config_lines import Path, line_of
from controller.config_rules import Finding
from controller.config_tables import BOARD_TABLES, CabinetTable, Table, TlsTable

MAX_FINDINGS = 500
"""A person mends no more at one sitting; bounds the message of a hopeless file."""
LONGEST_NAME = 64
"""Characters of a key that we search a likely meaning for."""
LONGEST_SHOWN = 256
"""Characters of a file's or key's name in a message: a whole path in most cases."""


def from_pydantic(model: type[Table], detail: ErrorDetails, path: Path, found: int) -> Finding:
    """One of pydantic's errors in the words of this project."""
    place: Path = (*path, *detail["loc"])
    key, value = str(place[-1]), detail["input"]
    kind = detail["type"]
    if kind == "extra_forbidden":
        fields = TlsTable.model_fields if len(detail["loc"]) > 1 else model.model_fields
        known = [*fields, "lane"] if model is CabinetTable else list(fields)
        return unknown(place, key, known, found, "key")
    if kind == "string_pattern_mismatch":
        named = config_prose.NAMES.get(str(path[0])) if key == "name" else None
        what, remedy = named or config_prose.PATTERNS.get(
            key, ("is not well-formed", "see the example file")
        )
    else:
        context = {name: str(each) for name, each in detail.get("ctx", {}).items()}
        fallback = (detail["msg"].replace("{", "{{").replace("}", "}}"), "see the example file")
        what, remedy = config_prose.WORDS.get(kind, fallback)
        what, remedy = what.format(**context), remedy.format(**context)
    if kind == "missing" or isinstance(value, dict) or _is_secret(key):
        value = None
    return Finding(place, what, remedy, value)


def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in ("password", "secret", "token", "keys"))


def unknown(place: Path, key: str, known: Sequence[str], found: int, noun: str) -> Finding:
    """The value is never shown: it may be a password in the wrong place."""
    remedy = config_prose.REMOVE
    owners = [name for name, model in BOARD_TABLES.items() if key in model.model_fields]
    if _is_secret(key):
        remedy = config_prose.SECRETS_STAY_OUT
    elif place[0] == "board" and owners:
        remedy = config_prose.OF_PROTOCOL.format(protocols=", ".join(owners))
    elif found < MAX_FINDINGS and len(key) <= LONGEST_NAME:
        near = difflib.get_close_matches(key, known, 1)
        remedy = (
            config_prose.DID_YOU_MEAN.format(name=near[0])
            if near
            else config_prose.REMOVE_OF_KNOWN.format(names=", ".join(known))
        )
    return Finding(place, config_prose.UNKNOWN[noun], remedy)


def texts(
    findings: Sequence[Finding],
    name: str,
    lines: Mapping[Path, int],
    raw: Mapping[str, Any],
) -> tuple[str, ...]:
    told = [
        f"{name}:{line_of(each.path, lines)}: {_label(each.path, raw)}: {each.text}"
        for each in findings[:MAX_FINDINGS]
    ]
    if len(findings) > MAX_FINDINGS:
        told.append(f"{name}: and {len(findings) - MAX_FINDINGS} more; mend these first")
    return tuple(dict.fromkeys(told))


def _label(path: Path, raw: Any) -> str:
    """`cabinet[A].lane[A3].number`: elements by their name or channel, else by count."""
    label, here = "", raw
    for step in path:
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            here = None
        if isinstance(step, str):
            label += ("." if label else "") + shown(step)
            continue
        name = (here.get("name") or here.get("channel")) if isinstance(here, dict) else None
        label += f"[{shown(name)}]" if isinstance(name, str) else f"[#{step + 1}]"
    return label


def shown(name: str) -> str:
    """A name from outside, cut, and without anything that moves a terminal's cursor."""
    plain = name if name.isprintable() else repr(name)[1:-1]
    return plain if len(plain) <= LONGEST_SHOWN else plain[: LONGEST_SHOWN - 1] + "…"
