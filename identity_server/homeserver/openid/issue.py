"""Tokens that prove to other services who somebody is (Client-Server API, "OpenID")."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.openid import store
from identity_server.runtime.tokens import Entropy, token_hash

_LIFETIME_SECONDS = 3600
_TOKEN_LENGTH = 43


async def issue_openid_token(
    session: AsyncSession, user_id: str, *, server_name: str, entropy: Entropy, now_ms: int
) -> dict[str, Any]:
    """The token in the form in which clients and identity servers take it."""
    token = entropy.token(_TOKEN_LENGTH)
    await store.purge_expired_tokens(session, now_ms=now_ms)
    await store.add_token(session, token_hash(token), user_id, expires_ts=now_ms + _LIFETIME_SECONDS * 1000)
    return {
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": server_name,
        "expires_in": _LIFETIME_SECONDS,
    }
