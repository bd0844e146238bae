"""Room versions, and what each of them changed ("Room Versions"). The code asks for a property, never for a number."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from identity_server.matrix.errors import UnsupportedRoomVersion


@dataclass(frozen=True)
class Redaction:
    """What survives the redaction algorithm ("Redactions" of each room version).

    ``content``: the keys kept by event type; null: all of them. ``nested``: keys of which only some keys are kept.
    """

    top_level: frozenset[str]
    content: Mapping[str, frozenset[str] | None]
    nested: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class RoomVersion:
    """The properties in which the versions that we speak differ."""

    identifier: str
    redaction: Redaction

    knocking: bool = False
    """Since 7: the membership and join rule ``knock``."""
    restricted_joins: bool = False
    """Since 8: the join rule ``restricted``, and ``join_authorised_via_users_server``."""
    knock_restricted_joins: bool = False
    """Since 10: the join rule ``knock_restricted``."""
    integer_power_levels: bool = False
    """Since 10: power levels are integers; before, they may be written as strings."""
    creator_in_content: bool = True
    """Until 10: ``content.creator`` of ``m.room.create`` names the creator, since then its sender is the one."""
    redacts_in_content: bool = False
    """Since 11: ``redacts`` of ``m.room.redaction`` stands in the content."""
    room_id_is_create_event_id: bool = False
    """Since 12: the room ID is the ID of ``m.room.create``, which itself bears none and is in no ``auth_events``."""
    privileged_creators: bool = False
    """Since 12: the creators, of which there may be several, have infinite power."""
    resolves_from_nothing: bool = False
    """Since 12: state resolution 2.1, from the empty state and over the conflicted state subgraph."""
    tombstone_level: int | None = None
    """Since 12: what the initial power levels require for ``m.room.tombstone``; null: nothing special."""


def _keys(names: str) -> frozenset[str]:
    return frozenset(names.split())


_TOP_LEVEL_11 = _keys(
    "event_id type room_id sender state_key content hashes signatures depth prev_events auth_events origin_server_ts"
)
_POWER_LEVELS_6 = _keys("ban events events_default kick redact state_default users users_default")

_REDACTION_6 = Redaction(
    top_level=_TOP_LEVEL_11 | _keys("prev_state origin membership"),
    content={
        "m.room.member": _keys("membership"),
        "m.room.create": _keys("creator"),
        "m.room.join_rules": _keys("join_rule"),
        "m.room.power_levels": _POWER_LEVELS_6,
        "m.room.history_visibility": _keys("history_visibility"),
    },
)
_REDACTION_8 = replace(_REDACTION_6, content={**_REDACTION_6.content, "m.room.join_rules": _keys("join_rule allow")})
_REDACTION_9 = replace(
    _REDACTION_8,
    content={**_REDACTION_8.content, "m.room.member": _keys("membership join_authorised_via_users_server")},
)
_REDACTION_11 = Redaction(
    top_level=_TOP_LEVEL_11,
    content={
        **_REDACTION_9.content,
        "m.room.member": _keys("membership join_authorised_via_users_server third_party_invite"),
        "m.room.create": None,
        "m.room.power_levels": _POWER_LEVELS_6 | _keys("invite"),
        "m.room.redaction": _keys("redacts"),
    },
    nested={("m.room.member", "third_party_invite"): _keys("signed")},
)


def _and(before: RoomVersion, identifier: str, **changes: Any) -> RoomVersion:
    return replace(before, identifier=identifier, **changes)


_V6 = RoomVersion("6", _REDACTION_6)
_V7 = _and(_V6, "7", knocking=True)
_V8 = _and(_V7, "8", restricted_joins=True, redaction=_REDACTION_8)
_V9 = _and(_V8, "9", redaction=_REDACTION_9)
_V10 = _and(_V9, "10", knock_restricted_joins=True, integer_power_levels=True)
_V11 = _and(_V10, "11", redaction=_REDACTION_11, creator_in_content=False, redacts_in_content=True)
_V12 = _and(
    _V11,
    "12",
    room_id_is_create_event_id=True,
    privileged_creators=True,
    resolves_from_nothing=True,
    tombstone_level=150,
)

VERSIONS: Mapping[str, RoomVersion] = MappingProxyType(
    {version.identifier: version for version in (_V6, _V7, _V8, _V9, _V10, _V11, _V12)}
)


def room_version(identifier: str) -> RoomVersion:
    """Raises ``UnsupportedRoomVersion``."""
    try:
        return VERSIONS[identifier]
    except (KeyError, TypeError):
        raise UnsupportedRoomVersion("This server does not support the room version") from None
