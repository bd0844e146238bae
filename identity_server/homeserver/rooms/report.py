"""What users bring to the attention of whoever runs the server (Client-Server API, "Reporting Content")."""

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.rooms.models import Report
from identity_server.homeserver.timeline import store
from identity_server.matrix.errors import NotFound


async def report_room(session: AsyncSession, reporter: str, room_id: str, reason: str | None, *, now_ms: int) -> None:
    """Raises ``NotFound``."""
    if await store.find_room(session, room_id) is None:
        raise NotFound("Room not found")
    session.add(Report(reporter, room_id, room_id, reason, None, now_ms))


async def report_event(
    session: AsyncSession,
    reporter: str,
    room_id: str,
    event_id: str,
    reason: str | None,
    score: int | None,
    *,
    now_ms: int,
) -> None:
    """Raises ``NotFound`` for an event that there is not, or in a room that the reporter is not in."""
    stored = await store.get_event(session, event_id)
    if stored is None or stored.event.room_id != room_id:
        raise NotFound("Event not found")
    if await store.membership(session, room_id, reporter) != store.JOIN:
        raise NotFound("Event not found")
    session.add(Report(reporter, event_id, room_id, reason, score, now_ms))


async def report_user(session: AsyncSession, reporter: str, user_id: str, reason: str, *, now_ms: int) -> None:
    """Of users who there may not be it is not told that there are none."""
    session.add(Report(reporter, user_id, None, reason, None, now_ms))
