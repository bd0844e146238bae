"""What each room version protects from redaction ("Redactions")."""

from collections.abc import Collection
from typing import Any

import pytest

from identity_server.homeserver.events.redaction import redact
from identity_server.homeserver.events.versions import VERSIONS

ALL = tuple(VERSIONS)
ALWAYS = (
    *("event_id", "type", "room_id", "sender", "state_key", "content", "origin_server_ts"),
    *("hashes", "signatures", "depth", "prev_events", "auth_events"),
)


def since(identifier: str) -> Collection[str]:
    return ALL[ALL.index(identifier) :]


KEPT: list[tuple[str, str, Collection[str]]] = [
    ("m.room.member", "membership", ALL),
    ("m.room.member", "join_authorised_via_users_server", since("9")),
    ("m.room.member", "displayname", ()),
    ("m.room.member", "reason", ()),
    ("m.room.create", "creator", ALL),
    ("m.room.create", "m.federate", since("11")),
    ("m.room.create", "room_version", since("11")),
    ("m.room.create", "anything", since("11")),
    ("m.room.join_rules", "join_rule", ALL),
    ("m.room.join_rules", "allow", since("8")),
    ("m.room.history_visibility", "history_visibility", ALL),
    ("m.room.aliases", "aliases", ()),
    ("m.room.redaction", "redacts", since("11")),
    ("m.room.redaction", "reason", ()),
    ("m.room.message", "membership", ()),
    ("m.room.power_levels", "invite", since("11")),
    ("m.room.power_levels", "notifications", ()),
    *[
        ("m.room.power_levels", name, ALL)
        for name in ["ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default"]
    ],
]


@pytest.mark.parametrize(("event_type", "name", "kept_in"), KEPT)
def test_content_is_kept_as_the_version_says(event_type: str, name: str, kept_in: Collection[str]) -> None:
    for version in VERSIONS.values():
        redacted = redact({"type": event_type, "content": {name: {"a": 1}}}, version)
        expected = {name: {"a": 1}} if version.identifier in kept_in else {}
        assert redacted == {"type": event_type, "content": expected}, version.identifier


@pytest.mark.parametrize(
    ("name", "kept_in"),
    [
        *[(name, ALL) for name in ALWAYS],
        *[(name, ALL[: ALL.index("11")]) for name in ("origin", "membership", "prev_state")],
        *[(name, ()) for name in ("unsigned", "redacts", "age_ts", "replaces_state")],
    ],
)
def test_the_top_level_is_kept_as_the_version_says(name: str, kept_in: Collection[str]) -> None:
    for version in VERSIONS.values():
        redacted = redact({"content": {}, name: {}}, version)
        assert redacted == ({"content": {}, name: {}} if version.identifier in kept_in else {"content": {}})


@pytest.mark.parametrize(
    ("third_party_invite", "kept"),
    [
        ({"display_name": "b…@e…", "signed": {"mxid": "@b:e"}}, {"third_party_invite": {"signed": {"mxid": "@b:e"}}}),
        ({"display_name": "b…@e…"}, {"third_party_invite": {}}),
        ("signed", {}),
        (None, {}),
    ],
)
def test_of_a_third_party_invite_what_was_signed_is_kept_since_version_11(third_party_invite: Any, kept: Any) -> None:
    pdu = {"type": "m.room.member", "content": {"third_party_invite": third_party_invite}}
    for version in VERSIONS.values():
        expected = kept if version.identifier in since("11") else {}
        assert redact(pdu, version)["content"] == expected


def test_what_was_there_stays_as_it_was() -> None:
    pdu = {"type": "m.room.message", "content": {"body": "Hello"}, "unsigned": {}}
    redact(pdu, VERSIONS["12"])
    assert pdu == {"type": "m.room.message", "content": {"body": "Hello"}, "unsigned": {}}
