"""What is known of rooms: their events, their state now and then, and who is in them."""

from collections.abc import Collection, Sequence
from typing import Any, cast

from sqlalchemy import Select, Table, and_, bindparam, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event, StateKey
from identity_server.homeserver.timeline.models import CurrentState, Membership, Room, RoomServer, StateChange
from identity_server.homeserver.timeline.stored import COLUMNS, EVENTS, StoredEvent, event_of, stored_event
from identity_server.runtime.database import in_chunks

JOIN = "join"

CURRENT = cast(Table, CurrentState.__table__)
MEMBERSHIPS = cast(Table, Membership.__table__)
HISTORY = cast(Table, StateChange.__table__)
SERVERS = cast(Table, RoomServer.__table__)

_CURRENT = select(CURRENT.c.type, CURRENT.c.state_key, EVENTS.c.event_id, EVENTS.c.version, EVENTS.c.pdu).join_from(
    CURRENT, EVENTS, EVENTS.c.event_id == CURRENT.c.event_id
)
# Every event that is sent asks for it: it is made once.
_CURRENT_BY_KEYS = _CURRENT.where(
    CURRENT.c.room_id == bindparam("room_id"),
    CURRENT.c.type.in_(bindparam("types", expanding=True)),
    CURRENT.c.state_key.in_(bindparam("state_keys", expanding=True)),
)

# Events


async def get_event(session: AsyncSession, event_id: str) -> StoredEvent | None:
    """However it stands: look at ``standing`` before you show it to anybody."""
    row = (await session.execute(select(*COLUMNS).where(EVENTS.c.event_id == event_id))).one_or_none()
    return stored_event(row) if row else None


async def get_events(session: AsyncSession, ids: Collection[str]) -> dict[str, StoredEvent]:
    """Those of ``ids`` that are known, however they stand."""
    found: dict[str, StoredEvent] = {}
    for chunk in in_chunks(list(ids)):
        for row in await session.execute(select(*COLUMNS).where(EVENTS.c.event_id.in_(chunk))):
            found[row.event_id] = stored_event(row)
    return found


async def known_events(session: AsyncSession, ids: Collection[str]) -> dict[str, str]:
    """How those of ``ids`` that are known stand."""
    found: dict[str, str] = {}
    for chunk in in_chunks(list(ids)):
        rows = await session.execute(select(EVENTS.c.event_id, EVENTS.c.standing).where(EVENTS.c.event_id.in_(chunk)))
        found.update({row.event_id: row.standing for row in rows})
    return found


# Rooms and their current state


async def find_room(session: AsyncSession, room_id: str) -> Room | None:
    """A room that we are or were in."""
    room: Room | None = await session.get(Room, room_id)
    return room


async def state_event(session: AsyncSession, room_id: str, event_type: str, state_key: str = "") -> Event | None:
    """What the current state holds under the key."""
    statement = _current(room_id).where(CURRENT.c.type == event_type, CURRENT.c.state_key == state_key)
    row = (await session.execute(statement)).one_or_none()
    return event_of(row.event_id, row.version, row.pdu) if row else None


async def current_state(
    session: AsyncSession, room_id: str, types: Collection[str] | None = None
) -> dict[StateKey, Event]:
    """The current state, or what it holds of these ``types``."""
    statement = _current(room_id)
    if types is not None:
        statement = statement.where(CURRENT.c.type.in_(types))
    rows = await session.execute(statement)
    return {(row.type, row.state_key): event_of(row.event_id, row.version, row.pdu) for row in rows}


async def current_events(session: AsyncSession, room_id: str, keys: Collection[StateKey]) -> dict[StateKey, Event]:
    """What the current state holds under ``keys``."""
    wanted = set(keys)
    types, state_keys = {type_ for type_, _ in wanted}, {key for _, key in wanted}
    asked = {"room_id": room_id, "types": list(types), "state_keys": list(state_keys)}
    rows = await session.execute(_CURRENT_BY_KEYS, asked)
    return {
        (row.type, row.state_key): event_of(row.event_id, row.version, row.pdu)
        for row in rows
        if (row.type, row.state_key) in wanted
    }


async def current_events_in(
    session: AsyncSession, room_ids: Sequence[str], types: Collection[str]
) -> dict[str, dict[str, Event]]:
    """By room ID and type, what the current states hold of ``types`` under the empty state key."""
    found: dict[str, dict[str, Event]] = {room_id: {} for room_id in room_ids}
    for chunk in in_chunks(room_ids):
        statement = (
            select(CURRENT.c.room_id, CURRENT.c.type, EVENTS.c.event_id, EVENTS.c.version, EVENTS.c.pdu)
            .join_from(CURRENT, EVENTS, EVENTS.c.event_id == CURRENT.c.event_id)
            .where(CURRENT.c.room_id.in_(chunk), CURRENT.c.type.in_(types), CURRENT.c.state_key == "")
        )
        for row in await session.execute(statement):
            found[row.room_id][row.type] = event_of(row.event_id, row.version, row.pdu)
    return found


async def current_state_ids(session: AsyncSession, room_id: str) -> dict[StateKey, str]:
    statement = select(CURRENT.c.type, CURRENT.c.state_key, CURRENT.c.event_id).where(CURRENT.c.room_id == room_id)
    return {(row.type, row.state_key): row.event_id for row in await session.execute(statement)}


async def state_at_position(
    session: AsyncSession, room_id: str, position: int, types: Collection[str] | None = None
) -> dict[StateKey, str]:
    """What the current state was once everything up to ``position`` of the stream had happened."""
    later = HISTORY.alias()
    latest = select(func.max(later.c.position)).where(
        later.c.room_id == HISTORY.c.room_id,
        later.c.type == HISTORY.c.type,
        later.c.state_key == HISTORY.c.state_key,
        later.c.position <= position,
    )
    statement = select(HISTORY.c.type, HISTORY.c.state_key, HISTORY.c.event_id).where(
        HISTORY.c.room_id == room_id,
        HISTORY.c.position <= position,
        HISTORY.c.position == latest.scalar_subquery(),
        HISTORY.c.event_id.is_not(None),
    )
    if types is not None:
        statement = statement.where(HISTORY.c.type.in_(types))
    return {(row.type, row.state_key): row.event_id for row in await session.execute(statement)}


async def first_of_type(session: AsyncSession, room_id: str, event_type: str) -> int | None:
    """The position from which on the room's state has held something of the type."""
    of_type = (HISTORY.c.room_id == room_id, HISTORY.c.type == event_type)
    first: int | None = await session.scalar(select(func.min(HISTORY.c.position)).where(*of_type))
    return first


def _current(room_id: str) -> Select[Any]:
    return _CURRENT.where(CURRENT.c.room_id == room_id)


# Who is in which room


async def membership(session: AsyncSession, room_id: str, user_id: str) -> str | None:
    """Where the user stands with the room now; None: never had to do with it."""
    found: str | None = await session.scalar(
        select(MEMBERSHIPS.c.membership).where(MEMBERSHIPS.c.user_id == user_id, MEMBERSHIPS.c.room_id == room_id)
    )
    return found


async def membership_row(session: AsyncSession, room_id: str, user_id: str) -> Membership | None:
    return await session.scalar(select(Membership).where(Membership.user_id == user_id, Membership.room_id == room_id))


async def memberships_of(session: AsyncSession, user_id: str, *membership: str) -> list[Membership]:
    """The user's, in all rooms; only these kinds, if any are named."""
    statement = select(Membership).where(Membership.user_id == user_id)
    if membership:
        statement = statement.where(Membership.membership.in_(membership))
    return list(await session.scalars(statement.order_by(Membership.position)))


async def joined_rooms(session: AsyncSession, user_id: str) -> set[str]:
    is_joined = (MEMBERSHIPS.c.user_id == user_id) & (MEMBERSHIPS.c.membership == JOIN)
    return set(await session.scalars(select(MEMBERSHIPS.c.room_id).where(is_joined)))


async def local_joined_users(session: AsyncSession, room_id: str, server_name: str) -> set[str]:
    is_local = _is_joined_to(room_id) & (MEMBERSHIPS.c.server_name == server_name)
    return set(await session.scalars(select(MEMBERSHIPS.c.user_id).where(is_local)))


async def count_members(session: AsyncSession, room_ids: Sequence[str], membership: str = JOIN) -> dict[str, int]:
    """How many there are in each room that has any."""
    counts: dict[str, int] = {}
    for chunk in in_chunks(room_ids):
        statement = (
            select(MEMBERSHIPS.c.room_id, func.count())
            .where(MEMBERSHIPS.c.room_id.in_(chunk), MEMBERSHIPS.c.membership == membership)
            .group_by(MEMBERSHIPS.c.room_id)
        )
        counts.update({row[0]: row[1] for row in await session.execute(statement)})
    return counts


async def servers_in_room(session: AsyncSession, room_id: str) -> set[str]:
    """Those of which somebody is joined."""
    is_there = (SERVERS.c.room_id == room_id) & SERVERS.c.until.is_(None)
    return set(await session.scalars(select(SERVERS.c.server_name).where(is_there)))


async def is_server_in_room(session: AsyncSession, room_id: str, server_name: str) -> bool:
    is_there = and_(SERVERS.c.server_name == server_name, SERVERS.c.room_id == room_id, SERVERS.c.until.is_(None))
    return await session.scalar(select(SERVERS.c.since).where(is_there)) is not None


async def shares_room(session: AsyncSession, a: str, b: str) -> bool:
    """Whether both users are joined to some room."""
    other = MEMBERSHIPS.alias()
    together = and_(
        MEMBERSHIPS.c.user_id == a,
        MEMBERSHIPS.c.membership == JOIN,
        exists().where(other.c.user_id == b, other.c.room_id == MEMBERSHIPS.c.room_id, other.c.membership == JOIN),
    )
    return await session.scalar(select(MEMBERSHIPS.c.room_id).where(together).limit(1)) is not None


def _is_joined_to(room_id: str) -> Any:
    return and_(MEMBERSHIPS.c.room_id == room_id, MEMBERSHIPS.c.membership == JOIN)
