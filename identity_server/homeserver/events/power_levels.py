"""Who may do what in a room (Client-Server API, "m.room.power_levels"; "Required Power Level" and its like)."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.versions import RoomVersion

Level = int | float
"""A power level: an integer, or infinity for the creators of a room of version 12."""

DEFAULTS: Mapping[str, int] = {
    "users_default": 0,
    "events_default": 0,
    "state_default": 50,
    "ban": 50,
    "redact": 50,
    "kick": 50,
    "invite": 0,
}
_DEFAULT_NOTIFICATION = 50
_CREATOR_LEVEL = 100

# "m.room.power_levels events accept values as strings" (until room version 9).
_INTEGER = re.compile(r"\s*([+-]?[0-9]{1,32})\s*")


def read_level(value: Any, version: RoomVersion) -> int | None:
    """The level that ``value`` stands for in this room version; null if it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and not version.integer_power_levels:
        integer = _INTEGER.fullmatch(value)
        return int(integer[1]) if integer else None
    return None


def creators(create: Event) -> frozenset[str]:
    """The users who created the room: one, or from version 12 on perhaps several."""
    if create.version.creator_in_content:
        creator = create.content.get("creator")
        return frozenset([creator] if isinstance(creator, str) else [])
    if not create.version.privileged_creators:
        return frozenset([create.sender])
    additional = create.content.get("additional_creators")
    named = additional if isinstance(additional, list) else []
    return frozenset([create.sender, *(user_id for user_id in named if isinstance(user_id, str))])


class PowerLevels:
    """What the state says: by its ``m.room.create`` and ``m.room.power_levels`` events, either of which may be missing.

    What is no level counts as not being there.
    """

    def __init__(self, create: Event | None, power_levels: Event | None) -> None:
        some = power_levels or create
        self._version = some.version if some else None
        self._content: Mapping[str, Any] = power_levels.content if power_levels else {}
        self._is_set = power_levels is not None
        self._creators = creators(create) if create else frozenset[str]()
        self._privileged = create is not None and create.version.privileged_creators

    def of(self, user_id: str) -> Level:
        """The power level of a user, whether in the room or not."""
        if user_id in self._creators:
            if self._privileged:
                return math.inf
            if not self._is_set:
                return _CREATOR_LEVEL
        level = self._entry("users", user_id)
        return self._named("users_default") if level is None else level

    def needed_for(self, event_type: str, is_state: bool) -> int:
        """The required power level of an event type."""
        level = self._entry("events", event_type)
        if level is None:
            return self._named("state_default" if is_state else "events_default")
        return level

    @property
    def invite(self) -> int:
        return self._named("invite")

    @property
    def kick(self) -> int:
        return self._named("kick")

    @property
    def ban(self) -> int:
        return self._named("ban")

    @property
    def redact(self) -> int:
        """What is required to redact others' events."""
        return self._named("redact")

    @property
    def notifications(self) -> Mapping[str, int]:
        """What is required to notify, by what is notified; ``room`` is always among them."""
        return {"room": _DEFAULT_NOTIFICATION, **dict(self._entries("notifications"))}

    def _named(self, name: str) -> int:
        level = self._read(self._content.get(name))
        return DEFAULTS[name] if level is None else level

    def _entry(self, name: str, key: str) -> int | None:
        entries = self._content.get(name)
        return self._read(entries.get(key)) if isinstance(entries, Mapping) else None

    def _entries(self, name: str) -> Iterator[tuple[str, int]]:
        entries = self._content.get(name)
        if isinstance(entries, Mapping):
            for key, value in entries.items():
                level = self._read(value)
                if level is not None:
                    yield key, level

    def _read(self, value: Any) -> int | None:
        return None if value is None or self._version is None else read_level(value, self._version)
