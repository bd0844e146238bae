"""Pushers as they are kept."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

import orjson
from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.push.models import Pusher
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


async def who_has_pushers(session: AsyncSession, user_ids: Collection[str]) -> set[str]:
    """Those of ``user_ids``."""
    found: set[str] = set()
    for chunk in in_chunks(sorted(user_ids)):
        found.update(await session.scalars(select(_TABLE.c.user_id).where(_TABLE.c.user_id.in_(chunk)).distinct()))
    return found


async def are_there_any(session: AsyncSession) -> bool:
    return await session.scalar(select(_TABLE.c.user_id).limit(1)) is not None


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
