"""What encryption has to know of devices, as ``access/removal.py`` tells it."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access.removal import DeviceWatchers
from identity_server.homeserver.encryption import store
from identity_server.homeserver.encryption.device_lists.changes import devices_changed
from identity_server.homeserver.encryption.forget import forget_devices
from identity_server.homeserver.streams import Streams
from identity_server.matrix.errors import Forbidden


def device_watchers(streams: Streams) -> DeviceWatchers:
    async def added(session: AsyncSession, user_id: str, device_id: str) -> None:
        # "Servers therefore must ensure that device IDs will not collide with cross-signing public keys."
        keys = (await store.cross_signing_keys(session, [user_id])).get(user_id, {})
        if device_id in {key.public_key for key in keys.values()}:
            raise Forbidden("The device ID is that of a cross-signing key")
        await devices_changed(session, streams, user_id, [device_id])

    async def renamed(session: AsyncSession, user_id: str, device_id: str) -> None:
        await devices_changed(session, streams, user_id, [device_id])

    async def gone(session: AsyncSession, user_id: str, device_ids: Collection[str]) -> None:
        await forget_devices(session, streams, user_id, device_ids)

    return DeviceWatchers(added=(added,), renamed=(renamed,), gone=(gone,))
