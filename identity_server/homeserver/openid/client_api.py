"""Asking for a token that proves to another service who one is (Client-Server API, "OpenID")."""

from typing import Any

from fastapi import APIRouter

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.openid import store
from identity_server.matrix.errors import Forbidden
from identity_server.runtime.dependencies import Now, OpenSettings, Random, Transaction
from identity_server.runtime.tokens import token_hash

router = APIRouter(tags=["openid"])

_LIFETIME_SECONDS = 3600
_TOKEN_LENGTH = 43


@router.post("/user/{user_id}/openid/request_token")
async def request_token(
    user_id: str, user: CurrentUser, session: Transaction, settings: OpenSettings, entropy: Random, now_ms: Now
) -> dict[str, Any]:
    if user_id != user.user_id:
        raise Forbidden("An OpenID token can be had for oneself only")
    token = entropy.token(_TOKEN_LENGTH)
    await store.purge_expired_tokens(session, now_ms=now_ms)
    await store.add_token(session, token_hash(token), user_id, expires_ts=now_ms + _LIFETIME_SECONDS * 1000)
    return {
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": settings.homeserver.name,
        "expires_in": _LIFETIME_SECONDS,
    }
