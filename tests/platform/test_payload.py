"""Signed bodies: the vendor's public vector, each refusal, and any fields there and back."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import unquote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_sim.payload import (
    LARGEST_BODY,
    BadPayload,
    Cause,
    Encoding,
    Signing,
    decode,
    open_payload,
    seal,
    sign,
    signed_text,
    sparse,
    verify,
)

KEY = "ds069ed4223ac1660f"
VECTOR = {"client_id": "16327128", "method": "android.shutdown", "timestamp": "1727494645"}
NOW = 1_727_494_645.0
FEW = settings(max_examples=40)
"""Each body costs a hash and four readings of JSON."""
BOTH: tuple[Encoding, ...] = ("raw", "url")


def wrapped(inside: Any) -> bytes:
    text = inside if isinstance(inside, bytes) else json.dumps(inside).encode()
    return json.dumps({"payload": base64.b64encode(text).decode()}).encode()


def refused(body: bytes, signing: Signing | None = None) -> Cause:
    with pytest.raises(BadPayload) as caught:
        open_payload(body, signing or Signing(KEY), NOW)
    assert str(caught.value).isprintable()
    return caught.value.cause


@pytest.mark.parametrize("encoding", BOTH)
def test_the_public_vector(encoding: Encoding) -> None:
    assert sign(VECTOR, KEY, encoding) == "4D49FFFDE0DA4537160CFC258356277B"


def test_what_counts_and_in_which_order() -> None:
    fields = {"b": "2", "a": "x y/ü~*", "sign": "old", "e": "", "n": "NULL", "B": "0", "ä": "3"}
    assert signed_text(fields, "raw") == "B=0&a=x y/ü~*&b=2&ä=3"
    assert signed_text(fields, "url") == "B=0&a=x+y%2F%C3%BC~%2A&b=2&%C3%A4=3"
    by_hand = (
        hashlib.md5(b"B=0&a=x+y%2F%C3%BC~%2A&b=2&%C3%A4=3&key=k", usedforsecurity=False)
        .hexdigest()
        .upper()
    )
    assert sign(fields, "k", "url") == by_hand


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"payload": 5}',
        b'{"payload": "\\u00e9"}',
        b'{"payload": "e30"}',
        b'{"payload": "e30=", "payload": "e30="}',
        b'{"payload": "e3 0="}',
        b"[" * 40_000,
        b'{"payload": "' + b"A" * LARGEST_BODY + b'"}',
        wrapped([]),
        wrapped(b"{"),
        wrapped(b'{"a": "1", "a": "2"}'),
        wrapped(b'{"a": "\\ud800"}'),
        wrapped(b'{"\\udfff": "1"}'),
        wrapped(b'{"a": ' + b"9" * 5_000 + b"}"),
        wrapped({str(number): "1" for number in range(65)}),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_no_payload(body: bytes) -> None:
    assert refused(body) is Cause.BAD_JSON


@pytest.mark.parametrize("value", [0, 1.5, True, None, [], {}, ["1"]])
def test_only_texts_are_taken_even_when_the_rest_is_signed(value: Any) -> None:
    """The vendor's Rust library signs around them, so that anybody could change them."""
    assert refused(wrapped({**VECTOR, "sign": sign(VECTOR, KEY), "extra": value})) is (
        Cause.NOT_STRINGS
    )


def test_no_signature_and_a_wrong_one() -> None:
    good = sign(VECTOR, KEY)
    assert refused(wrapped(VECTOR)) is Cause.NO_SIGN
    assert refused(wrapped({**VECTOR, "sign": ""})) is Cause.NO_SIGN
    for wrong in ("é", good.lower(), good[:-1], sign(VECTOR, "another key")):
        assert refused(wrapped({**VECTOR, "sign": wrong})) is Cause.BAD_SIGN
    assert refused(wrapped({**VECTOR, "method": "x", "sign": good})) is Cause.BAD_SIGN


@pytest.mark.parametrize("timestamp", ["", "NULL", "-1", "1.5", "1e9", "١٢", "9" * 12, " 1"])
def test_a_timestamp_is_digits(timestamp: str) -> None:
    assert refused(seal({"a": "1", "timestamp": timestamp}, KEY)) is Cause.BAD_TIMESTAMP


def test_any_age_unless_a_setting_bounds_it() -> None:
    ancient = seal({**VECTOR, "timestamp": "1"}, KEY)
    assert open_payload(ancient, Signing(KEY), NOW)["timestamp"] == "1"
    bounded = Signing(KEY, max_age_s=300)
    assert refused(ancient, bounded) is Cause.TOO_OLD
    for age, fits in ((-301, False), (-300, True), (300, True), (301, False)):
        body = seal({**VECTOR, "timestamp": str(int(NOW) - age)}, KEY)
        if fits:
            open_payload(body, bounded, NOW)
        else:
            assert refused(body, bounded) is Cause.TOO_OLD


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FIELDS = st.dictionaries(TEXTS.filter(lambda name: name not in {"sign", "timestamp"}), TEXTS)


@FEW
@given(fields=FIELDS, key=TEXTS, encoding=st.sampled_from(BOTH))
def test_what_a_merchant_seals_is_opened(
    fields: dict[str, str], key: str, encoding: Encoding
) -> None:
    fields = {**fields, "timestamp": "1727494645"}
    opened = open_payload(seal(fields, key, encoding), Signing(key, encoding), NOW)
    assert opened == {**fields, "sign": sign(fields, key, encoding)}


@FEW
@given(fields=FIELDS, name=TEXTS, value=TEXTS)
def test_a_change_of_any_value_that_counts_is_noticed(
    fields: dict[str, str], name: str, value: str
) -> None:
    """URL-encoded: raw, `a=1&b=2` may be one field or two, which is the vendor's weakness."""
    fields = {**fields, "timestamp": "1727494645"}
    changed = {**fields, name: value}
    before, after = (signed_text(each, "url") for each in (fields, changed))
    signed = {**changed, "sign": sign(fields, KEY, "url")}
    if name == "sign" or before == after:
        return
    assert refused(wrapped(signed), Signing(KEY, "url")) is Cause.BAD_SIGN


@FEW
@given(fields=FIELDS)
def test_the_url_form_can_be_read_back(fields: dict[str, str]) -> None:
    counted = {k: v for k, v in fields.items() if v not in {"", "NULL"}}
    text = signed_text(fields, "url")
    pairs = [pair.split("=") for pair in text.split("&")] if text else []
    assert {unquote_plus(k): unquote_plus(v) for k, v in pairs} == counted
    assert [unquote_plus(k).encode() for k, _ in pairs] == sorted(k.encode() for k in counted)


@FEW
@given(body=st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(wrapped)))
def test_no_bytes_do_worse_than_be_refused(body: bytes) -> None:
    try:
        fields = decode(body)
    except BadPayload:
        return
    with pytest.raises(BadPayload):
        verify(fields, Signing("a key that nobody knows"), NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=15,
)


def test_sparse_as_protobuf_writes_it() -> None:
    data = {
        "order_id": 7,
        "is_online": False,
        "name": "",
        "stock": 0,
        "price": 0.0,
        "none": None,
        "deep": {"empty": {}, "zero": [], "deeper": {"nothing": 0}},
        "records": [{"quantity": 0}, {"id": "0"}, 0, ""],
    }
    assert sparse(data) == {"order_id": 7, "records": [{}, {"id": "0"}, 0, ""]}
    assert sparse({}) == {}


@FEW
@given(data=st.dictionaries(st.text(max_size=5), JSON))
def test_sparse_leaves_no_empty_field_and_loses_nothing_else(data: dict[str, Any]) -> None:
    def fields(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [*value.values(), *(f for inner in value.values() for f in fields(inner))]
        return [f for item in value for f in fields(item)] if isinstance(value, list) else []

    told = sparse(data)
    assert all(fields(told))
    assert sparse(told) == told
    kept = [f for f in fields(data) if f and not isinstance(f, dict | list)]
    assert [f for f in fields(told) if not isinstance(f, dict | list)] == kept
