"""What of /sync a client wants (Client-Server API, "Filtering")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from identity_server.homeserver.timeline.event_filter import EventFilter, read_event_filter
from identity_server.matrix.errors import BadJson

_USUAL_TIMELINE = 20
_LONGEST_TIMELINE = 1_000
_ALL = EventFilter()
_FORMATS = ("client", "federation")
_SIGILS = {"rooms": "!", "not_rooms": "!", "senders": "@", "not_senders": "@"}


@dataclass(frozen=True)
class SyncFilter:
    """``rooms`` says which rooms; ``room_account_data`` and its neighbours what of each.

    ``event_fields``: dotted paths, split; None: all fields.
    """

    rooms: EventFilter = _ALL
    include_leave: bool = False
    state: EventFilter = _ALL
    timeline: EventFilter = _ALL
    ephemeral: EventFilter = _ALL
    room_account_data: EventFilter = _ALL
    account_data: EventFilter = _ALL
    presence: EventFilter = _ALL
    event_fields: tuple[tuple[str, ...], ...] | None = None
    as_federated: bool = False

    @property
    def timeline_limit(self) -> int:
        limit = self.timeline.limit
        return _USUAL_TIMELINE if limit is None else min(limit, _LONGEST_TIMELINE)

    @property
    def lazy(self) -> bool:
        # "Lazy-loading members is only supported on the state part"; clients have set it on the timeline, too.
        return self.state.lazy_load_members


def read_filter(definition: Any) -> SyncFilter:
    """``definition``: parsed JSON. Raises ``BadJson`` for what is no filter; unknown keys are passed over."""
    whole = _object(definition, "A filter")
    room = _object(whole.get("room"), "room")
    return SyncFilter(
        rooms=_events({name: room.get(name) for name in ("rooms", "not_rooms")}, "room"),
        include_leave=_flag(room, "include_leave"),
        state=_events(room.get("state"), "state"),
        timeline=_events(room.get("timeline"), "timeline"),
        ephemeral=_events(room.get("ephemeral"), "ephemeral"),
        room_account_data=_events(room.get("account_data"), "account_data"),
        account_data=_events(whole.get("account_data"), "account_data"),
        presence=_events(whole.get("presence"), "presence"),
        event_fields=_fields(whole.get("event_fields")),
        as_federated=_format(whole.get("event_format")) == "federation",
    )


def keep_fields(event: Mapping[str, Any], fields: Sequence[Sequence[str]]) -> dict[str, Any]:
    """What of ``event`` the paths name."""
    kept: dict[str, Any] = {}
    for path in fields:
        source: Any = event
        for name in path:
            source = source.get(name, _ALL) if isinstance(source, Mapping) else _ALL
        if source is _ALL:
            continue
        target = kept
        for name in path[:-1]:
            target = target.setdefault(name, {})
        target[path[-1]] = source
    return kept


def split_path(path: str) -> tuple[str, ...]:
    """Appendices, "Dot-separated property paths"."""
    names, current, characters = [], "", iter(path)
    for character in characters:
        if character == ".":
            names.append(current)
            current = ""
        elif character == "\\":
            following = next(characters, "")
            current += following if following in (".", "\\") else "\\" + following
        else:
            current += character
    return (*names, current)


def _events(definition: Any, name: str) -> EventFilter:
    if definition is None:
        return _ALL
    read = read_event_filter(_object(definition, name))
    for field, sigil in _SIGILS.items():
        if not all(item.startswith(sigil) for item in getattr(read, field) or ()):
            raise BadJson(f"{field} of a filter holds identifiers that begin with {sigil}")
    return read


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadJson(f"{name} is an object")
    return value


def _flag(room: Mapping[str, Any], name: str) -> bool:
    value = room.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadJson(f"{name} of a filter is true or false")
    return bool(value)


def _fields(value: Any) -> tuple[tuple[str, ...], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
        raise BadJson("event_fields is a list of strings")
    # The longer path last, so that it finds what it goes into.
    return tuple(dict.fromkeys(split_path(path) for path in sorted(value, key=len)))


def _format(value: Any) -> str:
    if value is None:
        return "client"
    if value not in _FORMATS:
        raise BadJson("event_format is client or federation")
    return str(value)
