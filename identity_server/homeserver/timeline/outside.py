"""Memberships in rooms that we are not in: invitations from elsewhere, knocks, and what becomes of them."""

from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.streams import advance
from identity_server.homeserver.timeline.members import membership_values, put_memberships
from identity_server.homeserver.timeline.rows import put_outliers
from identity_server.homeserver.timeline.timeline import Timeline


async def put_outside_membership(
    session: AsyncSession,
    timeline: Timeline,
    event: Event,
    *,
    stripped_state: list[dict[str, Any]] | None = None,
) -> int:
    """Note what the ``m.room.member`` event says of its user, with the stripped state that came along; its position."""
    user_id = event.state_key
    assert user_id is not None  # it is state
    await put_outliers(session, [event])
    position = await advance(session, timeline.streams, event.room_id, user_id)
    stripped = None if stripped_state is None else orjson.dumps(stripped_state).decode()
    await put_memberships(session, [membership_values(event, user_id, position, stripped_state=stripped)])
    return position
