"""What is shown of a room to those who are not in it (Client-Server API, "Stripped state")."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event, member
from identity_server.homeserver.timeline import store

_SHOWN = (
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
)


def stripped_event(event: Event) -> dict[str, Any]:
    return {
        "type": event.type,
        "state_key": event.state_key,
        "sender": event.sender,
        "content": dict(event.content),
    }


async def shown_state(session: AsyncSession, room_id: str, sender: str | None = None) -> list[Event]:
    """The state events that are shown; with the membership of ``sender``, if somebody invites."""
    keys = {(type_, "") for type_ in _SHOWN} | ({member(sender)} if sender else set())
    found = await store.current_events(session, room_id, keys)
    return [found[key] for key in sorted(found)]


async def stripped_state(session: AsyncSession, room_id: str, sender: str | None = None) -> list[dict[str, Any]]:
    """As ``shown_state``, in the form of ``invite_state`` and ``knock_state``."""
    return [stripped_event(event) for event in await shown_state(session, room_id, sender)]
