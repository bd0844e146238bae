"""What is an event, and what is dropped ("Event format"; Client-Server API, "Size limits")."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_server.homeserver.events.format import EventTooLarge, InvalidEvent
from identity_server.homeserver.events.hashing import seal
from identity_server.homeserver.events.reading import read_event
from identity_server.homeserver.events.versions import VERSIONS, room_version
from identity_server.matrix.canonical_json import LARGEST_INTEGER, canonical_json
from identity_server.matrix.errors import UnsupportedRoomVersion
from identity_server.matrix.signing import SigningKey

V11, V12 = VERSIONS["11"], VERSIONS["12"]
GOOD: dict[str, Any] = {
    "type": "m.room.message",
    "room_id": "!room:domain",
    "sender": "@user:domain",
    "content": {"body": "Hello"},
    "depth": 7,
    "origin_server_ts": 1_000_000,
    "prev_events": ["$parent"],
    "auth_events": ["$create"],
    "hashes": {"sha256": "AAAA"},
    "signatures": {"domain": {"ed25519:1": "AAAA"}},
}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=["L", "Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(list(GOOD)), inner),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from([*GOOD, "state_key", "redacts", "unsigned"]), anything),
    st.sampled_from(list(VERSIONS)),
)
def test_whatever_stands_in_a_field_it_is_an_event_or_refused(fields: dict[str, Any], identifier: str) -> None:
    try:
        event = read_event({**GOOD, **fields}, VERSIONS[identifier])
    except InvalidEvent:
        return
    # What is taken can be used in every way.
    assert canonical_json(dict(event.pdu))
    assert event.sender_server
    assert (event.state_key is None) != event.is_state
    for name in ("room_id", "type", "content", "depth", "origin_server_ts", "prev_events", "auth_events", "cited"):
        getattr(event, name)
    assert event.membership is None or event.type == "m.room.member"


@given(anything)
def test_no_json_is_more_than_refused(value: Any) -> None:
    with pytest.raises(InvalidEvent):
        read_event(value, V12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": None},
        {"type": "nul\0"},
        {"sender": "user:domain"},
        {"sender": "@user"},
        {"sender": "@user:"},
        {"sender": "@user:not a domain"},
        {"sender": "@us\0er:domain"},
        {"room_id": "room:domain"},
        {"room_id": "!nul\0:domain"},
        {"state_key": None},
        {"state_key": 5},
        {"state_key": "\0"},
        {"content": []},
        {"content": {"float": 1.5}},
        {"content": {"large": LARGEST_INTEGER + 1}},
        {"content": {"surrogate": "\ud800"}},
        {"depth": -1},
        {"depth": "7"},
        {"depth": True},
        {"depth": LARGEST_INTEGER + 1},
        {"origin_server_ts": "now"},
        {"origin_server_ts": None},
        {"prev_events": "$parent"},
        {"prev_events": ["parent"]},
        {"prev_events": [["$parent", {}]]},
        {"prev_events": [f"${n}" for n in range(21)]},
        {"auth_events": [f"${n}" for n in range(11)]},
        {"auth_events": [None]},
        {"auth_events": ["$nul\0"]},
        {"hashes": {}},
        {"hashes": {"sha256": 5}},
        {"signatures": []},
        {"signatures": {"domain": "AAAA"}},
        {"signatures": {"domain": {"ed25519:1": 5}}},
    ],
)
def test_an_event_of_the_wrong_form_is_refused_in_every_version(wrong: dict[str, Any]) -> None:
    for version in VERSIONS.values():
        with pytest.raises(InvalidEvent) as refused:
            read_event({**GOOD, **wrong}, version)
        assert (refused.value.status, refused.value.errcode) == (400, "M_BAD_JSON")


@pytest.mark.parametrize("missing", GOOD)
def test_no_field_may_be_missing(missing: str) -> None:
    with pytest.raises(InvalidEvent):
        read_event({name: value for name, value in GOOD.items() if name != missing}, V12)


@pytest.mark.parametrize(
    "unusual",
    [
        {"sender": "@:domain"},
        {"sender": "@Üser with spaces:domain"},
        {"sender": "@user:[::1]:8448"},
        {"depth": LARGEST_INTEGER},
        {"depth": 0},
        {"origin_server_ts": -5},
        {"state_key": "@someone:else"},
        {"content": {"nul": "\0"}},
        {"prev_events": [f"${n}" for n in range(20)]},
        {"auth_events": [f"${n}" for n in range(10)]},
        {"unheard_of": {"by": "us"}},
        {"signatures": {}},
    ],
)
def test_what_is_unusual_is_an_event_all_the_same(unusual: dict[str, Any]) -> None:
    for version in VERSIONS.values():
        assert read_event({**GOOD, **unusual}, version).pdu == {**GOOD, **unusual}


def test_only_the_create_event_of_version_12_has_no_room_id() -> None:
    create = {name: value for name, value in GOOD.items() if name != "room_id"} | {"type": "m.room.create"}
    assert read_event(create, V12).room_id.startswith("!")
    with pytest.raises(InvalidEvent):
        read_event(create, V11)


@pytest.mark.parametrize("name", ["type", "state_key", "sender", "room_id"])
def test_a_field_has_255_bytes_at_most(name: str) -> None:
    shape = {"sender": "@{}:domain", "room_id": "!{}:domain"}.get(name, "{}")
    for letter in ("a", "é"):
        room = 255 - len(shape.format(""))
        fits = shape.format(letter * (room // len(letter.encode())))
        assert read_event({**GOOD, name: fits}, V12)
        with pytest.raises(InvalidEvent):
            read_event({**GOOD, name: shape.format(letter * (room // len(letter.encode()) + 1))}, V12)


def test_an_event_has_65536_bytes_at_most_as_it_is_federated() -> None:
    room = 65_536 - len(canonical_json({**GOOD, "content": {"body": ""}}))
    assert read_event({**GOOD, "content": {"body": "a" * room}, "unsigned": {"age": 5}}, V12)
    with pytest.raises(EventTooLarge) as refused:
        read_event({**GOOD, "content": {"body": "a" * (room + 1)}}, V12)
    assert (refused.value.status, refused.value.errcode) == (413, "M_TOO_LARGE")


def test_our_own_events_are_measured_with_their_signature() -> None:
    key = SigningKey.from_seed("ed25519:1", b"1" * 32)
    bare = {name: value for name, value in GOOD.items() if name not in ("hashes", "signatures")}
    overhead = len(canonical_json(dict(seal({**bare, "content": {"body": ""}}, V12, "domain", key).pdu)))
    assert seal({**bare, "content": {"body": "a" * (65_536 - overhead)}}, V12, "domain", key)
    with pytest.raises(EventTooLarge):
        seal({**bare, "content": {"body": "a" * (65_536 - overhead + 1)}}, V12, "domain", key)


def test_nesting_deeper_than_the_stack_is_refused() -> None:
    value: Any = []
    for _ in range(50_000):
        value = [value]
    with pytest.raises(InvalidEvent):
        read_event({**GOOD, "content": {"deep": value}}, V12)
    while value:  # taken apart by hand: freed all at once, it would go as deep
        value = value.pop()


def test_only_the_versions_that_we_speak_are_supported() -> None:
    assert list(VERSIONS) == ["6", "7", "8", "9", "10", "11", "12"]
    assert room_version("12") is V12
    for unknown in ("5", "13", "", "org.example", None, 12, ["12"]):
        with pytest.raises(UnsupportedRoomVersion):
            room_version(unknown)  # type: ignore[arg-type]  # what a stranger may send
