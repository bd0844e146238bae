"""Rooms in a few words: in the directory, in spaces, and on their own ("PublishedRoomsChunk", "RoomSummary")."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.visibility import visibility_of

_SAID = {
    "m.room.name": ("name", "name"),
    "m.room.canonical_alias": ("alias", "canonical_alias"),
    "m.room.avatar": ("url", "avatar_url"),
}
_TYPES = (
    *_SAID,
    "m.room.create",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.encryption",
)

Summary = dict[str, Any]


async def summaries(session: AsyncSession, room_ids: Sequence[str]) -> dict[str, Summary]:
    """By room ID, of rooms whose state we know."""
    states = await store.current_events_in(session, room_ids, _TYPES)
    counts = await store.count_members(session, room_ids)
    return {
        room_id: _summary(room_id, state, counts.get(room_id, 0))
        for room_id, state in states.items()
        if "m.room.create" in state
    }


def published(summary: Summary) -> Summary:
    """What the directory says of a room."""
    return {
        name: value for name, value in summary.items() if name not in ("allowed_room_ids", "encryption", "room_version")
    }


def _summary(room_id: str, state: Mapping[str, Event], joined: int) -> Summary:
    create, rules = state["m.room.create"], state.get("m.room.join_rules")
    guests = state.get("m.room.guest_access")
    summary: Summary = {
        "room_id": room_id,
        "num_joined_members": joined,
        "world_readable": visibility_of(state.get("m.room.history_visibility")) == "world_readable",
        "guest_can_join": guests is not None and guests.content.get("guest_access") == "can_join",
        "join_rule": _text(rules, "join_rule") or "invite",
        "room_version": create.version.identifier,
    }
    said = {name: _text(state.get(type_), field) for type_, (field, name) in _SAID.items()}
    said["topic"] = topic_of(state.get("m.room.topic"))
    said["room_type"] = _text(create, "type")
    said["encryption"] = _text(state.get("m.room.encryption"), "algorithm")
    summary.update({name: value for name, value in said.items() if value})
    allowed = allowed_rooms(rules)
    if allowed:
        summary["allowed_room_ids"] = allowed
    return summary


def allowed_rooms(rules: Event | None) -> list[str]:
    """The rooms whose members may join, of a room that lets them in."""
    if rules is None or rules.content.get("join_rule") not in ("restricted", "knock_restricted"):
        return []
    allow = rules.content.get("allow")
    conditions = [entry for entry in allow if isinstance(entry, Mapping)] if isinstance(allow, list) else []
    rooms = [entry.get("room_id") for entry in conditions if entry.get("type") == "m.room_membership"]
    return [room_id for room_id in rooms if isinstance(room_id, str) and "\0" not in room_id]


def topic_of(event: Event | None) -> str | None:
    """The plain text of ``m.room.topic``."""
    if event is None:
        return None
    rich = event.content.get("m.topic")
    forms = rich.get("m.text") if isinstance(rich, Mapping) else None
    for form in forms if isinstance(forms, list) else ():
        if isinstance(form, Mapping) and form.get("mimetype", "text/plain") == "text/plain":
            body = form.get("body")
            if isinstance(body, str):
                return body
    return _text(event, "topic")


def _text(event: Event | None, field: str) -> str | None:
    value = event.content.get(field) if event else None
    return value if isinstance(value, str) else None
