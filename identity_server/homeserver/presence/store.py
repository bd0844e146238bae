from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.presence.models import Presence
from identity_server.homeserver.timeline.models import Membership
from identity_server.runtime.database import in_chunks, insert

ONLINE = "online"
UNAVAILABLE = "unavailable"
OFFLINE = "offline"
STATES = (ONLINE, UNAVAILABLE, OFFLINE)

_TABLE = cast(Table, Presence.__table__)
_COLUMNS = (
    _TABLE.c.user_id,
    _TABLE.c.presence,
    _TABLE.c.status_msg,
    _TABLE.c.last_active_ts,
    _TABLE.c.currently_active,
)


@dataclass(frozen=True)
class Status:
    user_id: str
    presence: str
    status_msg: str | None
    last_active_ts: int
    currently_active: bool

    def as_content(self, *, now_ms: int) -> dict[str, Any]:
        """The content of ``m.presence``."""
        content: dict[str, Any] = {
            "presence": self.presence,
            "last_active_ago": max(now_ms - self.last_active_ts, 0),
            "currently_active": self.currently_active,
        }
        return content if self.status_msg is None else {**content, "status_msg": self.status_msg}


async def status_of(session: AsyncSession, user_id: str) -> Status | None:
    row = (await session.execute(select(*_COLUMNS).where(_TABLE.c.user_id == user_id))).one_or_none()
    return Status(*row) if row else None


async def put_status(session: AsyncSession, status: Status, *, position: int) -> None:
    values = {name: value for name, value in vars(status).items() if name != "user_id"} | {"position": position}
    await session.execute(
        insert(session, Presence)
        .values(user_id=status.user_id, **values)
        .on_conflict_do_update(index_elements=["user_id"], set_=values)
    )


async def changed_since(session: AsyncSession, since: int, upto: int) -> list[Status]:
    """Of whoever was told of at ``since`` < position <= ``upto``."""
    statement = select(*_COLUMNS).where(_TABLE.c.position > since, _TABLE.c.position <= upto)
    return [Status(*row) for row in await session.execute(statement.order_by(_TABLE.c.position))]


async def statuses_of(session: AsyncSession, user_ids: Collection[str]) -> list[Status]:
    found: list[Status] = []
    for users in in_chunks(sorted(user_ids)):
        found += [Status(*row) for row in await session.execute(select(*_COLUMNS).where(_TABLE.c.user_id.in_(users)))]
    return found


async def present_in(session: AsyncSession, room_ids: Collection[str]) -> list[Status]:
    """Of whoever is joined to one of these rooms and not offline."""
    found: dict[str, Status] = {}
    for rooms in in_chunks(sorted(room_ids)):
        there = select(Membership.user_id).where(Membership.room_id.in_(rooms), Membership.membership == "join")
        statement = select(*_COLUMNS).where(_TABLE.c.presence != OFFLINE, _TABLE.c.user_id.in_(there))
        found |= {row.user_id: Status(*row) for row in await session.execute(statement)}
    return list(found.values())


async def present_users(session: AsyncSession, server_name: str) -> list[Status]:
    """Users of ``server_name`` who are not offline."""
    statement = select(*_COLUMNS).where(
        _TABLE.c.presence != OFFLINE, _TABLE.c.user_id.endswith(f":{server_name}", autoescape=True)
    )
    return [Status(*row) for row in await session.execute(statement)]


async def erase(session: AsyncSession, user_id: str) -> None:
    await session.execute(delete(_TABLE).where(_TABLE.c.user_id == user_id))
