"""The dates of a certificate, as openssl made it, and of whatever else lies in a file."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.certificate_dates import Dates, dates_in_file, dates_of
from tests.certificates import self_signed


@pytest.mark.parametrize(
    ("begins", "ends"),
    [(-400, -2), (2, 40), (-1, 365 * 40)],  # beyond 2049 dates are written in another form
)
def test_dates_are_those_that_openssl_was_told(tmp_path: Path, begins: int, ends: int) -> None:
    file = self_signed(tmp_path, "own", begins=timedelta(days=begins), ends=timedelta(days=ends))
    (dates,) = dates_in_file(file)
    assert dates.not_before == pytest.approx(time.time() + begins * 86400, abs=20)
    assert dates.not_after == pytest.approx(time.time() + ends * 86400, abs=20)
    file.write_text(file.read_text() * 3)
    assert dates_in_file(file) == [dates] * 3, "a file of several"


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return bytes([tag, len(content)]) + content


SMALL = der(
    0x30,
    der(
        0x30,
        der(0xA0, der(0x02, b"\x02")),
        der(0x02, b"\x01"),
        der(0x30, der(0x06, b"\x2a\x03")),
        der(0x30, der(0x31, der(0x30, der(0x06, b"\x55\x04\x03"), der(0x0C, b"xyz")))),
        der(0x30, der(0x17, b"260101000000Z"), der(0x17, b"270101000000Z")),
    ),
)
"""The beginning of a certificate, as far as its dates: version, serial, algorithm, issuer."""


@given(st.binary(max_size=200))
def test_any_bytes_are_a_certificate_or_a_value_error(data: bytes) -> None:
    try:
        found = dates_of(data)
    except ValueError:
        return
    assert isinstance(found, Dates)


@given(st.data())
def test_p14_a_broken_certificate_is_a_value_error_or_has_dates(data: st.DataObject) -> None:
    whole = bytearray(SMALL)
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(dates_of(bytes(whole[: data.draw(st.integers(0, len(whole)))])), Dates)
    except ValueError:
        return


def test_a_file_without_a_certificate_says_so(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ValueError, match="no certificate in it"):
        dates_in_file(file)


def test_the_small_one_has_dates() -> None:
    assert dates_of(SMALL) == Dates(1767225600.0, 1798761600.0)
