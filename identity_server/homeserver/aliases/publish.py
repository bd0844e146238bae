"""Which rooms stand in our directory (Client-Server API, "Published room directory")."""

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.aliases import store
from identity_server.homeserver.aliases.change import may_name
from identity_server.homeserver.timeline import store as timeline_store
from identity_server.matrix.errors import Forbidden, NotFound


async def set_published(session: AsyncSession, room_id: str, user_id: str, *, published: bool, now_ms: int) -> None:
    """Raises ``NotFound``, and ``Forbidden`` unless the user may say what the room is called."""
    if await timeline_store.find_room(session, room_id) is None:
        raise NotFound("Room not found")
    if not await may_name(session, room_id, user_id):
        raise Forbidden("You may not change whether the room is published")
    if published:
        await store.publish(session, room_id, now_ms=now_ms)
    else:
        await store.withdraw(session, room_id)
