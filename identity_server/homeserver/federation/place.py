"""Where an event belongs in its room, and how it stands there: checks 4 to 6 of a received PDU."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.auth_rules import NotAllowed, auth_keys, authorise
from identity_server.homeserver.events.event import CREATE, Event, StateMap
from identity_server.homeserver.federation.outcomes import Judged, MissingAncestors
from identity_server.homeserver.federation.outliers import check_by_auth_events, cited_ids
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.append import append
from identity_server.homeserver.timeline.history import note_gap
from identity_server.homeserver.timeline.room import LockedRoom, lock_room
from identity_server.homeserver.timeline.state import resolved_group
from identity_server.homeserver.timeline.stored import ACCEPTED, OUTLIER, REJECTED, SOFT_FAILED, StoredEvent
from identity_server.homeserver.timeline.timeline import Timeline

Known = Mapping[str, StoredEvent]
"""Events that have been read, by ID."""


@dataclass
class Ends:
    """What was learnt of parents that we do not have ourselves: the state groups after them, by event ID."""

    groups: dict[str, int] = field(default_factory=dict)


async def place(
    session: AsyncSession, timeline: Timeline, event: Event, ends: Ends, *, relayed: bool = False
) -> Judged | None:
    """Put the event into its room, if only as a rejected one; why it is not accepted. Raises ``MissingAncestors``."""
    room = await lock_room(session, event.room_id)
    known = await around(session, event)
    stored = known.get(event.event_id)
    if stored is not None and stored.standing != OUTLIER and stored.state_group is not None:
        return None if stored.standing != REJECTED else Judged("The event was rejected before")
    if not cited_ids(event) <= known.keys():
        raise MissingAncestors("an auth event is not known")
    before = await group_before(session, timeline, room, event, ends, known)
    standing, error = ACCEPTED, None
    try:
        await check_then(session, timeline, event, before, known)  # 4, 5
        if before != room.state_group:
            standing = SOFT_FAILED
            await authorise_by_group(session, timeline, event, room.state_group, known)  # 6
            standing = ACCEPTED
    except NotAllowed as refused:
        error = Judged(refused)
        if standing != SOFT_FAILED:
            standing, event = REJECTED, replace(event, rejected=True)
    at = room, stored
    position = await append(session, timeline, event, state_before=before, standing=standing, relayed=relayed, at=at)
    placed = {event_id for event_id, parent in known.items() if parent.standing != OUTLIER}
    if position is not None and not placed.issuperset(event.prev_events):
        await note_gap(session, event.room_id, position)
    return error


async def around(session: AsyncSession, event: Event) -> Known:
    """What is stored of the event, its parents and its auth events."""
    return await store.get_events(session, {event.event_id, *event.prev_events, *cited_ids(event)})


async def check_then(session: AsyncSession, timeline: Timeline, event: Event, before: int | None, known: Known) -> None:
    """Checks 4 and 5: whether it was allowed when it was sent. Raises ``NotAllowed`` and ``MissingAncestors``."""
    try:
        check_by_auth_events(event, {event_id: stored.event for event_id, stored in known.items()})
    except LookupError as error:
        raise MissingAncestors(str(error)) from error
    await authorise_by_group(session, timeline, event, before, known)


async def group_before(
    session: AsyncSession, timeline: Timeline, room: LockedRoom, event: Event, ends: Ends, known: Known
) -> int | None:
    """The group of the state before the event. Raises ``MissingAncestors``."""
    groups: set[int] = set()
    for parent in event.prev_events:
        stored = known.get(parent)
        if stored is not None and stored.event.room_id != event.room_id:
            raise MissingAncestors("a parent is of another room")
        group = (stored.state_group if stored else None) or ends.groups.get(parent)
        if group is None:
            raise MissingAncestors("the state after a parent is not known")
        groups.add(group)
    if not groups:
        return None
    return await resolved_group(session, timeline.groups, room.room_id, room.version, sorted(groups))


async def authorise_by_group(
    session: AsyncSession, timeline: Timeline, event: Event, group: int | None, known: Known | None = None
) -> None:
    """Raises ``NotAllowed`` unless the state that ``group`` stands for allows the event."""
    state: StateMap = await timeline.groups.state_of(session, group)
    keys = {CREATE, *auth_keys(event.type, event.sender, event.state_key, event.content, event.version)}
    ids = {state[key] for key in keys if key in state}
    found = {event_id: stored for event_id, stored in (known or {}).items() if event_id in ids}
    found |= await store.get_events(session, ids - found.keys())
    authorise(event, {stored.event.key: stored.event for stored in found.values()})


async def unknown_of(session: AsyncSession, event_ids: Collection[str]) -> set[str]:
    return set(event_ids) - (await store.known_events(session, event_ids)).keys()
