"""The one writer of a room's history: where every event ends up, ours or others'."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event, StateMap
from identity_server.homeserver.streams import FEDERATION, advance
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.current import Changes, follow_state, state_changes
from identity_server.homeserver.timeline.extremities import put_extremities, tips_after
from identity_server.homeserver.timeline.members import MEMBER, follow_members
from identity_server.homeserver.timeline.redactions import apply_redaction, holds, redactions_of
from identity_server.homeserver.timeline.room import ROOMS, LockedRoom, lock_room
from identity_server.homeserver.timeline.rows import place_event, put_event
from identity_server.homeserver.timeline.state import resolved_group
from identity_server.homeserver.timeline.stored import ACCEPTED, EVENTS, OUTLIER, REJECTED, StoredEvent
from identity_server.homeserver.timeline.timeline import Timeline

_SET_CURRENT = update(ROOMS).where(ROOMS.c.room_id == bindparam("of_room")).values(state_group=bindparam("current"))


async def append(
    session: AsyncSession,
    timeline: Timeline,
    event: Event,
    *,
    state_before: StateMap | int | None,
    standing: str = ACCEPTED,
    is_ours: bool = False,
    backfilled: bool = False,
    anew: bool = False,
    relayed: bool = False,
    at: tuple[LockedRoom, StoredEvent | None] | None = None,
) -> int | None:
    """Write an event of another server into its room; its position, None if it has none (see ``StoredEventRow``).

    ``is_ours``: it is one of ours, which another server had to sign too.
    ``state_before``: the state that it was sent upon, or the state group of it; all its events must be stored.
    ``backfilled``: it is from before what we have, and touches neither the room's end nor its current state.
    ``anew``: we were away and come back with it, so that the room ends with this event alone.
    ``relayed``: it came through us into the room, and it is for us to tell the room's other servers of it.
    ``at``: the room, if it is locked already, and what is stored of the event.
    An event that is known already, other than as an outlier, stays as it is. Raises ``NotFound`` for unknown rooms.
    """
    room, known = at or (await lock_room(session, event.room_id), await store.get_event(session, event.event_id))
    if known is not None and known.standing != OUTLIER and (known.standing, known.state_group) != (REJECTED, None):
        return known.position
    if isinstance(state_before, Mapping):
        before: int | None = await timeline.groups.group_of(session, room.room_id, state_before, near=room.state_group)
    else:
        before = state_before
    replaces = (await timeline.groups.state_of(session, before)).get(event.key) if event.is_state else None
    stored = await write(
        session,
        timeline,
        room,
        event,
        before=before,
        replaces=replaces,
        standing=standing,
        is_ours=is_ours,
        backfilled=backfilled,
        anew=anew,
        relayed=relayed,
        known=known,
    )
    for redaction in await redactions_of(session, event.event_id):
        await _redact_late(session, timeline, redaction, stored)
    return stored.position


async def write(
    session: AsyncSession,
    timeline: Timeline,
    room: LockedRoom,
    event: Event,
    *,
    before: int | None,
    replaces: str | None,
    standing: str = ACCEPTED,
    is_ours: bool = False,
    sent_by: tuple[str, str] | None = None,
    backfilled: bool = False,
    anew: bool = False,
    relayed: bool = False,
    known: StoredEvent | None = None,
) -> StoredEvent:
    """Write an event upon the state group ``before`` into the locked room, and what follows from it.

    ``replaces``: the event ID that stands under its key so far. ``known``: the outlier that it was.
    """
    groups = timeline.groups
    after = before
    if event.is_state and standing != REJECTED:
        after = await groups.add(session, room.room_id, before, {event.key: event.event_id})
    tips, current = room.extremities, room.state_group
    changes: Changes = {}
    if standing == ACCEPTED and not backfilled:
        tips = await tips_after(session, room, event, is_ours=is_ours, anew=anew)
        current = await _current_group(session, timeline, room, event, after, tips)
        if before == room.state_group and current == after:
            changes = {event.key: event.event_id} if event.is_state else {}
        else:
            changes = await state_changes(session, groups, room.state_group, current)
    target = await store.get_event(session, event.redacts) if event.redacts else None
    # A redaction is not shown before it is known to hold ("Handling redactions"). Ours were checked.
    redacts = target is not None and (is_ours or await holds(session, groups, event, target.event, before))
    is_shown = standing == ACCEPTED and (redacts or is_ours or not event.redacts)

    # What has a position is told to others. Nobody else can take one from here to the end, so it comes late.
    topics = {room.room_id, *(key for type_, key in changes if type_ == MEMBER)}
    if is_ours or relayed:
        topics.add(FEDERATION)
    position = None
    if is_shown and backfilled:
        position = await _position_before_all(session, room.room_id)
    elif is_shown:
        position = await advance(session, timeline.streams, *topics)
    stored = StoredEvent(
        event, position, standing, after, is_ours or relayed, None, replaces, *(sent_by or (None, None))
    )
    await (place_event(session, stored) if known else put_event(session, stored))
    if target is not None and redacts and is_shown:
        await apply_redaction(session, event.event_id, target)
    if tips is not room.extremities:
        await put_extremities(session, room, tips)
    if current != room.state_group:
        await session.execute(_SET_CURRENT, {"of_room": room.room_id, "current": current})
    if changes:
        since = await advance(session, timeline.streams, *topics) if position is None else position
        await follow_state(session, room.room_id, changes, since)
        known_events = {event.event_id: event}
        await follow_members(session, room.room_id, changes, known_events, since, timeline.server_name)
    return stored


async def _current_group(
    session: AsyncSession,
    timeline: Timeline,
    room: LockedRoom,
    event: Event,
    after: int | None,
    tips: Mapping[str, int],
) -> int | None:
    """The state group after all forward extremities, of which ``event`` may be one, with ``after`` after it."""
    others = [tip for tip in tips if tip != event.event_id]
    if not others:
        return after
    if event.event_id not in tips and tips.keys() == room.extremities.keys():
        return room.state_group
    rows = await session.scalars(select(EVENTS.c.state_group).where(EVENTS.c.event_id.in_(others)))
    forks = {group for group in rows if group is not None}
    if event.event_id in tips and after is not None:
        forks.add(after)
    return await resolved_group(session, timeline.groups, room.room_id, room.version, sorted(forks), new=event)


async def _position_before_all(session: AsyncSession, room_id: str) -> int:
    first: int | None = await session.scalar(select(func.min(EVENTS.c.position)).where(EVENTS.c.room_id == room_id))
    return min(first or 0, 0) - 1


async def _redact_late(session: AsyncSession, timeline: Timeline, redaction: StoredEvent, target: StoredEvent) -> None:
    """Apply a redaction that came before ``target``, if it holds; only now it is shown."""
    if not await holds(session, timeline.groups, redaction.event, target.event, redaction.state_group):
        return
    await apply_redaction(session, redaction.event_id, target)
    position: Any = await advance(session, timeline.streams, redaction.event.room_id)
    values = {"position": position}
    await session.execute(update(EVENTS).where(EVENTS.c.event_id == redaction.event_id).values(values))
