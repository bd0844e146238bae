"""Which events somebody wants to see (Client-Server API, "Filtering": ``RoomEventFilter``)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, false, not_, or_, select

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.timeline.stored import EVENTS
from identity_server.matrix.errors import BadJson

_LISTS = (
    "types",
    "not_types",
    "senders",
    "not_senders",
    "rooms",
    "not_rooms",
    "related_by_senders",
    "related_by_rel_types",
)
_FLAGS = ("lazy_load_members", "include_redundant_members", "unread_thread_notifications")
_MOST_ENTRIES = 1000


@dataclass(frozen=True)
class EventFilter:
    """A missing list (None) admits everything, an empty one nothing; ``contains_url`` None: either way."""

    types: tuple[str, ...] | None = None
    not_types: tuple[str, ...] | None = None
    senders: tuple[str, ...] | None = None
    not_senders: tuple[str, ...] | None = None
    rooms: tuple[str, ...] | None = None
    not_rooms: tuple[str, ...] | None = None
    related_by_senders: tuple[str, ...] | None = None
    related_by_rel_types: tuple[str, ...] | None = None
    contains_url: bool | None = None
    limit: int | None = None
    lazy_load_members: bool = False
    include_redundant_members: bool = False
    unread_thread_notifications: bool = False

    def admits(self, event: Event) -> bool:
        """Whether ``event`` is wanted, as far as it alone can say: by its relations only ``conditions`` sort out."""
        return (
            self.admits_room(event.room_id)
            and self.admits_type(event.type)
            and self.admits_sender(event.sender)
            and (self.contains_url is None or self.contains_url == isinstance(event.content.get("url"), str))
        )

    @property
    def admits_all(self) -> bool:
        """Whether nothing is sorted out in a room that is admitted."""
        return self.contains_url is None and not self.conditions()

    def admits_room(self, room_id: str) -> bool:
        return _is_in(room_id, self.rooms, self.not_rooms, str.__eq__)

    def admits_type(self, event_type: str) -> bool:
        return _is_in(event_type, self.types, self.not_types, _matches)

    def admits_sender(self, sender: str) -> bool:
        return _is_in(sender, self.senders, self.not_senders, str.__eq__)

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same as conditions on rows of ``events``; ``contains_url`` is left to ``admits``."""
        wanted = []
        if self.types is not None:
            wanted.append(or_(false(), *map(_like_type, self.types)))
        wanted += [not_(_like_type(pattern)) for pattern in self.not_types or ()]
        if self.senders is not None:
            wanted.append(EVENTS.c.sender.in_(self.senders))
        if self.not_senders:
            wanted.append(EVENTS.c.sender.not_in(self.not_senders))
        if self.related_by_senders is not None or self.related_by_rel_types is not None:
            child = EVENTS.alias()
            related = [child.c.relates_to == EVENTS.c.event_id, child.c.position.is_not(None)]
            if self.related_by_senders is not None:
                related.append(child.c.sender.in_(self.related_by_senders))
            if self.related_by_rel_types is not None:
                related.append(child.c.relation_type.in_(self.related_by_rel_types))
            wanted.append(select(child.c.event_id).where(and_(*related)).exists())
        return wanted


def read_event_filter(definition: Any) -> EventFilter:
    """``definition``: parsed JSON. Raises ``BadJson`` for what is no filter; unknown keys are passed over."""
    if not isinstance(definition, Mapping):
        raise BadJson("A filter is an object")
    read: dict[str, Any] = {}
    for name in _LISTS:
        if definition.get(name) is not None:
            read[name] = _strings(name, definition[name])
    for name in (*_FLAGS, "contains_url"):
        if definition.get(name) is not None:
            if not isinstance(definition[name], bool):
                raise BadJson(f"{name} of a filter is true or false")
            read[name] = definition[name]
    limit = definition.get("limit")
    if limit is not None:
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise BadJson("limit of a filter is a number")
        read["limit"] = limit
    return EventFilter(**read)


def _strings(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise BadJson(f"{name} of a filter is a list of strings")
    if len(value) > _MOST_ENTRIES:
        raise BadJson(f"{name} of a filter is too long")
    return tuple(value)


def _is_in(value: str, only: Iterable[str] | None, without: Iterable[str] | None, matches: Any) -> bool:
    if any(matches(value, pattern) for pattern in without or ()):
        return False
    return only is None or any(matches(value, pattern) for pattern in only)


def _matches(event_type: str, pattern: str) -> bool:
    """A ``*`` stands for any sequence of characters."""
    first, *others = pattern.split("*")
    if not others:
        return event_type == pattern
    if not event_type.startswith(first) or len(event_type) < len(first) + len(others[-1]):
        return False
    end = len(event_type) - len(others[-1])
    if event_type[end:] != others[-1]:
        return False
    start = len(first)
    for part in others[:-1]:
        found = event_type.find(part, start, end)
        if found < 0:
            return False
        start = found + len(part)
    return True


def _like_type(pattern: str) -> ColumnElement[bool]:
    if "*" not in pattern:
        return EVENTS.c.type == pattern
    parts = (part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") for part in pattern.split("*"))
    return EVENTS.c.type.like("%".join(parts), escape="\\")
