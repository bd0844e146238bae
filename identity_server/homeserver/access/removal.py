"""Ending devices, whose tokens go with them, and all else that other capabilities keep for a device."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Annotated

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access import store
from identity_server.runtime.dependencies import opened

DevicesGone = Callable[[AsyncSession, str, Collection[str]], Awaitable[None]]
"""Told, in the transaction, of a user's device IDs that are no more."""
DeviceAdded = Callable[[AsyncSession, str, str], Awaitable[None]]
"""Told, in the transaction, of a new device (user ID, device ID); what it raises keeps the device from being added."""
DeviceRenamed = Callable[[AsyncSession, str, str], Awaitable[None]]
"""Told, in the transaction, that a device (user ID, device ID) has another display name."""


@dataclass(frozen=True)
class DeviceWatchers:
    """Who has to know of devices; handed down, for they stand above."""

    added: tuple[DeviceAdded, ...] = ()
    gone: tuple[DevicesGone, ...] = ()
    renamed: tuple[DeviceRenamed, ...] = ()


OpenDeviceWatchers = Annotated[DeviceWatchers, opened("device_watchers")]


async def remove_devices(
    session: AsyncSession, user_id: str, device_ids: Collection[str], *, watchers: DeviceWatchers
) -> None:
    """Those of ``device_ids`` that there are."""
    known = {device.device_id for device in await store.devices_of(session, user_id)}
    if gone := known.intersection(device_ids):
        await store.remove_devices(session, user_id, gone)
        for tell in watchers.gone:
            await tell(session, user_id, sorted(gone))


async def remove_all_devices(
    session: AsyncSession, user_id: str, *, watchers: DeviceWatchers, but: str | None = None
) -> None:
    """All of the user's, except that with the device ID ``but``."""
    devices = {device.device_id for device in await store.devices_of(session, user_id)}
    await remove_devices(session, user_id, devices - {but}, watchers=watchers)
