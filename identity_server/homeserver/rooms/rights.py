"""Who may read what of a room (Client-Server API, "Room History Visibility")."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event, StateKey
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.visibility import HISTORY_VISIBILITY, visibility_of
from identity_server.matrix.errors import Forbidden

_WERE_THERE = ("leave", "ban")


@dataclass(frozen=True)
class View:
    """What of the room a user sees: all of it as it is now, or as it was at position ``until``, when they left."""

    room_id: str
    user_id: str
    until: int | None = None

    async def state_ids(self, session: AsyncSession, types: Collection[str] | None = None) -> dict[StateKey, str]:
        """The state, or what it holds of these types."""
        if self.until is not None:
            return await store.state_at_position(session, self.room_id, self.until, types)
        if types is None:
            return await store.current_state_ids(session, self.room_id)
        current = await store.current_state(session, self.room_id, types)
        return {key: event.event_id for key, event in current.items()}

    async def state_event(self, session: AsyncSession, key: StateKey) -> Event | None:
        if self.until is None:
            return await store.state_event(session, self.room_id, *key)
        event_id = (await store.state_at_position(session, self.room_id, self.until, [key[0]])).get(key)
        stored = await store.get_event(session, event_id) if event_id else None
        return stored.event if stored else None


async def view_of(session: AsyncSession, room_id: str, user_id: str) -> View:
    """What the user sees: who is there, was there, or may look in as everybody may. Raises ``Forbidden``."""
    row = await store.membership_row(session, room_id, user_id)
    if row is not None and row.membership == store.JOIN:
        return View(room_id, user_id)
    if await is_world_readable(session, room_id):
        return View(room_id, user_id)
    if row is not None and row.membership in _WERE_THERE and not row.forgotten:
        return View(room_id, user_id, until=row.position)
    raise Forbidden("You are not in the room")


async def is_world_readable(session: AsyncSession, room_id: str) -> bool:
    return visibility_of(await store.state_event(session, room_id, *HISTORY_VISIBILITY)) == "world_readable"


async def require_joined(session: AsyncSession, room_id: str, user_id: str) -> None:
    """Raises ``Forbidden``, also for rooms that there are not: who is not in a room learns nothing of it."""
    if await store.membership(session, room_id, user_id) != store.JOIN:
        raise Forbidden("You are not in the room")
