"""Laying messages down for devices of ours, until they fetch them."""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access import store as access
from identity_server.homeserver.encryption.to_device import store
from identity_server.homeserver.streams import Streams, advance

EVERY_DEVICE = "*"


async def deliver(
    session: AsyncSession, streams: Streams, sender: str, event_type: str, messages: Mapping[str, Mapping[str, str]]
) -> None:
    """``messages``: JSON by user and device ID. Who and what is unknown is passed over. Call it last."""
    contents: dict[tuple[str, str], str] = {}
    for user_id, device_id in await access.devices_of_users(session, messages):
        content = messages[user_id].get(device_id, messages[user_id].get(EVERY_DEVICE))
        if content is not None:
            contents[user_id, device_id] = content
    if contents:
        position = await advance(session, streams, *{user_id for user_id, _ in contents})
        await store.add_messages(session, sender, event_type, contents, position=position)
