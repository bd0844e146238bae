"""Backups of room keys, in versions of which the last is written to (Client-Server API, "Server-side key backups")."""

from collections.abc import Collection
from typing import Any

from orjson import Fragment
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.backups import store
from identity_server.homeserver.encryption.backups.replace import replaces
from identity_server.homeserver.encryption.backups.store import StoredSession
from identity_server.homeserver.encryption.models import KeyBackup
from identity_server.matrix.errors import InvalidParam, NotFound, WrongRoomKeysVersion


async def create(session: AsyncSession, user_id: str, algorithm: str, auth_data: str) -> str:
    """The ``version`` of the new backup, which is the current one from now on. ``auth_data``: JSON."""
    return str(await store.add_backup(session, user_id, algorithm, auth_data))


async def describe(session: AsyncSession, user_id: str, version: str | None) -> dict[str, Any]:
    """What is known of a version, or of the current one; ``auth_data`` as JSON. Raises ``NotFound``."""
    backup = await _found(session, user_id, version)
    return {
        "algorithm": backup.algorithm,
        "auth_data": Fragment(backup.auth_data),
        "version": str(backup.version),
        **_etag_and_count(backup.etag, backup.count),
    }


async def change(
    session: AsyncSession, user_id: str, version: str, *, named_version: str | None, algorithm: str, auth_data: str
) -> None:
    """Set ``auth_data``. Raises ``NotFound``, and ``InvalidParam`` for another algorithm or another version's name."""
    if named_version is not None and named_version != version:
        raise InvalidParam("The version in the body is not the one in the path")
    backup = await _found(session, user_id, version, lock=True)
    if algorithm != backup.algorithm:
        raise InvalidParam("Algorithm does not match")
    await store.set_auth_data(session, user_id, backup.version, auth_data)


async def remove(session: AsyncSession, user_id: str, version: str) -> None:
    """Also succeeds if it has been deleted before. Raises ``NotFound``."""
    number = _number(version)
    if await store.find_backup(session, user_id, number, lock=True) is not None:
        await store.delete_backup(session, user_id, number)
    elif not await store.was_backup(session, user_id, number):
        raise NotFound("Unknown backup version")


async def put_keys(
    session: AsyncSession, user_id: str, version: str, keys: Collection[StoredSession]
) -> dict[str, Any]:
    """``etag`` and ``count`` of the backup, with ``keys`` where they are better than what was there.

    Raises ``NotFound``, and ``WrongRoomKeysVersion`` if the version is not the current one.
    """
    backup = await _found(session, user_id, None, lock=True)
    if backup.version != _number(version):
        await _found(session, user_id, version)
        raise WrongRoomKeysVersion("Wrong backup version.", current_version=str(backup.version))
    kept = await store.standings(session, user_id, backup.version, {(key.room_id, key.session_id) for key in keys})
    better = [
        key
        for key in keys
        if (key.room_id, key.session_id) not in kept or replaces(key.standing, kept[key.room_id, key.session_id])
    ]
    if not better:
        return _etag_and_count(backup.etag, backup.count)
    await store.put_sessions(session, user_id, backup.version, better)
    new = sum((key.room_id, key.session_id) not in kept for key in better)
    return await _changed(session, backup, new)


async def get_keys(
    session: AsyncSession, user_id: str, version: str, room_id: str | None = None, session_id: str | None = None
) -> list[StoredSession]:
    """All, those of a room, or one. Raises ``NotFound``."""
    backup = await _found(session, user_id, version)
    return await store.sessions(session, user_id, backup.version, room_id, session_id)


async def remove_keys(
    session: AsyncSession, user_id: str, version: str, room_id: str | None = None, session_id: str | None = None
) -> dict[str, Any]:
    """``etag`` and ``count``, without all keys, those of a room, or one. Raises ``NotFound``."""
    backup = await _found(session, user_id, version, lock=True)
    removed = await store.delete_sessions(session, user_id, backup.version, room_id, session_id)
    if not removed:
        return _etag_and_count(backup.etag, backup.count)
    return await _changed(session, backup, -removed)


async def _changed(session: AsyncSession, backup: KeyBackup, more: int) -> dict[str, Any]:
    etag, count = backup.etag + 1, backup.count + more
    await store.set_etag_and_count(session, backup.user_id, backup.version, etag, count)
    return _etag_and_count(etag, count)


def _etag_and_count(etag: int, count: int) -> dict[str, Any]:
    return {"etag": str(etag), "count": count}


async def _found(session: AsyncSession, user_id: str, version: str | None, *, lock: bool = False) -> KeyBackup:
    number = None if version is None else _number(version)
    backup = await store.find_backup(session, user_id, number, lock=lock)
    if backup is None:
        raise NotFound("No current backup version" if version is None else "Unknown backup version")
    return backup


def _number(version: str) -> int:
    # Versions are opaque: what is none of ours is merely unknown.
    if not (version.isascii() and version.isdecimal() and len(version) < 16):
        raise NotFound("Unknown backup version")
    return int(version)
