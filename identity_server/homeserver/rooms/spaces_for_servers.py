"""A space and the rooms in it, as far as another server's users could come in (Server-Server API, "Spaces")."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.rooms.spaces import described
from identity_server.homeserver.rooms.summaries import Summary
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.models import Membership
from identity_server.matrix.errors import NotFound

_OPEN = ("public", "knock", "knock_restricted")
_MOST_CHILDREN = 500


async def hierarchy(
    session: AsyncSession, server_name: str, origin: str, room_id: str, *, suggested_only: bool
) -> dict[str, Any]:
    """The room, its children, and those children that ``origin`` has no way into. Raises ``NotFound``."""
    room = await _seen_by(session, server_name, origin, room_id, suggested_only)
    if room is None:
        raise NotFound("Room does not exist.")
    children: list[Summary] = []
    inaccessible: list[str] = []
    for state in room["children_state"][:_MOST_CHILDREN]:
        child_id = state["state_key"]
        if not await store.is_server_in_room(session, child_id, server_name):
            continue
        child = await _seen_by(session, server_name, origin, child_id, suggested_only)
        if child is None:
            inaccessible.append(child_id)
        else:
            children.append(child)
    return {"room": room, "children": children, "inaccessible_children": inaccessible}


async def _seen_by(
    session: AsyncSession, server_name: str, origin: str, room_id: str, suggested_only: bool
) -> Summary | None:
    if not await store.is_server_in_room(session, room_id, server_name):
        return None
    room = await described(session, room_id, suggested_only=suggested_only)
    return room if room and await _may_see(session, room, origin) else None


async def _may_see(session: AsyncSession, room: Summary, origin: str) -> bool:
    if room["world_readable"] or room["join_rule"] in _OPEN:
        return True
    for allowed in (room["room_id"], *room.get("allowed_room_ids", ())):
        if await store.is_server_in_room(session, allowed, origin):
            return True
    invited = (Membership.room_id == room["room_id"]) & (Membership.membership == "invite")
    statement = select(Membership.user_id).where(invited, Membership.server_name == origin).limit(1)
    return await session.scalar(statement) is not None
