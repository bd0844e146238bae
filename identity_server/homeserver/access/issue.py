"""Logging a device in (Client-Server API, "Relationship between access tokens and devices")."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access import store
from identity_server.homeserver.access.removal import DeviceWatchers
from identity_server.matrix.errors import UnknownToken
from identity_server.runtime.tokens import Entropy, token_hash

_TOKEN_LENGTH = 43  # 256 bits in base62
_DEVICE_ID_LENGTH = 10
_DEVICE_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


async def issue_token(
    session: AsyncSession,
    user_id: str,
    device_id: str | None,
    display_name: str | None,
    *,
    entropy: Entropy,
    now_ms: int,
    lifetime_ms: int | None = None,
    watchers: DeviceWatchers,
) -> dict[str, Any]:
    """A new token on the device, known or not, in place of those that it had: ``access_token`` and ``device_id``.

    With a ``lifetime_ms`` it expires, and comes with a ``refresh_token`` and ``expires_in_ms``.
    """
    device_id = device_id or entropy.token(_DEVICE_ID_LENGTH, _DEVICE_ID_ALPHABET)
    is_new = await store.ensure_device(session, user_id, device_id, display_name, now_ms=now_ms)
    await store.remove_tokens(session, user_id, device_id)
    tokens = await _new_tokens(
        session, user_id, device_id, entropy=entropy, now_ms=now_ms, lifetime_ms=lifetime_ms, unused=False
    )
    if is_new:
        for tell in watchers.added:
            await tell(session, user_id, device_id)
    return {**tokens, "device_id": device_id}


async def refresh(
    session: AsyncSession, refresh_token: str, *, entropy: Entropy, now_ms: int, lifetime_ms: int
) -> dict[str, Any]:
    """``access_token``, ``refresh_token`` and ``expires_in_ms`` ("Refreshing access tokens").

    The tokens before stay good until one of these is used. Raises ``UnknownToken``.
    """
    hashed = token_hash(refresh_token)
    used = await store.refresh_token(session, hashed)
    if used is None:
        raise UnknownToken("Unrecognised refresh token", soft_logout=False)
    await store.revoke_before(session, hashed)
    if used.replaced_by is not None:  # the answer got lost, and what was in it is not to be used any more
        await store.revoke(session, used.replaced_by)
    tokens = await _new_tokens(
        session, used.user_id, used.device_id, entropy=entropy, now_ms=now_ms, lifetime_ms=lifetime_ms, unused=True
    )
    await store.set_replaced(session, hashed, token_hash(tokens["refresh_token"]))
    return tokens


async def _new_tokens(
    session: AsyncSession,
    user_id: str,
    device_id: str,
    *,
    entropy: Entropy,
    now_ms: int,
    lifetime_ms: int | None,
    unused: bool,
) -> dict[str, Any]:
    tokens: dict[str, Any] = {"access_token": entropy.token(_TOKEN_LENGTH)}
    came_with, expires_ts = None, None
    if lifetime_ms is not None:
        tokens |= {"refresh_token": entropy.token(_TOKEN_LENGTH), "expires_in_ms": lifetime_ms}
        came_with, expires_ts = token_hash(tokens["refresh_token"]), now_ms + lifetime_ms
        await store.add_refresh_token(session, came_with, user_id, device_id, now_ms=now_ms)
    await store.add_token(
        session,
        token_hash(tokens["access_token"]),
        user_id,
        device_id,
        now_ms=now_ms,
        expires_ts=expires_ts,
        came_with=came_with,
        unused=unused,
    )
    return tokens
