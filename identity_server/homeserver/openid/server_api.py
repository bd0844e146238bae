"""Telling another service who a token's holder is (Server-Server API, "OpenID")."""

from fastapi import APIRouter

from identity_server.homeserver.openid import store
from identity_server.matrix.errors import MissingToken, UnknownToken
from identity_server.runtime.dependencies import Now, Reading
from identity_server.runtime.tokens import token_hash

router = APIRouter(prefix="/_matrix/federation/v1/openid", tags=["openid"])


@router.get("/userinfo")
async def get_userinfo(session: Reading, now_ms: Now, access_token: str = "") -> dict[str, str]:
    if not access_token:
        raise MissingToken("An access token is required")
    user_id = await store.token_holder(session, token_hash(access_token), now_ms=now_ms)
    if user_id is None:
        raise UnknownToken("Access token unknown or expired")
    return {"sub": user_id}
