"""The beginning of a room of ours."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.auth_rules import authorise
from identity_server.homeserver.events.event import CREATE
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.timeline.append import write
from identity_server.homeserver.timeline.build import Draft, build
from identity_server.homeserver.timeline.room import LockedRoom, add_room
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.runtime.tokens import Entropy

_LOCALPART_LENGTH = 18


async def start_room(
    session: AsyncSession,
    timeline: Timeline,
    creator: str,
    content: dict[str, Any],
    version: RoomVersion,
    *,
    entropy: Entropy,
    now_ms: int,
    room_id: str | None = None,
) -> StoredEvent:
    """The ``m.room.create`` event of a new room, which nobody is in yet. Raises ``NotAllowed``, ``InvalidEvent``.

    ``room_id``: one of ``draw_room_id``, if it had to be known before; from room version 12 on it follows the event.
    """
    room_id = room_id or draw_room_id(timeline, entropy)
    room = LockedRoom(room_id, version, None, {})
    draft = Draft(room_id, CREATE[0], creator, content, state_key="")
    event = build(timeline, room, draft, {}, now_ms=now_ms)
    authorise(event, {})
    while not await add_room(session, event.room_id, version, now_ms=now_ms):
        # Rooms of version 12 that one user creates alike in the same millisecond would be the same room.
        event = build(timeline, room, draft, {}, now_ms=event.origin_server_ts + 1)
    room = LockedRoom(event.room_id, version, None, {})
    return await write(session, timeline, room, event, before=None, replaces=None, is_ours=True)


def draw_room_id(timeline: Timeline, entropy: Entropy) -> str:
    """A room ID of the room versions until 11."""
    return f"!{entropy.token(_LOCALPART_LENGTH)}:{timeline.server_name}"
