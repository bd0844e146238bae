"""Sending messages to devices (Client-Server API, "Send-to-Device messaging")."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access.current import Requester
from identity_server.homeserver.encryption.key_json import opaque, stored
from identity_server.homeserver.encryption.to_device import store
from identity_server.homeserver.encryption.to_device.deliver import deliver
from identity_server.homeserver.federation.edus import queue_edu
from identity_server.homeserver.streams import Streams
from identity_server.matrix.errors import InvalidParam, TooLarge
from identity_server.matrix.identifiers import check_user_id, domain_of
from identity_server.runtime.tokens import Entropy

DIRECT_TO_DEVICE = "m.direct_to_device"

# As long as an event may be: a message says no more than one.
_MAX_CONTENT_BYTES = 65_536
_MAX_EDU_BYTES = 65_536
_MESSAGE_ID_LENGTH = 32
_REMEMBERED_MS = 86_400_000

Messages = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Contents by user and device ID (``*``: each of the user's)."""


async def send_to_devices(
    session: AsyncSession,
    streams: Streams,
    sender: Requester,
    event_type: str,
    txn_id: str,
    messages: Messages,
    *,
    server_name: str,
    entropy: Entropy,
    now_ms: int,
) -> None:
    """Once for each ``txn_id``. Raises ``InvalidParam``, ``BadJson`` and ``TooLarge``; then nobody is sent anything."""
    local, remote = _sorted(messages, server_name)
    await store.purge_transactions(session, sent_before_ts=now_ms - _REMEMBERED_MS)
    if not await store.begin_transaction(session, sender.user_id, sender.device_id, event_type, txn_id, now_ms=now_ms):
        return
    for server, to_users in remote.items():
        for part in _in_parts(to_users):
            content = {
                "sender": sender.user_id,
                "type": event_type,
                "message_id": entropy.token(_MESSAGE_ID_LENGTH),
                "messages": part,
            }
            await queue_edu(session, server, DIRECT_TO_DEVICE, content, streams=streams)
    await deliver(session, streams, sender.user_id, event_type, local)


def _sorted(
    messages: Messages, server_name: str
) -> tuple[dict[str, dict[str, str]], dict[str, list[tuple[str, str, Mapping[str, Any], int]]]]:
    """JSON for users of ours, by user and device ID; for others (user, device, content, size) by server."""
    local: dict[str, dict[str, str]] = {}
    remote: dict[str, list[tuple[str, str, Mapping[str, Any], int]]] = defaultdict(list)
    for user_id, by_device in messages.items():
        try:
            server = domain_of(check_user_id(user_id))
        except ValueError as error:
            raise InvalidParam("messages are named by user and device ID") from error
        for device_id, content in by_device.items():
            # What goes to other servers is signed.
            written = opaque(content) if server == server_name else stored(content)
            size = len(written.encode())
            if size > _MAX_CONTENT_BYTES:
                raise TooLarge("A message is too large")
            if server == server_name:
                local.setdefault(user_id, {})[device_id] = written
            else:
                remote[server].append((user_id, device_id, content, size))
    return local, remote


def _in_parts(
    messages: list[tuple[str, str, Mapping[str, Any], int]],
) -> Iterator[dict[str, dict[str, Mapping[str, Any]]]]:
    """``messages`` of EDUs that are no longer than other servers take."""
    part: dict[str, dict[str, Mapping[str, Any]]] = {}
    total = 0
    for user_id, device_id, content, size in messages:
        if part and total + size > _MAX_EDU_BYTES:
            yield part
            part, total = {}, 0
        part.setdefault(user_id, {})[device_id] = content
        total += size + len(user_id) + len(device_id)
    if part:
        yield part
