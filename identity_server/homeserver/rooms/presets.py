"""How a room begins (Client-Server API, POST /createRoom)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from identity_server.homeserver.events.versions import RoomVersion

StateEvent = tuple[str, str, dict[str, Any]]
"""Type, state key and content."""

TRUSTED = "trusted_private_chat"


@dataclass(frozen=True)
class _Preset:
    join_rule: str
    history_visibility: str
    guest_access: str | None
    """``forbidden``, where it is not said."""


_PRESETS = {
    "private_chat": _Preset("invite", "shared", "can_join"),
    TRUSTED: _Preset("invite", "shared", "can_join"),
    "public_chat": _Preset("public", "shared", None),
}

# What only who rules the room may change, although it is state like other state.
_PROTECTED = {
    "m.room.name": 50,
    "m.room.power_levels": 100,
    "m.room.history_visibility": 100,
    "m.room.canonical_alias": 50,
    "m.room.avatar": 50,
    "m.room.tombstone": 100,
    "m.room.server_acl": 100,
    "m.room.encryption": 100,
}


def preset_events(preset: str) -> Iterator[StateEvent]:
    """The state that the preset stands for, in the specification's order."""
    chosen = _PRESETS[preset]
    yield "m.room.join_rules", "", {"join_rule": chosen.join_rule}
    yield "m.room.history_visibility", "", {"history_visibility": chosen.history_visibility}
    if chosen.guest_access is not None:
        yield "m.room.guest_access", "", {"guest_access": chosen.guest_access}


def initial_power_levels(
    version: RoomVersion, creator: str, invited: list[str], *, preset: str, override: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of the first ``m.room.power_levels``. ``invited``: who is as powerful as the creator if trusted."""
    events = dict(_PROTECTED)
    if version.tombstone_level is not None:
        events["m.room.tombstone"] = version.tombstone_level
    users: dict[str, int] = {}
    if not version.privileged_creators:  # they stand in m.room.create, and must not stand here
        users[creator] = 100
        if preset == TRUSTED:
            users.update(dict.fromkeys(invited, 100))
    return {
        "users": users,
        "users_default": 0,
        "events": events,
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 50 if preset == "public_chat" else 0,
        **override,
    }
