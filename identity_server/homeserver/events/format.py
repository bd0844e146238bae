"""What an event must look like to be one ("Event format" of the room versions; Client-Server API, "Size limits")."""

from collections.abc import Mapping
from typing import Any, TypeGuard

from identity_server.homeserver.events.versions import RoomVersion
from identity_server.matrix.canonical_json import LARGEST_INTEGER, NotCanonical, canonical_json
from identity_server.matrix.errors import BadJson
from identity_server.matrix.identifiers import domain_of

MAX_BYTES = 65_536
MAX_FIELD_BYTES = 255
MAX_NESTING = 240
"""What is told of it, to clients and to servers, is nested a little deeper, and JSON can be written up to 254."""
MAX_PREV_EVENTS = 20
MAX_AUTH_EVENTS = 10


class InvalidEvent(BadJson):
    """It is no event of this room version; over federation it is dropped."""


class EventTooLarge(InvalidEvent):
    status = 413
    errcode = "M_TOO_LARGE"


def is_user_id(value: Any) -> TypeGuard[str]:
    """A user ID, as far as others' must be accepted ("Historical User IDs"): the localpart may even be empty."""
    if not isinstance(value, str) or not value.startswith("@") or "\0" in value or len(value) > MAX_FIELD_BYTES:
        return False
    try:
        domain_of(value)
        return len(value.encode()) <= MAX_FIELD_BYTES
    except ValueError:
        return False


def check_format(pdu: Mapping[str, Any], version: RoomVersion) -> None:
    """Raises ``InvalidEvent`` if ``pdu`` is no event in the format of federation. Any JSON may be given."""
    if not isinstance(pdu, Mapping):
        raise InvalidEvent("An event is an object")
    # Before all else: what is canonical has no lone surrogates, floats or bottomless nesting.
    try:
        encoded = canonical_json(dict(pdu))
    except NotCanonical as error:
        raise InvalidEvent(f"The event has no canonical JSON: {error}") from error
    if len(encoded) > MAX_BYTES:
        raise EventTooLarge("The event is larger than 65536 bytes")
    if encoded.count(b"{") + encoded.count(b"[") > MAX_NESTING and nesting(pdu) > MAX_NESTING:
        raise InvalidEvent("The event is nested too deeply")
    _check_identifiers(pdu, version)
    _check_integer(pdu, "origin_server_ts", -LARGEST_INTEGER)
    _check_integer(pdu, "depth", 0)
    _check_references(pdu, "prev_events", MAX_PREV_EVENTS)
    _check_references(pdu, "auth_events", MAX_AUTH_EVENTS)
    if not isinstance(pdu.get("content"), dict):
        raise InvalidEvent("content must be an object")
    hashes = pdu.get("hashes")
    if not isinstance(hashes, dict) or not isinstance(hashes.get("sha256"), str):
        raise InvalidEvent("hashes must hold a sha256")
    _check_signatures(pdu.get("signatures"))


def nesting(value: Any) -> int:
    """How many objects and lists stand around the innermost value."""
    deepest, level = 0, [value]
    while level:
        level = [
            inner
            for item in level
            if isinstance(item, (Mapping, list))
            for inner in (item.values() if isinstance(item, Mapping) else item)
        ]
        deepest += 1
    return deepest - 1


def _check_identifiers(pdu: Mapping[str, Any], version: RoomVersion) -> None:
    _check_text(pdu, "type")
    if "state_key" in pdu:
        _check_text(pdu, "state_key")
    _check_text(pdu, "sender")
    if not is_user_id(pdu["sender"]):
        raise InvalidEvent("sender must be a user ID")
    # A create event of version 12 that bears one all the same is refused by rule 1.2 of the authorisation rules.
    if "room_id" in pdu or not version.room_id_is_create_event_id or pdu["type"] != "m.room.create":
        _check_text(pdu, "room_id")
        if not pdu["room_id"].startswith("!"):
            raise InvalidEvent("room_id must be a room ID")
    if pdu["type"] == "m.room.redaction" and not version.redacts_in_content and "redacts" in pdu:
        _check_text(pdu, "redacts")


def _check_text(pdu: Mapping[str, Any], name: str) -> None:
    value = pdu.get(name)
    # Nobody can store NUL, and no identifier contains one.
    if not isinstance(value, str) or "\0" in value:
        raise InvalidEvent(f"{name} must be a string without NUL")
    if len(value.encode()) > MAX_FIELD_BYTES:
        raise EventTooLarge(f"{name} is longer than {MAX_FIELD_BYTES} bytes")


def _check_integer(pdu: Mapping[str, Any], name: str, least: int) -> None:
    value = pdu.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidEvent(f"{name} must be an integer, at least {least}")


def _check_references(pdu: Mapping[str, Any], name: str, most: int) -> None:
    value = pdu.get(name)
    if not isinstance(value, list) or len(value) > most:
        raise InvalidEvent(f"{name} must be a list of at most {most} event IDs")
    for event_id in value:
        if not isinstance(event_id, str) or not event_id.startswith("$") or "\0" in event_id or len(event_id) > 255:
            raise InvalidEvent(f"{name} must be a list of event IDs")


def _check_signatures(signatures: Any) -> None:
    if not isinstance(signatures, dict) or not all(
        isinstance(by_key, dict) and all(isinstance(signature, str) for signature in by_key.values())
        for by_key in signatures.values()
    ):
        raise InvalidEvent("signatures must hold strings by server and key")
