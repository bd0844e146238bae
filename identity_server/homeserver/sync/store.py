"""Questions that only /sync asks of what others keep."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import StateKey
from identity_server.homeserver.receipts.models import Receipt
from identity_server.homeserver.timeline.room import ROOMS
from identity_server.homeserver.timeline.store import CURRENT, HISTORY, JOIN, MEMBERSHIPS
from identity_server.homeserver.timeline.stored import COLUMNS, EVENTS, StoredEvent, event_of, stored_events
from identity_server.runtime.database import in_chunks

_ROOMS_AT_ONCE = 50
_MEMBER = "m.room.member"
_NAMES = {"m.room.name": "name", "m.room.canonical_alias": "alias"}

# Where the user stands


class Standing(NamedTuple):
    """A row of ``memberships``, as far as /sync looks at it."""

    room_id: str
    membership: str
    event_id: str
    sender: str
    position: int
    joined_position: int | None
    forgotten: bool
    stripped_state: str | None


_STANDING = tuple(MEMBERSHIPS.c[name] for name in Standing._fields)


async def joined_rooms(session: AsyncSession, user_id: str) -> dict[str, int]:
    """The rooms that the user is joined to, and since which position."""
    statement = select(MEMBERSHIPS.c.room_id, MEMBERSHIPS.c.joined_position).where(
        MEMBERSHIPS.c.user_id == user_id, MEMBERSHIPS.c.membership == JOIN
    )
    return {room_id: joined_position or 0 for room_id, joined_position in await session.execute(statement)}


async def standings(
    session: AsyncSession, user_id: str, *, since: int | None = None, kinds: Collection[str] | None = None
) -> list[Standing]:
    """What became of the user's memberships at ``since`` < position; only of these ``kinds``."""
    statement = select(*_STANDING).where(MEMBERSHIPS.c.user_id == user_id)
    if since is not None:
        statement = statement.where(MEMBERSHIPS.c.position > since)
    if kinds is not None:
        statement = statement.where(MEMBERSHIPS.c.membership.in_(kinds))
    return [Standing(*row) for row in await session.execute(statement)]


# What happened


_BETWEEN = (
    select(*COLUMNS)
    .where(EVENTS.c.position > bindparam("since"), EVENTS.c.position <= bindparam("upto"))
    .order_by(EVENTS.c.position)
    .limit(bindparam("most"))
)


async def events_between(session: AsyncSession, since: int, upto: int, *, limit: int) -> list[StoredEvent] | None:
    """The events of all rooms at ``since`` < position <= ``upto``, in order; None if there are more than ``limit``."""
    rows = (await session.execute(_BETWEEN, {"since": since, "upto": upto, "most": limit + 1})).all()
    return None if len(rows) > limit else stored_events(rows)


async def rooms_with_events(session: AsyncSession, room_ids: Collection[str], since: int) -> set[str]:
    """Those of ``room_ids`` in which something happened after ``since``."""
    found: set[str] = set()
    later = select(EVENTS.c.event_id).where(EVENTS.c.room_id == ROOMS.c.room_id, EVENTS.c.position > since)
    for rooms in in_chunks(sorted(room_ids)):
        statement = select(ROOMS.c.room_id).where(ROOMS.c.room_id.in_(rooms), later.exists())
        found.update(await session.scalars(statement))
    return found


@dataclass(frozen=True)
class Stretch:
    """A part of a room's history: ``after`` < position <= ``upto``, where None is no bound."""

    room_id: str
    after: int | None
    upto: int


async def latest_events(
    session: AsyncSession, stretches: Sequence[Stretch], limit: int, conditions: Sequence[ColumnElement[bool]] = ()
) -> dict[str, list[StoredEvent]]:
    """The last ``limit`` events of each stretch, by room, the latest first."""
    found: dict[str, list[StoredEvent]] = {stretch.room_id: [] for stretch in stretches}
    for chunk in in_chunks(stretches, _ROOMS_AT_ONCE):
        parts = [_latest(stretch, limit, conditions) for stretch in chunk]
        statement: Any = parts[0] if len(parts) == 1 else union_all(*(select(part.subquery()) for part in parts))
        for stored in stored_events(await session.execute(statement)):
            found[stored.event.room_id].append(stored)
    for events in found.values():
        events.sort(key=lambda stored: stored.position or 0, reverse=True)
    return found


def _latest(stretch: Stretch, limit: int, conditions: Sequence[ColumnElement[bool]]) -> Any:
    statement = select(*COLUMNS).where(
        EVENTS.c.room_id == stretch.room_id, EVENTS.c.position <= stretch.upto, *conditions
    )
    if stretch.after is not None:
        statement = statement.where(EVENTS.c.position > stretch.after)
    return statement.order_by(EVENTS.c.position.desc()).limit(limit)


# The state


class Change(NamedTuple):
    """A row of ``state_history``."""

    room_id: str
    type: str
    state_key: str
    position: int
    event_id: str | None

    @property
    def key(self) -> StateKey:
        return self.type, self.state_key


_CHANGE = tuple(HISTORY.c[name] for name in Change._fields)


async def changes_between(session: AsyncSession, since: int, upto: int, *, limit: int) -> list[Change] | None:
    """What changed of all rooms' states, in order; None if it is more than ``limit``."""
    statement = (
        select(*_CHANGE)
        .where(HISTORY.c.position > since, HISTORY.c.position <= upto)
        .order_by(HISTORY.c.position)
        .limit(limit + 1)
    )
    rows = (await session.execute(statement)).all()
    return None if len(rows) > limit else [Change(*row) for row in rows]


async def changes_in(session: AsyncSession, room_ids: Collection[str], since: int, upto: int) -> list[Change]:
    """What changed of these rooms' states, in order."""
    found: list[Change] = []
    for rooms in in_chunks(sorted(room_ids)):
        statement = select(*_CHANGE).where(
            HISTORY.c.room_id.in_(rooms), HISTORY.c.position > since, HISTORY.c.position <= upto
        )
        found += [Change(*row) for row in await session.execute(statement.order_by(HISTORY.c.position))]
    return found


async def held_before(
    session: AsyncSession, room_id: str, keys: Collection[StateKey], position: int
) -> dict[StateKey, str]:
    """What the state held under ``keys`` at ``position``."""
    later = HISTORY.alias()
    latest = select(func.max(later.c.position)).where(
        later.c.room_id == room_id,
        later.c.type == HISTORY.c.type,
        later.c.state_key == HISTORY.c.state_key,
        later.c.position <= position,
    )
    statement = select(*_CHANGE).where(
        HISTORY.c.room_id == room_id,
        or_(*(and_(HISTORY.c.type == type_, HISTORY.c.state_key == key) for type_, key in keys)),
        HISTORY.c.position == latest.scalar_subquery(),
    )
    changes = [Change(*row) for row in await session.execute(statement)]
    return {change.key: change.event_id for change in changes if change.event_id is not None}


async def current_ids(
    session: AsyncSession, room_ids: Collection[str], *, without: str | None = None
) -> dict[str, dict[StateKey, str]]:
    """The current states by room; ``without`` the events of that type."""
    found: dict[str, dict[StateKey, str]] = {room_id: {} for room_id in room_ids}
    for rooms in in_chunks(sorted(room_ids), _ROOMS_AT_ONCE):
        statement = select(CURRENT.c.room_id, CURRENT.c.type, CURRENT.c.state_key, CURRENT.c.event_id).where(
            CURRENT.c.room_id.in_(rooms)
        )
        if without is not None:
            # Two ranges of the key, of which an engine needs to read no member.
            statement = statement.where(or_(CURRENT.c.type < without, CURRENT.c.type > without))
        for room_id, type_, state_key, event_id in await session.execute(statement):
            found[room_id][type_, state_key] = event_id
    return found


async def current_among(session: AsyncSession, room_ids: Collection[str], event_ids: Collection[str]) -> set[str]:
    """Those of ``event_ids`` that the rooms' current states hold."""
    held: set[str] = set()
    for rooms in in_chunks(sorted(room_ids), _ROOMS_AT_ONCE):
        for ids in in_chunks(sorted(event_ids)):
            statement = select(CURRENT.c.event_id).where(CURRENT.c.room_id.in_(rooms), CURRENT.c.event_id.in_(ids))
            held.update(await session.scalars(statement))
    return held


async def current_members(session: AsyncSession, user_ids: Mapping[str, Collection[str]]) -> dict[str, dict[str, str]]:
    """The event IDs of the memberships that the current states hold of ``user_ids`` (by room), by room and user."""
    found: dict[str, dict[str, str]] = {}
    for rooms in in_chunks(sorted(user_ids), _ROOMS_AT_ONCE):
        for users in in_chunks(sorted({user_id for room_id in rooms for user_id in user_ids[room_id]})):
            statement = select(CURRENT.c.room_id, CURRENT.c.state_key, CURRENT.c.event_id).where(
                CURRENT.c.room_id.in_(rooms), CURRENT.c.type == _MEMBER, CURRENT.c.state_key.in_(users)
            )
            for room_id, user_id, event_id in await session.execute(statement):
                if user_id in user_ids[room_id]:
                    found.setdefault(room_id, {})[user_id] = event_id
    return found


async def state_groups_of(session: AsyncSession, room_ids: Collection[str]) -> dict[str, int | None]:
    """Which the current state of each room is."""
    found: dict[str, int | None] = {}
    for rooms in in_chunks(sorted(room_ids)):
        statement = select(ROOMS.c.room_id, ROOMS.c.state_group).where(ROOMS.c.room_id.in_(rooms))
        found.update({row.room_id: row.state_group for row in await session.execute(statement)})
    return found


async def membership_counts(session: AsyncSession, room_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many are joined, invited, and so on, by room."""
    found: dict[str, dict[str, int]] = {room_id: {} for room_id in room_ids}
    for rooms in in_chunks(room_ids):
        statement = (
            select(MEMBERSHIPS.c.room_id, MEMBERSHIPS.c.membership, func.count())
            .where(MEMBERSHIPS.c.room_id.in_(rooms))
            .group_by(MEMBERSHIPS.c.room_id, MEMBERSHIPS.c.membership)
        )
        for room_id, membership, count in await session.execute(statement):
            found[room_id][membership] = count
    return found


async def first_members(
    session: AsyncSession, room_ids: Sequence[str], kinds: Sequence[str], but: str, limit: int
) -> dict[str, list[str]]:
    """The users who have been so for longest, by room."""
    found: dict[str, list[str]] = {room_id: [] for room_id in room_ids}
    since = func.coalesce(MEMBERSHIPS.c.joined_position, MEMBERSHIPS.c.position)
    for rooms in in_chunks(room_ids, _ROOMS_AT_ONCE):
        parts = [
            select(MEMBERSHIPS.c.room_id, MEMBERSHIPS.c.user_id, since.label("since"))
            .where(MEMBERSHIPS.c.room_id == room_id, MEMBERSHIPS.c.membership.in_(kinds), MEMBERSHIPS.c.user_id != but)
            .order_by(since, MEMBERSHIPS.c.user_id)
            .limit(limit)
            .subquery()
            for room_id in rooms
        ]
        statement: Any = select(parts[0]) if len(parts) == 1 else union_all(*(select(part) for part in parts))
        rows = (await session.execute(statement)).all()
        for room_id, user_id, _ in sorted(rows, key=lambda row: (row[2], row[1])):
            found[room_id].append(user_id)
    return found


async def named_rooms(session: AsyncSession, room_ids: Sequence[str]) -> set[str]:
    """Those that have a name or an alias of their own."""
    found: set[str] = set()
    for rooms in in_chunks(room_ids):
        statement = (
            select(CURRENT.c.room_id, EVENTS.c.event_id, EVENTS.c.version, EVENTS.c.pdu)
            .join_from(CURRENT, EVENTS, EVENTS.c.event_id == CURRENT.c.event_id)
            .where(CURRENT.c.room_id.in_(rooms), CURRENT.c.type.in_(_NAMES), CURRENT.c.state_key == "")
        )
        for room_id, event_id, version, pdu in await session.execute(statement):
            event = event_of(event_id, version, pdu)
            if event.content.get(_NAMES[event.type]):
                found.add(room_id)
    return found


async def own_memberships(
    session: AsyncSession, room_ids: Collection[str], user_id: str
) -> dict[str, list[tuple[int, str]]]:
    """What the user was in each room, and since which position."""
    found: dict[str, list[tuple[int, str]]] = {room_id: [] for room_id in room_ids}
    for rooms in in_chunks(sorted(room_ids)):
        statement = (
            select(HISTORY.c.room_id, HISTORY.c.position, EVENTS.c.event_id, EVENTS.c.version, EVENTS.c.pdu)
            .join_from(HISTORY, EVENTS, EVENTS.c.event_id == HISTORY.c.event_id, isouter=True)
            .where(HISTORY.c.room_id.in_(rooms), HISTORY.c.type == _MEMBER, HISTORY.c.state_key == user_id)
            .order_by(HISTORY.c.position)
        )
        for room_id, position, event_id, version, pdu in await session.execute(statement):
            membership = event_of(event_id, version, pdu).membership if event_id else None
            found[room_id].append((position, membership or "leave"))
    return found


async def receipts_position(session: AsyncSession, user_id: str) -> int:
    """When the user last gave a receipt."""
    return await session.scalar(select(func.max(Receipt.position)).where(Receipt.user_id == user_id)) or 0


async def events_before(session: AsyncSession, room_ids: Collection[str], upto: int, limit: int) -> list[StoredEvent]:
    """The last events of all these rooms at position <= ``upto``, the latest first."""
    statement = select(*COLUMNS).where(EVENTS.c.position > 0, EVENTS.c.position <= upto)
    of_rooms = statement.where(EVENTS.c.room_id.in_(room_ids))
    return stored_events(await session.execute(of_rooms.order_by(EVENTS.c.position.desc()).limit(limit)))
