"""Claiming keys (Client-Server API, ``POST /keys/claim``): a one-time key if there is one left, else a fallback key."""

from collections.abc import Collection
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.one_time_keys import store
from identity_server.homeserver.encryption.one_time_keys.store import Wanted

Claimed = dict[str, dict[str, dict[str, Any]]]
"""Keys by user, device, and ``<algorithm>:<key ID>``."""


async def claim_local(session: AsyncSession, wanted: Collection[Wanted]) -> Claimed:
    """Keys of devices of ours. Devices that have none are missing."""
    given = await store.take_one_time_keys(session, sorted(wanted))
    if missing := set(wanted) - {key.wanted for key in given}:
        given += await store.take_fallback_keys(session, sorted(missing))
    claimed: Claimed = {}
    for key in given:
        of_device = claimed.setdefault(key.wanted.user_id, {}).setdefault(key.wanted.device_id, {})
        of_device[f"{key.wanted.algorithm}:{key.key_id}"] = orjson.loads(key.key)
    return claimed
