from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.backups.replace import Standing
from identity_server.homeserver.encryption.models import BackedUpKey, KeyBackup
from identity_server.runtime.database import in_chunks, insert


class StoredSession(NamedTuple):
    """A backed up key; ``session_data`` is JSON."""

    room_id: str
    session_id: str
    standing: Standing
    session_data: str


async def add_backup(session: AsyncSession, user_id: str, algorithm: str, auth_data: str) -> int:
    """The new version's number: one more than that of the last, deleted or not."""
    while True:
        last: int | None = await session.scalar(select(func.max(KeyBackup.version)).where(KeyBackup.user_id == user_id))
        version = (last or 0) + 1
        row = {
            "user_id": user_id,
            "version": version,
            "algorithm": algorithm,
            "auth_data": auth_data,
            "etag": 0,
            "count": 0,
            "deleted": False,
        }
        statement = insert(session, KeyBackup).values(row).on_conflict_do_nothing().returning(KeyBackup.version)
        if await session.scalar(statement) is not None:
            return version


async def find_backup(
    session: AsyncSession, user_id: str, version: int | None = None, *, lock: bool = False
) -> KeyBackup | None:
    """Without a ``version`` the current one. ``lock``: nobody else changes it until the transaction ends."""
    statement = select(KeyBackup).where(KeyBackup.user_id == user_id, KeyBackup.deleted.is_(False))
    if version is not None:
        statement = statement.where(KeyBackup.version == version)
    statement = statement.order_by(KeyBackup.version.desc()).limit(1)
    found: KeyBackup | None = await session.scalar(statement.with_for_update() if lock else statement)
    return found


async def was_backup(session: AsyncSession, user_id: str, version: int) -> bool:
    """Whether there is or was such a version."""
    this = (KeyBackup.user_id == user_id) & (KeyBackup.version == version)
    return await session.scalar(select(KeyBackup.version).where(this)) is not None


async def set_auth_data(session: AsyncSession, user_id: str, version: int, auth_data: str) -> None:
    this = (KeyBackup.user_id == user_id) & (KeyBackup.version == version)
    await session.execute(update(KeyBackup).where(this).values(auth_data=auth_data))


async def set_etag_and_count(session: AsyncSession, user_id: str, version: int, etag: int, count: int) -> None:
    this = (KeyBackup.user_id == user_id) & (KeyBackup.version == version)
    await session.execute(update(KeyBackup).where(this).values(etag=etag, count=count))


async def delete_backup(session: AsyncSession, user_id: str, version: int) -> None:
    """With its keys; what was its number is remembered."""
    await delete_sessions(session, user_id, version)
    this = (KeyBackup.user_id == user_id) & (KeyBackup.version == version)
    await session.execute(update(KeyBackup).where(this).values(deleted=True, auth_data="{}", count=0))


async def forget_backups(session: AsyncSession, user_id: str) -> None:
    """All versions, with their keys."""
    await session.execute(delete(BackedUpKey).where(BackedUpKey.user_id == user_id))
    await session.execute(delete(KeyBackup).where(KeyBackup.user_id == user_id))


# Keys


async def standings(
    session: AsyncSession, user_id: str, version: int, ids: Collection[tuple[str, str]]
) -> dict[tuple[str, str], Standing]:
    """Those of ``ids`` (room and session) that are stored."""
    found: dict[tuple[str, str], Standing] = {}
    for chunk in in_chunks(sorted(ids)):
        statement = select(
            BackedUpKey.room_id,
            BackedUpKey.session_id,
            BackedUpKey.is_verified,
            BackedUpKey.first_message_index,
            BackedUpKey.forwarded_count,
        ).where(
            BackedUpKey.user_id == user_id,
            BackedUpKey.version == version,
            tuple_(BackedUpKey.room_id, BackedUpKey.session_id).in_(chunk),
        )
        for row in await session.execute(statement):
            found[row.room_id, row.session_id] = Standing(row.is_verified, row.first_message_index, row.forwarded_count)
    return found


async def put_sessions(session: AsyncSession, user_id: str, version: int, keys: Iterable[StoredSession]) -> None:
    """Whatever was stored under their IDs."""
    rows = [
        {
            "user_id": user_id,
            "version": version,
            "room_id": key.room_id,
            "session_id": key.session_id,
            **key.standing._asdict(),
            "session_data": key.session_data,
        }
        for key in keys
    ]
    for chunk in in_chunks(rows):
        statement = insert(session, BackedUpKey)
        new = statement.excluded
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=["user_id", "version", "room_id", "session_id"],
                set_={name: new[name] for name in (*Standing._fields, "session_data")},
            ),
            list(chunk),
        )


async def sessions(
    session: AsyncSession, user_id: str, version: int, room_id: str | None = None, session_id: str | None = None
) -> list[StoredSession]:
    """All, those of a room, or one."""
    statement = select(
        BackedUpKey.room_id,
        BackedUpKey.session_id,
        BackedUpKey.is_verified,
        BackedUpKey.first_message_index,
        BackedUpKey.forwarded_count,
        BackedUpKey.session_data,
    ).where(BackedUpKey.user_id == user_id, BackedUpKey.version == version)
    if room_id is not None:
        statement = statement.where(BackedUpKey.room_id == room_id)
    if session_id is not None:
        statement = statement.where(BackedUpKey.session_id == session_id)
    statement = statement.order_by(BackedUpKey.room_id, BackedUpKey.session_id)
    return [
        StoredSession(row[0], row[1], Standing(row[2], row[3], row[4]), row[5])
        for row in await session.execute(statement)
    ]


async def delete_sessions(
    session: AsyncSession, user_id: str, version: int, room_id: str | None = None, session_id: str | None = None
) -> int:
    """All, those of a room, or one; how many there were."""
    statement = delete(BackedUpKey).where(BackedUpKey.user_id == user_id, BackedUpKey.version == version)
    if room_id is not None:
        statement = statement.where(BackedUpKey.room_id == room_id)
    if session_id is not None:
        statement = statement.where(BackedUpKey.session_id == session_id)
    result = await session.execute(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount
