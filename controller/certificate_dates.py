"""From when to when a certificate holds, read without a library for X.509.

The standard library tells these dates only of a certificate that it has just
verified, and a doctor is asked about one that was refused. Two dates at a fixed
place (RFC 5280, 4.1) are not worth a dependency with compiled parts: TBSCertificate
is `[0] version, serial, algorithm, issuer, validity, …`, each a DER value that is
skipped by its length.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

MAX_BYTES = 1 << 20
"""A bundle of all public authorities has 220 KiB."""

MAX_CERTIFICATES = 500

SEQUENCE, VERSION, UTC_TIME, GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18

LONG_FORM = 0x80
"""X.690, 8.1.3.5: the length stands in as many bytes as the low seven bits say."""

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.{1,20000}?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Dates:
    """Unix seconds."""

    not_before: float
    not_after: float


def dates_in_file(path: Path) -> list[Dates]:
    """Of each certificate in a PEM file. Raises OSError, ValueError when there is none."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES)
    found = _PEM.findall(content)[:MAX_CERTIFICATES]
    if not found:
        raise ValueError("no certificate in it: a PEM file has -----BEGIN CERTIFICATE-----")
    return [dates_of(base64.b64decode(each)) for each in found]


def dates_of(der: bytes) -> Dates:
    """Raises ValueError when this is no certificate."""
    certificate = _inside(der, SEQUENCE)
    rest = _inside(certificate, SEQUENCE)
    if rest[:1] == bytes([VERSION]):
        rest = _value(rest)[2]
    for _ in ("serial", "algorithm", "issuer"):
        rest = _value(rest)[2]
    validity = _inside(rest, SEQUENCE)
    kind, first, further = _value(validity)
    other_kind, last, _ = _value(further)
    return Dates(_moment(kind, first), _moment(other_kind, last))


def _inside(data: bytes, tag: int) -> bytes:
    found, content, _ = _value(data)
    if found != tag:
        raise ValueError("not a certificate")
    return content


def _value(data: bytes) -> tuple[int, bytes, bytes]:
    """The first DER value: its tag, its content, and what stands behind it."""
    if len(data) < 2:  # noqa: PLR2004 - tag and length
        raise ValueError("a certificate that ends too early")
    length, at = data[1], 2
    if length >= LONG_FORM:
        size = length - LONG_FORM
        if not 1 <= size <= 4 or len(data) < 2 + size:  # noqa: PLR2004 - 4 GiB is enough
            raise ValueError("a certificate with an impossible length")
        length, at = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
    if len(data) < at + length:
        raise ValueError("a certificate that ends too early")
    return data[0], data[at : at + length], data[at + length :]


def _moment(kind: int, text: bytes) -> float:
    """RFC 5280, 4.1.2.5: two digits of a year mean 1950 to 2049; always Zulu, with seconds."""
    digits = text.decode("ascii", "replace")
    if kind == UTC_TIME:
        digits = ("19" if digits[:1] >= "5" else "20") + digits
    elif kind != GENERALIZED_TIME:
        raise ValueError("a certificate without dates")
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
