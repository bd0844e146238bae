"""What goes with a device, and with an account."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption import cross_signing, store
from identity_server.homeserver.encryption.backups import store as backups
from identity_server.homeserver.encryption.device_lists.changes import devices_changed
from identity_server.homeserver.encryption.one_time_keys import store as one_time_keys
from identity_server.homeserver.encryption.to_device import store as to_device
from identity_server.homeserver.streams import Streams


async def forget_devices(session: AsyncSession, streams: Streams, user_id: str, device_ids: Collection[str]) -> None:
    """The user has logged these devices out: their keys and messages go, and everybody who shares a room is told."""
    await store.forget_device_keys(session, user_id, device_ids)
    await one_time_keys.forget_one_time_keys(session, user_id, device_ids)
    await to_device.forget_devices(session, user_id, device_ids)
    await devices_changed(session, streams, user_id, sorted(device_ids))


async def forget_account(session: AsyncSession, user_id: str) -> None:
    """The user is no more: cross-signing keys and backups go, too. The devices are for ``forget_devices``."""
    known = (await store.cross_signing_keys(session, [user_id])).get(user_id, {})
    await store.forget_signatures(session, user_id, [key.public_key for key in known.values()])
    await store.remove_cross_signing_keys(session, [user_id], cross_signing.USAGES)
    await backups.forget_backups(session, user_id)
