"""Which events a user may see (Client-Server API, "Room History Visibility")."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event, StateKey, member
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.erasure import without_erased
from identity_server.homeserver.timeline.room import ROOMS
from identity_server.homeserver.timeline.state import StateGroups
from identity_server.homeserver.timeline.store import HISTORY, JOIN
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.runtime.database import in_chunks

HISTORY_VISIBILITY: StateKey = ("m.room.history_visibility", "")
_KNOWN = frozenset({"world_readable", "shared", "invited", "joined"})


def visibility_of(event: Event | None) -> str:
    """What an ``m.room.history_visibility`` event says."""
    value = event.content.get("history_visibility") if event else None
    return value if isinstance(value, str) and value in _KNOWN else "shared"


@dataclass(frozen=True)
class _Course:
    """What stood under a key of the state, and from which positions on."""

    positions: list[int]
    events: list[Event | None]

    def before(self, position: int) -> Event | None:
        return self._at(bisect_left(self.positions, position))

    def after(self, position: int) -> Event | None:
        return self._at(bisect_right(self.positions, position))

    def _at(self, count: int) -> Event | None:
        return self.events[count - 1] if count else None


async def visible_events(
    session: AsyncSession, groups: StateGroups, room_id: str, events: Sequence[StoredEvent], user_id: str
) -> list[StoredEvent]:
    """Those of ``events``, which are of the room's history, that the user may see."""
    return (await visible_by_room(session, groups, {room_id: events}, user_id))[room_id]


async def visible_with_memberships(
    session: AsyncSession, groups: StateGroups, room_id: str, events: Sequence[StoredEvent], user_id: str
) -> list[tuple[StoredEvent, str]]:
    """The same, each with the user's membership at it, what it changes included."""
    if not events:
        return []
    courses = await _courses(session, [room_id], (HISTORY_VISIBILITY, member(user_id)))
    starts = await _starts_of_history(session, [room_id])
    return await _visible(session, groups, events, user_id, courses[room_id], starts.get(room_id))


async def visible_by_room(
    session: AsyncSession, groups: StateGroups, events: Mapping[str, Sequence[StoredEvent]], user_id: str
) -> dict[str, list[StoredEvent]]:
    """The same for many rooms at once."""
    asked = [room_id for room_id, of_room in events.items() if of_room]
    courses = await _courses(session, asked, (HISTORY_VISIBILITY, member(user_id)))
    starts = await _starts_of_history(session, asked)
    return {
        room_id: [
            stored
            for stored, _ in await _visible(session, groups, of_room, user_id, courses[room_id], starts.get(room_id))
        ]
        if of_room
        else []
        for room_id, of_room in events.items()
    }


async def _visible(
    session: AsyncSession,
    groups: StateGroups,
    events: Sequence[StoredEvent],
    user_id: str,
    courses: Mapping[StateKey, _Course],
    since: int | None,
) -> list[tuple[StoredEvent, str]]:
    own = member(user_id)
    rules, memberships = courses[HISTORY_VISIBILITY], courses[own]
    joins = [at for at, event in zip(memberships.positions, memberships.events, strict=True) if _is(event, JOIN)]
    last_join = joins[-1] if joins else None
    seen: list[tuple[StoredEvent, str]] = []
    absent: dict[str, StoredEvent] = {}
    for stored in events:
        position = stored.position
        if position is None:
            continue
        if since is not None and position >= since:
            points = [(rules.before(position), memberships.before(position))]
            after = memberships.after(position)
            if _is_about(stored.event, own):
                points.append((rules.after(position), after))
        else:
            points = await _by_group(session, groups, stored, own)
            after = points[0][1]
        joins_later = last_join is not None and last_join >= position
        if any(_may_see(visibility_of(rule), membership, joins_later) for rule, membership in points):
            seen.append((stored, (after and after.membership) or "leave"))
            if not any(_is(membership, JOIN) for _, membership in points):
                absent[stored.event_id] = stored
    if absent:
        shown = {stored.event_id: stored for stored in await without_erased(session, list(absent.values()))}
        return [(shown.get(stored.event_id, stored), membership) for stored, membership in seen]
    return seen


def _may_see(visibility: str, membership: Event | None, joins_later: bool) -> bool:
    if visibility == "world_readable" or _is(membership, JOIN):  # 1, 2
        return True
    if visibility == "shared":
        return joins_later  # 3
    return visibility == "invited" and _is(membership, "invite")  # 4, 5


def _is(event: Event | None, membership: str) -> bool:
    return event is not None and event.membership == membership


def _is_about(event: Event, own: StateKey) -> bool:
    """Whether it is enough that the event may be seen before it, or after it."""
    return event.is_state and event.key in (HISTORY_VISIBILITY, own)


async def _by_group(
    session: AsyncSession, groups: StateGroups, stored: StoredEvent, own: StateKey
) -> list[tuple[Event | None, Event | None]]:
    """For what happened before we were there, by the state at the event."""
    state = dict(await groups.state_of(session, stored.state_group))
    points = [state]
    if _is_about(stored.event, own):
        before = {key: event_id for key, event_id in state.items() if key != stored.event.key}
        if stored.replaces_state:
            before[stored.event.key] = stored.replaces_state
        points.append(before)
    ids = {event_id for point in points for key in (HISTORY_VISIBILITY, own) if (event_id := point.get(key))}
    found = {event_id: known.event for event_id, known in (await store.get_events(session, ids)).items()}
    return [(found.get(point.get(HISTORY_VISIBILITY, "")), found.get(point.get(own, ""))) for point in points]


async def _courses(
    session: AsyncSession, room_ids: Sequence[str], keys: Sequence[StateKey]
) -> dict[str, dict[StateKey, _Course]]:
    of_keys = [and_(HISTORY.c.type == type_, HISTORY.c.state_key == key) for type_, key in keys]
    courses = {room_id: {key: _Course([], []) for key in keys} for room_id in room_ids}
    for chunk in in_chunks(room_ids):
        statement = (
            select(HISTORY.c.room_id, HISTORY.c.type, HISTORY.c.state_key, HISTORY.c.position, HISTORY.c.event_id)
            .where(HISTORY.c.room_id.in_(chunk), or_(*of_keys))
            .order_by(HISTORY.c.position)
        )
        rows = (await session.execute(statement)).all()
        found = await store.get_events(session, {row.event_id for row in rows if row.event_id})
        for row in rows:
            course = courses[row.room_id][row.type, row.state_key]
            course.positions.append(row.position)
            course.events.append(found[row.event_id].event if row.event_id in found else None)
    return courses


async def _starts_of_history(session: AsyncSession, room_ids: Sequence[str]) -> dict[str, int | None]:
    """The positions from which on ``state_history`` knows the rooms."""
    first = select(func.min(HISTORY.c.position)).where(HISTORY.c.room_id == ROOMS.c.room_id).scalar_subquery()
    starts: dict[str, int | None] = {}
    for chunk in in_chunks(room_ids):
        rows = await session.execute(select(ROOMS.c.room_id, first).where(ROOMS.c.room_id.in_(chunk)))
        starts.update({row[0]: row[1] for row in rows})
    return starts
