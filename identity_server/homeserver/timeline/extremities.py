"""The ends of a room's graph (Server-Server API, "PDUs": forward extremities)."""

from collections.abc import Collection, Mapping
from typing import cast

from sqlalchemy import Table, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.timeline.models import EventEdge
from identity_server.homeserver.timeline.room import EXTREMITIES, LockedRoom
from identity_server.homeserver.timeline.stored import ACCEPTED, EVENTS, OUTLIER
from identity_server.runtime.database import in_chunks

EDGES = cast(Table, EventEdge.__table__)

_MOVE = (
    update(EXTREMITIES)
    .where(EXTREMITIES.c.room_id == bindparam("of_room"), EXTREMITIES.c.event_id == bindparam("gone"))
    .values(event_id=bindparam("new"))
)


async def tips_after(
    session: AsyncSession, room: LockedRoom, event: Event, *, is_ours: bool, anew: bool
) -> Mapping[str, int]:
    """The forward extremities once ``event`` is accepted, with their depths."""
    tip = {event.event_id: event.depth}
    if anew:
        return tip
    parents: Collection[str] = event.prev_events
    if is_ours:
        return {**{tip_id: depth for tip_id, depth in room.extremities.items() if tip_id not in parents}, **tip}
    behind = set(parents) | await _behind_refused(session, parents)
    tips = {tip_id: depth for tip_id, depth in room.extremities.items() if tip_id not in behind}
    return tips if await _is_parent(session, event.event_id) else {**tips, **tip}


async def put_extremities(session: AsyncSession, room: LockedRoom, tips: Mapping[str, int]) -> None:
    gone = [tip for tip in room.extremities if tip not in tips]
    new = [tip for tip in tips if tip not in room.extremities]
    of_room = EXTREMITIES.c.room_id == room.room_id
    if len(gone) == len(new) == 1:
        await session.execute(_MOVE, {"of_room": room.room_id, "gone": gone[0], "new": new[0]})
        return
    for chunk in in_chunks(gone):
        await session.execute(delete(EXTREMITIES).where(of_room, EXTREMITIES.c.event_id.in_(chunk)))
    if new:
        await session.execute(EXTREMITIES.insert(), [{"room_id": room.room_id, "event_id": tip} for tip in new])


async def _is_parent(session: AsyncSession, event_id: str) -> bool:
    """Whether an event that was accepted before names it as a parent."""
    statement = (
        select(EDGES.c.event_id)
        .join_from(EDGES, EVENTS, EVENTS.c.event_id == EDGES.c.event_id)
        .where(EDGES.c.prev_event_id == event_id, EVENTS.c.standing == ACCEPTED)
    )
    return await session.scalar(statement.limit(1)) is not None


async def _behind_refused(session: AsyncSession, event_ids: Collection[str]) -> set[str]:
    """The parents of those events that are rejected or soft-failed, and of such parents in turn.

    An event that builds on one of those builds on what is behind it too.
    """
    behind: set[str] = set()
    pending = set(event_ids)
    while pending:
        refused = (
            select(EDGES.c.prev_event_id)
            .join_from(EDGES, EVENTS, EVENTS.c.event_id == EDGES.c.event_id)
            .where(EDGES.c.event_id.in_(pending), EVENTS.c.standing.not_in((ACCEPTED, OUTLIER)))
        )
        pending = set(await session.scalars(refused)) - behind
        behind |= pending
    return behind
