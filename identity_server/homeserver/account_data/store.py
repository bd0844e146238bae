from collections.abc import Callable, Collection
from typing import Any, NamedTuple, cast

import orjson
from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data.models import AccountData
from identity_server.homeserver.streams import Streams, advance
from identity_server.runtime.database import insert

GLOBAL = ""
"""In place of a room ID: what is of no room."""

_TABLE = cast(Table, AccountData.__table__)


class Entry(NamedTuple):
    room_id: str
    type: str
    content: dict[str, Any]


async def get(session: AsyncSession, user_id: str, room_id: str, type_: str) -> dict[str, Any] | None:
    this = (_TABLE.c.user_id == user_id) & (_TABLE.c.room_id == room_id) & (_TABLE.c.type == type_)
    content: str | None = await session.scalar(select(_TABLE.c.content).where(this))
    return None if content is None else orjson.loads(content)


async def put(
    session: AsyncSession, streams: Streams, user_id: str, room_id: str, type_: str, content: dict[str, Any]
) -> None:
    """Write it, and tell the user's clients. Call it last."""
    await _write(session, user_id, room_id, type_, content, await advance(session, streams, user_id))


async def update(
    session: AsyncSession,
    streams: Streams,
    user_id: str,
    room_id: str,
    type_: str,
    change: Callable[[dict[str, Any] | None], dict[str, Any]],
) -> None:
    """Write what ``change`` makes of what is there. Nothing gets lost that others write meanwhile. Call it last."""
    position = await advance(session, streams, user_id)  # others wait here
    await _write(session, user_id, room_id, type_, change(await get(session, user_id, room_id, type_)), position)


async def changed(session: AsyncSession, user_id: str, since: int | None, upto: int) -> list[Entry]:
    """What was written at ``since`` < position <= ``upto``, oldest first; all there is without ``since``."""
    statement = select(_TABLE.c.room_id, _TABLE.c.type, _TABLE.c.content).where(
        _TABLE.c.user_id == user_id, _TABLE.c.position <= upto
    )
    if since is not None:
        statement = statement.where(_TABLE.c.position > since)
    rows = await session.execute(statement.order_by(_TABLE.c.position))
    return [Entry(row.room_id, row.type, orjson.loads(row.content)) for row in rows]


async def of_rooms(session: AsyncSession, user_id: str, room_ids: Collection[str]) -> list[Entry]:
    """All there is of these rooms."""
    statement = select(_TABLE.c.room_id, _TABLE.c.type, _TABLE.c.content).where(
        _TABLE.c.user_id == user_id, _TABLE.c.room_id.in_(room_ids)
    )
    rows = await session.execute(statement.order_by(_TABLE.c.position))
    return [Entry(row.room_id, row.type, orjson.loads(row.content)) for row in rows]


async def _write(
    session: AsyncSession, user_id: str, room_id: str, type_: str, content: dict[str, Any], position: int
) -> None:
    values = {"content": orjson.dumps(content).decode(), "position": position}
    await session.execute(
        insert(session, AccountData)
        .values(user_id=user_id, room_id=room_id, type=type_, **values)
        .on_conflict_do_update(index_elements=["user_id", "room_id", "type"], set_=values)
    )


async def erase(session: AsyncSession, user_id: str) -> None:
    await session.execute(delete(_TABLE).where(_TABLE.c.user_id == user_id))
