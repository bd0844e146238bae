"""What other servers tell of their users' keys: ``m.device_list_update`` and ``m.signing_key_update``.

Only users with whom ours share a room matter. Whatever cannot be applied to what is known makes the list stale; a
stale list is fetched anew, by whoever asks for it next or by ``resync.py``.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption import store
from identity_server.homeserver.encryption.device_lists import store as device_lists
from identity_server.homeserver.encryption.device_lists.changes import remote_keys_changed
from identity_server.homeserver.encryption.device_lists.remote import (
    is_device_id,
    is_stream_id,
    read_device,
    read_signing_key,
)
from identity_server.homeserver.streams import Streams
from identity_server.homeserver.timeline import sharing
from identity_server.matrix.errors import InvalidParam
from identity_server.matrix.identifiers import check_user_id, domain_of


async def receive_device_list_update(
    session: AsyncSession,
    streams: Streams,
    origin: str,
    content: Mapping[str, Any],
    *,
    server_name: str,
    now_ms: int,
) -> None:
    """Raises ``InvalidParam`` for what is none, or not for ``origin`` to tell."""
    user_id, device_id, stream_id = _told_of(content, origin), content.get("device_id"), content.get("stream_id")
    if not is_device_id(device_id) or not is_stream_id(stream_id):
        raise InvalidParam("The update names no device")
    if not await sharing.shared_with_server(session, [user_id], server_name):
        return
    kept = await device_lists.kept_list(session, user_id)
    if kept is not None and kept.is_current and kept.stream_id is not None:
        if stream_id <= kept.stream_id:
            return  # told before
        if _follows(content.get("prev_id"), kept.stream_id):
            await _apply(session, user_id, device_id, stream_id, content)
            await remote_keys_changed(session, streams, user_id)
            return
    await device_lists.mark_stale(session, user_id, needed=stream_id, due_ts=now_ms)
    await remote_keys_changed(session, streams, user_id)


async def receive_signing_key_update(
    session: AsyncSession, streams: Streams, origin: str, content: Mapping[str, Any], *, server_name: str
) -> None:
    """Raises ``InvalidParam``."""
    user_id = _told_of(content, origin)
    if not await sharing.shared_with_server(session, [user_id], server_name):
        return
    for usage in (store.MASTER, store.SELF_SIGNING):
        key = read_signing_key(user_id, content.get(f"{usage}_key"))
        if key is not None:
            await store.set_cross_signing_key(session, user_id, usage, key)
    await remote_keys_changed(session, streams, user_id)


async def _apply(
    session: AsyncSession, user_id: str, device_id: str, stream_id: int, content: Mapping[str, Any]
) -> None:
    if content.get("deleted") is True:
        await device_lists.remove_device(session, user_id, device_id)
    else:
        await device_lists.put_device(session, user_id, device_id, read_device(user_id, device_id, content))
    await device_lists.advance_list(session, user_id, stream_id)


def _follows(prev_ids: Any, known: int) -> bool:
    """Whether nothing lies between what is known and an update that refers to ``prev_ids``.

    A list that was fetched stands for every update up to its own ID.
    """
    if not isinstance(prev_ids, list) or not prev_ids:
        return False
    return all(is_stream_id(prev_id) and prev_id <= known for prev_id in prev_ids)


def _told_of(content: Mapping[str, Any], origin: str) -> str:
    user_id = content.get("user_id")
    try:
        if isinstance(user_id, str) and domain_of(check_user_id(user_id)) == origin:
            return user_id
    except ValueError as error:
        raise InvalidParam("The update is of no user") from error
    raise InvalidParam("The update is of no user of the origin")
