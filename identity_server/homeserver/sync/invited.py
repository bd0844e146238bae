"""Rooms that the user is invited to, or has knocked on: what is shown of them ("Stripped state")."""

from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data.invite_permission import blocks_invites
from identity_server.homeserver.sync.standing import Rooms
from identity_server.homeserver.sync.store import Standing
from identity_server.homeserver.timeline import store as timeline
from identity_server.homeserver.timeline.stripped import stripped_event


async def invited_rooms(session: AsyncSession, rooms: Rooms, user_id: str) -> dict[str, dict[str, Any]]:
    # "Invite events for this user already in the database ... MUST NOT be served" ("Invite permission").
    if not rooms.invited or await blocks_invites(session, user_id):
        return {}
    return {row.room_id: {"invite_state": await _shown(session, row, user_id)} for row in rooms.invited}


async def knocked_rooms(session: AsyncSession, rooms: Rooms, user_id: str) -> dict[str, dict[str, Any]]:
    return {row.room_id: {"knock_state": await _shown(session, row, user_id)} for row in rooms.knocked}


async def _shown(session: AsyncSession, row: Standing, user_id: str) -> dict[str, Any]:
    """With the membership itself, wherever the rest came from."""
    events: list[dict[str, Any]] = orjson.loads(row.stripped_state) if row.stripped_state else []
    own = ("m.room.member", user_id)
    if not any((event.get("type"), event.get("state_key")) == own for event in events):
        stored = await timeline.get_event(session, row.event_id)
        if stored is not None:
            events.append(stripped_event(stored.event))
    return {"events": events}
