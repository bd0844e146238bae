"""Who is in a room, and which servers are, kept as the state changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Row, and_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event, StateKey
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.models import Membership, RoomServer
from identity_server.homeserver.timeline.store import JOIN, MEMBERSHIPS, SERVERS
from identity_server.homeserver.timeline.stripped import stripped_event, stripped_state
from identity_server.matrix.identifiers import domain_of
from identity_server.runtime.database import in_chunks, insert

MEMBER = "m.room.member"
# With these a user comes closer to a room again, which was forgotten before perhaps.
_APPROACHING = frozenset({JOIN, "invite", "knock"})


@dataclass(frozen=True)
class _Change:
    """``before``: the row so far; ``after``: the membership event, None if the state holds none any more."""

    user_id: str
    before: Row[Any] | None
    after: Event | None

    @property
    def was_joined(self) -> bool:
        return self.before is not None and self.before.membership == JOIN

    @property
    def membership(self) -> str:
        return (self.after and self.after.membership) or "leave"


async def follow_members(
    session: AsyncSession,
    room_id: str,
    changed: Mapping[StateKey, str | None],
    known: Mapping[str, Event],
    position: int,
    server_name: str,
) -> None:
    """Make ``memberships`` and ``room_servers`` agree with the current state, of which ``changed`` is new.

    ``known``: events by ID that need not be read again. ``server_name``: ours.
    """
    ids = {user_id: event_id for (type_, user_id), event_id in changed.items() if type_ == MEMBER}
    if not ids:
        return
    wanted = [event_id for event_id in ids.values() if event_id and event_id not in known]
    events = {**known, **{key: stored.event for key, stored in (await store.get_events(session, wanted)).items()}}
    before = await _rows(session, room_id, list(ids))
    changes = [
        _Change(user_id, before.get(user_id), events.get(event_id) if event_id else None)
        for user_id, event_id in ids.items()
        if _server_of(user_id)
    ]
    rows = []
    for change in changes:
        row = _row(room_id, change, position)
        if row is None:
            continue
        if (
            change.after is not None
            and _server_of(change.user_id) == server_name
            and row["membership"]
            in (
                "invite",
                "knock",
            )
        ):
            row["stripped_state"] = orjson.dumps(await _stripped(session, room_id, change.after)).decode()
        rows.append(row)
    await put_memberships(session, rows)
    await _follow_servers(session, room_id, changes, position)


async def put_memberships(session: AsyncSession, rows: list[dict[str, Any]]) -> None:
    """Whole rows of ``memberships``, in place of what was there."""
    statement = insert(session, Membership)
    columns = {name: statement.excluded[name] for name in rows[0] if name not in ("user_id", "room_id")} if rows else {}
    statement = statement.on_conflict_do_update(index_elements=["user_id", "room_id"], set_=columns)
    for chunk in in_chunks(rows):
        await session.execute(statement, list(chunk))


async def set_forgotten(session: AsyncSession, room_id: str, user_id: str) -> None:
    this = and_(MEMBERSHIPS.c.user_id == user_id, MEMBERSHIPS.c.room_id == room_id)
    await session.execute(update(MEMBERSHIPS).where(this).values(forgotten=True))


def membership_values(event: Event, user_id: str, position: int, **more: Any) -> dict[str, Any]:
    """A row of ``memberships`` as ``event`` says, of one who is not known there."""
    membership = event.membership or "leave"
    return {
        "user_id": user_id,
        "room_id": event.room_id,
        "server_name": _server_of(user_id),
        "membership": membership,
        "event_id": event.event_id,
        "sender": event.sender,
        "position": position,
        "joined_position": position if membership == JOIN else None,
        "forgotten": False,
        "stripped_state": None,
        **more,
    }


def _row(room_id: str, change: _Change, position: int) -> dict[str, Any] | None:
    before, after = change.before, change.after
    if after is None:
        # The state was reset and knows nothing of the user any more: no membership is as good as having left.
        if before is None:
            return None
        return {
            "user_id": change.user_id,
            "room_id": room_id,
            "server_name": _server_of(change.user_id),
            "membership": "leave",
            "event_id": before.event_id,
            "sender": before.sender,
            "position": position,
            "joined_position": None,
            "forgotten": before.forgotten,
            "stripped_state": None,
        }
    row = membership_values(after, change.user_id, position)
    if before is not None:
        if change.was_joined and row["joined_position"] is not None:
            row["joined_position"] = before.joined_position
        row["forgotten"] = before.forgotten and row["membership"] not in _APPROACHING
    return row


async def _rows(session: AsyncSession, room_id: str, user_ids: list[str]) -> dict[str, Row[Any]]:
    found: dict[str, Row[Any]] = {}
    for chunk in in_chunks(user_ids):
        statement = select(MEMBERSHIPS).where(MEMBERSHIPS.c.user_id.in_(chunk), MEMBERSHIPS.c.room_id == room_id)
        found.update({row.user_id: row for row in await session.execute(statement)})
    return found


async def _follow_servers(session: AsyncSession, room_id: str, changes: list[_Change], position: int) -> None:
    came = {_server_of(change.user_id) for change in changes if change.membership == JOIN and not change.was_joined}
    lost = {_server_of(change.user_id) for change in changes if change.membership != JOIN and change.was_joined}
    if came:
        there = await store.servers_in_room(session, room_id)
        rows = [
            {"server_name": server, "room_id": room_id, "since": position, "until": None}
            for server in sorted(came - there)
        ]
        if rows:
            statement = insert(session, RoomServer).on_conflict_do_update(
                index_elements=["server_name", "room_id", "since"], set_={"until": None}
            )
            await session.execute(statement, rows)
    for server in sorted(lost - came):
        if await _is_anybody_joined(session, room_id, server):
            continue
        still = and_(SERVERS.c.server_name == server, SERVERS.c.room_id == room_id, SERVERS.c.until.is_(None))
        await session.execute(update(SERVERS).where(still).values(until=position))


async def _is_anybody_joined(session: AsyncSession, room_id: str, server_name: str) -> bool:
    joined = and_(
        MEMBERSHIPS.c.room_id == room_id, MEMBERSHIPS.c.membership == JOIN, MEMBERSHIPS.c.server_name == server_name
    )
    return await session.scalar(select(MEMBERSHIPS.c.user_id).where(joined).limit(1)) is not None


async def _stripped(session: AsyncSession, room_id: str, membership: Event) -> list[dict[str, Any]]:
    """What an invited or knocking user is shown of the room, the membership itself last."""
    return [*await stripped_state(session, room_id, membership.sender), stripped_event(membership)]


def _server_of(user_id: str) -> str:
    """Empty for what is no user ID: such a membership is state, and nobody's."""
    try:
        return domain_of(user_id) if user_id.startswith("@") else ""
    except ValueError:
        return ""
