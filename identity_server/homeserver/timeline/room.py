"""A room with its writer: whoever holds its row locked (one writer per room)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Table, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.versions import RoomVersion, room_version
from identity_server.homeserver.timeline.models import ForwardExtremity, Room
from identity_server.homeserver.timeline.stored import EVENTS
from identity_server.matrix.errors import NotFound
from identity_server.runtime.database import insert

ROOMS = cast(Table, Room.__table__)
EXTREMITIES = cast(Table, ForwardExtremity.__table__)

# Every event that is sent asks for these: they are made once.
_LOCK = select(ROOMS.c.version, ROOMS.c.state_group).where(ROOMS.c.room_id == bindparam("room_id")).with_for_update()
_TIPS = (
    select(EVENTS.c.event_id, EVENTS.c.depth)
    .join_from(EXTREMITIES, EVENTS, EVENTS.c.event_id == EXTREMITIES.c.event_id)
    .where(EXTREMITIES.c.room_id == bindparam("room_id"))
)


@dataclass(frozen=True)
class LockedRoom:
    """``state_group``: the current state. ``extremities``: the forward extremities' depths by event ID."""

    room_id: str
    version: RoomVersion
    state_group: int | None
    extremities: Mapping[str, int]


async def lock_room(session: AsyncSession, room_id: str) -> LockedRoom:
    """The room, which nobody else writes to until the transaction ends. Raises ``NotFound``.

    Lest two wait for one another: who has taken a position of the stream locks no room any more that others may hold.
    """
    this = {"room_id": room_id}
    row = (await session.execute(_LOCK, this)).one_or_none()
    if row is None:
        raise NotFound("Unknown room")
    # Only now, so that it is seen what the last writer left.
    tips = await session.execute(_TIPS, this)
    return LockedRoom(room_id, room_version(row.version), row.state_group, {tip.event_id: tip.depth for tip in tips})


async def add_room(session: AsyncSession, room_id: str, version: RoomVersion, *, now_ms: int) -> bool:
    """Know of the room, unless it is known already: whether it is new. Its events are still to come."""
    row = {"room_id": room_id, "version": version.identifier, "state_group": None, "created_ts": now_ms}
    statement = insert(session, Room).values(row).on_conflict_do_nothing().returning(Room.room_id)
    return await session.scalar(statement) is not None
