"""Bodies with a signature, and answers without zero values, as the vendor's API has them.

A signed body is `{"payload": "<base64>"}`. The base64 holds a flat JSON object of texts with
`timestamp` (Unix seconds) and `sign`: drop `sign`, drop empty values and the text NULL, sort
by the keys' bytes, join k=v with &, append &key=KEY, MD5, upper-case hex.

The vendor's libraries disagree on one thing that matters: whether values are signed as they
are ("raw": Rust, PHP, Go until 2024) or URL-encoded first ("url": Go since then, Kotlin). For
letters, digits and `._-` both are the same. Numbers are refused, because the vendor's Rust
library leaves them out of what it signs: they would stand in the body unsigned.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal
from urllib.parse import quote_plus

Encoding = Literal["raw", "url"]

LARGEST_BODY = 64 * 1024
"""Bytes. The longest documented payload, a name and a URL in it, has less than 4 KiB."""

MOST_FIELDS = 64
"""The richest documented payload has ten."""

LONGEST_TIMESTAMP = 11
"""Digits: Unix seconds for the next three thousand years, and no milliseconds by mistake."""


class Cause(StrEnum):
    """Why a body is refused."""

    BAD_JSON = "bad_json"
    """Too large, or no JSON object with base64 of a flat JSON object in it."""
    NOT_STRINGS = "not_strings"
    """A value in the payload is no text."""
    NO_SIGN = "no_sign"
    BAD_SIGN = "bad_sign"
    BAD_TIMESTAMP = "bad_timestamp"
    """Missing, or not digits."""
    TOO_OLD = "too_old"
    """Further from now than the setting allows; the future counts too."""


class BadPayload(ValueError):
    """A body is refused: `cause` for programs, the text for people."""

    def __init__(self, cause: Cause, why: str) -> None:
        super().__init__(why)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Signing:
    """What a merchant's signature is checked against."""

    key: str
    encoding: Encoding = "raw"
    max_age_s: float | None = None
    """None: any age, as the vendor documents no window."""


def open_payload(body: bytes, signing: Signing, now: float) -> dict[str, str]:
    """The fields of a signed body, `sign` and `timestamp` among them. Raises BadPayload.

    `now`: Unix seconds. A body seen before is opened again: replay is the caller's business.
    """
    fields = decode(body)
    verify(fields, signing, now)
    return fields


def decode(body: bytes) -> dict[str, str]:
    """The fields of a body, whoever signed them. Raises BadPayload."""
    outer = _json_object(body, "the body")
    payload = outer.get("payload")
    if not isinstance(payload, str):
        raise BadPayload(Cause.BAD_JSON, 'the body has no "payload" with base64 in it')
    try:
        inside = base64.b64decode(payload.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise BadPayload(Cause.BAD_JSON, "the payload is not standard base64") from None
    fields = _json_object(inside, "the payload")
    if len(fields) > MOST_FIELDS:
        raise BadPayload(Cause.BAD_JSON, f"the payload has more than {MOST_FIELDS} fields")
    for name, value in fields.items():
        if not isinstance(value, str):
            raise BadPayload(Cause.NOT_STRINGS, f"{name[:64]!a} must be a text in quotes")
    return fields


def verify(fields: Mapping[str, str], signing: Signing, now: float) -> None:
    """Signature first: who cannot sign learns nothing of our clock. Raises BadPayload."""
    given = fields.get("sign", "")
    if not given:
        raise BadPayload(Cause.NO_SIGN, "the payload is not signed")
    wanted = sign(fields, signing.key, signing.encoding)
    if not hmac.compare_digest(given.encode(), wanted.encode()):
        raise BadPayload(Cause.BAD_SIGN, "the signature does not fit the payload")
    timestamp = fields.get("timestamp", "")
    digits = timestamp.isascii() and timestamp.isdigit()
    if not digits or len(timestamp) > LONGEST_TIMESTAMP:
        raise BadPayload(Cause.BAD_TIMESTAMP, "timestamp must be Unix seconds in digits")
    if signing.max_age_s is not None and abs(now - int(timestamp)) > signing.max_age_s:
        raise BadPayload(Cause.TOO_OLD, f"timestamp is not within {signing.max_age_s:g} s of now")


def sign(fields: Mapping[str, str], key: str, encoding: Encoding = "raw") -> str:
    """The signature of `fields`; a `sign` among them does not count."""
    text = f"{signed_text(fields, encoding)}&key={key}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()


def signed_text(fields: Mapping[str, str], encoding: Encoding) -> str:
    """What is signed, without the key: for people who look for the difference, too."""
    counted = {
        name: value
        for name, value in fields.items()
        if name != "sign" and value not in ("", "NULL")
    }
    written = _url_encoded if encoding == "url" else str
    # The bytes of UTF-8 sort as its code points do, which is how Python compares texts.
    return "&".join(f"{written(name)}={written(counted[name])}" for name in sorted(counted))


def seal(fields: Mapping[str, str], key: str, encoding: Encoding = "raw") -> bytes:
    """A signed body, as a merchant makes it."""
    inside = json.dumps({**fields, "sign": sign(fields, key, encoding)}, ensure_ascii=False)
    return json.dumps({"payload": base64.b64encode(inside.encode()).decode()}).encode()


def sparse(data: Any) -> Any:
    """`data` without zero, false, empty text, list and object, as protobuf writes JSON.

    Only fields are left out: an item of a list stays, and what becomes empty there is `{}`.
    """
    if isinstance(data, Mapping):
        kept = {name: sparse(value) for name, value in data.items()}
        return {name: value for name, value in kept.items() if value}
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return [sparse(item) for item in data]
    return data


def _url_encoded(text: str) -> str:
    """As Go's url.QueryEscape: a space becomes +, and only letters, digits and -_.~ stay."""
    return quote_plus(text, safe="")


def _json_object(text: bytes, what: str) -> dict[str, Any]:
    if len(text) > LARGEST_BODY:
        raise BadPayload(Cause.BAD_JSON, f"{what} is larger than {LARGEST_BODY} bytes")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_no_name_twice)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        raise BadPayload(Cause.BAD_JSON, f"{what} is not a JSON object in UTF-8") from None
    if not isinstance(value, dict):
        raise BadPayload(Cause.BAD_JSON, f"{what} is not a JSON object")
    return value


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values under one name nobody could say which one was signed."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found
