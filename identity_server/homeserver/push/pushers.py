"""Pushers as they are kept."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import orjson
from sqlalchemy import Table, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.push.models import Pusher
from identity_server.homeserver.timeline.models import Membership
from identity_server.runtime.database import in_chunks, insert

_TABLE = cast(Table, Pusher.__table__)
HTTP = "http"


@dataclass(frozen=True)
class NewPusher:
    pushkey: str
    kind: str
    app_id: str
    app_display_name: str
    device_display_name: str
    profile_tag: str | None
    lang: str
    data: dict[str, Any]
    device_id: str


@dataclass(frozen=True)
class KeptPusher:
    user_id: str
    set_ts: int
    position: int
    about: NewPusher

    def as_json(self) -> dict[str, Any]:
        about = self.about
        shown: dict[str, Any] = {
            "pushkey": about.pushkey,
            "kind": about.kind,
            "app_id": about.app_id,
            "app_display_name": about.app_display_name,
            "device_display_name": about.device_display_name,
            "lang": about.lang,
            "data": about.data,
        }
        return shown if about.profile_tag is None else {**shown, "profile_tag": about.profile_tag}


async def pushers_of(session: AsyncSession, user_id: str) -> list[KeptPusher]:
    rows = await session.execute(select(_TABLE).where(_TABLE.c.user_id == user_id).order_by(_TABLE.c.set_ts))
    return [_kept(row) for row in rows]


async def find_pusher(session: AsyncSession, user_id: str, app_id: str, pushkey: str) -> KeptPusher | None:
    row = (await session.execute(select(_TABLE).where(_is(user_id, app_id, pushkey)))).one_or_none()
    return _kept(row) if row else None


async def earliest_position(session: AsyncSession) -> int | None:
    """From where on some pusher is to be told; None if there is none."""
    position: int | None = await session.scalar(select(func.min(_TABLE.c.position)))
    return position


class Concerned(NamedTuple):
    """A user with pushers who has to do with a room: since ``position`` joined, or then invited by ``event_id``."""

    room_id: str
    user_id: str
    position: int
    event_id: str


async def joined_with_pushers(session: AsyncSession, room_ids: Collection[str]) -> list[Concerned]:
    """The users with pushers who are in these rooms."""
    found: list[Concerned] = []
    for rooms in in_chunks(sorted(room_ids)):
        statement = (
            select(Membership.room_id, Membership.user_id, Membership.joined_position, Membership.event_id)
            .where(Membership.room_id.in_(rooms), Membership.membership == "join")
            .where(Membership.user_id.in_(select(_TABLE.c.user_id)))
        )
        for room_id, user_id, joined, event_id in await session.execute(statement):
            found.append(Concerned(room_id, user_id, joined or 0, event_id))
    return found


async def invited_with_pushers(session: AsyncSession, since: int, upto: int) -> list[Concerned]:
    """The users with pushers who were invited at ``since`` < position <= ``upto``."""
    statement = (
        select(Membership.room_id, Membership.user_id, Membership.position, Membership.event_id)
        .join(Pusher, Pusher.user_id == Membership.user_id)
        .where(Membership.position > since, Membership.position <= upto, Membership.membership == "invite")
        .distinct()
    )
    return [Concerned(*row) for row in await session.execute(statement)]


async def put_pusher(session: AsyncSession, user_id: str, new: NewPusher, *, position: int, now_ms: int) -> None:
    values = {**vars(new), "data": orjson.dumps(new.data).decode(), "set_ts": now_ms, "position": position}
    await session.execute(
        insert(session, Pusher)
        .values(user_id=user_id, **values)
        .on_conflict_do_update(index_elements=["user_id", "app_id", "pushkey"], set_=values)
    )


async def remove_pusher(session: AsyncSession, user_id: str, app_id: str, pushkey: str) -> None:
    await session.execute(delete(_TABLE).where(_is(user_id, app_id, pushkey)))


async def remove_others(session: AsyncSession, user_id: str, app_id: str, pushkey: str) -> None:
    """Those of other users for the same key: the device has changed hands."""
    this = (_TABLE.c.app_id == app_id) & (_TABLE.c.pushkey == pushkey) & (_TABLE.c.user_id != user_id)
    await session.execute(delete(_TABLE).where(this))


async def forget_devices(session: AsyncSession, user_id: str, device_ids: Collection[str]) -> None:
    """The devices are no more, and their pushers go with them."""
    await session.execute(delete(_TABLE).where(_TABLE.c.user_id == user_id, _TABLE.c.device_id.in_(device_ids)))


def _is(user_id: str, app_id: str, pushkey: str) -> Any:
    return (_TABLE.c.user_id == user_id) & (_TABLE.c.app_id == app_id) & (_TABLE.c.pushkey == pushkey)


def _kept(row: Any) -> KeptPusher:
    about = NewPusher(
        row.pushkey,
        row.kind,
        row.app_id,
        row.app_display_name,
        row.device_display_name,
        row.profile_tag,
        row.lang,
        orjson.loads(row.data),
        row.device_id,
    )
    return KeptPusher(row.user_id, row.set_ts, row.position, about)
