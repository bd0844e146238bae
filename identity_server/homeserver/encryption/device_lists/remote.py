"""Other servers' users' devices: asking for them, and keeping what comes (Server-Server API, "Device Management")."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption import store
from identity_server.homeserver.encryption.device_lists import store as device_lists
from identity_server.homeserver.encryption.device_lists.store import StoredDevice
from identity_server.homeserver.encryption.key_json import public_key, stored, well_signed, without_unsigned
from identity_server.homeserver.encryption.store import StoredKey
from identity_server.homeserver.federation.calls import FederationCalls, federation_path
from identity_server.matrix.canonical_json import LARGEST_INTEGER
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identifiers import domain_of

_MAX_DEVICES = 10_000
_MAX_NAME_LENGTH = 1_000


@dataclass(frozen=True)
class DeviceList:
    """A user's devices and cross-signing keys, as the user's server tells them."""

    user_id: str
    stream_id: int
    devices: Mapping[str, StoredDevice]
    signing_keys: Mapping[str, StoredKey]
    """By usage."""


async def fetch_list(federation: FederationCalls, user_id: str, *, timeout_ms: int) -> DeviceList:
    """Raises ``Unreachable`` and ``Refused``."""
    path = federation_path("user", "devices", user_id)
    return read_list(user_id, await federation.get(domain_of(user_id), path, timeout_ms=timeout_ms))


async def keep(session: AsyncSession, fetched: DeviceList, *, position: int) -> None:
    """In place of what was known of the user; ``position``: of the stream, before it was asked for."""
    await device_lists.keep_list(session, fetched.user_id, fetched.stream_id, fetched.devices, position=position)
    await store.remove_cross_signing_keys(session, [fetched.user_id], (store.MASTER, store.SELF_SIGNING))
    for usage, key in fetched.signing_keys.items():
        await store.set_cross_signing_key(session, fetched.user_id, usage, key)


async def forget(session: AsyncSession, user_ids: Collection[str]) -> None:
    """Users with whom no room is shared any more: nobody would tell of changes."""
    await device_lists.forget_lists(session, user_ids)
    await store.remove_cross_signing_keys(session, user_ids, (store.MASTER, store.SELF_SIGNING))


def read_list(user_id: str, answer: Mapping[str, Any]) -> DeviceList:
    """The answer to ``GET /user/devices``. Raises ``Unreachable`` if it cannot be one.

    Devices that cannot be read are passed over: they harm only their own user.
    """
    listed, stream_id = answer.get("devices"), answer.get("stream_id")
    if not isinstance(listed, list) or not is_stream_id(stream_id) or answer.get("user_id", user_id) != user_id:
        raise Unreachable("the answer is no list of the user's devices")
    devices: dict[str, StoredDevice] = {}
    for described in listed[:_MAX_DEVICES]:
        if isinstance(described, dict) and is_device_id(device_id := described.get("device_id")):
            devices[device_id] = read_device(user_id, device_id, described)
    keys = {
        usage: read_signing_key(user_id, answer.get(f"{usage}_key")) for usage in (store.MASTER, store.SELF_SIGNING)
    }
    return DeviceList(user_id, stream_id, devices, {usage: key for usage, key in keys.items() if key})


def read_device(user_id: str, device_id: str, described: Mapping[str, Any]) -> StoredDevice:
    """What is told of a device; keys that are not its own count as none."""
    name = described.get("device_display_name")
    if not isinstance(name, str) or "\0" in name:
        name = None
    return StoredDevice(name and name[:_MAX_NAME_LENGTH], read_device_keys(user_id, device_id, described.get("keys")))


def read_device_keys(user_id: str, device_id: str, keys: Any) -> str | None:
    """As they are stored; None if they are no keys, or another device's."""
    if not isinstance(keys, dict) or not well_signed(keys):
        return None
    if keys.get("user_id", user_id) != user_id or keys.get("device_id", device_id) != device_id:
        return None
    try:
        return stored(without_unsigned(keys))
    except MatrixError:
        return None


def read_signing_key(user_id: str, key: Any) -> StoredKey | None:
    """A cross-signing key as it is stored; None if it is none of the user's."""
    if not isinstance(key, dict) or key.get("user_id") != user_id or not well_signed(key):
        return None
    try:
        return StoredKey(public_key(key).key_id.partition(":")[2], stored(without_unsigned(key)))
    except MatrixError:
        return None


def is_device_id(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= 512 and "\0" not in value


def is_stream_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_INTEGER
