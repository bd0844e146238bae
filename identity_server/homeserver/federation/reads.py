"""What other servers may know of the rooms that they are in (Server-Server API, "Retrieving events" and its like)."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event, StateKey
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.federation.acl import version_of_our_room
from identity_server.homeserver.federation.outliers import create_id
from identity_server.homeserver.federation.server_visibility import as_seen_by
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.stored import ACCEPTED, EVENTS, OUTLIER, REJECTED, SOFT_FAILED, StoredEvent
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.errors import Forbidden, NotFound
from identity_server.runtime.database import in_chunks

_IN_THE_GRAPH = (ACCEPTED, SOFT_FAILED)


async def check_may_read(session: AsyncSession, timeline: Timeline, origin: str, room_id: str) -> RoomVersion:
    """The room's version.

    Raises ``NotFound`` if we are not in the room, ``Forbidden`` if ``origin`` is not, or is kept out of it.
    """
    version = await version_of_our_room(session, room_id, origin, timeline.server_name)
    if not await store.is_server_in_room(session, room_id, origin):
        raise Forbidden("Your server is not in the room")
    return version


async def event_in(session: AsyncSession, room_id: str, event_id: str) -> StoredEvent:
    """Raises ``NotFound``; what was rejected counts as unknown."""
    stored = await store.get_event(session, event_id)
    if stored is None or stored.event.room_id != room_id or stored.standing == REJECTED:
        raise NotFound("Unknown event")
    return stored


async def single_event(session: AsyncSession, timeline: Timeline, origin: str, event_id: str) -> Event:
    """Raises ``NotFound`` and ``Forbidden``."""
    stored = await store.get_event(session, event_id)
    if stored is None or stored.standing == REJECTED:
        raise NotFound("Unknown event")
    await check_may_read(session, timeline, origin, stored.event.room_id)
    (seen,) = await as_seen_by(session, timeline.groups, origin, [stored])
    return seen


async def state_before(session: AsyncSession, timeline: Timeline, room_id: str, event_id: str) -> dict[StateKey, str]:
    """Raises ``NotFound`` also where we do not know the state at the event."""
    stored = await event_in(session, room_id, event_id)
    if stored.state_group is None:
        raise NotFound("We do not know the state at the event")
    state = dict(await timeline.groups.state_of(session, stored.state_group))
    if stored.event.is_state and state.get(stored.event.key) == event_id:
        state.pop(stored.event.key)
        if stored.replaces_state is not None:
            state[stored.event.key] = stored.replaces_state
    return state


async def auth_chain_ids(
    session: AsyncSession, room_id: str, version: RoomVersion, event_ids: Iterable[str]
) -> list[str]:
    """The auth events of the room's events, and theirs, down to the first: ``m.room.create``, though it is not named
    from room version 12 on. Others need it to check the rest."""
    chain: set[str] = set()
    pending = set(event_ids)
    while pending:
        cited: set[str] = set()
        for chunk in in_chunks(sorted(pending)):
            for (pdu,) in await session.execute(select(EVENTS.c.pdu).where(EVENTS.c.event_id.in_(chunk))):
                cited.update(orjson.loads(pdu)["auth_events"])
        pending = cited - chain
        chain |= cited
    if chain and version.room_id_is_create_event_id:
        chain.add(create_id(room_id))
    return sorted(chain)


async def backfill(
    session: AsyncSession, timeline: Timeline, origin: str, room_id: str, event_ids: Sequence[str], limit: int
) -> list[Event]:
    """The events and what came before them, the latest first."""
    chosen: dict[str, StoredEvent] = {}
    pending = list(dict.fromkeys(event_ids))
    while pending and len(chosen) < limit:
        found = await _in_the_graph(session, room_id, pending, (*_IN_THE_GRAPH, REJECTED))
        latest = sorted(found, key=lambda stored: stored.event.depth, reverse=True)[: limit - len(chosen)]
        for stored in latest:
            chosen[stored.event_id] = stored
        pending = [parent for stored in latest for parent in stored.event.prev_events if parent not in chosen]
    stored_events = [stored for stored in chosen.values() if stored.standing != REJECTED]
    return await as_seen_by(session, timeline.groups, origin, stored_events)


async def missing_events(
    session: AsyncSession,
    timeline: Timeline,
    origin: str,
    room_id: str,
    *,
    latest: Collection[str],
    earliest: Collection[str],
    limit: int,
    min_depth: int,
) -> list[Event]:
    """What lies between, breadth first from the latest; the earliest first."""
    chosen: dict[str, StoredEvent] = {}
    seen = {*earliest, *latest}
    tips = await _in_the_graph(session, room_id, list(latest), (*_IN_THE_GRAPH, REJECTED))
    pending = _parents(tips, seen)
    while pending and len(chosen) < limit:
        found = await _in_the_graph(session, room_id, pending, (*_IN_THE_GRAPH, REJECTED))
        by_id = {stored.event_id: stored for stored in found}
        found = [by_id[event_id] for event_id in pending if event_id in by_id]
        wanted = [stored for stored in found if stored.event.depth >= min_depth][: limit - len(chosen)]
        chosen.update({stored.event_id: stored for stored in wanted})
        seen.update(pending)
        pending = _parents(wanted, seen)
    stored_events = [stored for stored in chosen.values() if stored.standing != REJECTED]
    return list(reversed(await as_seen_by(session, timeline.groups, origin, stored_events)))


async def nearest_event(session: AsyncSession, room_id: str, ts: int, *, forward: bool) -> dict[str, Any]:
    """The event closest to ``ts`` in that direction. Raises ``NotFound``."""
    when = EVENTS.c.origin_server_ts
    statement = select(EVENTS.c.event_id, when).where(
        EVENTS.c.room_id == room_id,
        EVENTS.c.standing == ACCEPTED,
        EVENTS.c.position.is_not(None),
        when >= ts if forward else when <= ts,
    )
    order = (when, EVENTS.c.depth) if forward else (when.desc(), EVENTS.c.depth.desc())
    row = (await session.execute(statement.order_by(*order).limit(1))).first()
    if row is None:
        raise NotFound(f"Unable to find event from {ts} in {'forward' if forward else 'backward'} direction")
    return {"event_id": row.event_id, "origin_server_ts": row.origin_server_ts}


def _parents(events: Iterable[StoredEvent], seen: Collection[str]) -> list[str]:
    return list(dict.fromkeys(parent for stored in events for parent in stored.event.prev_events if parent not in seen))


async def _in_the_graph(
    session: AsyncSession, room_id: str, event_ids: Sequence[str], standing: Collection[str]
) -> list[StoredEvent]:
    found = await store.get_events(session, event_ids)
    return [
        stored
        for stored in found.values()
        if stored.event.room_id == room_id and stored.standing in standing and stored.standing != OUTLIER
    ]
