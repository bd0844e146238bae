"""The state after an event whose own past we lack, as another server tells it (Server-Server API, "state_ids")."""

from collections.abc import Collection

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.auth_rules import NotAllowed, auth_keys, authorise
from identity_server.homeserver.events.event import CREATE, Event, StateKey
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.federation.fetch import Fetch
from identity_server.homeserver.federation.outliers import keep_outliers
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.room import lock_room
from identity_server.homeserver.timeline.stored import EVENTS, REJECTED
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.runtime.database import Database, in_chunks

# Beyond so many, all of the state is asked for, not one event after the other.
_MOST_SINGLE = 60


async def learn_state_after(
    database: Database,
    timeline: Timeline,
    fetch: Fetch,
    server_name: str,
    room_id: str,
    version: RoomVersion,
    event_id: str,
) -> int:
    """The state group after ``event_id``, as ``server_name`` has it. Raises ``Unreachable`` and ``Refused``.

    It is believed no more than its events are: each stands by its own auth events, and what comes of it all is for
    state resolution to say.
    """
    state_ids = await _fetch(database, fetch, server_name, room_id, version, event_id)
    async with database.transaction() as session:
        room = await lock_room(session, room_id)
        state = await _keyed(session, room_id, state_ids)
        before = await timeline.groups.group_of(session, room_id, state, near=room.state_group)
        stored = await store.get_event(session, event_id)
        if stored is None:
            return before
        if stored.state_group is not None:
            return stored.state_group
        after = before
        if stored.event.is_state and await stands_on(session, stored.event, state):
            after = await timeline.groups.add(session, room_id, before, {stored.event.key: event_id})
        await session.execute(update(EVENTS).where(EVENTS.c.event_id == event_id).values(state_group=after))
        return after


async def stands_on(session: AsyncSession, event: Event, state: dict[StateKey, str]) -> bool:
    """Whether the event is authorised by a state given as IDs."""
    if event.rejected:
        return False
    keys = {CREATE, *auth_keys(event.type, event.sender, event.state_key, event.content, event.version)}
    found = await store.get_events(session, [state[key] for key in keys if key in state])
    try:
        authorise(event, {stored.event.key: stored.event for stored in found.values()})
    except NotAllowed:
        return False
    return True


async def _fetch(
    database: Database, fetch: Fetch, server_name: str, room_id: str, version: RoomVersion, event_id: str
) -> Collection[str]:
    """The IDs of the state before the event; whatever of it could be had is kept."""
    state_ids, auth_ids = await fetch.state_ids(server_name, room_id, event_id)
    wanted = {*state_ids, *auth_ids, event_id}
    async with database.reading() as session:
        missing = wanted - (await store.known_events(session, wanted)).keys()
    if len(missing) > _MOST_SINGLE:
        fetched = await fetch.state(server_name, room_id, version, event_id)
        await keep_outliers(database, fetched.events)
        missing &= {event_id}
    if missing:
        await keep_outliers(database, await fetch.events(server_name, missing, room_id, version))
    return state_ids


async def _keyed(session: AsyncSession, room_id: str, event_ids: Collection[str]) -> dict[StateKey, str]:
    """The state that events make up; what is no state of the room, or was rejected, is left out."""
    state: dict[StateKey, str] = {}
    for chunk in in_chunks(list(event_ids)):
        rows = await session.execute(
            select(EVENTS.c.type, EVENTS.c.state_key, EVENTS.c.event_id).where(
                EVENTS.c.event_id.in_(chunk),
                EVENTS.c.room_id == room_id,
                EVENTS.c.state_key.is_not(None),
                EVENTS.c.standing != REJECTED,
            )
        )
        state.update({(row.type, row.state_key): row.event_id for row in rows})
    return state
