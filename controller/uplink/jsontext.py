"""Bytes to one JSON object, and JSON values to bytes: bounded, strict, deterministic.

What a peer can send and the standard decoder would take, or choke on: other
encodings, NaN, integers of a million digits, a key twice, ten thousand brackets,
halves of surrogate pairs. Each is BadJson here. A payload has been measured
against its size limit before it comes here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

DEEPEST = 16
"""Levels of nesting. Our deepest message has three; the decoder recurses."""

LONGEST_NUMBER = 32
"""Digits. The largest number of ours has nineteen (2^63-1)."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


class BadJson(ValueError):
    """The bytes are not one JSON object that we are willing to read."""


def _depth(data: bytes) -> int:
    deepest = level = 0
    for bracket in _BRACKETS.findall(_STRING.sub(b"", data)):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJson("an object names a key twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise BadJson(f"a number of {len(digits)} digits")
    return int(digits)


def read_object(data: bytes) -> dict[str, Any]:
    """The object that `data` is. Raises BadJson with a reason for people."""
    if _depth(data) > DEEPEST:
        raise BadJson(f"nested deeper than {DEEPEST} levels")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_int=_integer,
        )
    except BadJson:
        raise
    except UnicodeDecodeError:
        raise BadJson("not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise BadJson(str(error)[:100]) from None
    if not isinstance(value, dict):
        raise BadJson("not an object")
    return value


def plain(value: Any, levels: int = DEEPEST) -> Any:
    """`value` as something that JSON can hold, whatever it was and however deep.

    A message is built inside the transaction that closes a cycle: it must not
    raise there because a driver noted a byte string.
    """
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if abs(value) < 2**64 else hex(value)[:LONGEST_NUMBER]
        case float():
            return value if math.isfinite(value) else None
        case bytes() | bytearray():
            return bytes(value).hex()
        case Mapping() | list() | tuple() if levels == 0:
            return "…"
        case Mapping():
            return {str(key): plain(item, levels - 1) for key, item in value.items()}
        case list() | tuple():
            return [plain(item, levels - 1) for item in value]
        case _:
            return str(value)


def write(value: Any) -> bytes:
    """Compact JSON in UTF-8; fields in the order given. Half a surrogate pair becomes `?`:
    no strict reader takes one, not even escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")
