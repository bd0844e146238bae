"""``m.direct_to_device``: messages of other servers' users to devices of ours."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.key_json import opaque
from identity_server.homeserver.encryption.to_device import store
from identity_server.homeserver.encryption.to_device.deliver import deliver
from identity_server.homeserver.streams import Streams
from identity_server.matrix.errors import InvalidParam
from identity_server.matrix.identifiers import check_user_id, domain_of

_MAX_MESSAGE_ID_LENGTH = 255
_REMEMBERED_MS = 30 * 86_400_000


async def receive_direct_to_device(
    session: AsyncSession,
    streams: Streams,
    origin: str,
    content: Mapping[str, Any],
    *,
    server_name: str,
    now_ms: int,
) -> None:
    """Each ``message_id`` of a server once. Raises ``InvalidParam`` and ``BadJson``."""
    sender, event_type, message_id = (_text(content.get(name)) for name in ("sender", "type", "message_id"))
    if not _is_of(sender, origin) or len(message_id) > _MAX_MESSAGE_ID_LENGTH:
        raise InvalidParam("The message is none of the origin")
    messages = content.get("messages")
    if not isinstance(messages, dict):
        raise InvalidParam("There are no messages")
    await store.purge_received(session, received_before_ts=now_ms - _REMEMBERED_MS)
    if not await store.begin_receiving(session, origin, message_id, now_ms=now_ms):
        return
    readable = {
        user_id: {device_id: opaque(message) for device_id, message in by_device.items() if isinstance(message, dict)}
        for user_id, by_device in messages.items()
        if isinstance(by_device, dict) and _is_of(user_id, server_name)
    }
    await deliver(session, streams, sender, event_type, readable)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise InvalidParam("A message has a sender, a type and a message_id")
    return value


def _is_of(user_id: str, server_name: str) -> bool:
    try:
        return domain_of(check_user_id(user_id)) == server_name
    except ValueError:
        return False
