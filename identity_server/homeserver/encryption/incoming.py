"""Which EDUs of other servers are about encryption, and what becomes of them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.device_lists.changes import DEVICE_LIST_UPDATE, SIGNING_KEY_UPDATE
from identity_server.homeserver.encryption.device_lists.incoming import (
    receive_device_list_update,
    receive_signing_key_update,
)
from identity_server.homeserver.encryption.to_device.incoming import receive_direct_to_device
from identity_server.homeserver.encryption.to_device.send import DIRECT_TO_DEVICE
from identity_server.homeserver.federation.edus import Edus
from identity_server.homeserver.streams import Streams
from identity_server.runtime.clock import Clock


def incoming_edus(streams: Streams, clock: Clock, *, server_name: str) -> Edus:
    """Who is told of them, by type."""

    async def direct_to_device(session: AsyncSession, origin: str, content: Mapping[str, Any]) -> None:
        await receive_direct_to_device(
            session, streams, origin, content, server_name=server_name, now_ms=clock.now_ms()
        )

    async def device_list_update(session: AsyncSession, origin: str, content: Mapping[str, Any]) -> None:
        await receive_device_list_update(
            session, streams, origin, content, server_name=server_name, now_ms=clock.now_ms()
        )

    async def signing_key_update(session: AsyncSession, origin: str, content: Mapping[str, Any]) -> None:
        await receive_signing_key_update(session, streams, origin, content, server_name=server_name)

    return {
        DIRECT_TO_DEVICE: direct_to_device,
        DEVICE_LIST_UPDATE: device_list_update,
        SIGNING_KEY_UPDATE: signing_key_update,
    }
