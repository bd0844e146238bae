"""Who shares rooms with whom, and since when: what decides who is told of devices and presence."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.timeline.models import Membership, RoomServer, StateChange, StoredEventRow
from identity_server.homeserver.timeline.store import JOIN
from identity_server.runtime.database import in_chunks

_MEMBER = "m.room.member"


async def joined_to_any(session: AsyncSession, user_ids: Collection[str], room_ids: Collection[str]) -> set[str]:
    """Those of ``user_ids`` who are joined to one of ``room_ids``."""
    found: set[str] = set()
    for users in in_chunks(sorted(user_ids)):
        for rooms in in_chunks(sorted(room_ids)):
            statement = select(Membership.user_id).where(
                Membership.user_id.in_(users), Membership.room_id.in_(rooms), Membership.membership == JOIN
            )
            found.update(await session.scalars(statement.distinct()))
    return found


async def servers_sharing(
    session: AsyncSession, user_id: str, *, joined_after: int | None = None, joined_until: int | None = None
) -> set[str]:
    """The servers of those who share a room with the user now, the user's own among them.

    Of rooms that the user joined at positions ``joined_after`` < p <= ``joined_until``, where these are given.
    """
    statement = (
        select(RoomServer.server_name)
        .join(Membership, Membership.room_id == RoomServer.room_id)
        .where(Membership.user_id == user_id, Membership.membership == JOIN, RoomServer.until.is_(None))
    )
    if joined_after is not None:
        statement = statement.where(Membership.joined_position > joined_after)
    if joined_until is not None:
        statement = statement.where(Membership.joined_position <= joined_until)
    return set(await session.scalars(statement.distinct()))


async def shared_with_server(session: AsyncSession, user_ids: Iterable[str], server_name: str) -> set[str]:
    """Those of ``user_ids`` who share a room with somebody on the server now."""
    found: set[str] = set()
    for users in in_chunks(sorted(user_ids)):
        statement = (
            select(Membership.user_id)
            .join(RoomServer, RoomServer.room_id == Membership.room_id)
            .where(Membership.user_id.in_(users), Membership.membership == JOIN)
            .where(RoomServer.server_name == server_name, RoomServer.until.is_(None))
        )
        found.update(await session.scalars(statement.distinct()))
    return found


async def shared_since(session: AsyncSession, user_ids: Iterable[str], server_name: str) -> dict[str, int]:
    """Since which position those of ``user_ids`` who share a room with the server have done so without a break.

    Rooms count one by one: to have gone from one to another is a break.
    """
    found: dict[str, int] = {}
    for users in in_chunks(sorted(user_ids)):
        statement = (
            select(Membership.user_id, Membership.joined_position, RoomServer.since)
            .join(RoomServer, RoomServer.room_id == Membership.room_id)
            .where(Membership.user_id.in_(users), Membership.membership == JOIN)
            .where(RoomServer.server_name == server_name, RoomServer.until.is_(None))
        )
        for user_id, joined_position, since in await session.execute(statement):
            together = max(joined_position or 0, since)
            found[user_id] = min(together, found.get(user_id, together))
    return found


async def moves_of(session: AsyncSession, user_id: str, since: int, upto: int) -> list[Membership]:
    """Where the user stands with the rooms in which that changed in ``since`` < position <= ``upto``."""
    statement = select(Membership).where(
        Membership.user_id == user_id, Membership.position > since, Membership.position <= upto
    )
    return list(await session.scalars(statement))


async def moves_in(session: AsyncSession, room_ids: Collection[str], since: int, upto: int) -> list[Membership]:
    """The same of everybody whose membership of ``room_ids`` changed then; a changed profile counts too."""
    moved: list[Membership] = []
    for rooms in in_chunks(sorted(room_ids)):
        statement = (
            select(Membership)
            .join(
                StateChange,
                (StateChange.room_id == Membership.room_id) & (StateChange.state_key == Membership.user_id),
            )
            .where(StateChange.room_id.in_(rooms), StateChange.type == _MEMBER)
            .where(StateChange.position > since, StateChange.position <= upto)
        )
        moved += await session.scalars(statement.distinct())
    return moved


@dataclass(frozen=True)
class Move:
    """A membership event at ``position``, and where its user stands now."""

    position: int
    room_id: str
    user_id: str
    membership: str
    joined_position: int | None


async def moves_between(session: AsyncSession, since: int, upto: int, *, limit: int) -> list[Move]:
    """Those at ``since`` < position <= ``upto``, in order."""
    events, now = StoredEventRow, Membership
    statement = (
        select(events.position, now.room_id, now.user_id, now.membership, now.joined_position)
        .join(now, (now.room_id == events.room_id) & (now.user_id == events.state_key))
        .where(events.position > since, events.position <= upto, events.type == _MEMBER)
        .order_by(events.position)
        .limit(limit)
    )
    return [
        Move(row.position or 0, row.room_id, row.user_id, row.membership, row.joined_position)
        for row in await session.execute(statement)
    ]


async def joined_users_of(session: AsyncSession, room_ids: Collection[str]) -> set[str]:
    """Everybody who is joined to one of ``room_ids``."""
    found: set[str] = set()
    for rooms in in_chunks(sorted(room_ids)):
        statement = select(Membership.user_id).where(Membership.room_id.in_(rooms), Membership.membership == JOIN)
        found.update(await session.scalars(statement.distinct()))
    return found


async def was_joined(session: AsyncSession, room_id: str, user_id: str, position: int) -> bool:
    """Whether the user was joined to the room at ``position`` of the stream."""
    pdu: str | None = await session.scalar(
        select(StoredEventRow.pdu)
        .select_from(StateChange)
        .outerjoin(StoredEventRow, StoredEventRow.event_id == StateChange.event_id)
        .where(StateChange.room_id == room_id, StateChange.type == _MEMBER, StateChange.state_key == user_id)
        .where(StateChange.position <= position)
        .order_by(StateChange.position.desc())
        .limit(1)
    )
    return pdu is not None and orjson.loads(pdu)["content"].get("membership") == JOIN
