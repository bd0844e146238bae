"""Server-Server API, "Signing Events"; Appendices, "Event Signing"."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unpaddedbase64 import decode_base64

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.hashing import (
    content_hash,
    countersign,
    event_id,
    has_right_content_hash,
    hash_and_sign,
    seal,
)
from identity_server.homeserver.events.reading import read_event
from identity_server.homeserver.events.redaction import redact, redact_event
from identity_server.homeserver.events.signatures import required_signers
from identity_server.homeserver.events.versions import VERSIONS, RoomVersion
from identity_server.matrix.signing import InvalidSignature, SigningKey, verify_json

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "event_signing.json").read_text())
KEY = SigningKey.from_seed("ed25519:1", decode_base64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"))
V6, V10, V11, V12 = (VERSIONS[identifier] for identifier in ("6", "10", "11", "12"))

every_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)


def message(**more: Any) -> dict[str, Any]:
    return {
        "type": "m.room.message",
        "room_id": "!room:domain",
        "sender": "@user:domain",
        "content": {"body": "Hello"},
        "depth": 7,
        "origin_server_ts": 1_000_000,
        "prev_events": ["$parent"],
        "auth_events": ["$create"],
        **more,
    }


def member(**content: Any) -> dict[str, Any]:
    return message(type="m.room.member", state_key="@other:elsewhere", content=content)


@pytest.mark.parametrize("vector", VECTORS)
def test_the_events_of_the_specification_are_signed_as_it_says(vector: dict[str, Any]) -> None:
    bare = {name: value for name, value in vector["bare"].items() if name != "hashes"}
    # The vectors are of room version 1; up to version 10 the redaction of these events is the same.
    assert hash_and_sign(bare, V10, "domain", KEY) == vector["signed"]
    assert content_hash(vector["signed"]) == vector["signed"]["hashes"]["sha256"]


@every_version
def test_what_we_seal_is_read_by_others_as_the_same_event(version: RoomVersion) -> None:
    sealed = seal(message(), version, "domain", KEY)
    read = read_event({**sealed.pdu, "unsigned": {"age": 5}}, version)
    assert read == sealed
    assert has_right_content_hash(read)
    assert required_signers(read) == {"domain"}
    verify_json(redact(read.pdu, version), "domain", KEY.verify_key)


@every_version
def test_an_event_keeps_its_id_and_its_signature_when_it_is_redacted(version: RoomVersion) -> None:
    sealed = seal(message(), version, "domain", KEY)
    redacted = redact_event(sealed)
    assert redacted.content == {}
    assert not has_right_content_hash(redacted)
    assert read_event(redacted.pdu, version).event_id == sealed.event_id
    verify_json(redacted.pdu, "domain", KEY.verify_key)


@every_version
def test_whatever_is_changed_shows_in_the_hash_or_in_the_id(version: RoomVersion) -> None:
    sealed = seal(message(), version, "domain", KEY)
    changed_content = replace(sealed, pdu={**sealed.pdu, "content": {"body": "Goodbye"}})
    assert not has_right_content_hash(changed_content)
    for name, value in {"sender": "@mallory:domain", "depth": 8, "state_key": "", "prev_events": []}.items():
        forged = {**sealed.pdu, name: value}
        assert event_id(forged, version) != sealed.event_id
        with pytest.raises(InvalidSignature):
            verify_json(redact(forged, version), "domain", KEY.verify_key)


def test_a_hash_that_cannot_be_read_is_not_right() -> None:
    sealed = seal(message(), V12, "domain", KEY)
    for claimed in ("", "====", "日本", "AAAA"):
        assert not has_right_content_hash(replace(sealed, pdu={**sealed.pdu, "hashes": {"sha256": claimed}}))


def test_another_server_signs_beside_the_first_and_the_event_stays_the_same() -> None:
    other = SigningKey.from_seed("ed25519:b", b"2" * 32)
    sealed = seal(message(), V12, "domain", KEY)
    both = countersign(sealed, "elsewhere", other)
    assert read_event(both.pdu, V12).event_id == sealed.event_id
    verify_json(redact(both.pdu, V12), "domain", KEY.verify_key)
    verify_json(redact(both.pdu, V12), "elsewhere", other.verify_key)


def test_the_room_id_is_the_hash_of_the_create_event_from_version_12_on() -> None:
    bare = message(type="m.room.create", state_key="", prev_events=[], auth_events=[], content={"room_version": "12"})
    del bare["room_id"]
    create = seal(bare, V12, "domain", KEY)
    assert create.room_id == "!" + create.event_id.removeprefix("$")
    assert len(create.room_id) == 44
    assert "room_id" not in create.pdu
    named = seal(message(room_id=create.room_id), V12, "domain", KEY)
    assert named.cited[-1] == create.event_id


@pytest.mark.parametrize(
    ("pdu", "version", "signers"),
    [
        (member(membership="join", join_authorised_via_users_server="@host:resident"), V11, {"domain", "resident"}),
        (member(membership="leave", join_authorised_via_users_server="@host:resident"), V11, {"domain", "resident"}),
        (member(membership="join", join_authorised_via_users_server="@host:resident"), VERSIONS["7"], {"domain"}),
        (member(membership="join", join_authorised_via_users_server=["@host:resident"]), V11, {"domain"}),
        (member(membership="invite"), V11, {"domain"}),
        (member(membership="invite", third_party_invite={}), V11, set()),
        (member(membership="join", third_party_invite={}), V11, {"domain"}),
        (message(content={"join_authorised_via_users_server": "@host:resident"}), V11, {"domain"}),
    ],
)
def test_who_must_have_signed(pdu: dict[str, Any], version: RoomVersion, signers: set[str]) -> None:
    event: Event = seal(pdu, version, "domain", KEY)
    assert required_signers(event) == signers
