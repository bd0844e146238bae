"""Uploading a device's keys (Client-Server API, "Uploading keys")."""

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access.current import Requester
from identity_server.homeserver.encryption import store
from identity_server.homeserver.encryption.device_lists.changes import devices_changed
from identity_server.homeserver.encryption.key_json import stored, unsigned_form, well_signed, without_unsigned
from identity_server.homeserver.streams import Streams
from identity_server.matrix.errors import BadJson


async def upload_device_keys(session: AsyncSession, streams: Streams, user: Requester, keys: Mapping[str, Any]) -> None:
    """In place of the device's former keys; the same again change nothing. Raises ``BadJson``."""
    _check(keys, user)
    uploaded = stored(without_unsigned(keys))
    former = await store.keys_of_device(session, user.user_id, user.device_id)
    if uploaded == former:
        return
    if former is not None and unsigned_form(orjson.loads(former)) != unsigned_form(keys):
        # What was signed is no more.
        await store.forget_device_keys(session, user.user_id, [user.device_id])
    await store.set_device_keys(session, user.user_id, user.device_id, uploaded)
    await devices_changed(session, streams, user.user_id, [user.device_id])


def _check(keys: Mapping[str, Any], user: Requester) -> None:
    if keys.get("user_id") != user.user_id or keys.get("device_id") != user.device_id:
        raise BadJson("The device keys are those of another device")
    algorithms, named = keys.get("algorithms"), keys.get("keys")
    if not isinstance(algorithms, list) or not all(isinstance(algorithm, str) for algorithm in algorithms):
        raise BadJson("device_keys.algorithms is not a list of algorithms")
    if not isinstance(named, dict) or not all(isinstance(key, str) for key in named.values()):
        raise BadJson("device_keys.keys are not keys by their IDs")
    # Clients trust no device that does not sign its keys; some upload such nevertheless.
    if not well_signed(keys):
        raise BadJson("device_keys.signatures are not signatures by signer and key ID")
