"""The redaction algorithm ("Redactions" of the room versions), which hashes and signatures rest on as well."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.versions import RoomVersion


def redact(pdu: Mapping[str, Any], version: RoomVersion) -> dict[str, Any]:
    """``pdu`` without all that ``version`` does not protect."""
    redacted = {name: value for name, value in pdu.items() if name in version.redaction.top_level}
    redacted["content"] = _redact_content(pdu.get("type"), pdu.get("content"), version)
    return redacted


def redact_event(event: Event) -> Event:
    """The event as it stands once it is redacted; its ID stays the same."""
    return replace(event, pdu=redact(event.pdu, event.version))


def _redact_content(event_type: Any, content: Any, version: RoomVersion) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        return {}
    rules = version.redaction
    kept = rules.content.get(event_type, frozenset()) if isinstance(event_type, str) else frozenset()
    if kept is None:
        return dict(content)
    redacted: dict[str, Any] = {}
    for name, value in content.items():
        if name not in kept:
            continue
        nested = rules.nested.get((event_type, name))
        if nested is None:
            redacted[name] = value
        elif isinstance(value, Mapping):
            redacted[name] = {inner: value[inner] for inner in value if inner in nested}
    return redacted
