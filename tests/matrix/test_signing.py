"""Appendices, "Canonical JSON", "Signing JSON": the specification's own examples, and other libraries' opinion."""

import json
from typing import Any

import canonicaljson
import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given
from hypothesis import strategies as st
from unpaddedbase64 import decode_base64

from identity_server.matrix.canonical_json import LARGEST_INTEGER, NotCanonical, canonical_json
from identity_server.matrix.signing import InvalidSignature, SigningKey, VerifyKey, decode_key, sign_json, verify_json

# Appendices, "Cryptographic Test Vectors".
SEED = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"
KEY = SigningKey.from_seed("ed25519:1", decode_base64(SEED))

CANONICAL = [
    ("{}", "{}"),
    ('{"one": 1, "two": "Two"}', '{"one":1,"two":"Two"}'),
    ('{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'),
    (
        """{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe",
        "three_pids": [{"medium": "email", "address": "john.doe@example.org"},
        {"medium": "msisdn", "address": "123456789"}]}}}""",
        '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":'
        '[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},'
        '"success":true}}',
    ),
    ('{"a": "日本語"}', '{"a":"日本語"}'),
    ('{"本": 2, "日": 1}', '{"日":1,"本":2}'),
    (r'{"a": "\u65E5"}', '{"a":"日"}'),
    ('{"a": null}', '{"a":null}'),
    ('{"a": -0}', '{"a":0}'),
]

text = st.text(st.characters(exclude_categories=["Cs"]))
canonical_values = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST_INTEGER, LARGEST_INTEGER) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(("written", "canonical"), CANONICAL)
def test_the_examples_of_the_specification_are_encoded_as_it_says(written: str, canonical: str) -> None:
    assert canonical_json(json.loads(written)) == canonical.encode()


@given(canonical_values)
def test_the_encoding_is_that_of_canonicaljson(value: Any) -> None:
    assert canonical_json(value) == canonicaljson.encode_canonical_json(value)


def test_keys_are_sorted_by_code_point_and_not_by_utf_16_unit() -> None:
    # U+FF5E is one UTF-16 unit, U+1D11E a pair that begins lower.
    assert canonical_json({"\U0001d11e": 1, "～": 2}) == '{"～":2,"\U0001d11e":1}'.encode()


@pytest.mark.parametrize(
    "value", [1.0, -0.0, float("nan"), 2**53, -(2**53), 2**70, "\ud800", b"x", {1: 2}, {"a": {0.5}}]
)
def test_what_canonical_json_has_no_form_for_is_refused(value: object) -> None:
    for wrapped in (value, [value], {"a": value}):
        with pytest.raises(NotCanonical):
            canonical_json(wrapped)


def test_nesting_deeper_than_the_stack_is_refused_and_not_a_crash() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NotCanonical):
        canonical_json(value)
    while value:  # taken apart by hand: freed all at once, it would go as deep
        value = value.pop()


@pytest.mark.parametrize(
    ("json_object", "signature"),
    [
        ({}, "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
        (
            {"one": 1, "two": "Two"},
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ],
)
def test_the_test_vectors_of_the_specification_are_signed_as_it_says(
    json_object: dict[str, Any], signature: str
) -> None:
    signed = sign_json(json_object, "domain", KEY)
    assert signed == {**json_object, "signatures": {"domain": {"ed25519:1": signature}}}
    verify_json(signed, "domain", KEY.verify_key)


@given(st.dictionaries(text.filter(lambda key: key != "signatures"), canonical_values, max_size=4))
def test_signatures_are_those_of_signedjson(json_object: dict[str, Any]) -> None:
    theirs = signedjson.sign.sign_json(
        json.loads(json.dumps(json_object)), "domain", signedjson.key.decode_signing_key_base64("ed25519", "1", SEED)
    )
    assert sign_json(json_object, "domain", KEY) == theirs


def test_signing_adds_to_the_signatures_of_others_and_leaves_the_object_alone() -> None:
    second = SigningKey.from_seed("ed25519:2", b"2" * 32)
    once = sign_json({"one": 1}, "domain", KEY)
    thrice = sign_json(sign_json(once, "domain", second), "elsewhere", second)
    assert list(once["signatures"]["domain"]) == ["ed25519:1"]
    verify_json(thrice, "domain", KEY.verify_key)
    verify_json(thrice, "domain", second.verify_key)
    verify_json(thrice, "elsewhere", second.verify_key)


def test_unsigned_data_may_change_and_nothing_else() -> None:
    signed = sign_json({"one": 1, "unsigned": {"age": 1}}, "domain", KEY)
    verify_json({**signed, "unsigned": {"age": 2}}, "domain", KEY.verify_key)
    for forged in ({**signed, "one": 2}, {**signed, "two": 2}, {"signatures": signed["signatures"]}):
        with pytest.raises(InvalidSignature):
            verify_json(forged, "domain", KEY.verify_key)


def test_a_signature_holds_for_its_signer_and_key_only() -> None:
    signed = sign_json({"one": 1}, "domain", KEY)
    other = SigningKey.from_seed("ed25519:1", b"2" * 32)
    with pytest.raises(InvalidSignature):
        verify_json(signed, "elsewhere", KEY.verify_key)
    with pytest.raises(InvalidSignature):
        verify_json(signed, "domain", other.verify_key)
    with pytest.raises(InvalidSignature):
        verify_json(signed, "domain", VerifyKey("ed25519:2", KEY.verify_key.key))


@pytest.mark.parametrize(
    "signatures",
    [None, 1, "x", [], {"domain": None}, {"domain": "x"}, {"domain": {"ed25519:1": None}}]
    + [{"domain": {"ed25519:1": value}} for value in (1, "", "A", "====", "日本", "\ud800", "AAAA", {}, [])],
)
def test_malformed_signatures_are_invalid_ones(signatures: Any) -> None:
    with pytest.raises(InvalidSignature):
        verify_json({"one": 1, "signatures": signatures}, "domain", KEY.verify_key)


def test_a_signature_is_read_from_either_alphabet_padded_or_not_and_from_no_other_characters() -> None:
    signature = sign_json({"one": 1}, "domain", KEY)["signatures"]["domain"]["ed25519:1"]

    def verify(written: str) -> None:
        verify_json({"one": 1, "signatures": {"domain": {"ed25519:1": written}}}, "domain", KEY.verify_key)

    assert "+" in signature or "/" in signature
    for written in (signature, f"{signature}==", signature.replace("+", "-").replace("/", "_")):
        verify(written)
    for written in (
        f"!!{signature}",
        f"{signature}\n",
        f"{signature}====",
        f"=={signature}",
        f" {signature}",
        f"{signature}A",
    ):
        with pytest.raises(InvalidSignature):
            verify(written)


def test_what_cannot_have_been_signed_is_no_crash() -> None:
    for value in (0.5, 2**60, "\ud800"):
        with pytest.raises(InvalidSignature):
            verify_json({"one": value, "signatures": {"domain": {"ed25519:1": "A" * 86}}}, "domain", KEY.verify_key)


def test_keys_are_read_from_both_base64_alphabets_and_only_whole() -> None:
    key = bytes(range(0xE0, 0x100))
    assert decode_key("4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8") == key
    assert decode_key("4OHi4-Tl5ufo6err7O3u7_Dx8vP09fb3-Pn6-_z9_v8") == key
    assert decode_key("4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8=") == key
    for added in ("!", "!!!!", " ", "\n", "====", "==", "A==="):
        for broken in (
            f"4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8{added}",
            f"{added}4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8",
        ):
            with pytest.raises(ValueError):
                decode_key(broken)
    for broken in ("", "4OHi", "4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8AAAA", "日本", "\ud800"):
        with pytest.raises(ValueError):
            decode_key(broken)
    assert VerifyKey.from_base64("ed25519:1", KEY.verify_key.base64) == KEY.verify_key
