"""Wanting to hear no more of a room (Client-Server API, "Leaving rooms")."""

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.members import set_forgotten
from identity_server.matrix.errors import MatrixError, NotFound


async def forget_room(session: AsyncSession, room_id: str, user_id: str) -> None:
    """Raises ``NotFound`` for a room that the user never had to do with, ``MatrixError`` for one they are still in."""
    membership = await store.membership(session, room_id, user_id)
    if membership is None:
        raise NotFound("You were never in the room")
    if membership not in ("leave", "ban"):
        raise MatrixError("You have not left the room")
    await set_forgotten(session, room_id, user_id)
