"""Uploading one-time and fallback keys (Client-Server API, "One-time and fallback keys")."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access.current import Requester
from identity_server.homeserver.encryption.key_json import stored, well_signed
from identity_server.homeserver.encryption.one_time_keys import store
from identity_server.matrix.errors import BadJson, InvalidParam

_MAX_KEYS = 2_000
_MAX_ID_LENGTH = 255

ByID = dict[tuple[str, str], str]
"""Keys, as JSON, by algorithm and key ID."""


async def upload_one_time_keys(session: AsyncSession, user: Requester, keys: Mapping[str, Any]) -> None:
    """The same key again changes nothing. Raises ``InvalidParam`` for another one under an ID that is taken."""
    if conflicts := await store.add_one_time_keys(session, user.user_id, user.device_id, _read(keys)):
        algorithm, key_id = min(conflicts)
        raise InvalidParam(f"One time key {algorithm}:{key_id} already exists")


async def upload_fallback_keys(session: AsyncSession, user: Requester, keys: Mapping[str, Any]) -> None:
    """Each in place of the former one of its algorithm. Raises ``InvalidParam`` for two of one algorithm."""
    read = _read(keys)
    if len({algorithm for algorithm, _ in read}) < len(read):
        raise InvalidParam("There is at most one fallback key of an algorithm")
    for (algorithm, key_id), key in read.items():
        await store.set_fallback_key(session, user.user_id, user.device_id, algorithm, key_id, key)


def _read(keys: Mapping[str, Any]) -> ByID:
    """Raises ``BadJson``."""
    if len(keys) > _MAX_KEYS:
        raise BadJson("Too many keys at once")
    read: ByID = {}
    for name, key in keys.items():
        algorithm, colon, key_id = name.partition(":")
        if not (algorithm and colon and key_id) or "\0" in name or len(name) > _MAX_ID_LENGTH:
            raise BadJson("A key is named <algorithm>:<key ID>")
        if not isinstance(key, str) and not (
            isinstance(key, dict) and isinstance(key.get("key"), str) and well_signed(key)
        ):
            raise BadJson("A key is a string, or an object with a key and signatures")
        read[algorithm, key_id] = stored(key)
    return read
