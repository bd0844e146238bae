from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import ScalarSelect, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.models import (
    DeviceListChange,
    FollowedPosition,
    RemoteDevice,
    RemoteDeviceList,
)
from identity_server.runtime.database import in_chunks, insert, insert_missing

EVERYBODY = ""
"""In ``seen_by``: all who share a room."""

_ONLY_ROW = 1


class StoredDevice(NamedTuple):
    """``keys`` is JSON, if there are any."""

    display_name: str | None
    keys: str | None


class KeptList(NamedTuple):
    """``stream_id``: of a current list, what it stands for; of a stale one, what has to be fetched."""

    stream_id: int | None
    is_current: bool


# What changed


async def record_change(
    session: AsyncSession, user_id: str, position: int, *, seen_by: str = EVERYBODY, stream_id: int | None = None
) -> int | None:
    """Returns the ``stream_id`` before; it stays if none is given. The caller has advanced the stream, so that
    nobody else is recording now."""
    this = (DeviceListChange.user_id == user_id) & (DeviceListChange.seen_by == seen_by)
    former: int | None = await session.scalar(select(DeviceListChange.stream_id).where(this))
    row = {"user_id": user_id, "seen_by": seen_by, "position": position, "stream_id": stream_id or former}
    await session.execute(
        insert(session, DeviceListChange)
        .values(row)
        .on_conflict_do_update(
            index_elements=["user_id", "seen_by"], set_={"position": position, "stream_id": stream_id or former}
        )
    )
    return former


async def changed_users(session: AsyncSession, since: int, upto: int, *, viewer: str) -> tuple[set[str], set[str]]:
    """Whose last change lies at ``since`` < position <= ``upto``: those who changed for everybody, and for ``viewer``
    alone."""
    statement = select(DeviceListChange.user_id, DeviceListChange.seen_by).where(
        DeviceListChange.position > since,
        DeviceListChange.position <= upto,
        DeviceListChange.seen_by.in_((EVERYBODY, viewer)),
    )
    rows = (await session.execute(statement)).all()
    everywhere = {row.user_id for row in rows if row.seen_by == EVERYBODY}
    return everywhere, {row.user_id for row in rows if row.seen_by == viewer}


def newest_position() -> ScalarSelect[Any]:
    """Of all changes, as a part of another question."""
    return select(func.max(DeviceListChange.position)).scalar_subquery()


async def stream_id(session: AsyncSession, user_id: str) -> int | None:
    """That of the user's last ``m.device_list_update``."""
    found: int | None = await session.scalar(
        select(DeviceListChange.stream_id).where(
            DeviceListChange.user_id == user_id, DeviceListChange.seen_by == EVERYBODY
        )
    )
    return found


# Lists of users elsewhere


async def kept_list(session: AsyncSession, user_id: str) -> KeptList | None:
    """Held until the transaction ends."""
    statement = select(RemoteDeviceList.stream_id, RemoteDeviceList.is_current)
    this = RemoteDeviceList.user_id == user_id
    row = (await session.execute(statement.where(this).with_for_update())).one_or_none()
    return KeptList(row.stream_id, row.is_current) if row else None


async def kept_users(session: AsyncSession, user_ids: Iterable[str]) -> set[str]:
    """Those of ``user_ids`` whose lists we keep, be they stale."""
    found: set[str] = set()
    for chunk in in_chunks(sorted(user_ids)):
        statement = select(RemoteDeviceList.user_id).where(RemoteDeviceList.user_id.in_(chunk))
        found.update(await session.scalars(statement))
    return found


async def current_lists(session: AsyncSession, user_ids: Iterable[str]) -> dict[str, int]:
    """At which position of the stream those lists of ``user_ids`` were fetched that have missed no update since."""
    found: dict[str, int] = {}
    for chunk in in_chunks(sorted(user_ids)):
        statement = select(RemoteDeviceList.user_id, RemoteDeviceList.position).where(
            RemoteDeviceList.user_id.in_(chunk), RemoteDeviceList.is_current.is_(True)
        )
        found.update({row.user_id: row.position for row in await session.execute(statement)})
    return found


async def keep_list(
    session: AsyncSession, user_id: str, stream_id: int, devices: Mapping[str, StoredDevice], *, position: int
) -> None:
    """The user's whole list, fetched at ``position``. It stays stale if an update came that it does not cover."""
    known = await kept_list(session, user_id)
    needed = known.stream_id if known is not None and not known.is_current else None
    await session.execute(delete(RemoteDevice).where(RemoteDevice.user_id == user_id))
    rows = [
        {"user_id": user_id, "device_id": device_id, "display_name": device.display_name, "keys": device.keys}
        for device_id, device in devices.items()
    ]
    await insert_missing(session, RemoteDevice, rows)
    if needed is None or stream_id >= needed:
        row = {
            "user_id": user_id,
            "stream_id": stream_id,
            "is_current": True,
            "due_ts": 0,
            "attempts": 0,
            "position": position,
        }
        statement = insert(session, RemoteDeviceList).values(row)
        await session.execute(statement.on_conflict_do_update(index_elements=["user_id"], set_=row))


async def mark_stale(session: AsyncSession, user_id: str, *, needed: int | None = None, due_ts: int) -> None:
    """Also begins to keep a list that was not kept. ``needed``: the stream ID up to which it has to be fetched."""
    row = {"user_id": user_id, "stream_id": needed, "is_current": False, "due_ts": due_ts, "attempts": 0}
    statement = insert(session, RemoteDeviceList).values({**row, "position": 0})
    await session.execute(statement.on_conflict_do_update(index_elements=["user_id"], set_=row))


async def put_off(session: AsyncSession, user_id: str, *, due_ts: int) -> None:
    """Try to fetch the list again at ``due_ts``."""
    await session.execute(
        update(RemoteDeviceList)
        .where(RemoteDeviceList.user_id == user_id, RemoteDeviceList.is_current.is_(False))
        .values(due_ts=due_ts, attempts=RemoteDeviceList.attempts + 1)
    )


async def stale_lists(session: AsyncSession, limit: int, *, now_ms: int) -> list[tuple[str, int]]:
    """User IDs whose lists are due to be fetched, and how often that failed."""
    statement = (
        select(RemoteDeviceList.user_id, RemoteDeviceList.attempts)
        .where(RemoteDeviceList.is_current.is_(False), RemoteDeviceList.due_ts <= now_ms)
        .order_by(RemoteDeviceList.due_ts)
        .limit(limit)
    )
    return [(row.user_id, row.attempts) for row in await session.execute(statement)]


async def put_device(session: AsyncSession, user_id: str, device_id: str, device: StoredDevice) -> None:
    row = {"user_id": user_id, "device_id": device_id, "display_name": device.display_name, "keys": device.keys}
    statement = insert(session, RemoteDevice).values(row)
    await session.execute(statement.on_conflict_do_update(index_elements=["user_id", "device_id"], set_=row))


async def remove_device(session: AsyncSession, user_id: str, device_id: str) -> None:
    this = (RemoteDevice.user_id == user_id) & (RemoteDevice.device_id == device_id)
    await session.execute(delete(RemoteDevice).where(this))


async def advance_list(session: AsyncSession, user_id: str, stream_id: int) -> None:
    """An update with this ID has been applied."""
    this = RemoteDeviceList.user_id == user_id
    await session.execute(update(RemoteDeviceList).where(this).values(stream_id=stream_id))


async def forget_lists(session: AsyncSession, user_ids: Collection[str]) -> None:
    for chunk in in_chunks(sorted(user_ids)):
        for table in (RemoteDevice, RemoteDeviceList):
            await session.execute(delete(table).where(table.user_id.in_(chunk)))


async def remote_devices(session: AsyncSession, user_ids: Iterable[str]) -> dict[str, dict[str, StoredDevice]]:
    """By user and device ID."""
    found: dict[str, dict[str, StoredDevice]] = {}
    for chunk in in_chunks(sorted(user_ids)):
        statement = select(
            RemoteDevice.user_id, RemoteDevice.device_id, RemoteDevice.display_name, RemoteDevice.keys.label("json")
        )
        for row in await session.execute(statement.where(RemoteDevice.user_id.in_(chunk))):
            found.setdefault(row.user_id, {})[row.device_id] = StoredDevice(row.display_name, row.json)
    return found


# How far it was looked who shares rooms


async def followed_position(session: AsyncSession) -> int:
    found: int | None = await session.scalar(select(FollowedPosition.position).where(FollowedPosition.row == _ONLY_ROW))
    return found or 0


async def set_followed_position(session: AsyncSession, position: int) -> None:
    row = {"row": _ONLY_ROW, "position": position}
    statement = insert(session, FollowedPosition).values(row)
    await session.execute(statement.on_conflict_do_update(index_elements=["row"], set_=row))
