"""Logging a device in (Client-Server API, "Relationship between access tokens and devices")."""

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access import store
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
) -> dict[str, str]:
    """A new token on the device, known or not, in place of those that it had: ``access_token`` and ``device_id``."""
    device_id = device_id or entropy.token(_DEVICE_ID_LENGTH, _DEVICE_ID_ALPHABET)
    token = entropy.token(_TOKEN_LENGTH)
    await store.ensure_device(session, user_id, device_id, display_name, now_ms=now_ms)
    await store.replace_token(session, token_hash(token), user_id, device_id, now_ms=now_ms)
    return {"access_token": token, "device_id": device_id}
