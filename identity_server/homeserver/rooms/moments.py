"""Finding what was said at a time (Client-Server API, GET /timestamp_to_event)."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.rooms.rights import view_of
from identity_server.homeserver.timeline.history import nearest_in_time
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.homeserver.timeline.visibility import visible_events

_AT_ONCE = 50
_MOST_ROUNDS = 20


async def event_near(
    session: AsyncSession, timeline: Timeline, room_id: str, user_id: str, ts: int, *, backwards: bool
) -> dict[str, Any] | None:
    """``event_id`` and ``origin_server_ts`` of the nearest event that the user may see. Raises ``Forbidden``."""
    await view_of(session, room_id, user_id)
    for done in range(_MOST_ROUNDS):
        events = await nearest_in_time(session, room_id, ts, backwards=backwards, limit=_AT_ONCE, skip=done * _AT_ONCE)
        seen = await visible_events(session, timeline.groups, room_id, events, user_id)
        if seen:
            return {"event_id": seen[0].event_id, "origin_server_ts": seen[0].event.origin_server_ts}
        if len(events) < _AT_ONCE:
            break
    return None
