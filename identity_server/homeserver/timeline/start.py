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
) -> StoredEvent:
    """The ``m.room.create`` event of a new room, which nobody is in yet. Raises ``NotAllowed``, ``InvalidEvent``."""
    room_id = f"!{entropy.token(_LOCALPART_LENGTH)}:{timeline.server_name}"
    room = LockedRoom(room_id, version, None, {})
    draft = Draft(room_id, CREATE[0], creator, content, state_key="")
    event = build(timeline, room, draft, {}, now_ms=now_ms)
    authorise(event, {})
    await add_room(session, event.room_id, version, now_ms=now_ms)
    room = LockedRoom(event.room_id, version, None, {})
    return await write(session, timeline, room, event, before=None, replaces=None, is_ours=True)
