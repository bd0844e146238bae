"""Server-Server API, "Request Authentication"."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_server.matrix.origin_auth import (
    NO_CONTENT,
    Credentials,
    KeyFor,
    NotAuthentic,
    authorization,
    verify_request,
)
from identity_server.matrix.server_keys import UnknownKey
from identity_server.matrix.signing import SigningKey, VerifyKey

KEY = SigningKey.from_seed("ed25519:key1", b"1" * 32)
SENT = {"method": "POST", "uri": "/_matrix/identity/v2/3pid/unbind?a=b%20c"}
CONTENT = {"mxid": "@alice:hs.test", "threepid": {"medium": "email", "address": "alice@example.org"}}
OUR_NAMES = ("is.test", "is.test:8090")


async def key_for(server_name: str, key_id: str) -> VerifyKey:
    if (server_name, key_id) != ("hs.test", KEY.key_id):
        raise UnknownKey("no such key")
    return KEY.verify_key


async def nobody_is_asked(server_name: str, key_id: str) -> VerifyKey:
    raise AssertionError(f"{server_name} is asked for {key_id}")


def signed(content: Any = CONTENT, *, destination: str = "is.test", **changes: str) -> str:
    return authorization(KEY, origin="hs.test", destination=destination, content=content, **{**SENT, **changes})


def signed_with_destination_is(name: str) -> str:
    """As Synapse asks an identity server to unbind."""
    unsigned = {**SENT, "origin": "hs.test", "destination_is": name, "content": CONTENT}
    return Credentials("hs.test", KEY.key_id, KEY.signature(unsigned), name).header()


async def origin_of(header: str | None, *, content: Any = CONTENT, key_for: KeyFor = key_for) -> str:
    return await verify_request(header, **SENT, content=content, our_names=OUR_NAMES, key_for=key_for)


# Reading and writing the header


EXPECTED = Credentials("hs.test", "ed25519:key1", "ABC+/D", "is.test:8090")


@pytest.mark.parametrize(
    "header",
    [
        'X-Matrix origin="hs.test",destination="is.test:8090",key="ed25519:key1",sig="ABC+/D"',
        'X-Matrix   origin="hs.test" , destination="is.test:8090"\t,\tkey="ed25519:key1",  sig="ABC+/D"',
        'x-matrix ORIGIN="hs.test",Destination="is.test:8090",KEY="ed25519:key1",Sig="ABC+/D"',
        'X-Matrix sig="ABC+/D",key="ed25519:key1",destination="is.test:8090",origin="hs.test"',
        'X-Matrix origin=hs.test,destination="is.test:8090",key="ed25519:key1",sig="ABC+/D"',
        # "the recipient should allow colons to be included in values without requiring … quotes"
        'X-Matrix origin=hs.test,destination=is.test:8090,key=ed25519:key1,sig="ABC+/D"',
        # "a backslash-character pair is replaced by the character that follows the backslash"
        r'X-Matrix origin="hs\.test",destination="is.test\:8090",key="\e\d25519:key1",sig="ABC+\/D"',
        'X-Matrix origin = "hs.test", destination\t=\t"is.test:8090", key= "ed25519:key1", sig ="ABC+/D"',
        # "Unknown parameters are ignored"
        r'X-Matrix new="a,b=\"c\"",origin="hs.test",destination="is.test:8090",key="ed25519:key1",sig="ABC+/D",x=""',
        # RFC 9110, section 5.6.1.2: a recipient takes empty elements of a list.
        'X-Matrix ,origin="hs.test",,destination="is.test:8090", ,key="ed25519:key1",sig="ABC+/D",',
        # The list of parameters in the specification calls it so.
        'X-Matrix origin="hs.test",destination="is.test:8090",key="ed25519:key1",signature="ABC+/D"',
    ],
)
def test_every_allowed_spelling_of_the_header_is_read(header: str) -> None:
    assert Credentials.parse(header) == EXPECTED


def test_the_header_is_written_as_older_servers_want_it() -> None:
    assert EXPECTED.header() == ('X-Matrix origin="hs.test",destination="is.test:8090",key="ed25519:key1",sig="ABC+/D"')


@pytest.mark.parametrize(
    "header",
    [
        "",
        "X-Matrix",
        "X-Matrix ",
        "Bearer abc",
        'Bearer origin="hs.test",key="ed25519:key1",sig="A"',
        'X-Matrixorigin="hs.test",key="ed25519:key1",sig="A"',
        'X-Matrix origin="hs.test",key="ed25519:key1"',
        'X-Matrix origin="hs.test",sig="A"',
        'X-Matrix key="ed25519:key1",sig="A"',
        'X-Matrix origin="",key="ed25519:key1",sig="A"',
        'X-Matrix origin="hs.test" key="ed25519:key1",sig="A"',
        'X-Matrix origin="hs.test"key="ed25519:key1",sig="A"',
        'X-Matrix origin="hs.test,key="ed25519:key1",sig="A"',
        'X-Matrix origin="hs.test",key="ed25519:key1",sig="A',
        'X-Matrix origin="hs.test",key="ed25519:key1",sig="A\\',
        "X-Matrix origin=hs.test,key=ed25519:key1,sig=A/B",
        'X-Matrix origin,key="ed25519:key1",sig="A"',
        'X-Matrix ="hs.test",key="ed25519:key1",sig="A"',
        'X-Matrix origin="hs\0.test",key="ed25519:key1",sig="A"',
        'X-Matrix origin="hs.test\n",key="ed25519:key1",sig="A"',
        # RFC 9110, section 11.2: a name occurs once; two would be read differently by different servers.
        'X-Matrix origin="hs.test",origin="evil.test",key="ed25519:key1",sig="A"',
        'X-Matrix origin="hs.test",Origin="hs.test",key="ed25519:key1",sig="A"',
    ],
)
def test_a_header_that_is_none_of_ours_or_cannot_be_read_is_refused(header: str) -> None:
    with pytest.raises(NotAuthentic):
        Credentials.parse(header)


@pytest.mark.parametrize("run", ["a", ":", " ", "\t", ",", " ,", "a=b,", 'a="', "\\\\", '\\"', "a:"])
def test_no_header_takes_long_to_read(run: str) -> None:
    began = time.monotonic()
    for prefix in ("X-Matrix ", "X-Matrix origin=", 'X-Matrix origin="'):
        for suffix in ("/", '"', "", "\0"):
            with pytest.raises(NotAuthentic):
                Credentials.parse(prefix + run * (8000 // len(run)) + suffix)
    assert time.monotonic() - began < 2


quotable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), min_size=1)


@given(quotable, quotable, quotable, st.none() | quotable)
def test_what_is_written_is_read_again(origin: str, key_id: str, signature: str, destination: str | None) -> None:
    credentials = Credentials(origin, key_id, signature, destination)
    assert Credentials.parse(credentials.header()) == credentials


@given(st.text(st.characters(max_codepoint=0xFF)))
def test_whatever_else_the_header_says_is_refused_and_no_crash(parameters: str) -> None:
    with pytest.raises(NotAuthentic):
        Credentials.parse(f"X-Matrix {parameters}")


# Signing and verifying


async def test_a_signed_request_is_its_origins() -> None:
    assert await origin_of(signed()) == "hs.test"
    assert await origin_of(signed(NO_CONTENT), content=NO_CONTENT) == "hs.test"


async def test_the_example_of_the_specification_is_what_is_signed() -> None:
    json_object = {
        "method": "POST",
        "uri": "/target",
        "origin": "origin.hs.example.com",
        "destination": "destination.hs.example.com",
        "content": {"one": 1},
    }
    header = authorization(
        KEY,
        origin="origin.hs.example.com",
        destination="destination.hs.example.com",
        method="POST",
        uri="/target",
        content={"one": 1},
    )
    assert header == (
        'X-Matrix origin="origin.hs.example.com",destination="destination.hs.example.com",'
        f'key="ed25519:key1",sig="{KEY.signature(json_object)}"'
    )


async def test_an_identity_server_is_addressed_by_destination_is() -> None:
    for name in OUR_NAMES:
        assert await origin_of(signed_with_destination_is(name)) == "hs.test"


async def test_who_hears_only_homeservers_may_insist_on_destination() -> None:
    with pytest.raises(NotAuthentic):
        await verify_request(
            signed_with_destination_is("is.test"),
            **SENT,
            content=CONTENT,
            our_names=OUR_NAMES,
            key_for=key_for,
            destination_fields=("destination",),
        )


async def test_the_header_may_leave_the_destination_out_but_the_signature_may_not() -> None:
    for name, expected in (("is.test", True), ("is.test:8090", True), ("other.test", False)):
        sent = Credentials.parse(signed(destination=name))
        header = Credentials(sent.origin, sent.key_id, sent.signature).header()
        if expected:
            assert await origin_of(header) == "hs.test"
        else:
            with pytest.raises(NotAuthentic):
                await origin_of(header)
    without_any = {**SENT, "origin": "hs.test", "content": CONTENT}
    with pytest.raises(NotAuthentic):
        await origin_of(Credentials("hs.test", KEY.key_id, KEY.signature(without_any)).header())


async def test_a_request_for_another_server_is_refused_before_anybody_is_asked() -> None:
    for other in ("other.test", "IS.TEST", "is.test:443", ""):
        sent = Credentials.parse(signed())
        with pytest.raises(NotAuthentic):
            await origin_of(
                Credentials(sent.origin, sent.key_id, sent.signature, other).header(), key_for=nobody_is_asked
            )


async def test_a_signature_for_one_of_our_names_is_none_for_another() -> None:
    sent = Credentials.parse(signed(destination="is.test"))
    with pytest.raises(NotAuthentic):
        await origin_of(Credentials(sent.origin, sent.key_id, sent.signature, "is.test:8090").header())


@pytest.mark.parametrize(
    "header",
    [
        signed({**CONTENT, "mxid": "@mallory:hs.test"}),
        signed(NO_CONTENT),
        signed(None),
        signed(method="PUT"),
        signed(uri="/_matrix/identity/v2/3pid/unbind"),
        signed(uri="/_matrix/identity/v2/3pid/unbind?a=b c"),
        Credentials("evil.test", KEY.key_id, Credentials.parse(signed()).signature, "is.test").header(),
        Credentials("hs.test", "ed25519:key2", Credentials.parse(signed()).signature, "is.test").header(),
        Credentials("hs.test", KEY.key_id, "AAAA", "is.test").header(),
        Credentials("hs.test", KEY.key_id, "ÿ", "is.test").header(),
        None,
    ],
)
async def test_a_signature_over_anything_else_is_refused(header: str | None) -> None:
    with pytest.raises(NotAuthentic):
        await origin_of(header)


@pytest.mark.parametrize(
    "origin", ["hs.test/x", "@alice:hs.test", "hs.test:", "hs.test:99999", "[::1", "a b", "é.test"]
)
async def test_nobody_is_asked_for_the_keys_of_what_is_no_server_name(origin: str) -> None:
    with pytest.raises(NotAuthentic):
        await origin_of(Credentials(origin, KEY.key_id, "A" * 86, "is.test").header(), key_for=nobody_is_asked)


async def test_nobody_is_asked_for_keys_of_other_algorithms() -> None:
    with pytest.raises(NotAuthentic):
        await origin_of(
            Credentials("hs.test", "curve25519:key1", "A" * 86, "is.test").header(), key_for=nobody_is_asked
        )


async def test_content_that_cannot_be_signed_is_refused_and_no_crash() -> None:
    for content in ({"a": 0.5}, {"a": 2**60}, {"a": "\ud800"}):
        with pytest.raises(NotAuthentic):
            await origin_of(signed(), content=content)
