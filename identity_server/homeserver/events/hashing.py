"""The hashes of an event, and our signature on it (Server-Server API, "Signing Events")."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unpaddedbase64 import decode_base64, encode_base64

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.format import check_format
from identity_server.homeserver.events.redaction import redact
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.matrix.canonical_json import canonical_json
from identity_server.matrix.signing import SigningKey


def content_hash(pdu: Mapping[str, Any]) -> str:
    """Unpadded base64 ("Calculating the content hash for an event"). Raises ``NotCanonical``."""
    return str(encode_base64(_sha256(pdu, without=("unsigned", "signatures", "hashes"))))


def event_id(pdu: Mapping[str, Any], version: RoomVersion) -> str:
    """``$`` and the reference hash ("Calculating the reference hash for an event"). Raises ``NotCanonical``."""
    reference_hash = _sha256(redact(pdu, version), without=("unsigned", "signatures"))
    return "$" + urlsafe_b64encode(reference_hash).decode().rstrip("=")


def hash_and_sign(pdu: Mapping[str, Any], version: RoomVersion, server_name: str, key: SigningKey) -> dict[str, Any]:
    """A copy of ``pdu`` with its hash and our signature ("Adding hashes and signatures to outgoing events")."""
    return _sign({**pdu, "hashes": {"sha256": content_hash(pdu)}}, version, server_name, key)


def seal(pdu: Mapping[str, Any], version: RoomVersion, server_name: str, key: SigningKey) -> Event:
    """An event of ours from all its fields but ``hashes`` and ``signatures``.

    Raises ``InvalidEvent``, of which ``EventTooLarge`` is one, if the room version has no such event.
    """
    bare = {name: value for name, value in pdu.items() if name not in ("unsigned", "hashes", "signatures")}
    check_format({**bare, "hashes": {"sha256": ""}, "signatures": {}}, version)
    sealed = hash_and_sign(bare, version, server_name, key)
    check_format(sealed, version)
    return Event(event_id(sealed, version), sealed, version)


def countersign(event: Event, server_name: str, key: SigningKey) -> Event:
    """Another's event with our signature beside theirs: of an invitation, or of a join that we authorise."""
    return replace(event, pdu=_sign(event.pdu, event.version, server_name, key))


def has_right_content_hash(event: Event) -> bool:
    """Whether the event is all that its sender wrote; if not, it has been redacted on its way, or tampered with."""
    try:
        claimed = bytes(decode_base64(event.pdu["hashes"]["sha256"]))
    except (KeyError, TypeError, ValueError):
        return False
    return claimed == _sha256(event.pdu, without=("unsigned", "signatures", "hashes"))


def _sign(pdu: Mapping[str, Any], version: RoomVersion, server_name: str, key: SigningKey) -> dict[str, Any]:
    others = pdu.get("signatures", {})
    ours = {**others.get(server_name, {}), key.key_id: key.signature(redact(pdu, version))}
    return {**pdu, "signatures": {**others, server_name: ours}}


def _sha256(pdu: Mapping[str, Any], *, without: tuple[str, ...]) -> bytes:
    hashed = canonical_json({name: value for name, value in pdu.items() if name not in without})
    return hashlib.sha256(hashed).digest()
